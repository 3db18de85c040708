package disk

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func testGeometry(t testing.TB, log, blocks uint32) *Geometry {
	sb := Superblock{
		Magic: Magic, Revision: 1, LogBlockSize: log, LogFragSize: log, BlocksPerGroup: 8192 << log, Blocks: blocks, FirstIno: 11,
		InodeSize: 256, InodesPerGroup: 64,
	}
	if log == 0 {
		sb.FirstDataBlock = 1
	}
	sb.FragsPerGroup = sb.BlocksPerGroup
	sb.Inodes = ((blocks-sb.FirstDataBlock-1)/sb.BlocksPerGroup + 1) * 64
	if sb.InodesPerGroup < (1024<<log)/256 {
		sb.InodesPerGroup = (1024 << log) / 256
		sb.Inodes = sb.Inodes / 64 * sb.InodesPerGroup
	}
	g, err := NewGeometry(&sb, -1)
	require.NoError(t, err)
	return g
}

// Each field of the superblock is where the table says: a value put there comes out, and goes back to the same place.
func TestSuperblockOffsets(t *testing.T) {
	raw := make([]byte, SuperSize)
	for i := range raw {
		raw[i] = byte(i*7 + i>>8)
	}
	binary.LittleEndian.PutUint16(raw[56:], Magic)
	binary.LittleEndian.PutUint32(raw[76:], RevDynamic)
	sb, err := DecodeSuperblock(raw)
	require.NoError(t, err)
	u32 := func(off int) uint32 { return binary.LittleEndian.Uint32(raw[off:]) }
	u16 := func(off int) uint16 { return binary.LittleEndian.Uint16(raw[off:]) }
	for off, got := range map[int]uint32{
		0: sb.Inodes, 4: sb.Blocks, 8: sb.ReservedBlocks, 12: sb.FreeBlocks, 16: sb.FreeInodes, 20: sb.FirstDataBlock, 24: sb.LogBlockSize,
		28: sb.LogFragSize, 32: sb.BlocksPerGroup, 36: sb.FragsPerGroup, 40: sb.InodesPerGroup, 44: sb.MountTime, 48: sb.WriteTime,
		64: sb.LastCheck, 68: sb.CheckInterval, 72: sb.CreatorOS, 76: sb.Revision, 84: uint32(sb.FirstIno), 92: uint32(sb.Compat),
		96: uint32(sb.Incompat), 100: uint32(sb.ROCompat), 200: sb.AlgorithmBitmap, 224: uint32(sb.JournalIno), 228: sb.JournalDev,
		232: uint32(sb.LastOrphan), 236: sb.HashSeed[0], 248: sb.HashSeed[3], 256: sb.DefaultMountOpts, 260: sb.FirstMetaBG, 264: sb.MkfsTime,
		352: sb.Flags, 368: sb.RaidStripeWidth, 404: sb.ErrorCount, 408: sb.FirstErrorTime, 460: sb.LastErrorTime, 584: sb.OverheadBlocks,
		588: uint32(sb.BackupGroups[0]), 592: uint32(sb.BackupGroups[1]),
	} {
		require.Equal(t, u32(off), got, "offset %d", off)
	}
	for off, got := range map[int]uint16{
		52: sb.MountCount, 54: uint16(sb.MaxMountCount), 56: sb.Magic, 58: sb.State, 60: sb.Errors, 62: sb.MinorRevision, 80: sb.ReservedUID,
		82: sb.ReservedGID, 88: sb.InodeSize, 90: sb.GroupNumber, 206: sb.ReservedGDTBlocks, 254: sb.DescSize, 348: sb.MinExtraIsize,
		350: sb.WantExtraIsize, 356: sb.RaidStride,
	} {
		require.Equal(t, u16(off), got, "offset %d", off)
	}
	require.Equal(t, raw[104:120], sb.UUID[:])
	require.Equal(t, raw[120:136], sb.VolumeName[:])
	require.Equal(t, raw[136:200], sb.LastMounted[:])
	require.Equal(t, raw[208:224], sb.JournalUUID[:])
	require.Equal(t, raw[204:206], []byte{sb.PreallocBlocks, sb.PreallocDirBlocks})
	require.Equal(t, raw[252:254], []byte{byte(sb.DefHashVersion), sb.JournalBackupType})
	require.Equal(t, binary.LittleEndian.Uint64(raw[376:]), sb.KBytesWritten)
	again := append([]byte(nil), raw...)
	sb.EncodeTo(again)
	require.Equal(t, raw, again)
	empty := make([]byte, SuperSize)
	sb.EncodeTo(empty)
	back, err := DecodeSuperblock(empty)
	require.NoError(t, err)
	require.Equal(t, sb, back)
}

