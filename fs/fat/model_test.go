package fat

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/fat/check"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/fs/fat/disk/disktest"
	"github.com/iomapfs/iomapfs/fs/fat/mkfs"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block/file"
)

var tctx = context.Background()

// newImage makes an image with our mkfs.
func newImage(t testing.TB, size int64, o mkfs.Options) string {
	t.Helper()
	img := disktest.Empty(t, size)
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	o.Zeroed = true
	_, err = mkfs.Format(f, size, o)
	require.NoError(t, err)
	return img
}

func mountImage(t testing.TB, img string, words ...string) *vfs.SuperBlock {
	t.Helper()
	dev, err := file.Open(img, file.Options{})
	require.NoError(t, err)
	sb, err := Type.Mount(tctx, dev, &vfs.MountOptions{Words: append([]string{"tz=UTC"}, words...), CacheBytes: 8 << 20})
	if err != nil {
		dev.Close()
	}
	require.NoError(t, err)
	return sb
}

// isClean demands that fsck.fat and our checker find nothing.
func isClean(t testing.TB, img string) {
	t.Helper()
	disktest.Fsck(t, img)
	ourCheck(t, img)
}

// ourCheck demands that our checker finds nothing.
func ourCheck(t testing.TB, img string) {
	t.Helper()
	f, err := os.Open(img)
	require.NoError(t, err)
	defer f.Close()
	st, err := f.Stat()
	require.NoError(t, err)
	rep, err := check.Check(tctx, f, st.Size(), check.Options{})
	require.NoError(t, err)
	require.Empty(t, rep.Problems)
	require.False(t, rep.Dirty)
}

// tree is what a directory holds: contents by path, "/" for directories.
func treeOf(t testing.TB, dir *vfs.Inode, at string, m map[string]string) map[string]string {
	t.Helper()
	f, err := dir.Open(tctx, vfs.ORdonly)
	require.NoError(t, err)
	defer f.Close()
	var names []string
	require.NoError(t, f.ReadDir(tctx, 0, func(e *vfs.DirEntry) bool {
		if e.Name != "." && e.Name != ".." {
			names = append(names, strings.Clone(e.Name))
		}
		return true
	}))
	for _, n := range names {
		ip, err := dir.Lookup(tctx, n)
		require.NoError(t, err, n)
		if ip.IsDir() {
			m[path.Join(at, n)] = "/"
			treeOf(t, ip, path.Join(at, n), m)
		} else {
			m[path.Join(at, n)] = string(readAll(t, ip))
		}
		ip.Put()
	}
	return m
}

func readAll(t testing.TB, ip *vfs.Inode) []byte {
	t.Helper()
	f, err := ip.Open(tctx, vfs.ORdonly)
	require.NoError(t, err)
	defer f.Close()
	b := make([]byte, ip.Size())
	n, err := f.ReadAt(tctx, b, 0)
	require.NoError(t, err)
	require.Equal(t, len(b), n)
	return b
}

func hostTree(t testing.TB, root string) map[string]string {
	m := map[string]string{}
	require.NoError(t, filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		require.NoError(t, err)
		rel, _ := filepath.Rel(root, p)
		if rel == "." {
			return nil
		}
		m[rel] = "/"
		if !e.IsDir() {
			b, err := os.ReadFile(p)
			require.NoError(t, err)
			m[rel] = string(b)
		}
		return nil
	}))
	return m
}

func sameTrees(t testing.TB, want, got map[string]string) {
	t.Helper()
	var names []string
	for n := range want {
		names = append(names, n)
	}
	sort.Strings(names)
	for _, n := range names {
		g, ok := got[n]
		require.True(t, ok, "%q is missing", n)
		require.True(t, want[n] == g, "%q differs: %d bytes, want %d", n, len(g), len(want[n]))
	}
	for n := range got {
		_, ok := want[n]
		require.True(t, ok, "%q should not be there", n)
	}
}

