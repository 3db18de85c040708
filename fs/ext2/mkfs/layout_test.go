package mkfs_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/fs/ext2/disk/disktest"
	"github.com/iomapfs/iomapfs/fs/ext2/mkfs"
)

const testUUID = "01234567-89ab-cdef-0123-456789abcdef"

// like mke2fs under disktest: the same UUID, hash seed and time.
func fixed(t testing.TB, o mkfs.Options) mkfs.Options {
	id, err := mkfs.ParseUUID(testUUID)
	require.NoError(t, err)
	o.UUID = id
	o.HashSeed = disk.HashSeed{0x67452301, 0xEFCDAB89, 0x67452301, 0xEFCDAB89}
	o.Time = time.Unix(1600000000, 0)
	return o
}

func format(t testing.TB, size int64, o mkfs.Options) string {
	t.Helper()
	path := t.TempDir() + "/img"
	_, err := mkfs.FormatFile(path, size, false, o)
	require.NoError(t, err)
	return path
}

// firstDifference gives the offset of the first byte that differs between two files of one size, holes skipped cheaply, or -1.
func firstDifference(t testing.TB, a, b string) int64 {
	fa, err := os.Open(a)
	require.NoError(t, err)
	defer fa.Close()
	fb, err := os.Open(b)
	require.NoError(t, err)
	defer fb.Close()
	st, err := fa.Stat()
	require.NoError(t, err)
	st2, err := fb.Stat()
	require.NoError(t, err)
	require.Equal(t, st.Size(), st2.Size())
	bufs := [2][]byte{make([]byte, 1<<20), make([]byte, 1<<20)}
	for pos := int64(0); pos < st.Size(); {
		next := min(nextData(fa, pos, st.Size()), nextData(fb, pos, st.Size()))
		if next >= st.Size() {
			break
		}
		pos = next
		n, _ := fa.ReadAt(bufs[0], pos)
		m, _ := fb.ReadAt(bufs[1], pos)
		require.Equal(t, n, m)
		if !bytes.Equal(bufs[0][:n], bufs[1][:m]) {
			for i := range n {
				if bufs[0][i] != bufs[1][i] {
					return pos + int64(i)
				}
			}
		}
		pos += int64(n)
	}
	return -1
}

func nextData(f *os.File, pos, size int64) int64 {
	const seekData = 3
	if n, err := f.Seek(pos, seekData); err == nil {
		return n
	}
	return size
}

