package compare

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/all"
	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block/file"
)

// Every operation on legacy, bridge and iomap: the same bytes; and who is asked is who should be.
func TestCompare(t *testing.T) {
	for _, bs := range []string{"1024", "4096"} {
		dev, err := file.Open(oracle.Mke2fs(t, "64M", "-b", bs), file.Options{ReadOnly: true})
		require.NoError(t, err)
		defer dev.Close()
		for _, other := range []vfs.Path{vfs.Legacy, vfs.Bridge} {
			results, err := Run(context.Background(), dev, Options{Runs: 2, Size: 2 << 20, Paths: [2]vfs.Path{other, vfs.Iomap}})
			require.NoError(t, err)
			require.Len(t, results, len(Ops))
			for _, r := range results {
				require.True(t, r.Same, r.Op)
				require.Zero(t, r.Sides[1].Median.GetBlock, "%s: get_block on the iomap path", r.Op)
				if other == vfs.Legacy {
					require.Zero(t, r.Sides[0].Median.Begin, "%s: begin on the legacy path", r.Op)
				}
			}
		}
	}
}

// A filesystem that cannot be mounted, and an operation that fails, are errors.
func TestCompareErrors(t *testing.T) {
	dev, err := file.Open(oracle.Mke2fs(t, "4M", "-b", "1024"), file.Options{ReadOnly: true})
	require.NoError(t, err)
	defer dev.Close()
	_, err = Run(context.Background(), dev, Options{Runs: 1, Size: 64 << 20})
	require.ErrorContains(t, err, "no space left")
	_, err = Run(context.Background(), dev, Options{Type: "nosuchfs"})
	require.Error(t, err)
	_, err = all.Find("nosuchfs")
	require.Error(t, err)
}
