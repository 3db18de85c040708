package faulty

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/blocktest"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

func open(t *testing.T) *Device {
	t.Helper()
	m, err := mem.New(1<<20, mem.Options{})
	require.NoError(t, err)
	d := New(m)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// Without rules it is the device below.
func TestConformance(t *testing.T) {
	blocktest.Run(t, blocktest.Config{Open: func(t *testing.T) block.Device {
		m, err := mem.New(4<<20, mem.Options{})
		require.NoError(t, err)
		return New(m)
	}})
}

func TestRules(t *testing.T) {
	d := open(t)
	p := bytes.Repeat([]byte{1}, 4096)
	d.Add(Rule{Op: block.OpWrite, Nth: 3, Err: errno.IO})
	for i := range 5 {
		err := block.WriteAt(d, p, int64(i)*4096, 0)
		if i == 2 {
			require.ErrorIs(t, err, errno.IO)
		} else {
			require.NoError(t, err)
		}
	}
	require.Equal(t, 1, d.Hits())
	got := make([]byte, 4096)
	require.NoError(t, block.ReadAt(d, got, 2*4096))
	require.Equal(t, make([]byte, 4096), got, "the failed write stored nothing")

	d.Clear()
	d.Add(Rule{Any: true, Start: 8192, End: 8704, Always: true, Err: errno.NOSPC})
	require.NoError(t, block.ReadAt(d, got, 4096))
	require.ErrorIs(t, block.ReadAt(d, got, 8192), errno.NOSPC)
	require.ErrorIs(t, block.WriteAt(d, p, 8192, 0), errno.NOSPC)
	require.NoError(t, block.ReadAt(d, got, 8704))

	d.Clear()
	d.Add(Rule{Op: block.OpFlush, Err: errno.IO})
	require.ErrorIs(t, block.Flush(d), errno.IO)
	require.NoError(t, block.Flush(d))

	d.Full(512 << 10)
	require.NoError(t, block.WriteAt(d, p, 500<<10, 0))
	require.ErrorIs(t, block.WriteAt(d, p, 510<<10, 0), errno.NOSPC)
	require.NoError(t, block.ReadAt(d, got, 510<<10))

	d.PowerCut()
	require.ErrorIs(t, block.ReadAt(d, got, 0), errno.IO)
}

func TestTorn(t *testing.T) {
	d := open(t)
	d.Add(Rule{Op: block.OpWrite, Err: errno.IO, Torn: 3})
	p := bytes.Repeat([]byte{7}, 4096)
	require.ErrorIs(t, block.SubmitWait(d, &block.Bio{Op: block.OpWrite, Vecs: [][]byte{p[:1024], p[1024:]}}), errno.IO)
	got := make([]byte, 4096)
	require.NoError(t, block.ReadAt(d, got, 0))
	require.Equal(t, append(bytes.Repeat([]byte{7}, 1536), make([]byte, 4096-1536)...), got)
}

func TestHoldAndDelay(t *testing.T) {
	d := open(t)
	g := &Gate{}
	d.Add(Rule{Op: block.OpWrite, Always: true, Hold: g})
	done := make(chan int, 2)
	for i := range 2 {
		d.Submit(&block.Bio{Op: block.OpWrite, Off: 0, Vecs: [][]byte{bytes.Repeat([]byte{byte(i + 1)}, 512)}, Done: func(b *block.Bio) { done <- i }})
	}
	require.Equal(t, 2, g.Held())
	require.Empty(t, done)
	g.Open(true)
	require.Equal(t, 1, <-done)
	require.Equal(t, 0, <-done)
	got := make([]byte, 512)
	require.NoError(t, block.ReadAt(d, got, 0))
	require.Equal(t, byte(1), got[0], "the first submitted came last")

	d.Clear()
	d.Add(Rule{Op: block.OpRead, Delay: 20 * time.Millisecond})
	begun := time.Now()
	require.NoError(t, block.ReadAt(d, got, 0))
	require.GreaterOrEqual(t, time.Since(begun), 20*time.Millisecond)
}
