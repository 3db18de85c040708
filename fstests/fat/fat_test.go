package fat

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/iomapfs/iomapfs/fs/fat"
	"github.com/iomapfs/iomapfs/fstests/fsstress"
	"github.com/iomapfs/iomapfs/fstests/model"
	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/fstests/target"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block/file"
	vfsfuse "github.com/iomapfs/iomapfs/vfs/fuse"
)

var ctx = context.Background()

// mkfs makes an image of that many MiB with mkfs.fat's options and gives its path.
func mkfs(t testing.TB, mib int, options ...string) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "fat.img")
	args := append(append([]string{"-C"}, options...), img, strconv.Itoa(mib<<10))
	out, rc := oracle.Run(t, "mkfs.fat", args...)
	require.Zero(t, rc, "mkfs.fat %v: %s", args, out)
	return img
}

// clean demands that fsck.fat finds nothing.
func clean(t testing.TB, img string) {
	t.Helper()
	out, rc := oracle.Run(t, "fsck.fat", "-n", "-v", img)
	require.Zero(t, rc, "fsck.fat -n: %s", out)
}

// open mounts an image in this process.
func open(t testing.TB, img string, mo vfs.MountOptions) *vfs.SuperBlock {
	t.Helper()
	dev, err := file.Open(img, file.Options{ReadOnly: mo.ReadOnly})
	require.NoError(t, err)
	mo.Words = append(append([]string{"tz=UTC"}, target.PathWords()...), mo.Words...)
	sb, err := fat.Type.Mount(ctx, dev, &mo)
	if err != nil {
		_ = dev.Close()
	}
	require.NoError(t, err)
	return sb
}

// seed is IOMAPFS_SEED, or the clock; the log tells it.
func seed(t testing.TB) uint64 {
	t.Helper()
	s := uint64(time.Now().UnixNano())
	if v := os.Getenv("IOMAPFS_SEED"); v != "" {
		n, err := strconv.ParseUint(v, 10, 64)
		require.NoError(t, err)
		s = n
	}
	t.Logf("IOMAPFS_SEED=%d", s)
	return s
}

// stress are the random operations that FAT can do.
func stress(s uint64, ops int) fsstress.Options {
	return fsstress.Options{Seed: s, Ops: ops, Plain: true, MixCase: true, NoXattr: true, NoPunch: true, NoZero: true}
}

func folding() *model.FS {
	m := model.New(false)
	m.Fold = strings.ToUpper
	return m
}

// TestModel runs random operations against the model, on each width, path and size of cluster, with a cache that is far too small,
// and then has fsck.fat look, and mounts the image once more.
func TestModel(t *testing.T) {
	for _, c := range []struct {
		name  string
		mib   int
		mkfs  []string
		words string
	}{
		{"12 legacy", 16, []string{"-F", "12", "-s", "16"}, "path=legacy"},
		{"12 iomap", 16, []string{"-F", "12", "-s", "32"}, "path=iomap"},
		{"16 legacy", 40, []string{"-F", "16", "-s", "4"}, "path=legacy"},
		{"16 iomap", 40, []string{"-F", "16", "-s", "2"}, "path=iomap"},
		{"16 bridge", 100, []string{"-F", "16", "-s", "32"}, "path=bridge"},
		{"32 legacy", 40, []string{"-F", "32", "-s", "1"}, "path=legacy"},
		{"32 iomap", 40, []string{"-F", "32", "-s", "1"}, "path=iomap"},
		{"32 iomap 64k", 300, []string{"-F", "32", "-s", "128"}, "path=iomap"},
		{"32 legacy 4k sectors", 300, []string{"-F", "32", "-S", "4096", "-s", "1"}, "path=legacy"},
		{"32 iomap 4k sectors", 300, []string{"-F", "32", "-S", "4096", "-s", "1"}, "path=iomap"},
		{"32 mixed", 40, []string{"-F", "32", "-s", "1", "-f", "1"}, "path=legacy iomap=fiemap+dio-read+dio-write"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			img := mkfs(t, c.mib, c.mkfs...)
			sb := open(t, img, vfs.MountOptions{CacheBytes: 4 << 20, Words: append(strings.Fields(c.words), "commit=1")})
			m, s := folding(), seed(t)
			err := fsstress.Run(stress(s, 5000), m, &target.Super{SB: sb, Label: "fat"})
			uerr := sb.Unmount(ctx)
			require.NoError(t, err)
			require.NoError(t, uerr)
			clean(t, img)
			sb = open(t, img, vfs.MountOptions{ReadOnly: true})
			err = fsstress.ComparePlain(s, m, &target.Super{SB: sb, Label: "remounted"})
			require.NoError(t, sb.Unmount(ctx))
			require.NoError(t, err)
		})
	}
}