func TestSuperblockRefusals(t *testing.T) {
	good := Superblock{
		Magic: Magic, Revision: 1, Blocks: 8193, FirstDataBlock: 1, BlocksPerGroup: 8192, FragsPerGroup: 8192, InodesPerGroup: 64, Inodes: 64,
		FirstIno: 11, InodeSize: 128,
	}
	_, err := NewGeometry(&good, 8193<<10)
	require.NoError(t, err)
	for field, change := range map[string]func(*Superblock){
		"block size (log2 less 10)":    func(sb *Superblock) { sb.LogBlockSize = 7 },
		"fragment size (log2 less 10)": func(sb *Superblock) { sb.LogFragSize = 1 },
		"first data block":             func(sb *Superblock) { sb.FirstDataBlock = 0 },
		"inode size":                   func(sb *Superblock) { sb.InodeSize = 192 },
		"first inode":                  func(sb *Superblock) { sb.FirstIno = 3 },
		"blocks per group":             func(sb *Superblock) { sb.BlocksPerGroup = 8193 },
		"inodes per group":             func(sb *Superblock) { sb.InodesPerGroup = 4 },
		"inode count":                  func(sb *Superblock) { sb.Inodes = 63 },
		"block count":                  func(sb *Superblock) { sb.Blocks++ },
		"reserved descriptor blocks": func(sb *Superblock) {
			sb.Compat |= CompatResizeInode
			sb.ReservedGDTBlocks = 257
		},
		"reserved blocks":                func(sb *Superblock) { sb.ReservedBlocks = 9000 },
		"first META_BG descriptor block": func(sb *Superblock) { sb.Incompat |= IncompatMetaBG; sb.FirstMetaBG = 2 },
	} {
		sb := good
		change(&sb)
		_, err := NewGeometry(&sb, 8193<<10)
		var b *Bad
		require.ErrorAs(t, err, &b, field)
		require.Equal(t, field, b.Field)
		require.Contains(t, err.Error(), "superblock: "+field)
	}
	_, err = DecodeSuperblock(make([]byte, SuperSize))
	require.ErrorContains(t, err, "magic number")
	_, err = DecodeSuperblock(nil)
	require.Error(t, err)
}

func TestFeatureNames(t *testing.T) {
	sb := Superblock{Incompat: IncompatFileType | IncompatRecover | 1<<5 | 1<<30, ROCompat: ROCompatHugeFile, Compat: 1 << 20}
	require.Equal(t, "needs_recovery FEATURE_I5 FEATURE_I30", sb.UnknownIncompat().String())
	require.Equal(t, "huge_file", sb.UnknownROCompat().String())
	require.Equal(t, "FEATURE_C20", sb.UnknownCompat().String())
	c, i, r := ParseFeature("meta_bg")
	require.Equal(t, IncompatMetaBG, i)
	require.Zero(t, c)
	require.Zero(t, r)
	_, _, r = ParseFeature("large_file")
	require.Equal(t, ROCompatLargeFile, r)
	c, i, r = ParseFeature("")
	require.Zero(t, uint32(c)|uint32(i)|uint32(r))
}

