package block_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/blocktest"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

func TestReadOnly(t *testing.T) {
	blocktest.Run(t, blocktest.Config{Open: func(t *testing.T) block.Device {
		m, err := mem.New(1<<20, mem.Options{})
		require.NoError(t, err)
		return block.ReadOnly(m)
	}})
	m, err := mem.New(1<<20, mem.Options{})
	require.NoError(t, err)
	d := block.ReadOnly(m)
	defer d.Close()
	require.ErrorIs(t, block.WriteAt(d, make([]byte, 512), 0, 0), errno.ROFS)
	require.ErrorIs(t, block.Discard(d, 0, 512), errno.ROFS)
	require.Zero(t, m.Allocated())
	require.NoError(t, block.Flush(d))
}
