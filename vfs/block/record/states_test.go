package record

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/blocktest"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/block/overlay"
)

func recorder(t *testing.T) (*Device, *mem.Device) {
	m, err := mem.New(1<<20, mem.Options{VolatileCache: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return New(overlay.New(m)), m
}

func TestConformance(t *testing.T) {
	blocktest.Run(t, blocktest.Config{Open: func(t *testing.T) block.Device {
		d, _ := recorder(t)
		return d
	}})
}

func page(c byte) []byte { return bytes.Repeat([]byte{c}, 4096) }

// All sets of two writes after a flush, and none without what was flushed.
func TestStates(t *testing.T) {
	d, m := recorder(t)
	require.NoError(t, block.WriteAt(d, page(1), 0, 0))
	require.NoError(t, block.Flush(d))
	d.Mark("promised")
	require.NoError(t, block.WriteAt(d, page(2), 4096, 0))
	require.NoError(t, block.WriteAt(d, page(3), 8192, 0))
	require.NoError(t, block.Flush(d))
	type sides [3]byte
	seen := map[sides]bool{}
	torn := 0
	for st, err := range States(m, d.Log(), StateOptions{Seed: 1}) {
		require.NoError(t, err)
		p := make([]byte, 3*4096)
		require.NoError(t, block.ReadAt(st.Device(), p, 0))
		if st.At >= 3 {
			require.Equal(t, page(1), p[:4096], st.Name)
		}
		var k sides
		for i := range k {
			q := p[i*4096 : (i+1)*4096]
			k[i] = q[0]
			for at := 0; at < 4096; at += 512 {
				require.Equal(t, 512, bytes.Count(q[at:at+512], q[at:at+1]), "torn only at sectors")
			}
			if bytes.Count(q, q[:1]) != 4096 {
				torn++
			}
		}
		seen[k] = true
	}
	for _, want := range []sides{{0, 0, 0}, {1, 0, 0}, {1, 2, 0}, {1, 0, 3}, {1, 2, 3}} {
		require.True(t, seen[want], "%v", want)
	}
	require.Greater(t, torn, 4)
	require.NotContains(t, seen, sides{0, 2, 0})
}

// A flush covers what completed before it began; a write in flight stays uncertain, and one with FUA does not.
func TestEpochs(t *testing.T) {
	log := []*Event{
		{Op: block.OpWrite, Len: 512, Data: make([]byte, 512), Begun: 1, Done: 2},
		{Op: block.OpWrite, Len: 512, Data: make([]byte, 512), Begun: 3, Done: 6},
		{Op: block.OpFlush, Begun: 4, Done: 7},
		{Op: block.OpWrite, Flags: block.FUA, Len: 512, Data: make([]byte, 512), Begun: 8, Done: 9},
		{Op: block.OpFlush, Begun: 10, Done: 11},
	}
	eps := epochs(log)
	require.Len(t, eps, 3)
	require.Equal(t, []int{0, 1}, eps[0].pending)
	require.Equal(t, []int{1, 3}, eps[1].pending)
	require.Empty(t, eps[2].pending)
	require.Equal(t, []bool{true, true, false, true, false}, eps[2].durable)
}

func TestThinning(t *testing.T) {
	names := func() (out []string) {
		d, m := recorder(t)
		for i := range 100 {
			require.NoError(t, block.WriteAt(d, page(byte(i)), int64(i%30)*4096, 0))
			if i%20 == 0 {
				require.NoError(t, block.Flush(d))
			}
		}
		for st, err := range States(m, d.Log(), StateOptions{Seed: 5, Max: 40}) {
			require.NoError(t, err)
			out = append(out, st.Name)
		}
		return out
	}
	a := names()
	require.Greater(t, len(a), 20)
	require.LessOrEqual(t, len(a), 40)
	require.Equal(t, a, names())
}
