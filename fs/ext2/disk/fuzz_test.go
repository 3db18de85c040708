package disk

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

// Decoders meet any bytes: no panic, every refusal is a *Bad, and what decodes encodes back to the same bytes.

func isBad(t *testing.T, err error) bool {
	if err == nil {
		return false
	}
	var b *Bad
	if !errors.As(err, &b) || b.Struct == "" || b.Field == "" || b.Want == "" {
		t.Fatalf("%v is no *Bad that says all", err)
	}
	return true
}

func fuzzSuper() []byte {
	sb := Superblock{
		Magic: Magic, Revision: 1, Blocks: 8193, FirstDataBlock: 1, BlocksPerGroup: 8192, FragsPerGroup: 8192, InodesPerGroup: 64, Inodes: 64,
		FirstIno: 11, InodeSize: 256, Incompat: IncompatFileType, ROCompat: ROCompatSparseSuper,
	}
	b := make([]byte, SuperSize)
	sb.EncodeTo(b)
	return b
}

func FuzzSuperblock(f *testing.F) {
	f.Add(fuzzSuper(), int64(8193<<10))
	f.Add(make([]byte, 1024), int64(-1))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		sb, err := DecodeSuperblock(b)
		if isBad(t, err) {
			return
		}
		b = b[:SuperSize]
		again := bytes.Clone(b)
		sb.EncodeTo(again)
		if !bytes.Equal(again, b) {
			t.Fatal("encodes to other bytes")
		}
		sb.FeatureNames()
		g, err := NewGeometry(&sb, size)
		if isBad(t, err) {
			return
		}
		isBad(t, sb.Verify(g))
		last := Group(g.Groups - 1)
		for _, gr := range []Group{0, last / 2, last} {
			b, _ := g.DescAt(gr)
			g.GroupHead(gr)
			first, n := g.GroupFirst(gr), g.GroupBlocks(gr)
			if n == 0 || !g.ValidRange(first, n) || g.GroupOf(first) != gr || g.GroupOf(first+FSBlock(n-1)) != gr {
				t.Fatalf("group %d: %d blocks from %d", gr, n, first)
			}
			if gr == 0 && !g.ValidBlock(b) {
				t.Fatalf("descriptor block %d", b)
			}
		}
		for _, ino := range []Ino{1, Ino(g.Inodes)} {
			gr := g.InodeGroup(ino)
			if uint32(gr) >= g.Groups {
				t.Fatalf("inode %d in group %d", ino, gr)
			}
			_, off := g.InodeAt(ino, 5)
			if off+g.InodeSize > g.BlockSize {
				t.Fatalf("inode %d at %d", ino, off)
			}
		}
		if _, ok := g.PathOf(g.MaxFileBlocks() - 1); !ok {
			t.Fatal("no path to the last block")
		}
	})
}

func FuzzGroupDesc(f *testing.F) {
	f.Add(make([]byte, 32), uint32(0))
	f.Add([]byte{3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, uint32(0))
	g := testGeometry(f, 0, 100000)
	f.Fuzz(func(t *testing.T, b []byte, gr uint32) {
		d, err := DecodeGroupDesc(b)
		if isBad(t, err) {
			return
		}
		again := bytes.Clone(b)
		d.EncodeTo(again)
		if !bytes.Equal(again, b) {
			t.Fatal("encodes to other bytes")
		}
		if !isBad(t, d.Verify(g, Group(gr))) && !g.ValidRange(d.InodeTable, g.ITableBlocks) {
			t.Fatal("inode table out of range")
		}
	})
}

func FuzzInode(f *testing.F) {
	in := Inode{Mode: ModeRegular | 0o644, Links: 1, Size: 1 << 33, ExtraSize: 32, Atime: Time{5e9, 7}}
	b := make([]byte, 256)
	in.EncodeTo(b)
	f.Add(b)
	in = Inode{Mode: ModeSymlink}
	in.SetFastSymlink("target")
	in.EncodeTo(b[:128])
	f.Add(b[:128])
	g := testGeometry(f, 0, 100000)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 1024 {
			return
		}
		in, err := DecodeInode(b)
		if isBad(t, err) {
			return
		}
		again := bytes.Clone(b)
		in.EncodeTo(again)
		back, err := DecodeInode(again)
		if err != nil || back != in {
			t.Fatalf("%v: %+v became %+v", err, in, back)
		}
		in.Flags.Names()
		in.Device()
		_, err = in.FastSymlink()
		isBad(t, err)
		if body := in.IBody(b); body != nil {
			tab, err := XattrBody(body)
			if !isBad(t, err) {
				walkXattrs(t, tab)
			}
		}
		isBad(t, in.Verify(g))
	})
}

func walkXattrs(t *testing.T, tab XattrTable) {
	n := 0
	for at := tab.First(); !tab.End(at); at = tab.Next(at) {
		e := tab.At(at)
		e.WantHash(true)
		_, _ = XattrFullName(e.Index, string(e.Name))
		if e.Index == XattrACLAccess {
			_, err := ACLFromDisk(e.Value)
			isBad(t, err)
		}
		if n++; n > MaxBlockSize/16 {
			t.Fatal("endless")
		}
	}
}