// Random operations against a map, and then fsck.fat, our checker, mtools and a new mount see the same.
func TestRandom(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("IOMAPFS_SEED"); s != "" {
		_, err := fmt.Sscan(s, &seed)
		require.NoError(t, err)
	}
	t.Logf("seed %d", seed)
	for _, c := range []struct {
		name  string
		size  int64
		o     mkfs.Options
		words string
	}{
		{"fat12", 3 << 20, mkfs.Options{Width: disk.FAT12, ClusterSize: 1024}, ""},
		{"fat16", 20 << 20, mkfs.Options{Width: disk.FAT16, ClusterSize: 2048}, ""},
		{"fat32", 40 << 20, mkfs.Options{Width: disk.FAT32, ClusterSize: 512}, ""},
		{"fat32-32k", 40 << 20, mkfs.Options{Width: disk.FAT32, ClusterSize: 32 << 10}, "commit=1"},
		{"fat12-iomap", 3 << 20, mkfs.Options{Width: disk.FAT12, ClusterSize: 1024}, "path=iomap"},
		{"fat16-iomap", 20 << 20, mkfs.Options{Width: disk.FAT16, ClusterSize: 2048}, "path=iomap"},
		{"fat32-iomap", 40 << 20, mkfs.Options{Width: disk.FAT32, ClusterSize: 512}, "path=iomap commit=1"},
		{"fat32-4k-iomap", 40 << 20, mkfs.Options{Width: disk.FAT32, SectorSize: 4096, ClusterSize: 4096}, "path=iomap"},
		{"fat16-bridge", 20 << 20, mkfs.Options{Width: disk.FAT16, ClusterSize: 2048}, "path=bridge"},
		{"fat16-mixed", 20 << 20, mkfs.Options{Width: disk.FAT16, ClusterSize: 2048}, "path=iomap legacy=dio-read+fiemap bridge=dir+dio-write"},
	} {
		t.Run(c.name, func(t *testing.T) {
			img := newImage(t, c.size, c.o)
			sb := mountImage(t, img, strings.Fields(c.words)...)
			r := &random{t: t, rng: rand.New(rand.NewPCG(seed, 5)), sb: sb, want: map[string]string{}}
			for i := range 900 {
				r.step(i)
			}
			sameTrees(t, r.want, treeOf(t, sb.Root, "", map[string]string{}))
			require.NoError(t, sb.Unmount(tctx))
			isClean(t, img)
			sb = mountImage(t, img)
			sameTrees(t, r.want, treeOf(t, sb.Root, "", map[string]string{}))
			require.NoError(t, sb.Unmount(tctx))
			if c.o.SectorSize == 0 && c.o.ClusterSize < 32<<10 {
				out := t.TempDir()
				disktest.Mcopy(t, img, "::*", out)
				sameTrees(t, r.want, hostTree(t, out))
			}
		})
	}
}

// random makes operations and does them on the filesystem and on a map.
type random struct {
	t    *testing.T
	rng  *rand.Rand
	sb   *vfs.SuperBlock
	want map[string]string
}

func (r *random) paths(dir bool) []string {
	var list []string
	for p, c := range r.want {
		if (c == "/") == dir {
			list = append(list, p)
		}
	}
	sort.Strings(list)
	return list
}

func (r *random) pick(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[r.rng.IntN(len(list))]
}

func (r *random) newPath() string {
	dir := ""
	if r.rng.IntN(3) > 0 {
		dir = r.pick(r.paths(true))
	}
	if strings.Count(dir, "/") > 3 {
		dir = ""
	}
	n := r.rng.IntN(60)
	name := []string{
		fmt.Sprintf("FILE%d.TXT", n), fmt.Sprintf("a longer name %d", n), fmt.Sprintf("ünïcödé %d.日本", n), strings.Repeat(fmt.Sprintf("x%d", n), 60), fmt.Sprintf("lower%d", n),
	}[n%5]
	return path.Join(dir, name)
}

func (r *random) at(p string, f func(dir *vfs.Inode, name string)) {
	dir, err := r.sb.Walk(tctx, path.Dir("/"+p), true)
	require.NoError(r.t, err)
	defer dir.Put()
	f(dir, path.Base(p))
}

func (r *random) open(p string, flags vfs.OpenFlags, f func(f *vfs.File)) {
	ip, err := r.sb.Walk(tctx, p, true)
	require.NoError(r.t, err, p)
	defer ip.Put()
	fl, err := ip.Open(tctx, flags)
	require.NoError(r.t, err)
	defer fl.Close()
	f(fl)
}