// The path to a block agrees with a walk over all blocks in order.
func TestPathOf(t *testing.T) {
	g := testGeometry(t, 0, 8193)
	p := uint32(256)
	fb := FileBlock(0)
	next := func(depth int, index ...uint32) {
		path, ok := g.PathOf(fb)
		require.True(t, ok)
		want := Path{Depth: depth}
		copy(want.Index[:], index)
		want.Left = p - index[len(index)-1]
		if depth == 1 {
			want.Left = NDirect - index[0]
		}
		require.Equal(t, want, path, "block %d", fb)
		fb++
	}
	for i := range uint32(NDirect) {
		next(1, i)
	}
	require.Equal(t, fb, g.LevelStart(IndBlock))
	for i := range p {
		next(2, IndBlock, i)
	}
	require.Equal(t, fb, g.LevelStart(DIndBlock))
	for i := range p {
		for j := range p {
			next(3, DIndBlock, i, j)
		}
	}
	require.Equal(t, fb, g.LevelStart(TIndBlock))
	for i := range p {
		next(4, TIndBlock, 0, 0, i)
	}
	fb = NDirect + 256 + 256*256 + 256*256*256 - 1
	next(4, TIndBlock, p-1, p-1, p-1)
	_, ok := g.PathOf(fb)
	require.False(t, ok)
	require.Equal(t, fb, g.MaxFileBlocks())
	_, ok = g.PathOf(1 << 62)
	require.False(t, ok)
	require.EqualValues(t, 1<<24, g.LevelSpan(3))
}

// The largest file, with its indirect blocks, is what i_blocks can count; known figures of the kernel's ext2.
func TestMaxFileSize(t *testing.T) {
	known := []int64{17247252480, 275415851008, 2196873666560}
	for log := range uint32(7) {
		g := testGeometry(t, log, 1<<20)
		if int(log) < len(known) {
			require.Equal(t, known[log], g.MaxFileSize(), "block size %d", g.BlockSize)
		}
		n := uint64(g.MaxFileBlocks())
		meta := uint64(0)
		for rest, entry := n-NDirect, 1; rest > 0; entry++ {
			in := min(rest, g.LevelSpan(entry))
			for h := 1; h <= entry; h++ {
				meta += (in + g.LevelSpan(h) - 1) / g.LevelSpan(h)
			}
			rest -= in
		}
		require.LessOrEqual(t, (n+meta)*uint64(g.BlockSize/512), uint64(0xFFFFFFFF))
		if log > 1 { // for smaller blocks three levels are the limit
			require.Greater(t, (n+n/1000*2+meta)*uint64(g.BlockSize/512), uint64(0xFFFFFFFF), "not far below the limit")
		}
	}
}

func TestInodeTimes(t *testing.T) {
	for _, c := range []struct {
		in, want Time
		size     int
		extra    uint16
	}{
		{Time{-1, 0}, Time{-1, 0}, 128, 0},
		{Time{1 << 31, 5}, Time{MaxTime, 0}, 128, 0},
		{Time{1 << 31, 5}, Time{MaxTime, 0}, 256, 0},
		{Time{1 << 31, 5}, Time{1 << 31, 5}, 256, 32},
		{Time{-1 << 31, 999999999}, Time{-1 << 31, 999999999}, 256, 32},
		{Time{-5, 7}, Time{-5, 7}, 256, 32},
		{Time{MaxExtraTime, 1}, Time{MaxExtraTime, 1}, 256, 32},
		{Time{MaxExtraTime + 1, 1}, Time{MaxExtraTime, 1}, 256, 32},
		{Time{1<<33 + 17, 1}, Time{1<<33 + 17, 1}, 160, 28},
	} {
		in := Inode{Mode: ModeRegular, Atime: c.in, Mtime: c.in, Ctime: c.in, Crtime: c.in, ExtraSize: c.extra}
		raw := make([]byte, c.size)
		in.EncodeTo(raw)
		out, err := DecodeInode(raw)
		require.NoError(t, err)
		require.Equal(t, c.want, out.Atime)
		require.Equal(t, c.want, out.Mtime)
		require.Equal(t, c.want, out.Ctime)
		require.Equal(t, c.want, in.ClampTime(c.in))
		if c.extra >= 24 {
			require.Equal(t, c.want, out.Crtime)
		}
	}
	raw := make([]byte, 256)
	raw[128] = 200
	in, err := DecodeInode(raw)
	require.Error(t, err)
	require.Zero(t, in.ExtraSize)
}