// mount serves an image through FUSE until the end of the test, or the call of umount.
func mount(t testing.TB, img string, mo vfs.MountOptions, o vfsfuse.Options) (dir string, umount func()) {
	t.Helper()
	oracle.NeedFuse(t)
	dir = t.TempDir()
	sb := open(t, img, mo)
	var srv *vfsfuse.Server
	var err error
	for range 40 {
		// Another test may have the machine's switch for io_uring off for a moment.
		if srv, err = vfsfuse.Serve(sb, dir, o); !errors.Is(err, unix.EOPNOTSUPP) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		_ = sb.Unmount(ctx)
	}
	require.NoError(t, err)
	done := false
	umount = func() {
		if done {
			return
		}
		done = true
		var err error
		for range 200 {
			if err = srv.Unmount(ctx, false); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil {
			t.Errorf("unmount: %v", err)
			_ = srv.Unmount(ctx, true)
		}
		srv.Wait()
		if err := sb.Unmount(ctx); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(umount)
	return dir, umount
}

// TestMount runs random operations through the mount, in names of mixed case, which the kernel's cache of names knows nothing of.
func TestMount(t *testing.T) {
	for _, tr := range []string{"fuse", "uring"} {
		for _, path := range []string{"path=iomap", "path=legacy"} {
			t.Run(tr+" "+path, func(t *testing.T) {
				img := mkfs(t, 64, "-F", "32", "-s", "1")
				dir, umount := mount(t, img, vfs.MountOptions{CacheBytes: 16 << 20, Words: []string{path}}, vfsfuse.Options{Transport: tr})
				m, s := folding(), seed(t)
				o := stress(s, 3000)
				o.NoStore = true
				require.NoError(t, fsstress.Run(o, m, &target.Host{Root: dir, Label: "mount"}))
				umount()
				clean(t, img)
				sb := open(t, img, vfs.MountOptions{ReadOnly: true})
				err := fsstress.ComparePlain(s, m, &target.Super{SB: sb, Label: "remounted"})
				require.NoError(t, sb.Unmount(ctx))
				require.NoError(t, err)
			})
		}
	}
}

// TestKernel has the kernel's vfat, under user-mode Linux, read what we wrote and us what it wrote: one tree in each width.
func TestKernel(t *testing.T) {
	widths := []struct{ width, cluster string }{{"12", "16"}, {"16", "4"}, {"32", "1"}}
	var images, theirs []string
	for i, w := range widths {
		img := mkfs(t, 16<<i, "-F", w.width, "-s", w.cluster)
		sb := open(t, img, vfs.MountOptions{})
		require.NoError(t, fsstress.Run(stress(seed(t), 1500), folding(), &target.Super{SB: sb, Label: "fat"}))
		for _, name := range scripts {
			require.Zero(t, (&target.Super{SB: sb}).Create(name, 0o644), name)
		}
		require.NoError(t, sb.Unmount(ctx))
		images = append(images, img)
		theirs = append(theirs, mkfs(t, 16<<i, "-F", w.width, "-s", w.cluster))
	}
	var cmd strings.Builder
	fmt.Fprintln(&cmd, "set -e")
	for i := range images {
		fmt.Fprintf(&cmd, `
mkdir -p /mnt/a /mnt/b
mount -t vfat -o ro,loop,utf8 %s /mnt/a
mount -t vfat -o loop,utf8 %s /mnt/b
cp -r /mnt/a/. /mnt/b/
diff -r /mnt/a /mnt/b
(cd /mnt/a; find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r md5sum)
umount /mnt/a
umount /mnt/b
echo ========
`, images[i], theirs[i])
	}
	sums := strings.Split(oracle.UML(t, cmd.String()), "========\n")
	require.Len(t, sums, len(images)+1)
	for i := range images {
		clean(t, images[i])
		clean(t, theirs[i])
		ours := open(t, images[i], vfs.MountOptions{ReadOnly: true})
		kernels := open(t, theirs[i], vfs.MountOptions{ReadOnly: true})
		a := &target.Super{SB: ours, Label: "what we wrote"}
		require.NoError(t, fsstress.ComparePlain(0, a, &target.Super{SB: kernels, Label: "what the kernel wrote"}))
		require.Equal(t, sumsOf(t, a, ""), sums[i], "what the kernel read")
		require.NoError(t, ours.Unmount(ctx))
		require.NoError(t, kernels.Unmount(ctx))
	}
}

// scripts are names in ten of them, with surrogates, and of the greatest length.
var scripts = []string{
	"Straße über Größe.txt", "Ελληνικά αρχεία", "Русский файл", "עברית", "العربية", "हिन्दी", "ไทย", "日本語のファイル", "한국어", "中文文件名",
	"emoji 😀🎉.png", strings.Repeat("x", 255), "trailing.dots.inside", " leading", "a+b,c;d=e[f]", "UPPER.TXT", "lower.txt", "Mixed.Txt", "CON", "名" + strings.Repeat("前", 60),
}
