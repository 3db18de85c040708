package ext2

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/iomapfs/iomapfs/fs/ext2"
	"github.com/iomapfs/iomapfs/fs/ext2/disk/disktest"
	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block/file"
	vfsfuse "github.com/iomapfs/iomapfs/vfs/fuse"
)

// TestMutatedMounts mounts images with damage in every kind of structure through FUSE, and lets the kernel walk, read and
// change what it finds: errors, never a panic or a mount that does not answer.
func TestMutatedMounts(t *testing.T) { testMutatedMounts(t, 30) }

// TestSoakMutatedMounts is TestMutatedMounts at length.
func TestSoakMutatedMounts(t *testing.T) {
	if os.Getenv("IOMAPFS_SOAK") == "" {
		t.Skip("make soak runs this")
	}
	testMutatedMounts(t, 1000)
}

func testMutatedMounts(t *testing.T, count int) {
	oracle.NeedFuse(t)
	s := int64(seed(t))
	t.Logf("IOMAPFS_SEED=%d", s)
	src := t.TempDir()
	for i := range 40 {
		dir := filepath.Join(src, fmt.Sprintf("dir-%d/below", i%5))
		require.NoError(t, os.MkdirAll(dir, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%d", i)), []byte(strings.Repeat("some text ", 1<<(i%14))), 0o644))
		require.NoError(t, os.Symlink(strings.Repeat("x/", 1+i*4), filepath.Join(dir, fmt.Sprintf("link-%d", i))))
		require.NoError(t, unix.Setxattr(dir, "user.a", []byte(strings.Repeat("v", i*5)), 0))
	}
	var muts []*disktest.Mutator
	for _, bs := range []string{"1024", "4096"} {
		image, err := os.ReadFile(oracle.Mke2fs(t, "4M", "-b", bs, "-N", "200", "-d", src))
		require.NoError(t, err)
		m, err := disktest.NewMutator(image)
		require.NoError(t, err)
		muts = append(muts, m)
	}
	img, dir := filepath.Join(t.TempDir(), "img"), t.TempDir()
	mounted := 0
	for n := range count {
		rng := rand.New(rand.NewSource(s + int64(n)))
		image, what := muts[n%len(muts)].Next(rng)
		require.NoError(t, os.WriteFile(img, image, 0o644))
		if mountMutant(t, img, dir, fmt.Sprintf("IOMAPFS_SEED=%d round %d: %s", s, n, what), rng) {
			mounted++
		}
	}
	t.Logf("%d of %d were mounted", mounted, count)
	require.Greater(t, mounted, count/4)
}

// mountMutant mounts one image, uses it, unmounts it. It reports whether the image could be mounted.
func mountMutant(t *testing.T, img, dir, what string, rng *rand.Rand) bool {
	ctx := context.Background()
	dev, err := file.Open(img, file.Options{})
	require.NoError(t, err)
	quiet := slog.New(slog.DiscardHandler)
	sb, err := ext2.Type.Mount(ctx, dev, &vfs.MountOptions{CacheBytes: 16 << 20, Words: []string{"errors=continue"}, Log: quiet})
	if err != nil {
		require.NoError(t, dev.Close())
		return false
	}
	srv, err := vfsfuse.Serve(sb, dir, vfsfuse.Options{AllowOther: true, Log: quiet})
	if err != nil {
		_ = sb.Unmount(ctx)
	}
	require.NoError(t, err, what)
	watch := time.AfterFunc(time.Minute, func() {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		panic("hangs: " + what)
	})
	useMutant(dir, rng)
	for range 200 {
		if err = srv.Unmount(ctx, false); err == nil {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	require.NoError(t, err, what)
	srv.Wait()
	_ = sb.Unmount(ctx) // what could not be written was damaged
	watch.Stop()
	return true
}

// useMutant walks a mount and does to each file one of what can be done.
func useMutant(dir string, rng *rand.Rand) {
	var st unix.Statfs_t
	_ = unix.Statfs(dir, &st)
	seen := 0
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if seen++; seen > 400 || strings.Count(path[len(dir):], "/") > 6 {
			return fs.SkipAll
		}
		if err != nil || path == dir {
			return nil
		}
		buf := make([]byte, 256)
		_, _ = unix.Llistxattr(path, buf)
		_, _ = os.Readlink(path)
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			if f, err := os.OpenFile(path, os.O_RDWR, 0); err == nil {
				b := make([]byte, 32<<10)
				_, _ = f.ReadAt(b, 0)
				_, _ = f.ReadAt(b, max(info.Size()-100, 0))
				_, _ = f.WriteAt(b[:1+rng.Intn(len(b))], rng.Int63n(min(max(info.Size(), 0), 1<<30)+1))
				_ = f.Sync()
				_ = f.Truncate(rng.Int63n(5000))
				_ = f.Close()
			}
		}
		switch rng.Intn(6) {
		case 0:
			_ = os.Remove(path)
		case 1:
			_ = os.Rename(path, filepath.Join(dir, fmt.Sprintf("moved-%d", rng.Intn(9))))
		case 2:
			_ = os.Link(path, path+"-2")
		case 3:
			_ = unix.Lsetxattr(path, "user.new", []byte("value"), 0)
		case 4:
			if d.IsDir() {
				_ = os.WriteFile(filepath.Join(path, "new"), []byte("text"), 0o644)
				_ = os.Mkdir(filepath.Join(path, "newdir"), 0o755)
			}
		}
		return nil
	})
}