func TestInodeDevices(t *testing.T) {
	var in Inode
	for _, d := range [][2]uint32{{0, 1}, {255, 255}, {256, 0}, {8, 256}, {4095, 1 << 19}, {4095, 1<<20 - 1}} {
		require.True(t, in.SetDevice(d[0], d[1]))
		major, minor := in.Device()
		require.Equal(t, d, [2]uint32{major, minor})
		require.Equal(t, d[0] < 256 && d[1] < 256, in.Block[1] == 0)
	}
	require.False(t, in.SetDevice(4096, 0))
	require.False(t, in.SetDevice(0, 1<<20))
}

func TestFastSymlink(t *testing.T) {
	g := testGeometry(t, 0, 8193)
	in := Inode{Mode: ModeSymlink | 0o777}
	require.False(t, in.SetFastSymlink(strings.Repeat("x", 60)))
	require.False(t, in.SetFastSymlink(""))
	for _, s := range []string{"a", strings.Repeat("y", 59)} {
		require.True(t, in.SetFastSymlink(s))
		require.True(t, in.IsFastSymlink(g))
		require.NoError(t, in.Verify(g))
		got, err := in.FastSymlink()
		require.NoError(t, err)
		require.Equal(t, s, got)
	}
	in.FileACL, in.Sectors = 100, 2
	require.True(t, in.IsFastSymlink(g))
	in.Sectors = 4
	require.False(t, in.IsFastSymlink(g))
	in = Inode{Mode: ModeSymlink, Size: 3}
	_, err := in.FastSymlink()
	require.Error(t, err)
}

// Random inserts and removes keep the block a chain that fills it and agree with a map; offsets of entries stay.
func TestDirBlockModel(t *testing.T) {
	for _, size := range []int{1024, 4096, 65536} {
		seed := rand.Uint64()
		t.Logf("block size %d, seed %d", size, seed)
		rng := rand.New(rand.NewPCG(seed, 1))
		db := InitFirstDirBlock(make([]byte, size), 2, 2, true)
		type place struct {
			ino Ino
			off int
		}
		model := map[string]place{}
		for range 4000 {
			if rng.IntN(3) > 0 {
				name := fmt.Sprintf("%0*d", 1+rng.IntN(100), rng.IntN(1000))
				if _, dup := model[name]; dup {
					continue
				}
				off, ok := db.FindRoom(len(name))
				require.Equal(t, db.MaxRoom() >= DirRecLen(len(name)), ok)
				if !ok {
					continue
				}
				ino := Ino(11 + rng.Uint32N(1000))
				model[name] = place{ino, db.Insert(off, name, ino, TypeRegular)}
			} else {
				for name, p := range model {
					off, prev, ok := db.Find(name)
					require.True(t, ok)
					require.Equal(t, p.off, off)
					pr, ok := db.Prev(off)
					require.True(t, ok)
					require.Equal(t, prev, pr)
					db.Remove(off, prev)
					delete(model, name)
					break
				}
			}
			_, err := AsDirBlock(db, 2000)
			require.NoError(t, err)
		}
		n := 0
		for off := 0; off < len(db); off = db.Next(off) {
			if db.Ino(off) != 0 && !IsDots(db.Name(off)) {
				n++
				require.Equal(t, place{db.Ino(off), off}, model[string(db.Name(off))])
			}
		}
		require.Len(t, model, n)
		require.Equal(t, n == 0, db.Empty())
		off, err := db.DotDot(2)
		require.NoError(t, err)
		require.Equal(t, 12, off)
	}
}