// An empty filesystem is byte for byte the one that mke2fs makes of the same parameters.
func TestSameAsMke2fs(t *testing.T) {
	disktest.Need(t, "mke2fs", "e2fsck", "dumpe2fs")
	type param struct {
		size int64
		args string
		o    mkfs.Options
	}
	var cases []param
	for _, bs := range []uint32{0, 1024, 2048, 4096, 8192, 16384, 65536} {
		sizes := []int64{256 << 10, 1<<20 + 5000, 2 << 20, 8 << 20, 8<<20 + 70*1024, 33 << 20, 129 << 20}
		switch bs {
		case 0:
			sizes = append(sizes, 600<<20, 20<<30)
		case 1024, 65536:
			sizes = append(sizes, 600<<20)
		}
		for _, size := range sizes {
			args := ""
			if bs != 0 {
				args = fmt.Sprintf("-b %d", bs)
			}
			cases = append(cases, param{size, args, mkfs.Options{BlockSize: bs}})
		}
	}
	cases = append(cases,
		param{64 << 10, "-N 16", mkfs.Options{Inodes: 16}},
		param{100 << 10, "-N 24", mkfs.Options{Inodes: 24}},
		param{64 << 20, "-I 128", mkfs.Options{InodeSize: 128}},
		param{64 << 20, "-I 1024 -b 4096", mkfs.Options{InodeSize: 1024, BlockSize: 4096}},
		param{64 << 20, "-I 512 -i 1024", mkfs.Options{InodeSize: 512, InodeRatio: 1024}},
		param{64 << 20, "-i 65536", mkfs.Options{InodeRatio: 65536}},
		param{300 << 20, "-N 1000000 -b 1024", mkfs.Options{Inodes: 1000000, BlockSize: 1024}},
		param{300 << 20, "-N 12345", mkfs.Options{Inodes: 12345}},
		param{300 << 20, "-m 0 -L label", mkfs.Options{Reserved: -1, Label: "label"}},
		param{300 << 20, "-m 12.5", mkfs.Options{Reserved: 12.5}},
		param{300 << 20, "-g 2048 -b 1024", mkfs.Options{BlocksPerGroup: 2048, BlockSize: 1024}},
		param{1 << 30, "-g 8192", mkfs.Options{BlocksPerGroup: 8192}},
		param{600 << 20, "-O ^resize_inode", mkfs.Options{Features: "^resize_inode"}},
		param{600 << 20, "-O ^resize_inode,^sparse_super -b 1024", mkfs.Options{Features: "^resize_inode,^sparse_super", BlockSize: 1024}},
		param{600 << 20, "-O none", mkfs.Options{Features: "none"}},
		param{600 << 20, "-O none,filetype -I 128", mkfs.Options{Features: "none filetype", InodeSize: 128}},
		param{600 << 20, "-O ^resize_inode,meta_bg -b 1024", mkfs.Options{Features: "^resize_inode,meta_bg", BlockSize: 1024}},
		param{8 << 20, "-O sparse_super2 -b 1024", mkfs.Options{Features: "sparse_super2", BlockSize: 1024}},
		param{300 << 20, "-O ^resize_inode,meta_bg -b 1024 -g 1024", mkfs.Options{Features: "^resize_inode,meta_bg", BlockSize: 1024, BlocksPerGroup: 1024}},
		param{600 << 20, "-O sparse_super2 -b 1024", mkfs.Options{Features: "sparse_super2", BlockSize: 1024}},
		param{10 << 20, "-O sparse_super2 -b 1024", mkfs.Options{Features: "sparse_super2", BlockSize: 1024}},
		param{600 << 20, "-O sparse_super2,^resize_inode,^sparse_super", mkfs.Options{Features: "sparse_super2,^resize_inode,^sparse_super"}},
		param{600 << 20, "-O extra_isize", mkfs.Options{Features: "extra_isize"}},
	)
	for _, c := range cases {
		t.Run(fmt.Sprintf("%dk %s", c.size>>10, c.args), func(t *testing.T) {
			theirs := disktest.Image(t, c.size)
			args := append([]string{"-q", "-F", "-t", "ext2", "-U", testUUID, "-E", "hash_seed=" + testUUID}, strings.Fields(c.args)...)
			code, out := disktest.Run(t, "", "mke2fs", append(args, theirs)...)
			o := fixed(t, c.o)
			ours := t.TempDir() + "/img"
			_, err := mkfs.FormatFile(ours, c.size, false, o)
			if code != 0 {
				// Where mke2fs gives up we may do better, but what we make is sound.
				t.Logf("mke2fs: %s; ours: %v", strings.TrimSpace(out), err)
				if err == nil {
					disktest.Clean(t, ours)
				}
				return
			}
			require.NoError(t, err)
			at := firstDifference(t, theirs, ours)
			if at < 0 {
				return // all that e2fsck and dumpe2fs could say is said
			}
			disktest.Clean(t, ours)
			th := disktest.Header(t, theirs)
			delete(th, "Lifetime writes") // not counted by ext2
			require.Equal(t, th, disktest.Header(t, ours))
			if c.o.Features != "extra_isize" { // with it mke2fs notes the lifetime writes
				t.Fatalf("differs from mke2fs at byte %d", at)
			}
		})
	}
}

// memory is a device in memory.
type memory []byte

func (m memory) WriteAt(b []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(b)) > int64(len(m)) {
		return 0, io.ErrShortWrite
	}
	return copy(m[off:], b), nil
}

// zeroer knows how to zero a range.
type zeroer struct {
	memory
	calls int
}

