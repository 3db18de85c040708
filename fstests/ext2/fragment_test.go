package ext2

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/vfs"
	vfsfuse "github.com/iomapfs/iomapfs/vfs/fuse"
)

// TestFragmentation writes through the mount, the kernel's writeback cache on: a file alone lies together, and files that are
// written at once do not interleave block by block.
func TestFragmentation(t *testing.T) {
	alone, each := 64, 8 // MiB
	if os.Getenv("IOMAPFS_SOAK") != "" {
		alone, each = 1024, 64
	}
	const writers = 16
	img := oracle.Mke2fs(t, "3G", "-b", "4096")
	dir, umount := mount(t, img, vfs.MountOptions{}, vfsfuse.Options{})
	write := func(name string, mib int) error {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		defer f.Close()
		buf := make([]byte, 1<<20)
		for range mib {
			if _, err := f.Write(buf); err != nil {
				return err
			}
		}
		return f.Sync()
	}
	require.NoError(t, write("alone", alone))
	failed := make(chan error, writers)
	for i := range writers {
		go func() { failed <- write(fmt.Sprintf("with-%d", i), each) }()
	}
	for range writers {
		require.NoError(t, <-failed)
	}
	umount()
	oracle.E2fsck(t, img)
	sb := open(t, img, vfs.MountOptions{ReadOnly: true})
	defer func() { require.NoError(t, sb.Unmount(context.Background())) }()
	n := extents(t, sb, "/alone")
	t.Logf("%d MiB alone: %d extents", alone, n)
	require.LessOrEqual(t, n, 4+alone/30) // a group holds 128 MiB; a piece that overtakes others may find its place taken
	total := 0
	for i := range writers {
		total += extents(t, sb, fmt.Sprintf("/with-%d", i))
	}
	t.Logf("%d files of %d MiB at once: %d extents", writers, each, total)
	require.LessOrEqual(t, total, writers*each*3/2) // about a request of the kernel each: they arrive in any order
}

// extents counts the runs of a file that do not follow each other: an indirect block between two does not count.
func extents(t testing.TB, sb *vfs.SuperBlock, path string) int {
	t.Helper()
	ip, err := sb.Walk(context.Background(), path, false)
	require.NoError(t, err)
	defer ip.Put()
	n, end := 0, int64(math.MinInt64/2)
	require.NoError(t, ip.Fiemap(context.Background(), &vfs.FiemapInfo{Len: math.MaxInt64, Max: math.MaxInt, Emit: func(e vfs.FiemapExtent) error {
		if gap := int64(e.Physical) - end; gap < 0 || gap > 3*4096 {
			n++
		}
		end = int64(e.Physical + e.Length)
		return nil
	}}))
	return n
}