func (r *random) step(i int) {
	t := r.t
	switch k := r.rng.IntN(20); {
	case k < 3:
		p := r.newPath()
		if _, ok := r.want[p]; ok {
			return
		}
		r.at(p, func(dir *vfs.Inode, name string) {
			ip, err := dir.Create(tctx, vfs.Root, name, 0o644)
			require.NoError(t, err)
			ip.Put()
		})
		r.want[p] = ""
	case k < 4:
		p := r.newPath()
		if _, ok := r.want[p]; ok {
			return
		}
		r.at(p, func(dir *vfs.Inode, name string) {
			ip, err := dir.Mkdir(tctx, vfs.Root, name, 0o755)
			require.NoError(t, err)
			ip.Put()
		})
		r.want[p] = "/"
	case k < 6:
		p := r.pick(r.paths(false))
		if p == "" {
			return
		}
		r.at(p, func(dir *vfs.Inode, name string) { require.NoError(t, dir.Unlink(tctx, name)) })
		delete(r.want, p)
	case k < 7:
		p := r.pick(r.paths(true))
		for q := range r.want {
			if strings.HasPrefix(q, p+"/") {
				return
			}
		}
		if p == "" {
			return
		}
		r.at(p, func(dir *vfs.Inode, name string) { require.NoError(t, dir.Rmdir(tctx, name)) })
		delete(r.want, p)
	case k < 9:
		r.rename()
	case k < 14:
		p := r.pick(r.paths(false))
		if p == "" {
			return
		}
		// No file begins with a slash: alone, that is a directory in the map.
		b := bytes.Repeat([]byte{byte(1 + i%46), byte(i >> 3)}, 1+r.rng.IntN(1<<r.rng.IntN(14)))
		old := r.want[p]
		off := r.rng.IntN(len(old) + 1)
		if r.rng.IntN(4) == 0 {
			off = len(old) + r.rng.IntN(1<<r.rng.IntN(18))
		}
		var fl vfs.OpenFlags
		if r.rng.IntN(4) == 0 {
			fl, off, b = vfs.ODirect, off&^4095, append(b, make([]byte, -len(b)&4095)...)
		}
		if off+len(b) > 400<<10 {
			return
		}
		r.open(p, vfs.ORdwr|fl, func(f *vfs.File) {
			k := f.Kiocb(int64(off))
			k.CachedAbove = r.rng.IntN(3) == 0
			n, err := k.Write(tctx, b)
			require.NoError(t, err)
			require.Equal(t, len(b), n)
		})
		data := []byte(old)
		if grow := off + len(b) - len(data); grow > 0 {
			data = append(data, make([]byte, grow)...)
		}
		copy(data[off:], b)
		r.want[p] = string(data)
	case k < 16:
		p := r.pick(r.paths(false))
		if p == "" {
			return
		}
		size := r.rng.IntN(1 << r.rng.IntN(19))
		ip, err := r.sb.Walk(tctx, p, true)
		require.NoError(t, err)
		require.NoError(t, ip.SetAttr(tctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize, Size: int64(size)}))
		ip.Put()
		data := []byte(r.want[p])
		if size > len(data) {
			data = append(data, make([]byte, size-len(data))...)
		}
		r.want[p] = string(data[:size])
	case k < 17:
		p := r.pick(r.paths(false))
		if p == "" {
			return
		}
		r.open(p, vfs.ORdwr, func(f *vfs.File) {
			require.NoError(t, f.Fallocate(tctx, vfs.FallocKeepSize, int64(r.rng.IntN(100000)), 1+int64(r.rng.IntN(100000))))
			if r.rng.IntN(2) == 0 {
				require.NoError(t, f.Fsync(tctx, false))
			}
		})
	case k < 19:
		p := r.pick(r.paths(false))
		if p == "" {
			return
		}
		ip, err := r.sb.Walk(tctx, p, true)
		require.NoError(t, err)
		require.True(t, r.want[p] == string(readAll(t, ip)), "step %d: %q differs", i, p)
		ip.Put()
	default:
		switch r.rng.IntN(3) {
		case 0:
			require.NoError(t, r.sb.Sync(tctx))
		case 1:
			r.sb.DropInodes()
		}
	}
}

func (r *random) rename() {
	t := r.t
	all := append(r.paths(false), r.paths(true)...)
	p := r.pick(all)
	q := r.newPath()
	if r.rng.IntN(3) == 0 {
		q = r.pick(r.paths(false))
	}
	if p == "" || q == "" || p == q || strings.HasPrefix(q, p+"/") || r.want[p] == "/" && r.want[q] != "" || r.want[q] == "/" {
		return
	}
	if _, there := r.want[q]; there && r.want[p] == "/" {
		return
	}
	from, err := r.sb.Walk(tctx, path.Dir("/"+p), true)
	require.NoError(t, err)
	to, err := r.sb.Walk(tctx, path.Dir("/"+q), true)
	require.NoError(t, err)
	var fl uint32
	_, there := r.want[q]
	if there && r.rng.IntN(2) == 0 {
		fl = vfs.RenameExchange
	}
	require.NoError(t, from.RenameTo(tctx, path.Base(p), to, path.Base(q), fl), "%q to %q %d", p, q, fl)
	from.Put()
	to.Put()
	if fl != 0 {
		r.want[p], r.want[q] = r.want[q], r.want[p]
		return
	}
	moved := map[string]string{}
	for n, c := range r.want {
		if n == p || strings.HasPrefix(n, p+"/") {
			moved[q+n[len(p):]] = c
			delete(r.want, n)
		}
	}
	for n, c := range moved {
		r.want[n] = c
	}
}