func (z *zeroer) ZeroRange(off, n int64) error {
	z.calls++
	clear(z.memory[off : off+n])
	return nil
}

// A device that is not zeroed gets a filesystem that is as clean.
func TestUsedDevice(t *testing.T) {
	for _, bs := range []uint32{1024, 4096, 65536} {
		m := make(memory, 24<<20)
		for i := range m {
			m[i] = byte(i*7 + i>>9)
		}
		_, err := mkfs.Format(m, int64(len(m)), fixed(t, mkfs.Options{BlockSize: bs}))
		require.NoError(t, err)
		img := disktest.Image(t, 0)
		require.NoError(t, os.WriteFile(img, m, 0o644))
		disktest.Clean(t, img)
		require.True(t, bytes.Equal(m[:1024], make([]byte, 1024)))

		z := &zeroer{memory: make(memory, len(m))}
		for i := range z.memory {
			z.memory[i] = byte(i*7 + i>>9)
		}
		_, err = mkfs.Format(z, int64(len(m)), fixed(t, mkfs.Options{BlockSize: bs}))
		require.NoError(t, err)
		require.NotZero(t, z.calls)
		require.True(t, bytes.Equal(m, z.memory))
	}
}

func TestDefaults(t *testing.T) {
	a, b := make(memory, 8<<20), make(memory, 8<<20)
	sa, err := mkfs.Format(a, 8<<20, mkfs.Options{})
	require.NoError(t, err)
	sb, err := mkfs.Format(b, 8<<20, mkfs.Options{})
	require.NoError(t, err)
	require.NotEqual(t, sa.UUID, sb.UUID)
	require.NotEqual(t, sa.HashSeed, sb.HashSeed)
	require.InDelta(t, time.Now().Unix(), int64(sa.MkfsTime), 60)
	sa.UUID, sa.HashSeed = sb.UUID, sb.HashSeed
	sa.MkfsTime, sa.WriteTime, sa.LastCheck = sb.MkfsTime, sb.WriteTime, sb.LastCheck
	require.Equal(t, sa, sb)
	require.Equal(t, "ext_attr resize_inode dir_index filetype sparse_super large_file", strings.Join(sa.FeatureNames(), " "))
}

func TestRefusals(t *testing.T) {
	v := disk.HashVersion(3)
	for want, o := range map[string]mkfs.Options{
		"block size 3000":          {BlockSize: 3000},
		"inode size 100":           {InodeSize: 100},
		"inode size 2048":          {InodeSize: 2048},
		"inode ratio 5":            {InodeRatio: 5},
		"100 blocks in a group":    {BlocksPerGroup: 100},
		"feature \"journal\"":      {Features: "journal"},
		"feature \"has_journal\"":  {Features: "has_journal"},
		"meta_bg and resize_inode": {Features: "meta_bg"},
		"needs sparse_super":       {Features: "^sparse_super"},
		"percent of reserved":      {Reserved: 51},
		"label":                    {Label: strings.Repeat("x", 17)},
		"hash version":             {Hash: &v},
		"too many for":             {Inodes: 1 << 30},
		"time":                     {Time: time.Unix(-1, 0)},
	} {
		_, err := mkfs.Format(make(memory, 0), 8<<20, o)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "invalid argument")
	}
	_, err := mkfs.Format(make(memory, 0), 20<<10, mkfs.Options{})
	require.ErrorContains(t, err, "too small")
	require.ErrorContains(t, err, "no space left")
	_, err = mkfs.Format(make(memory, 0), 1<<50, mkfs.Options{BlockSize: 1024})
	require.ErrorContains(t, err, "choose larger blocks")
	_, err = mkfs.ParseUUID("x")
	require.Error(t, err)
	_, err = mkfs.SourceDateEpoch("12x")
	require.Error(t, err)
	when, err := mkfs.SourceDateEpoch("1600000000")
	require.NoError(t, err)
	require.Equal(t, strconv.Itoa(1600000000), strconv.FormatInt(when.Unix(), 10))
}
