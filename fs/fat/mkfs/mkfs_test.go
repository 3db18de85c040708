package mkfs_test

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/fat/check"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/fs/fat/disk/disktest"
	"github.com/iomapfs/iomapfs/fs/fat/mkfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

func geometryOf(t *testing.T, img string) *disk.Geometry {
	f, err := os.Open(img)
	require.NoError(t, err)
	defer f.Close()
	p := make([]byte, disk.BootSize)
	_, err = f.ReadAt(p, 0)
	require.NoError(t, err)
	b, err := disk.DecodeBootSector(p)
	require.NoError(t, err)
	st, err := f.Stat()
	require.NoError(t, err)
	g, err := disk.NewGeometry(&b, st.Size())
	require.NoError(t, err)
	return g
}

func format(t *testing.T, size int64, o mkfs.Options) string {
	img := disktest.Empty(t, size)
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	o.Zeroed = true
	if o.Time.IsZero() {
		o.Time = time.Unix(1700000000, 0)
	}
	_, err = mkfs.Format(f, size, o)
	require.NoError(t, err)
	return img
}

func clean(t *testing.T, img string) {
	t.Helper()
	disktest.Fsck(t, img)
	f, err := os.Open(img)
	require.NoError(t, err)
	defer f.Close()
	st, err := f.Stat()
	require.NoError(t, err)
	rep, err := check.Check(context.Background(), f, st.Size(), check.Options{})
	require.NoError(t, err)
	require.Empty(t, rep.Problems)
}

// The geometry is the one that mkfs.fat chooses, for all sizes where a choice is made, and what options ask for.
func TestAsMkfsFat(t *testing.T) {
	for _, c := range []struct {
		size int64
		args string
		o    mkfs.Options
	}{
		{64 << 10, "", mkfs.Options{}},
		{1440 << 10, "", mkfs.Options{Media: 0xF8}},
		{4 << 20, "", mkfs.Options{}},
		{5 << 20, "", mkfs.Options{}},
		{16 << 20, "", mkfs.Options{}},
		{17 << 20, "", mkfs.Options{}},
		{100 << 20, "", mkfs.Options{}},
		{200 << 20, "", mkfs.Options{}},
		{511 << 20, "", mkfs.Options{}},
		{512 << 20, "", mkfs.Options{}},
		{9 << 30, "", mkfs.Options{}},
		{40 << 30, "", mkfs.Options{}},
		{64 << 20, "-F 32", mkfs.Options{Width: disk.FAT32}},
		{300 << 20, "-F 32", mkfs.Options{Width: disk.FAT32}},
		{20 << 20, "-F 16 -s 1", mkfs.Options{Width: disk.FAT16, ClusterSize: 512}},
		{64 << 20, "-S 4096", mkfs.Options{SectorSize: 4096}},
		{64 << 20, "-S 1024 -f 1", mkfs.Options{SectorSize: 1024, FATs: 1}},
		{64 << 20, "-r 224 -a", mkfs.Options{RootEntries: 224, NoAlign: true}},
		{64 << 20, "-F 32 -R 64", mkfs.Options{Width: disk.FAT32, Reserved: 64}},
	} {
		t.Run(fmt.Sprintf("%d%s", c.size, strings.ReplaceAll(c.args, " ", "")), func(t *testing.T) {
			theirs := disktest.Mkfs(t, c.size, strings.Fields(c.args)...)
			if c.size == 1440<<10 {
				c.o.RootEntries, c.o.ClusterSize = 224, 512
			}
			ours := format(t, c.size, c.o)
			want, got := geometryOf(t, theirs), geometryOf(t, ours)
			// mkfs.fat leaves sectors out that do not fill a track of its made-up geometry.
			require.InDelta(t, want.Sectors, got.Sectors, 63)
			require.InDelta(t, want.Clusters, got.Clusters, 63)
			want.Sectors, want.Clusters = got.Sectors, got.Clusters
			require.Equal(t, want, got)
			clean(t, ours)
			clean(t, theirs)
		})
	}
}