func TestDirBlockRefusals(t *testing.T) {
	for field, change := range map[string]func(DirBlock){
		"record length": func(db DirBlock) { db.setRecLen(0, 8) },
		"inode":         func(db DirBlock) { db.SetIno(12, 101) },
		"name length":   func(db DirBlock) { db[12+6] = 0 },
		"room for a record": func(db DirBlock) {
			db.setRecLen(12, 1024-12-8)
		},
	} {
		db := InitFirstDirBlock(make([]byte, 1024), 2, 2, true)
		_, err := AsDirBlock(db, 100)
		require.NoError(t, err)
		change(db)
		_, err = AsDirBlock(db, 100)
		var b *Bad
		require.ErrorAs(t, err, &b)
		require.Equal(t, field, b.Field)
		require.GreaterOrEqual(t, b.At, 0)
	}
	// 64 KiB: a record of the whole block
	db := InitDirBlock(make([]byte, 65536))
	require.Equal(t, 65536, db.RecLen(0))
	require.Equal(t, []byte{0xFF, 0xFF}, []byte(db[4:6]))
	db[4], db[5] = 0, 0
	_, err := AsDirBlock(db, 100)
	require.NoError(t, err)
}

func TestBitmapModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	for _, n := range []int{8, 13, 128, 1024} {
		bm := make(Bitmap, n)
		model := make([]bool, n*8)
		for range 300 {
			a, b := rng.Uint32N(bm.Len()+1), rng.Uint32N(bm.Len()+10)
			set := rng.IntN(2) == 0
			changed := uint32(0)
			for i := a; i < b && i < bm.Len(); i++ {
				if model[i] != set {
					changed++
				}
				model[i] = set
			}
			if set {
				require.Equal(t, changed, bm.SetRange(a, b))
			} else {
				require.Equal(t, changed, bm.ClearRange(a, b))
			}
			i := rng.Uint32N(bm.Len())
			require.Equal(t, model[i], bm.Test(i))
			require.Equal(t, !model[i], bm.Set(i))
			model[i] = true
			i = rng.Uint32N(bm.Len())
			require.Equal(t, model[i], bm.Clear(i))
			model[i] = false

			a, b = rng.Uint32N(bm.Len()), rng.Uint32N(bm.Len()+70)
			end := min(b, bm.Len())
			find := func(want bool) (uint32, bool) {
				for i := a; i < end; i++ {
					if model[i] == want {
						return i, true
					}
				}
				return end, false
			}
			wi, wok := find(false)
			gi, gok := bm.NextZero(a, b)
			require.Equal(t, wok, gok)
			require.Equal(t, wi, gi)
			wi, wok = find(true)
			gi, gok = bm.NextSet(a, b)
			require.Equal(t, wok, gok)
			require.Equal(t, wi, gi)
			zeros := uint32(0)
			for _, s := range model[:end] {
				if !s {
					zeros++
				}
			}
			require.Equal(t, zeros, bm.CountZeros(b))

			want := 1 + rng.Uint32N(40)
			best, bestLen, run := end, uint32(0), uint32(0)
			found := false
			for i := a; i < end && !found; i++ {
				if model[i] {
					run = 0
					continue
				}
				if run++; run > bestLen {
					best, bestLen = i+1-run, run
				}
				found = bestLen == want
			}
			s, l, ok := bm.FindRun(a, b, want)
			require.Equal(t, [2]uint32{best, bestLen}, [2]uint32{s, l})
			require.Equal(t, found, ok)
		}
	}
}

