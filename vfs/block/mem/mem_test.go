package mem

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/blocktest"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/invariant"
)

func open(t *testing.T, size int64, opt Options) *Device {
	t.Helper()
	d, err := New(size, opt)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

func TestConformance(t *testing.T) {
	for name, opt := range map[string]Options{
		"512":       {},
		"1":         {LogicalBlock: 1},
		"4096":      {LogicalBlock: 4096, VolatileCache: true, FUA: true},
		"NoDiscard": {NoDiscard: true, NoDirect: true},
		"ReadOnly":  {ReadOnly: true},
	} {
		t.Run(name, func(t *testing.T) {
			blocktest.Run(t, blocktest.Config{Open: func(t *testing.T) block.Device {
				d, err := New(1<<20+4096, opt)
				require.NoError(t, err)
				return d
			}})
		})
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, c := range []struct {
		size int64
		opt  Options
	}{
		{-512, Options{}},
		{100, Options{}},
		{1 << 62, Options{}},
		{4096, Options{LogicalBlock: 3}},
		{4096, Options{LogicalBlock: 1 << 20}},
		{4096, Options{LogicalBlock: 512, PhysicalBlock: 256}},
	} {
		_, err := New(c.size, c.opt)
		require.ErrorIs(t, err, errno.INVAL)
	}
	require.Zero(t, open(t, 0, Options{}).Size())
}

func TestUnwrittenSpaceCostsNothing(t *testing.T) {
	d := open(t, 1<<40, Options{})
	p := make([]byte, 1<<20)
	for off := int64(0); off < 1<<40; off += 1 << 34 {
		require.NoError(t, block.ReadAt(d, p, off))
	}
	require.Zero(t, d.Allocated())
	require.NoError(t, block.WriteAt(d, []byte{511: 1}, 1<<39, 0))
	require.EqualValues(t, extentSize, d.Allocated())
	require.NoError(t, block.Discard(d, 0, 1<<40))
	require.Zero(t, d.Allocated())
	require.NoError(t, block.ReadAt(d, p, 1<<39))
	require.Equal(t, make([]byte, 1<<20), p)
}

// Memory that was handed out keeps its contents visible to bios after the space around it was discarded.
func TestMemoryStaysVisibleAfterDiscard(t *testing.T) {
	d := open(t, 1<<20, Options{})
	m, err := d.DirectAccess(0, 1<<20)
	require.NoError(t, err)
	require.NoError(t, block.Discard(d, 0, 1<<20))
	m[70000] = 7
	p := make([]byte, 1<<20)
	require.NoError(t, block.ReadAt(d, p, 0))
	require.EqualValues(t, 7, p[70000])
}

func TestHelpersAllocateNothing(t *testing.T) {
	if invariant.Enabled {
		t.Skip("the race detector drops pooled memory at random")
	}
	d := open(t, 1<<20, Options{})
	p := make([]byte, 4096)
	require.Less(t, testing.AllocsPerRun(500, func() {
		_ = block.WriteAt(d, p, 8192, 0)
		_ = block.ReadAt(d, p, 8192)
		_ = block.Flush(d)
	}), 1.0)
}

func BenchmarkRead4k(b *testing.B) {
	d, err := New(64<<20, Options{})
	require.NoError(b, err)
	defer d.Close()
	p := make([]byte, 4096)
	require.NoError(b, block.WriteAt(d, p, 0, 0))
	b.SetBytes(4096)
	for b.Loop() {
		_ = block.ReadAt(d, p, 0)
	}
}