// A tree of names of all kinds is what mtools reads back, in every width and several cluster sizes.
func TestFromDir(t *testing.T) {
	src := t.TempDir()
	rng := rand.New(rand.NewPCG(1, 2))
	for i, name := range []string{
		"README.TXT", "readme2.txt", "a", "Mixed Case.Name.txt", "ünïcode", "日本語ファイル.txt", "العربية", "кириллица.dat",
		strings.Repeat("x", 255), "dots...in.it", "+,;=[]", "sub/file", "sub/deeper/still/f", ".hidden", "longername1.txt", "longername2.txt",
	} {
		p := filepath.Join(src, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(p), 0o755))
		b := make([]byte, rng.IntN(40000))
		if i == 2 {
			b = nil
		}
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		require.NoError(t, os.WriteFile(p, b, 0o644))
	}
	require.NoError(t, os.Mkdir(filepath.Join(src, "many"), 0o755))
	for i := range 300 {
		require.NoError(t, os.WriteFile(filepath.Join(src, "many", fmt.Sprintf("a rather long name %d.data", i)), []byte{byte(i)}, 0o644))
	}
	for _, o := range []mkfs.Options{
		{Width: disk.FAT12, ClusterSize: 4096},
		{Width: disk.FAT16},
		{Width: disk.FAT32, ClusterSize: 512},
		{Width: disk.FAT32, ClusterSize: 1024},
		{Width: disk.FAT32, SectorSize: 4096, ClusterSize: 65536},
		{Width: disk.FAT16, SectorSize: 2048, ClusterSize: 2048},
	} {
		o.Label, o.Fill = "my disk", mkfs.FromDir(src, mkfs.DirOptions{})
		size := int64(100 << 20)
		if o.Width == disk.FAT12 {
			size = 10 << 20
		}
		img := format(t, size, o)
		clean(t, img)
		out := t.TempDir()
		if o.SectorSize > 512 {
			continue // mtools does not read them
		}
		disktest.Mcopy(t, img, "::*", out)
		sameTree(t, src, out)
	}
}

func sameTree(t *testing.T, a, b string) {
	t.Helper()
	list := func(root string) map[string]string {
		m := map[string]string{}
		require.NoError(t, filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
			require.NoError(t, err)
			rel, _ := filepath.Rel(root, p)
			if e.IsDir() {
				m[rel] = "dir"
				return nil
			}
			data, err := os.ReadFile(p)
			require.NoError(t, err)
			m[rel] = string(data)
			return nil
		}))
		return m
	}
	la, lb := list(a), list(b)
	for n, d := range la {
		_, there := lb[n]
		require.True(t, there, "%q is missing", n)
		require.True(t, d == lb[n], "%s differs", n)
	}
	require.Len(t, lb, len(la))
}

func TestRefusals(t *testing.T) {
	src := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(src, "a"), make([]byte, 1<<20), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(src, "b:c"), nil, 0o644))
	for name, c := range map[string]struct {
		size int64
		o    mkfs.Options
		want errno.Errno
	}{
		"small":    {10 << 10, mkfs.Options{}, errno.INVAL},
		"width":    {1 << 20, mkfs.Options{Width: 13}, errno.INVAL},
		"label":    {1 << 20, mkfs.Options{Label: "twelve chars"}, errno.INVAL},
		"cluster":  {1 << 20, mkfs.Options{ClusterSize: 3000}, errno.INVAL},
		"too many": {4 << 30, mkfs.Options{Width: disk.FAT16, ClusterSize: 512}, errno.INVAL},
		"full":     {512 << 10, mkfs.Options{Fill: mkfs.FromDir(src, mkfs.DirOptions{})}, errno.NOSPC},
		"name":     {4 << 20, mkfs.Options{Fill: mkfs.FromDir(src, mkfs.DirOptions{})}, errno.INVAL},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := os.OpenFile(disktest.Empty(t, c.size), os.O_RDWR, 0)
			require.NoError(t, err)
			defer f.Close()
			_, err = mkfs.Format(f, c.size, c.o)
			require.ErrorIs(t, err, c.want)
		})
	}
}
