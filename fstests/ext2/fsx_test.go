package ext2

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fstests/fsx"
	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/vfs"
	vfsfuse "github.com/iomapfs/iomapfs/vfs/fuse"
)

// runFsx is the child of TestFsx.
func runFsx(path string) {
	var o fsx.Options
	if _, err := fmt.Sscan(os.Getenv("IOMAPFS_TEST_FSX_OPTIONS"), &o.Seed, &o.Ops, &o.Max); err != nil {
		panic(err)
	}
	o.Path = path
	n, err := fsx.Run(o)
	fmt.Println(n)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// TestFsx tortures one file at a time through the mount, mappings included, with a cache of its own that is smaller
// than the file and one that is not, on large and small blocks.
func TestFsx(t *testing.T) {
	s := seed(t)
	for i, c := range []struct {
		tr, block string
		cache     int64
		max       int
	}{{"fuse", "4096", 64 << 20, 256 << 10}, {"uring", "1024", 1 << 20, 4 << 20}, {"uring", "4096", 1 << 20, 128 << 10}, {"fuse", "1024", 64 << 20, 64 << 10}} {
		t.Run(fmt.Sprintf("%s %s %d", c.tr, c.block, c.max), func(t *testing.T) {
			img := oracle.Mke2fs(t, "64M", "-b", c.block)
			dir, umount := mount(t, img, vfs.MountOptions{CacheBytes: c.cache}, vfsfuse.Options{Transport: c.tr})
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "IOMAPFS_TEST_FSX="+filepath.Join(dir, "f"),
				fmt.Sprintf("IOMAPFS_TEST_FSX_OPTIONS=%d %d %d", s+uint64(i), ops(6000), c.max))
			begun := time.Now()
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, string(out))
			t.Logf("%v: %s", time.Since(begun).Round(time.Millisecond), out)
			umount()
			oracle.E2fsck(t, img)
		})
	}
}
