package check_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/ext2/check"
	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/fs/ext2/disk/disktest"
	"github.com/iomapfs/iomapfs/fs/ext2/mkfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// image is a device in memory.
type image []byte

func (m image) WriteAt(b []byte, off int64) (int, error) { return copy(m[off:], b), nil }

func (m image) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 || off >= int64(len(m)) {
		return 0, io.EOF
	}
	n := copy(b, m[off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func run(t testing.TB, m image) check.Report {
	t.Helper()
	rep, err := check.Check(context.Background(), m, int64(len(m)), check.Options{})
	require.NoError(t, err)
	return rep
}

// tree fills an image with one of everything, small enough to hit each by chance.
func tree(b *mkfs.Builder) error {
	data := func(n int) io.Reader {
		return strings.NewReader(strings.Repeat("data", n/4+1))
	}
	attrs := map[string][]byte{"user.long": []byte(strings.Repeat("x", 400)), "user.s": []byte("y")}
	acl := []byte{2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 100, 0, 0, 0, 4, 0, 5, 0, 255, 255, 255, 255, 16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255}
	add := func(n mkfs.Node, r io.Reader) error { return b.Add(&n, r) }
	errs := []error{
		add(mkfs.Node{Path: "a", Mode: disk.ModeRegular | 0o644, Size: 5000, Xattrs: attrs}, data(5000)),
		add(mkfs.Node{Path: "b", Mode: disk.ModeRegular | 0o644, Size: 300000, Xattrs: attrs}, data(300000)),
		add(mkfs.Node{Path: "c", Mode: disk.ModeRegular | 0o644, Size: 30000, Xattrs: map[string][]byte{"system.posix_acl_access": acl}}, data(30000)),
		b.Link("a", "d/e/link"),
		add(mkfs.Node{Path: "fast", Mode: disk.ModeSymlink | 0o777, Link: "target"}, nil),
		add(mkfs.Node{Path: "slow", Mode: disk.ModeSymlink | 0o777, Link: strings.Repeat("t", 100)}, nil),
		add(mkfs.Node{Path: "chr", Mode: disk.ModeChar | 0o600, Major: 5, Minor: 1}, nil),
		add(mkfs.Node{Path: "fifo", Mode: disk.ModeFIFO | 0o600}, nil),
		add(mkfs.Node{Path: "d/e/f/g", Mode: disk.ModeDir | 0o755}, nil),
	}
	for i := range 60 {
		errs = append(errs, add(mkfs.Node{Path: fmt.Sprintf("many/name-of-some-length-number-%d", i), Mode: disk.ModeRegular | 0o600}, nil))
	}
	return errors.Join(errs...)
}

func make1(t testing.TB, size int64, o mkfs.Options) image {
	m := make(image, size)
	o.Zeroed, o.Time, o.UUID = true, time.Unix(1600000000, 0), [16]byte{1, 2, 3}
	_, err := mkfs.Format(m, size, o)
	require.NoError(t, err)
	return m
}

// What mkfs and mke2fs make is clean, and the summary is e2fsck's.
func TestCleanImages(t *testing.T) {
	for _, o := range []mkfs.Options{
		{},
		{Fill: tree},
		{Fill: tree, BlockSize: 4096},
		{Fill: tree, BlockSize: 65536},
		{Fill: tree, InodeSize: 128},
		{Fill: tree, Features: "^filetype,^dir_index"},
		{Fill: tree, Features: "^resize_inode,meta_bg", BlocksPerGroup: 256, Inodes: 1000},
		{Fill: tree, Features: "sparse_super2", BlocksPerGroup: 512, Inodes: 1000},
		{Fill: tree, Features: "^resize_inode,^sparse_super", BlocksPerGroup: 1024},
	} {
		m := make1(t, 8<<20, o)
		rep := run(t, m)
		require.Empty(t, rep.Problems, "%+v", o)
		require.False(t, rep.Dirty)
		path := disktest.Image(t, 0)
		require.NoError(t, os.WriteFile(path, m, 0o644))
		code, out := disktest.E2fsck(t, path)
		require.Zero(t, code, out)
		require.Contains(t, out, fmt.Sprintf("%d/%d files", rep.Files, rep.Inodes))
		require.Contains(t, out, fmt.Sprintf("%d/%d blocks", rep.UsedBlocks, rep.Blocks))
		require.Contains(t, rep.Summary(), "clean")
	}
	src := t.TempDir()
	for i := range 2000 {
		require.NoError(t, os.WriteFile(fmt.Sprintf("%s/file-with-a-name-%d", src, i), []byte("x"), 0o644))
	}
	for _, args := range []string{"-b 1024", "-b 2048 -I 512", "-b 4096 -O ^resize_inode", "-r 0 -b 1024", "-b 1024 -j"} {
		path := disktest.Mke2fs(t, 64<<20, append(strings.Fields(args), "-d", src)...)
		if strings.Contains(args, "1024") {
			disktest.Run(t, "", "e2fsck", "-fyD", path) // makes indexes
		}
		disktest.Clean(t, path)
		f, err := os.Open(path)
		require.NoError(t, err)
		rep, err := check.Check(context.Background(), f, 64<<20, check.Options{})
		require.NoError(t, err)
		require.Empty(t, rep.Problems, args)
		require.NoError(t, f.Close())
	}
}

// Each kind of damage, made by debugfs, is found and called by its name; e2fsck finds it too.
func TestDamage(t *testing.T) {
	good := make1(t, 2<<20, mkfs.Options{BlockSize: 1024, Inodes: 120, Fill: tree})
	require.Empty(t, run(t, good).Problems)
	for _, d := range []struct {
		code check.Code
		cmds string
	}{
		{check.InodeMode, "sif a mode 0030644"},
		{check.InodeDtime, "sif a dtime @1600000000"},
		{check.InodeDtime, "sif <90> mode 0100644"},
		{check.InodeExtra, "sif a extra_isize 6"},
		{check.InodeFields, "sif a flags 0x80000"},
		{check.InodeFields, "sif a flags 0x1000"},
		{check.InodeFields, "sif a faddr 5"},
		{check.InodeReserved, "sif <8> links_count 1"},
		{check.InodeSize, "sif a size 0"},
		{check.InodeSize, "sif many size 1024"},
		{check.InodeSize, "sif many size 1000"},
		{check.InodeBlocks, "sif a blocks 2"},
		{check.InodeSymlink, "sif fast size 3"},
		{check.InodeSymlink, "sif slow size 130"},
		{check.InodeDevice, "sif fifo flags 0x10"},
		{check.Descriptor, "set_bg 0 flags 1"},
		{check.InodeDevice, "sif chr size 9"},
		{check.BlockRange, "sif a block[1] 99999"},
		{check.BlockRange, "sif b block[IND] 99999"},
		{check.BlockClaimed, "sif a block[1] 3"},
		{check.BlockClaimed, "bmap b 3|sif a block[1] %d"},
		{check.Xattr, "sif a file_acl 99999"},
		{check.XattrRefCount, "sif a file_acl 0|sif a blocks 10"},
		{check.DirHole, "sif many block[1] 0"},
		{check.DirDots, "bmap d/e 0|zap_block -o 8 -l 1 -p 0x41 %d"},
		{check.DirDots, "bmap d/e 0|zap_block -o 12 -l 1 -p 0 %d"},
		{check.DirDots, "bmap d/e 0|zap_block -o 12 -l 1 -p 0xff %d"},
		{check.DirBlock, "bmap / 0|zap_block -o 28 -l 2 -p 0x07 %d"},
		{check.DirBlock, "bmap / 0|zap_block -o 28 -l 2 -p 0x00 %d"},
		{check.EntryInode, "clri chr"},
		{check.EntryInode, "link <7> seven"},
		{check.EntryType, "sif fifo mode 0140600"},
		{check.EntryDuplicate, "bmap / 0|zap_block -o 64 -l 1 -p 0x61 %d"},
		{check.EntryDirectory, "link d/e second"},
		{check.Index, "bmap many 0|zap_block -o 40 -l 4 -p 2 %d"},
		{check.Index, "bmap many 0|zap_block -o 28 -l 1 -p 2 %d"},
		{check.Index, "bmap many 0|zap_block -o 30 -l 1 -p 7 %d"},
		{check.Root, "clri <2>"},
		{check.Parent, "bmap d/e 0|zap_block -o 12 -l 1 -p 0x0b %d"},
		{check.Unconnected, "unlink d/e"},
		{check.Unconnected, "unlink c"},
		{check.LinkCount, "sif a links_count 7"},
		{check.LinkCount, "link a another"},
		{check.BlockBitmap, "freeb 300"},
		{check.BlockBitmap, "setb 1900"},
		{check.InodeBitmap, "freei a"},
		{check.InodeBitmap, "seti <118>"},
		{check.GroupCounts, "set_bg 0 free_blocks_count 7"},
		{check.GroupCounts, "set_bg 0 used_dirs_count 2"},
		{check.SuperCounts, "ssv free_blocks_count 1"},
		{check.SuperCounts, "ssv free_inodes_count 1"},
		{check.Descriptor, "set_bg 0 inode_bitmap 0"},
		{check.Descriptor, "set_bg 0 inode_table 2040"},
		{check.ResizeInode, "sif <7> block[DIND] 0"},
		{check.ResizeInode, "sif <7> block[0] 500"},
		{check.Super, "ssv blocks_per_group 9000"},
		{check.Super, "ssv r_blocks_count 2000"},
		{check.Super, "ssv reserved_gdt_blocks 700"},
	} {
		t.Run(string(d.code)+" "+d.cmds, func(t *testing.T) {
			path := disktest.Image(t, 0)
			require.NoError(t, os.WriteFile(path, good, 0o644))
			cmds := strings.Split(d.cmds, "|")
			if strings.HasPrefix(cmds[0], "bmap") {
				n, err := strconv.Atoi(strings.TrimSpace(disktest.Debugfs(t, path, false, cmds[0])))
				require.NoError(t, err)
				cmds = []string{fmt.Sprintf(cmds[1], n)}
			}
			disktest.Debugfs(t, path, true, cmds...)
			m, err := os.ReadFile(path)
			require.NoError(t, err)
			require.NotEqual(t, []byte(good), m, "nothing was damaged")
			rep := run(t, m)
			codes := []check.Code{}
			for _, p := range rep.Problems {
				codes = append(codes, p.Code)
				require.NotEmpty(t, p.Where)
				require.NotEmpty(t, p.What)
			}
			require.Contains(t, codes, d.code, "%v", rep.Problems)
			require.False(t, e2fsckClean(t, path))
		})
	}
}

// What cannot be checked is an error, not a finding.
func TestCannotCheck(t *testing.T) {
	good := make1(t, 2<<20, mkfs.Options{})
	try := func(change func(sb *disk.Superblock)) error {
		m := slices.Clone(good)
		sb, err := disk.DecodeSuperblock(m[1024:])
		require.NoError(t, err)
		change(&sb)
		sb.EncodeTo(m[1024:])
		_, err = check.Check(context.Background(), m, int64(len(m)), check.Options{})
		return err
	}
	require.ErrorIs(t, try(func(sb *disk.Superblock) { sb.Magic = 1 }), errno.INVAL)
	require.ErrorIs(t, try(func(sb *disk.Superblock) { sb.Incompat |= disk.IncompatExtents }), errno.OPNOTSUPP)
	require.ErrorContains(t, try(func(sb *disk.Superblock) { sb.Incompat |= disk.IncompatRecover }), "e2fsck -p")
	require.ErrorContains(t, try(func(sb *disk.Superblock) { sb.ROCompat |= disk.ROCompatHugeFile }), "huge_file")
	_, err := check.Check(context.Background(), image{}, 0, check.Options{})
	require.ErrorIs(t, err, errno.INVAL)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = check.Check(ctx, good, int64(len(good)), check.Options{})
	require.ErrorIs(t, err, context.Canceled)
	rep, err := check.Check(context.Background(), good[:1<<20], 1<<20, check.Options{})
	require.NoError(t, err)
	require.Equal(t, check.Super, rep.Problems[0].Code)
}

// failing fails its n-th read.
type failing struct {
	image
	left int
}

func (f *failing) ReadAt(b []byte, off int64) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errno.IO
	}
	return f.image.ReadAt(b, off)
}

