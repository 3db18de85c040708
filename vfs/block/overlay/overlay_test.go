package overlay

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/blocktest"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
)

func base(t *testing.T, size int64, o mem.Options) *mem.Device {
	m, err := mem.New(size, o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}

func TestConformance(t *testing.T) {
	for name, o := range map[string]mem.Options{
		"512": {}, "1": {LogicalBlock: 1}, "4096": {LogicalBlock: 4096}, "16384": {LogicalBlock: 1 << 14}, "ReadOnly": {ReadOnly: true},
	} {
		t.Run(name, func(t *testing.T) {
			size := int64(1<<20 + 4096 + 512)
			if o.LogicalBlock > 512 {
				size = 256 << 14
			}
			blocktest.Run(t, blocktest.Config{Open: func(t *testing.T) block.Device { return New(base(t, size, o)).Fork() }})
		})
	}
}

func TestFork(t *testing.T) {
	m := base(t, 1<<40, mem.Options{})
	require.NoError(t, block.WriteAt(m, bytes.Repeat([]byte{1}, 8192), 0, 0))
	a := New(m)
	states := []*Device{a}
	for i := range 3000 {
		d := states[len(states)-1].Fork()
		require.NoError(t, block.WriteAt(d, bytes.Repeat([]byte{byte(i)}, 512), int64(i)*512, 0))
		states = append(states, d)
	}
	sums := map[uint64]bool{}
	p := make([]byte, 512)
	for i, d := range states {
		require.NoError(t, block.ReadAt(d, p, 512*20))
		want := byte(0)
		if i > 20 {
			want = 20
		}
		require.Equal(t, want, p[0], "state %d", i)
		if i%100 == 0 {
			s, err := d.Sum()
			require.NoError(t, err)
			require.False(t, sums[s])
			sums[s] = true
		}
	}
	require.NoError(t, block.ReadAt(m, p, 0))
	require.Equal(t, byte(1), p[0], "the base stays")
	require.LessOrEqual(t, states[3000].Pages(), 375)
}

// Both sides of a fork change; a state that got its old contents back has its old sum.
func TestBothSides(t *testing.T) {
	a := New(base(t, 1<<30, mem.Options{}))
	require.NoError(t, block.WriteAt(a, bytes.Repeat([]byte{5}, 4096), 4096, 0))
	before, err := a.Sum()
	require.NoError(t, err)
	b := a.Fork()
	require.NoError(t, block.WriteAt(a, bytes.Repeat([]byte{6}, 512), 4096, 0))
	require.NoError(t, block.WriteZeroes(b, 0, 1<<30))
	p := make([]byte, 4096)
	require.NoError(t, block.ReadAt(b, p, 4096))
	require.Equal(t, make([]byte, 4096), p)
	require.NoError(t, block.ReadAt(a, p, 4096))
	require.Equal(t, append(bytes.Repeat([]byte{6}, 512), bytes.Repeat([]byte{5}, 3584)...), p)
	require.NoError(t, block.WriteAt(a, bytes.Repeat([]byte{5}, 512), 4096, 0))
	after, err := a.Sum()
	require.NoError(t, err)
	require.Equal(t, before, after)
}
