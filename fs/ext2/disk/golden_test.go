package disk_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/fs/ext2/disk/disktest"
)

func readSuper(t *testing.T, path string) (disk.Superblock, []byte, *os.File) {
	f, err := os.Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { f.Close() })
	raw := make([]byte, disk.SuperSize)
	_, err = f.ReadAt(raw, disk.SuperOffset)
	require.NoError(t, err)
	sb, err := disk.DecodeSuperblock(raw)
	require.NoError(t, err)
	return sb, raw, f
}

// The geometry worked out from mke2fs's superblocks is the one that dumpe2fs prints, group by group.
func TestGeometryAgainstDumpe2fs(t *testing.T) {
	for _, c := range []struct {
		size int64
		args string
	}{
		{64 << 10, "-N 16"},
		{8 << 20, "-b 1024"},
		{300 << 20, "-b 1024"},
		{300 << 20, "-b 1024 -O ^sparse_super,^resize_inode"},
		{1 << 30, "-b 2048 -I 512"},
		{5 << 30, "-b 4096"},
		{4 << 30, "-b 4096 -I 128 -N 100000"},
		{600 << 20, "-b 1024 -O meta_bg,^resize_inode"},
		{300 << 20, "-b 1024 -O meta_bg,^resize_inode -g 1024"},
		{600 << 20, "-b 1024 -O sparse_super2 -E num_backup_sb=2"},
		{600 << 20, "-b 1024 -O ^sparse_super,^resize_inode,sparse_super2 -E num_backup_sb=1"},
		{64 << 20, "-b 8192"},
		{256 << 20, "-b 65536"},
		{16 << 20, "-r 0"},
	} {
		t.Run(fmt.Sprintf("%dk%s", c.size>>10, c.args), func(t *testing.T) {
			img := disktest.Mke2fs(t, c.size, strings.Fields(c.args)...)
			sb, raw, f := readSuper(t, img)
			again := append([]byte(nil), raw...)
			sb.EncodeTo(again)
			require.Equal(t, raw, again)
			g, err := disk.NewGeometry(&sb, c.size)
			require.NoError(t, err)
			require.NoError(t, sb.Verify(g))
			require.True(t, sb.Clean())
			require.Zero(t, sb.UnknownIncompat())
			require.Zero(t, sb.UnknownROCompat())
			require.Zero(t, sb.UnknownCompat())
			_, err = disk.NewGeometry(&sb, c.size-1)
			require.Equal(t, int64(sb.Blocks)<<g.BlockBits == c.size, err != nil)

			out := disktest.Must(t, "", "dumpe2fs", img)
			h := disktest.Header(t, img)
			require.Equal(t, h["Filesystem features"] != "(none)" && h["Filesystem features"] != "", len(sb.FeatureNames()) > 0)
			if len(sb.FeatureNames()) > 0 {
				require.Equal(t, h["Filesystem features"], strings.Join(sb.FeatureNames(), " "))
			}
			require.EqualValues(t, disktest.Number(t, h, "Inode blocks per group"), g.ITableBlocks)
			require.EqualValues(t, disktest.Number(t, h, "Reserved GDT blocks"), g.ReservedGDT)
			if oc := disktest.Number(t, h, "Overhead clusters"); oc != 0 {
				// mke2fs does not count the blocks of lost+found and the like, but those of the resize inode.
				require.InDelta(t, oc, g.Overhead(), float64(g.FirstDataBlock)+1)
			}

			group := regexp.MustCompile(`^Group (\d+): \(Blocks (\d+)-(\d+)\)`)
			super := regexp.MustCompile(`superblock at (\d+)`)
			desc := regexp.MustCompile(`Group descriptors? at (\d+)(?:-(\d+))?`)
			table := regexp.MustCompile(`Inode table at (\d+)-(\d+)`)
			seen, gr := 0, disk.Group(0)
			supers := map[disk.Group]bool{}
			descs := map[disk.Group]uint32{}
			for line := range strings.Lines(out) {
				if m := group.FindStringSubmatch(line); m != nil {
					n, _ := strconv.Atoi(m[1])
					gr = disk.Group(n)
					seen++
					require.Equal(t, m[2], fmt.Sprint(g.GroupFirst(gr)))
					require.Equal(t, m[3], fmt.Sprint(uint32(g.GroupFirst(gr))+g.GroupBlocks(gr)-1))
				}
				if super.MatchString(line) {
					supers[gr] = true
				}
				if m := desc.FindStringSubmatch(line); m != nil {
					a, _ := strconv.Atoi(m[1])
					descs[gr] = uint32(a)
				}
				if m := table.FindStringSubmatch(line); m != nil {
					db, off := g.DescAt(gr)
					b := make([]byte, disk.GroupDescSize)
					_, err := f.ReadAt(b, g.BytesOf(db)+int64(off))
					require.NoError(t, err)
					d, err := disk.DecodeGroupDesc(b)
					require.NoError(t, err)
					require.NoError(t, d.Verify(g, gr))
					require.Equal(t, m[1], fmt.Sprint(d.InodeTable))
					require.Equal(t, m[2], fmt.Sprint(uint32(d.InodeTable)+g.ITableBlocks-1))
				}
			}
			require.EqualValues(t, g.Groups, seen)
			for gr := range disk.Group(g.Groups) {
				require.Equal(t, supers[gr], g.HasSuper(gr), "group %d", gr)
				want, has := descs[gr], false
				for i := range g.DescBlocks {
					if b, ok := g.BackupDesc(gr, i); ok {
						has = true
						require.EqualValues(t, want, b, "group %d", gr)
						break
					}
				}
				_, listed := descs[gr]
				require.Equal(t, listed, has, "group %d", gr)
			}
		})
	}
}

