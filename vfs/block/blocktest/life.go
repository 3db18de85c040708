package blocktest

import (
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// testChain submits the next bio from the completion of the one before, as completion workers may.
func testChain(t *testing.T, c *Config, seed uint64) {
	d := c.open(t)
	lbs := int64(d.Limits().LogicalBlock)
	p := make([]byte, 4*lbs)
	var n atomic.Int32
	var bad atomic.Pointer[error]
	end := make(chan struct{})
	b := &block.Bio{Vecs: [][]byte{p}}
	b.Done = func(x *block.Bio) {
		if x.Err != nil {
			bad.Store(&x.Err)
		}
		if n.Add(1) == 50 || x.Err != nil {
			close(end)
			return
		}
		x.Off = int64(n.Load()) * 4 * lbs
		d.Submit(x)
	}
	d.Submit(b)
	<-end
	require.Nil(t, bad.Load())
	require.EqualValues(t, 50, n.Load())
}

// testClose closes while bios are in flight: each completes once, with or without an error, and later ones are refused.
func testClose(t *testing.T, c *Config, seed uint64) {
	d := c.Open(t)
	lbs := int64(d.Limits().LogicalBlock)
	rng := rand.New(rand.NewPCG(seed, 3))
	var wg sync.WaitGroup
	var done, twice atomic.Int32
	for range 64 {
		off, n := span(rng, 0, d.Size(), lbs)
		b := &block.Bio{Op: block.OpRead, Off: off, Vecs: vecs(rng, n, lbs)}
		var count atomic.Int32
		wg.Add(1)
		b.Done = func(*block.Bio) {
			if count.Add(1) != 1 {
				twice.Add(1)
				return
			}
			done.Add(1)
			wg.Done()
		}
		d.Submit(b)
	}
	require.NoError(t, d.Close())
	require.EqualValues(t, 64, done.Load(), "Close waits for what is in flight")
	wg.Wait()
	require.Zero(t, twice.Load())
	require.ErrorIs(t, block.ReadAt(d, make([]byte, lbs), 0), errno.NODEV)
	require.ErrorIs(t, once(t, d, &block.Bio{Op: block.OpFlush}), errno.NODEV)
	require.NoError(t, d.Close(), "a second Close does nothing")
}

// testMapping compares what the memory shows with what bios move.
func testMapping(t *testing.T, c *Config, seed uint64) {
	d := c.open(t)
	m, ok := d.(block.Mapper)
	if !ok || !d.Limits().DirectMemory {
		t.Skip("no direct memory")
	}
	lbs := int64(d.Limits().LogicalBlock)
	rng := rand.New(rand.NewPCG(seed, 4))
	off, n := 5*lbs, 64*lbs
	mem, err := m.DirectAccess(off, n)
	require.NoError(t, err)
	require.Len(t, mem, int(n))
	got := make([]byte, n)
	require.NoError(t, block.ReadAt(d, got, off))
	require.True(t, string(got) == string(mem))
	_, err = m.DirectAccess(d.Size()-lbs, 2*lbs)
	require.ErrorIs(t, err, errno.IO)
	if d.Limits().ReadOnly {
		return
	}
	fill(rng, [][]byte{got})
	require.NoError(t, block.WriteAt(d, got, off, 0))
	require.True(t, string(got) == string(mem), "a bio's write is seen in memory")
	copy(mem[lbs:], "written through the mapping")
	require.NoError(t, block.Flush(d))
	require.NoError(t, block.ReadAt(d, got, off))
	require.True(t, string(got) == string(mem), "a write to memory is seen by bios")
	require.NoError(t, block.WriteZeroes(d, off, n))
	require.True(t, allZero(mem))
	runtime.KeepAlive(d)
}

// testBacking reads behind the device's back.
func testBacking(t *testing.T, c *Config, seed uint64) {
	d := c.open(t)
	bk, ok := d.(block.Backing)
	if !ok {
		t.Skip("no file behind it")
	}
	fd, base, ok := bk.BackingFile()
	if !ok {
		t.Skip("the file must not be read")
	}
	lbs := int64(d.Limits().LogicalBlock)
	want := make([]byte, 8*lbs)
	if !d.Limits().ReadOnly {
		fill(rand.New(rand.NewPCG(seed, 5)), [][]byte{want})
		require.NoError(t, block.WriteAt(d, want, 3*lbs, 0))
	}
	require.NoError(t, block.ReadAt(d, want, 3*lbs))
	got, err := readFD(fd, 8*lbs, base+3*lbs)
	if err == os.ErrInvalid {
		t.Skip("host without pread")
	}
	require.NoError(t, err)
	require.True(t, string(got) == string(want))
}