func TestReadErrors(t *testing.T) {
	m := make1(t, 2<<20, mkfs.Options{Fill: tree})
	for n := 0; ; n++ {
		_, err := check.Check(context.Background(), &failing{m, n}, int64(len(m)), check.Options{})
		if err == nil {
			require.Greater(t, n, 20)
			return
		}
		require.ErrorIs(t, err, errno.IO, "read %d", n)
	}
}

func TestMaxProblems(t *testing.T) {
	m := make1(t, 2<<20, mkfs.Options{Fill: tree})
	clear(m[100<<10 : 300<<10])
	var progress []float64
	rep, err := check.Check(context.Background(), m, int64(len(m)), check.Options{MaxProblems: 2, Progress: func(d float64) { progress = append(progress, d) }})
	require.NoError(t, err)
	require.True(t, rep.More)
	require.Len(t, rep.Problems, 2)
	require.NotEmpty(t, progress)
}

// metadata gives the blocks of an image that hold metadata in use, each once.
func metadata(t testing.TB, m image) []disk.FSBlock {
	sb, err := disk.DecodeSuperblock(m[1024:])
	require.NoError(t, err)
	g, err := disk.NewGeometry(&sb, int64(len(m)))
	require.NoError(t, err)
	var list []disk.FSBlock
	for gr := range disk.Group(g.Groups) {
		b, off := g.DescAt(gr)
		d, err := disk.DecodeGroupDesc(m[g.BytesOf(b)+int64(off):])
		require.NoError(t, err)
		list = append(list, b, d.BlockBitmap, d.InodeBitmap)
		used := disk.Bitmap(m[g.BytesOf(d.InodeBitmap):][:g.BlockSize])
		for i := range g.InodesPerGroup {
			if !used.Test(i) {
				continue
			}
			ib, ioff := g.InodeAt(g.InoOf(gr, i), d.InodeTable)
			list = append(list, ib)
			in, err := disk.DecodeInode(m[g.BytesOf(ib)+int64(ioff):][:g.InodeSize])
			require.NoError(t, err)
			if in.FileACL != 0 {
				list = append(list, in.FileACL)
			}
			for k, p := range in.Block {
				if p != 0 && (in.IsDir() || in.HasBlockMap(g) && k >= disk.NDirect || in.IsSymlink() && !in.IsFastSymlink(g)) {
					list = append(list, disk.FSBlock(p))
				}
			}
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func env(name string, def int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return def
}

// e2fsckClean reports whether e2fsck -fn finds nothing. Its exit status is 0 also when only the superblock's free counts are
// wrong; what it prints tells.
func e2fsckClean(t testing.TB, path string) bool {
	code, out := disktest.E2fsck(t, path)
	return code == 0 && !strings.Contains(out, "? no")
}

// stricter reports that a finding is of a kind that e2fsck lets pass; see doc.go.
func stricter(p check.Problem) bool {
	switch p.Code {
	case check.ResizeInode, check.InodeFields, check.EntryDuplicate, check.Index:
		return true
	}
	return p.Ino != 0 && p.Ino < disk.OldFirstIno && p.Ino != disk.RootIno
}

// Random damage: where e2fsck is clean so are we, and where it is not, neither are we. CHECK_MUTATIONS sets how many are
// tried, CHECK_SEED repeats a run.
func TestMutationsAgainstE2fsck(t *testing.T) {
	disktest.Need(t, "e2fsck")
	seed := uint64(env("CHECK_SEED", int(time.Now().UnixNano()&0xFFFFFF)))
	t.Logf("CHECK_SEED=%d", seed)
	for k, o := range []mkfs.Options{
		{BlockSize: 1024, Inodes: 120, Fill: tree},
		{BlockSize: 1024, Inodes: 200, BlocksPerGroup: 1024, Features: "^filetype", InodeSize: 128, Fill: tree},
		{BlockSize: 4096, Inodes: 120, Features: "^dir_index", Fill: tree},
	} {
		good := make1(t, 2<<20, o)
		blocks := metadata(t, good)
		path := disktest.Image(t, 0)
		bs := int(o.BlockSize)
		for n := range env("CHECK_MUTATIONS", 60) {
			rng := rand.New(rand.NewPCG(seed, uint64(k)<<32|uint64(n)))
			m := slices.Clone(good)
			var what []string
			for range 1 + rng.IntN(2) {
				b := int(blocks[rng.IntN(len(blocks))])
				// Most of a block is empty: hit what is not, and now and then anything.
				off := b*bs + rng.IntN(bs)
				for range 30 {
					if m[off] != 0 || rng.IntN(40) == 0 {
						break
					}
					off = b*bs + rng.IntN(bs)
				}
				old := slices.Clone(m[off:min(off+4, (b+1)*bs)])
				switch word := m[off&^3:][:4]; rng.IntN(7) {
				case 0:
					m[off] = byte(rng.Uint32())
				case 1:
					m[off] ^= 1 << rng.IntN(8)
				case 2:
					m[off]++
				case 3:
					m[off] = 0
				case 4: // a number that may be a block or an inode
					binary.LittleEndian.PutUint32(word, rng.Uint32N(uint32(len(m)/bs)))
				case 5:
					binary.LittleEndian.PutUint32(word, rng.Uint32N(30))
				case 6: // something from elsewhere
					copy(word, good[int(blocks[rng.IntN(len(blocks))])*bs+rng.IntN(bs/4)*4:])
				}
				what = append(what, fmt.Sprintf("block %d byte %d: %x to %x", b, off%bs, old, m[off:][:len(old)]))
			}
			if slices.Equal(m, good) {
				continue
			}
			rep, err := check.Check(context.Background(), m, int64(len(m)), check.Options{})
			require.NoError(t, os.WriteFile(path, m, 0o644))
			code, out := disktest.E2fsck(t, path)
			if strings.Contains(out, "trying backup") {
				continue // doc.go: backups are not looked at
			}
			ours := err == nil && rep.Clean()
			theirs := code == 0 && !strings.Contains(out, "? no")
			if theirs && !ours && !slices.ContainsFunc(rep.Problems, func(p check.Problem) bool { return !stricter(p) }) {
				continue
			}
			if ours != theirs {
				t.Errorf("image %d, mutation %d, %v:\nours: %v %v\ne2fsck: exit %d\n%s", k, n, what, err, rep.Problems, code, out)
			}
		}
	}
}

// Whole blocks of garbage, of other blocks, of zeros: no panic, no endless loop.
func TestGarbage(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	good := make1(t, 2<<20, mkfs.Options{BlockSize: 1024, Inodes: 120, Fill: tree})
	blocks := metadata(t, good)
	start := time.Now()
	for range 400 {
		m := slices.Clone(good)
		for range 1 + rng.IntN(6) {
			at := int(blocks[rng.IntN(len(blocks))]) * 1024
			switch rng.IntN(3) {
			case 0:
				for i := range 1024 {
					m[at+i] = byte(rng.Uint32())
				}
			case 1: // pointers that are all valid
				for i := 0; i < 1024; i += 4 {
					p := rng.Uint32N(2048)
					m[at+i], m[at+i+1], m[at+i+2], m[at+i+3] = byte(p), byte(p>>8), 0, 0
				}
			case 2:
				copy(m[at:at+1024], good[int(blocks[rng.IntN(len(blocks))])*1024:])
			}
		}
		_, err := check.Check(context.Background(), m, int64(len(m)), check.Options{})
		if err != nil {
			require.NotEqual(t, errno.IO, errno.From(err), "%v", err)
		}
	}
	require.Less(t, time.Since(start), time.Minute)
}

func FuzzCheck(f *testing.F) {
	good := make1(f, 256<<10, mkfs.Options{BlockSize: 1024, Inodes: 16})
	blocks := metadata(f, good)
	f.Add(uint16(0), uint16(0), []byte{1, 2, 3})
	f.Add(uint16(3), uint16(40), []byte{0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, block, off uint16, patch []byte) {
		m := slices.Clone(good)
		at := int(blocks[int(block)%len(blocks)])*1024 + int(off)%1024
		copy(m[at:], patch)
		rep, err := check.Check(context.Background(), m, int64(len(m)), check.Options{MaxProblems: 100})
		if err == nil && len(rep.Problems) > 100 {
			t.Fatal("too many problems")
		}
	})
}

func Example() {
	m := make(image, 1<<20) // an *os.File in real life
	if _, err := mkfs.Format(m, int64(len(m)), mkfs.Options{Zeroed: true}); err != nil {
		fmt.Println(err)
		return
	}
	m[1024+16]++ // one free inode more than there are
	rep, err := check.Check(context.Background(), m, int64(len(m)), check.Options{})
	fmt.Println(rep.Problems[0], err)
	// Output: superblock: 970 free blocks, 118 free inodes; want 970, 117 [superblock-counts] <nil>
}