func TestHashAgainstDebugfs(t *testing.T) {
	img := disktest.Mke2fs(t, 64<<10, "-N", "16")
	names := []string{
		"a", "ab", "abc", "abcd", "hello.txt", "lost+found", "0123456789abcdef", "0123456789abcdef0",
		"0123456789abcdef0123456789abcdef", "0123456789abcdef0123456789abcdef!", "grün", "日本語", strings.Repeat("x", 255), "\x80\xfe",
	}
	seeds := []string{"", "00112233-4455-6677-8899-aabbccddeeff"}
	// debugfs knows the signed versions only; the unsigned ones are seen in TestIndexAgainstE2fsck.
	for _, v := range []string{"legacy", "half_md4", "tea"} {
		for _, seed := range seeds {
			var s disk.HashSeed
			arg := ""
			if seed != "" {
				b, _ := hex.DecodeString(strings.ReplaceAll(seed, "-", ""))
				for i := range s {
					s[i] = uint32(b[4*i]) | uint32(b[4*i+1])<<8 | uint32(b[4*i+2])<<16 | uint32(b[4*i+3])<<24
				}
				arg = "-s " + seed
			}
			for _, n := range names {
				out := disktest.Debugfs(t, img, false, fmt.Sprintf("dx_hash -h %s %s %s", v, arg, n))
				m := regexp.MustCompile(`is 0x([0-9a-f]+) \(minor 0x([0-9a-f]+)\)`).FindStringSubmatch(out)
				require.NotNil(t, m, out)
				version := map[string]disk.HashVersion{"legacy": 0, "half_md4": 1, "tea": 2}[v]
				major, minor, ok := disk.HashName(version, s, []byte(n))
				require.True(t, ok)
				require.Equal(t, strings.TrimLeft(m[1], "0")+" "+m[2], fmt.Sprintf("%x %x", major, minor), "%s %s %q", v, seed, n)
			}
		}
	}
	_, _, ok := disk.HashName(6, disk.HashSeed{}, []byte("a"))
	require.False(t, ok)
}