func TestPtrRun(t *testing.T) {
	pb := make(PtrBlock, 64)
	for i, b := range []FSBlock{0, 0, 0, 7, 8, 9, 0, 11, 12, 14, 0xFFFFFFFF, 0, 0, 0, 0, 0} {
		pb.Set(uint32(i), b)
	}
	for i, want := range map[uint32][2]uint32{0: {0, 3}, 3: {7, 3}, 4: {8, 2}, 6: {0, 1}, 7: {11, 2}, 9: {14, 1}, 10: {0xFFFFFFFF, 2}, 11: {0, 5}, 15: {0, 1}} {
		b, n := pb.Run(i, 100)
		if i == 10 { // the numbers wrap: such a pointer is refused before anything is done with the run
			require.EqualValues(t, want[0], b)
			continue
		}
		require.Equal(t, want, [2]uint32{uint32(b), n}, "from %d", i)
	}
	_, n := pb.Run(0, 2)
	require.EqualValues(t, 2, n)
	require.False(t, pb.Empty())
	require.True(t, pb[44:].Empty())
	g := testGeometry(t, 0, 8193)
	i, ok := pb.FirstInvalid(g)
	require.True(t, ok)
	require.EqualValues(t, 10, i)
}

func TestXattrBuild(t *testing.T) {
	list := []Xattr{{XattrUser, "zz", []byte("1")}, {XattrTrusted, "a", nil}, {XattrUser, "b", []byte("12345")}, {XattrACLAccess, "", []byte{1, 0, 0, 0}}}
	xb, ok := BuildXattrBlock(make([]byte, 1024), list)
	require.True(t, ok)
	_, err := AsXattrBlock(xb)
	require.NoError(t, err)
	require.Equal(t, xb.Hash(), xb.WantHash())
	require.NotZero(t, xb.Hash())
	got := xb.Table().Append(nil)
	require.Equal(t, []string{"b", "zz", "", "a"}, []string{got[0].Name, got[1].Name, got[2].Name, got[3].Name})
	e, ok := xb.Table().Find(XattrUser, "b")
	require.True(t, ok)
	require.Equal(t, "12345", string(e.Value))
	_, ok = xb.Table().Find(XattrUser, "c")
	require.False(t, ok)

	room := XattrBlockRoom(1024)
	fits := []Xattr{{XattrUser, "x", make([]byte, room-4-20)}}
	require.Equal(t, room, XattrSpace(fits))
	_, ok = BuildXattrBlock(make([]byte, 1024), fits)
	require.True(t, ok)
	fits[0].Value = append(fits[0].Value, 1)
	_, ok = BuildXattrBlock(make([]byte, 1024), fits)
	require.False(t, ok)

	body := make([]byte, 96)
	require.True(t, BuildXattrBody(body, list[:2]))
	tab, err := XattrBody(body)
	require.NoError(t, err)
	require.Len(t, tab.Append(nil), 2)
	require.True(t, BuildXattrBody(body, nil))
	tab, err = XattrBody(body)
	require.NoError(t, err)
	require.Empty(t, tab.Append(nil))

	for field, change := range map[string]func([]byte){
		"magic number":      func(b []byte) { b[0] = 1 },
		"reference count":   func(b []byte) { clear(b[4:8]) },
		"block count":       func(b []byte) { b[8] = 2 },
		"block of a value":  func(b []byte) { b[32+4] = 1 },
		"size of a value":   func(b []byte) { b[32+9] = 0xFF },
		"offset of a value": func(b []byte) { b[32+2], b[32+3] = 40, 0 },
		"name length": func(b []byte) {
			copy(b[1000:], b[32:48])
			b[32] = 250
			b[32+268] = 250
			b[32+2*268] = 250
			b[32+3*268] = 255
		},
	} {
		b := append([]byte(nil), xb...)
		change(b)
		_, err := AsXattrBlock(b)
		var bd *Bad
		require.ErrorAs(t, err, &bd, field)
		require.Equal(t, field, bd.Field)
	}
}

