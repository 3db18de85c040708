package ext2

import (
	"context"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/ext2"
	"github.com/iomapfs/iomapfs/fstests/fsstress"
	"github.com/iomapfs/iomapfs/fstests/model"
	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/fstests/target"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block/file"
)

// open mounts an image in this process.
func open(t testing.TB, img string, mo vfs.MountOptions) *vfs.SuperBlock {
	t.Helper()
	dev, err := file.Open(img, file.Options{ReadOnly: mo.ReadOnly})
	require.NoError(t, err)
	mo.Words = append(target.PathWords(), mo.Words...)
	sb, err := ext2.Type.Mount(context.Background(), dev, &mo)
	if err != nil {
		_ = dev.Close()
	}
	require.NoError(t, err)
	return sb
}

// seed is IOMAPFS_SEED, or the clock.
func seed(t testing.TB) uint64 {
	t.Helper()
	if s := os.Getenv("IOMAPFS_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
		return n
	}
	return uint64(time.Now().UnixNano())
}

// ops is how many operations a run has: IOMAPFS_OPS, or n.
func ops(n int) int {
	if s := os.Getenv("IOMAPFS_OPS"); s != "" {
		if v, err := strconv.Atoi(s); err == nil {
			return v
		}
	}
	return n
}

// TestModel runs random operations against the model, with a cache far too small and commits at every turn, and then has
// e2fsck and the kernel look.
func TestModel(t *testing.T) {
	for _, c := range []struct {
		name, size string
		mke2fs     []string
		cache      int64
		words      string
	}{
		{"1k", "48M", []string{"-b", "1024"}, 4 << 20, ""},
		{"2k", "48M", []string{"-b", "2048"}, 4 << 20, ""},
		{"4k", "64M", []string{"-b", "4096"}, 16 << 20, ""},
		{"4k-128", "64M", []string{"-b", "4096", "-I", "128", "-O", "^filetype,^dir_index"}, 4 << 20, ""},
		{"1k-rev0", "32M", []string{"-b", "1024", "-r", "0"}, 4 << 20, ""},
		{"1k-legacy", "48M", []string{"-b", "1024"}, 4 << 20, "path=legacy"},
		{"4k-legacy", "64M", []string{"-b", "4096"}, 16 << 20, "path=legacy"},
		{"1k-bridge", "48M", []string{"-b", "1024"}, 4 << 20, "path=bridge"},
		{"4k-bridge", "64M", []string{"-b", "4096"}, 16 << 20, "path=bridge"},
		{"1k-dio", "48M", []string{"-b", "1024"}, 4 << 20, "path=legacy iomap=fiemap+dio-read+dio-write"},
		{"2k-cache", "48M", []string{"-b", "2048"}, 4 << 20, "path=iomap legacy=dio-read+seek bridge=dio-write"},
	} {
		t.Run(c.name, func(t *testing.T) {
			img := oracle.Mke2fs(t, c.size, c.mke2fs...)
			sb := open(t, img, vfs.MountOptions{CacheBytes: c.cache, Words: append(strings.Fields(c.words), "commit=1")})
			m := model.New(true)
			s := seed(t)
			t.Logf("seed %d", s)
			o := fsstress.Options{Seed: s, Ops: ops(12000), NoXattr: c.name == "1k-rev0"}
			err := fsstress.Run(o, m, &target.Super{SB: sb, Label: "ext2"})
			uerr := sb.Unmount(context.Background())
			require.NoError(t, err)
			require.NoError(t, uerr)
			oracle.E2fsck(t, img)
			dir, umount := oracle.KernelMount(t, img, "ro")
			require.NoError(t, fsstress.Compare(s, m, &target.Host{Root: dir, Label: "kernel"}))
			umount()
			// And once more from the medium, read-only.
			sb = open(t, img, vfs.MountOptions{ReadOnly: true})
			err = fsstress.Compare(s, m, &target.Super{SB: sb, Label: "remounted"})
			require.NoError(t, sb.Unmount(context.Background()))
			require.NoError(t, err)
		})
	}
}

// TestKernel runs the same operations on ours and on the kernel's ext2.
func TestKernel(t *testing.T) {
	s := seed(t)
	t.Logf("seed %d", s)
	ours, theirs := oracle.Mke2fs(t, "64M", "-b", "4096"), oracle.Mke2fs(t, "64M", "-b", "4096")
	dir, umount := oracle.KernelMount(t, theirs, "")
	sb := open(t, ours, vfs.MountOptions{CacheBytes: 8 << 20})
	err := fsstress.Run(fsstress.Options{Seed: s, Ops: ops(6000), NoZero: true}, &target.Host{Root: dir, Label: "kernel"}, &target.Super{SB: sb, Label: "ext2"})
	require.NoError(t, sb.Unmount(context.Background()))
	require.NoError(t, err)
	umount()
	oracle.E2fsck(t, ours)
}