func FuzzDirBlock(f *testing.F) {
	f.Add([]byte(InitFirstDirBlock(make([]byte, 1024), 2, 2, true)), "name", uint32(100))
	f.Add([]byte(InitIndexRoot(make([]byte, 1024), 2, 2, true, HashTEA, 0, 1)), "a", uint32(100))
	f.Add([]byte(InitIndexNode(make([]byte, 1024), 1)), "b", uint32(100))
	f.Fuzz(func(t *testing.T, b []byte, name string, inodes uint32) {
		if len(b) > MaxBlockSize {
			return
		}
		if ir, err := AsIndexRoot(b); !isBad(t, err) {
			e := ir.Entries()
			e.Search(77)
			e.Block(e.Count() - 1)
		}
		if in, err := AsIndexNode(b); !isBad(t, err) {
			e := in.Entries()
			e.Search(77)
			e.Block(e.Count() - 1)
		}
		db, err := AsDirBlock(b, inodes)
		if isBad(t, err) {
			return
		}
		n := 0
		for off := 0; off < len(db); off = db.Next(off) {
			n += len(db.Name(off)) + db.Room(off)
		}
		if n > 2*len(db) {
			t.Fatal("names and room are longer than the block")
		}
		db.Empty()
		_, err = db.DotDot(2)
		isBad(t, err)
		if !ValidName(name) {
			return
		}
		if off, prev, ok := db.Find(name); ok {
			db.Remove(off, prev)
		} else if off, ok := db.FindRoom(len(name)); ok {
			at := db.Insert(off, name, 1, TypeDir)
			if got, _, ok := db.Find(name); !ok || got != at {
				t.Fatalf("%q went to %d, found at %d", name, at, got)
			}
		}
		if _, err := AsDirBlock(db, max(inodes, 1)); err != nil {
			t.Fatal("after a change: ", err)
		}
	})
}

func FuzzXattrBlock(f *testing.F) {
	xb, _ := BuildXattrBlock(make([]byte, 1024), []Xattr{{XattrUser, "a", []byte("b")}, {XattrACLAccess, "", []byte{1, 0, 0, 0}}})
	f.Add([]byte(xb))
	f.Fuzz(func(t *testing.T, b []byte) {
		xb, err := AsXattrBlock(b)
		if isBad(t, err) {
			return
		}
		walkXattrs(t, xb.Table())
		list := xb.Table().Append(nil)
		xb.WantHash()
		if again, ok := BuildXattrBlock(make([]byte, len(b)), list); !ok {
			t.Fatal("does not fit any more")
		} else if _, err := AsXattrBlock(again); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzIndirect(f *testing.F) {
	f.Add(make([]byte, 1024), uint16(0), uint16(9))
	g := testGeometry(f, 0, 100000)
	f.Fuzz(func(t *testing.T, b []byte, i, limit uint16) {
		pb := PtrBlock(b)
		pb.Empty()
		pb.FirstInvalid(g)
		if int(i) < pb.Len() && limit > 0 {
			if _, n := pb.Run(uint32(i), uint32(limit)); n == 0 || n > uint32(limit) || int(i)+int(n) > pb.Len() {
				t.Fatalf("run of %d from %d", n, i)
			}
		}
	})
}

// Mutations of good structures, so that an ordinary test run meets more than the seeds: each fuzz target does this with more
// patience under go test -fuzz.
func TestMutations(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	xb, _ := BuildXattrBlock(make([]byte, 1024), []Xattr{{XattrUser, "abc", []byte("value")}, {XattrTrusted, "t", make([]byte, 100)}})
	db := InitFirstDirBlock(make([]byte, 1024), 2, 2, true)
	for _, n := range []string{"one", "two", "three"} {
		off, _ := db.FindRoom(len(n))
		db.Insert(off, n, 12, TypeRegular)
	}
	for range 20000 {
		mutate := func(b []byte, head int) []byte {
			b = bytes.Clone(b)
			for range 1 + rng.IntN(4) {
				b[rng.IntN(head)] = byte(rng.Uint32())
			}
			return b
		}
		if sb, err := DecodeSuperblock(mutate(fuzzSuper(), 300)); !isBad(t, err) {
			if g, err := NewGeometry(&sb, 8193<<10); !isBad(t, err) {
				g.DescAt(Group(g.Groups - 1))
			}
		}
		if x, err := AsXattrBlock(mutate(xb, 120)); !isBad(t, err) {
			walkXattrs(t, x.Table())
		}
		if d, err := AsDirBlock(mutate(db, 90), 100); !isBad(t, err) {
			if off, prev, ok := d.Find("two"); ok {
				d.Remove(off, prev)
			}
		}
		if r, err := AsIndexRoot(mutate(InitIndexRoot(make([]byte, 1024), 2, 2, true, 1, 0, 1), 60)); !isBad(t, err) {
			r.Entries().Search(rng.Uint32())
		}
	}
}
