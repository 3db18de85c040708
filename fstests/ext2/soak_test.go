package ext2

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fstests/fsstress"
	"github.com/iomapfs/iomapfs/fstests/model"
	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/fstests/target"
	"github.com/iomapfs/iomapfs/vfs"
)

// TestSoak runs random operations for IOMAPFS_SOAK (a duration), a million at least: against the model and the kernel's
// ext2 in turn, e2fsck after each run.
func TestSoak(t *testing.T) {
	limit, err := time.ParseDuration(os.Getenv("IOMAPFS_SOAK"))
	if err != nil {
		t.Skip("make soak runs this")
	}
	begun, done := time.Now(), 0
	s := seed(t)
	const perRun = 50000
	for i := 0; done < 1000000 || time.Since(begun) < limit; i++ {
		s++
		bs := []string{"1024", "2048", "4096"}[i%3]
		img := oracle.Mke2fs(t, "128M", "-b", bs)
		sb := open(t, img, vfs.MountOptions{CacheBytes: 4 << 20 << (i % 3), Words: []string{"commit=1"}})
		m := model.New(true)
		o := fsstress.Options{Seed: s, Ops: perRun, NoZero: i%2 == 1}
		targets := []target.Target{m, &target.Super{SB: sb, Label: "ext2"}}
		umount := func() {}
		if i%2 == 1 {
			var dir string
			dir, umount = oracle.KernelMount(t, oracle.Mke2fs(t, "128M", "-b", bs), "")
			targets = append(targets, &target.Host{Root: dir, Label: "kernel"})
		}
		err := fsstress.Run(o, targets...)
		require.NoError(t, sb.Unmount(context.Background()))
		require.NoError(t, err)
		umount()
		oracle.E2fsck(t, img)
		done += perRun
		t.Logf("%d operations, seed %d, %v", done, s, time.Since(begun).Round(time.Second))
	}
}