// Attributes, times, device numbers and symlinks that debugfs writes are read back, and blocks are built the same way.
func TestInodeAgainstDebugfs(t *testing.T) {
	img := disktest.Mke2fs(t, 1<<20, "-b", "1024", "-I", "256")
	big := strings.Repeat("v", 300)
	disktest.Debugfs(t, img, true,
		"mknod blk b 8 1", "mknod chr c 200 100", "mknod pipe p", "symlink fast target", "symlink slow "+strings.Repeat("s", 200),
		"mkdir d", "ea_set d user.small x", "ea_set d user.big "+big, "ea_set d trusted.t yes",
		"set_inode_field d mtime @5000000000", "set_inode_field d mtime_extra 0x00000005", "set_inode_field d crtime @77",
		"set_inode_field d uid 100000", "set_inode_field d gid 70000", "set_inode_field d generation 99")
	sb, _, f := readSuper(t, img)
	g, err := disk.NewGeometry(&sb, 1<<20)
	require.NoError(t, err)
	read := func(ino disk.Ino) (disk.Inode, []byte) {
		b, off := g.DescAt(g.InodeGroup(ino))
		raw := make([]byte, disk.GroupDescSize)
		_, err := f.ReadAt(raw, g.BytesOf(b)+int64(off))
		require.NoError(t, err)
		d, err := disk.DecodeGroupDesc(raw)
		require.NoError(t, err)
		b, off = g.InodeAt(ino, d.InodeTable)
		raw = make([]byte, g.InodeSize)
		_, err = f.ReadAt(raw, g.BytesOf(b)+int64(off))
		require.NoError(t, err)
		in, err := disk.DecodeInode(raw)
		require.NoError(t, err)
		require.NoError(t, in.Verify(g))
		again := append([]byte(nil), raw...)
		in.EncodeTo(again)
		require.Equal(t, raw, again)
		return in, raw
	}
	block := func(b uint32) []byte {
		raw := make([]byte, g.BlockSize)
		_, err := f.ReadAt(raw, g.BytesOf(disk.FSBlock(b)))
		require.NoError(t, err)
		return raw
	}
	root, _ := read(disk.RootIno)
	require.True(t, root.IsDir())
	db, err := disk.AsDirBlock(block(root.Block[0]), g.Inodes)
	require.NoError(t, err)
	_, err = db.DotDot(disk.RootIno)
	require.NoError(t, err)
	inos := map[string]disk.Ino{}
	for off := 0; off < len(db); off = db.Next(off) {
		if db.Ino(off) != 0 {
			inos[string(db.Name(off))] = db.Ino(off)
			in, _ := read(db.Ino(off))
			require.Equal(t, disk.FileTypeOf(in.Mode), db.FileType(off), string(db.Name(off)))
		}
	}
	in, _ := read(inos["blk"])
	maj, minor := in.Device()
	require.Equal(t, [2]uint32{8, 1}, [2]uint32{maj, minor})
	in, _ = read(inos["chr"])
	maj, minor = in.Device()
	require.Equal(t, [2]uint32{200, 100}, [2]uint32{maj, minor})
	in, _ = read(inos["fast"])
	require.True(t, in.IsFastSymlink(g))
	target, err := in.FastSymlink()
	require.NoError(t, err)
	require.Equal(t, "target", target)
	in, _ = read(inos["slow"])
	require.False(t, in.IsFastSymlink(g))

	in, raw := read(inos["d"])
	require.Equal(t, disk.Time{Sec: 5000000000, Nsec: 1}, disk.Time{Sec: in.Mtime.Sec, Nsec: in.Mtime.Nsec})
	require.EqualValues(t, 77, in.Crtime.Sec)
	require.EqualValues(t, 100000, in.UID)
	require.EqualValues(t, 70000, in.GID)
	require.EqualValues(t, 99, in.Generation)
	body, err := disk.XattrBody(in.IBody(raw))
	require.NoError(t, err)
	require.NotZero(t, in.FileACL)
	xb, err := disk.AsXattrBlock(block(uint32(in.FileACL)))
	require.NoError(t, err)
	got := map[string]string{}
	for i, tab := range []disk.XattrTable{body, xb.Table()} {
		for at := tab.First(); !tab.End(at); at = tab.Next(at) {
			e := tab.At(at)
			full, ok := disk.XattrFullName(e.Index, string(e.Name))
			require.True(t, ok)
			got[full] = string(e.Value)
			if i == 0 {
				require.Zero(t, e.Hash)
			} else {
				require.Equal(t, e.WantHash(false), e.Hash, full)
			}
		}
	}
	require.Equal(t, map[string]string{"user.small": "x", "user.big": big, "trusted.t": "yes"}, got)
	require.Zero(t, xb.Hash()) // libext2fs does not work it out
	built := make([]byte, g.BlockSize)
	same, ok := disk.BuildXattrBlock(built, xb.Table().Append(nil))
	require.True(t, ok)
	require.Equal(t, same.Table().Append(nil), xb.Table().Append(nil))
	require.Equal(t, same[32:], xb[32:])
}