func TestXattrNames(t *testing.T) {
	for _, full := range []string{"user.a", "user.a.b", "trusted.x", "security.selinux", "system.posix_acl_access", "system.posix_acl_default", "system.data"} {
		i, n, ok := SplitXattrName(full)
		require.True(t, ok, full)
		back, ok := XattrFullName(i, n)
		require.True(t, ok)
		require.Equal(t, full, back)
	}
	for _, full := range []string{"", "user", "user.", "other.x", "user." + strings.Repeat("x", 256)} {
		_, _, ok := SplitXattrName(full)
		require.False(t, ok, full)
	}
	_, ok := XattrFullName(99, "x")
	require.False(t, ok)
}

func TestACL(t *testing.T) {
	le := binary.LittleEndian
	x := le.AppendUint32(nil, 2)
	for _, e := range [][3]uint32{{1, 7, aclNoID}, {2, 5, 1000}, {4, 5, aclNoID}, {8, 6, 70000}, {16, 7, aclNoID}, {32, 4, aclNoID}} {
		x = le.AppendUint32(x, e[0]|e[1]<<16)
		x = le.AppendUint32(x, e[2])
	}
	d, err := ACLToDisk(x)
	require.NoError(t, err)
	require.Len(t, d, 4+4*4+2*8)
	back, err := ACLFromDisk(d)
	require.NoError(t, err)
	require.Equal(t, x, back)
	for _, b := range [][]byte{nil, {1, 0, 0}, {2, 0, 0, 0}, d[:5], {1, 0, 0, 0, 2, 0, 7, 0}, {1, 0, 0, 0, 3, 0, 7, 0}, {1, 0, 0, 0, 1, 0, 8, 0}} {
		_, err := ACLFromDisk(b)
		require.Error(t, err)
	}
	for _, b := range [][]byte{nil, {1, 0, 0, 0}, x[:9], {2, 0, 0, 0, 3, 0, 7, 0, 0, 0, 0, 0}} {
		_, err := ACLToDisk(b)
		require.Error(t, err)
	}
}

func TestAllocationFree(t *testing.T) {
	db := InitFirstDirBlock(make([]byte, 4096), 2, 2, true)
	for i := range 100 {
		off, _ := db.FindRoom(10)
		db.Insert(off, fmt.Sprintf("name-%05d", i), 12, TypeRegular)
	}
	xb, _ := BuildXattrBlock(make([]byte, 4096), []Xattr{{XattrUser, "a", []byte("b")}})
	bm := make(Bitmap, 4096)
	n := 0
	require.Zero(t, testing.AllocsPerRun(100, func() {
		d, err := AsDirBlock(db, 100)
		if err != nil {
			t.Fatal(err)
		}
		for off := 0; off < len(d); off = d.Next(off) {
			n += len(d.Name(off))
		}
		if _, _, ok := d.Find("name-00099"); !ok {
			t.Fatal("not found")
		}
		x, err := AsXattrBlock(xb)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := x.Table().Find(XattrUser, "a"); !ok {
			t.Fatal("not found")
		}
		HashName(HashHalfMD4, HashSeed{}, d.Name(24))
		bm.FindRun(0, 32768, 10)
	}))
}

func BenchmarkFindRun(b *testing.B) {
	bm := make(Bitmap, 4096)
	bm.SetRange(0, 32768)
	bm.ClearRange(32700, 32768)
	for b.Loop() {
		bm.FindRun(0, 32768, 8)
	}
}

func BenchmarkDirFind(b *testing.B) {
	db := InitFirstDirBlock(make([]byte, 4096), 2, 2, true)
	for i := range 200 {
		if off, ok := db.FindRoom(10); ok {
			db.Insert(off, fmt.Sprintf("name-%05d", i), 12, TypeRegular)
		}
	}
	for b.Loop() {
		db.Find("name-00199")
	}
}