// The index of a large directory made by e2fsck -D verifies, and each name stands where its hash leads, for all hashes.
func TestIndexAgainstE2fsck(t *testing.T) {
	src := t.TempDir()
	for i := range 2500 {
		require.NoError(t, os.WriteFile(fmt.Sprintf("%s/a-rather-long-nämé-for-a-file-\xff\xfe%d", src, i), nil, 0o644))
	}
	for v, name := range []string{"legacy", "half_md4", "tea"} {
		for _, unsigned := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/unsigned=%v", name, unsigned), func(t *testing.T) {
				img := disktest.Mke2fs(t, 16<<20, "-b", "1024", "-N", "4000", "-d", src)
				cmds := []string{"set_super_value def_hash_version " + name}
				if unsigned {
					cmds = append(cmds, "set_super_value flags 2")
				}
				disktest.Debugfs(t, img, true, cmds...)
				disktest.Run(t, "", "e2fsck", "-fyD", img)
				disktest.Clean(t, img)
				sb, _, _ := readSuper(t, img)
				require.Equal(t, unsigned, sb.Flags&disk.FlagUnsignedHash != 0)
				checkIndex(t, img, disk.HashVersion(v), 2501)
			})
		}
	}
}

func checkIndex(t *testing.T, img string, version disk.HashVersion, count int) {
	sb, _, f := readSuper(t, img)
	g, err := disk.NewGeometry(&sb, -1)
	require.NoError(t, err)
	blocks := strings.Fields(disktest.Debugfs(t, img, false, "blocks /"))
	block := func(b disk.FileBlock) []byte {
		// "blocks" lists the indirect blocks too, each before what it points to: 12 direct, then one and 256.
		i := int(b)
		if i >= disk.NDirect {
			i++
		}
		n, err := strconv.Atoi(blocks[i])
		require.NoError(t, err)
		raw := make([]byte, g.BlockSize)
		_, err = f.ReadAt(raw, g.BytesOf(disk.FSBlock(n)))
		require.NoError(t, err)
		return raw
	}
	ir, err := disk.AsIndexRoot(block(0))
	require.NoError(t, err)
	require.Equal(t, version, ir.HashVersion())
	v := sb.HashVersionOf(ir.HashVersion())
	names := 0
	var walk func(ie disk.IndexEntries, level int, end uint32)
	walk = func(ie disk.IndexEntries, level int, end uint32) {
		for i := range ie.Count() {
			low, high := ie.Hash(i)&^1, end
			if i+1 < ie.Count() {
				high = ie.Hash(i + 1)
			}
			b := block(ie.Block(i))
			db, err := disk.AsDirBlock(b, g.Inodes)
			require.NoError(t, err)
			if level > 0 {
				in, err := disk.AsIndexNode(b)
				require.NoError(t, err)
				walk(in.Entries(), level-1, high)
				continue
			}
			for off := 0; off < len(db); off = db.Next(off) {
				if db.Ino(off) == 0 {
					continue
				}
				names++
				h, _, _ := disk.HashName(v, sb.HashSeed, db.Name(off))
				require.LessOrEqual(t, low, h)
				require.LessOrEqual(t, h, high|1)
				if high&1 == 0 {
					require.Less(t, h, high)
					require.Equal(t, i, ie.Search(h))
				}
			}
		}
	}
	walk(ir.Entries(), ir.Levels(), 0xFFFFFFFF)
	require.Equal(t, count, names)
}
