package file

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/blocktest"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/invariant"
)

// image makes a sparse file.
func image(t testing.TB, size int64) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "disk.img")
	require.NoError(t, os.WriteFile(p, nil, 0o644))
	require.NoError(t, os.Truncate(p, size))
	return p
}

func open(t testing.TB, path string, opt Options) *Device {
	t.Helper()
	d, err := Open(path, opt)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

func TestConformance(t *testing.T) {
	for _, c := range []struct {
		name  string
		size  int64
		opt   Options
		steps int
	}{
		{"Buffered", 1<<20 + 512, Options{}, 0},
		{"Buffered4k", 1 << 20, Options{LogicalBlock: 4096, NoLock: true}, 0},
		{"OneWorker", 1 << 20, Options{Readers: 1, Writers: 1}, 0},
		{"ReadOnly", 1 << 20, Options{ReadOnly: true}, 0},
		{"Direct", 1<<20 + 512, Options{Direct: true}, 250},
		{"DirectPartialUnit", 1<<20 + 1536, Options{Direct: true, directAlign: 4096}, 250},
		{"DirectReadOnly", 1 << 20, Options{Direct: true, ReadOnly: true}, 250},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.opt.Direct && runtime.GOOS != "linux" {
				t.Skip("no direct I/O on this host")
			}
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			blocktest.Run(t, blocktest.Config{Steps: c.steps, Open: func(t *testing.T) block.Device {
				d, err := Open(image(t, c.size), c.opt)
				require.NoError(t, err)
				return d
			}})
		})
	}
}

func TestSizeIsWholeBlocks(t *testing.T) {
	p := image(t, 10_000)
	require.EqualValues(t, 9728, open(t, p, Options{ReadOnly: true}).Size())
	require.EqualValues(t, 8192, open(t, p, Options{ReadOnly: true, LogicalBlock: 4096}).Size())
	st, err := os.Stat(p)
	require.NoError(t, err)
	require.EqualValues(t, 10_000, st.Size())
	require.Zero(t, open(t, image(t, 100), Options{}).Size())
}

func TestWhatIsNoImage(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(dir, Options{ReadOnly: true})
	require.ErrorIs(t, err, errno.INVAL)
	require.ErrorContains(t, err, dir)
	_, err = Open(filepath.Join(dir, "missing"), Options{})
	require.ErrorIs(t, err, errno.NOENT)
	_, err = Open(image(t, 4096), Options{LogicalBlock: 100})
	require.ErrorIs(t, err, errno.INVAL)
	_, err = Open(image(t, 4096), Options{LogicalBlock: 1 << 17})
	require.ErrorIs(t, err, errno.INVAL)
}

func TestOneWriter(t *testing.T) {
	p := image(t, 1<<20)
	w, err := Open(p, Options{})
	require.NoError(t, err)
	for _, opt := range []Options{{}, {ReadOnly: true}} {
		_, err = Open(p, opt)
		require.ErrorIs(t, err, errno.BUSY, "%+v beside a writer", opt)
		require.ErrorContains(t, err, p)
		require.ErrorContains(t, err, "unmount it there")
		if runtime.GOOS == "linux" {
			require.ErrorContains(t, err, "process ", "the message names the holder")
		}
	}
	open(t, p, Options{NoLock: true})
	require.NoError(t, w.Close())

	r1 := open(t, p, Options{ReadOnly: true})
	_ = open(t, p, Options{ReadOnly: true})
	_, err = Open(p, Options{})
	require.ErrorIs(t, err, errno.BUSY, "a writer beside readers")
	require.ErrorContains(t, err, "read-only beside other readers")
	require.ErrorIs(t, block.WriteAt(r1, make([]byte, 512), 0, 0), errno.ROFS)
}

// A file that became shorter behind our back gives errors, not endless loops.
func TestTruncatedBehindOurBack(t *testing.T) {
	p := image(t, 1<<20)
	d := open(t, p, Options{})
	require.NoError(t, os.Truncate(p, 1000))
	err := block.ReadAt(d, make([]byte, 4096), 0)
	require.ErrorIs(t, err, errno.IO)
	require.ErrorContains(t, err, "shorter")
	done := make(chan error, 1)
	d.Submit(&block.Bio{Op: block.OpRead, Vecs: [][]byte{make([]byte, 4096)}, Done: func(b *block.Bio) { done <- b.Err }})
	require.ErrorIs(t, <-done, errno.IO)
}

// A merged request that fails is taken apart, so that only the bios with bad ranges fail.
func TestFailureHitsOnlyItsBio(t *testing.T) {
	p := image(t, 64<<10)
	d := open(t, p, Options{Readers: 1})
	require.NoError(t, os.Truncate(p, 32<<10))
	d.facts.nowait = false
	bios := make([]*block.Bio, 16)
	var wg sync.WaitGroup
	hold(&d.reads)
	for i := range bios {
		wg.Add(1)
		bios[i] = &block.Bio{Op: block.OpRead, Off: int64(i) * 4096, Vecs: [][]byte{make([]byte, 4096)}, Done: func(*block.Bio) { wg.Done() }}
		d.Submit(bios[i])
	}
	require.Equal(t, 1, d.reads.n, "neighbours are one request")
	letGo(&d.reads)
	wg.Wait()
	for i, b := range bios {
		require.Equal(t, i >= 8, b.Err != nil, "bio %d: %v", i, b.Err)
	}
}

// hold keeps workers from starting; letGo starts one.
func hold(q *queue) { q.mu.Lock(); q.workers += q.max; q.mu.Unlock() }

func letGo(q *queue) {
	q.mu.Lock()
	q.workers -= q.max - 1
	q.mu.Unlock()
	go q.work()
}

func TestMergingRespectsItsBounds(t *testing.T) {
	d := open(t, image(t, 64<<20), Options{})
	hold(&d.writes)
	var wg sync.WaitGroup
	put := func(off, n int64, f block.Flags) {
		wg.Add(1)
		d.Submit(&block.Bio{Op: block.OpWrite, Flags: f, Off: off, Vecs: [][]byte{make([]byte, n)}, Done: func(*block.Bio) { wg.Done() }})
	}
	for i := range int64(1024) {
		put(i*4096, 4096, 0)
	}
	require.Equal(t, 4, d.writes.n, "1 MiB a request")
	put(1024*4096, 4096, block.FUA)
	require.Equal(t, 5, d.writes.n, "FUA does not join plain writes")
	put(1025*4096, 4096, block.FUA)
	require.Equal(t, 5, d.writes.n, "but other FUA")
	put(1026*4096, 4096, block.PreFlush)
	put(1027*4096, 4096, block.PreFlush)
	require.Equal(t, 7, d.writes.n)
	for i := range int64(600) {
		put(32<<20+i*512, 512, 0)
	}
	require.Equal(t, 9, d.writes.n, "512 pieces a request")
	for i := range int64(64) { // three streams side by side still merge
		put(40<<20+i*4096, 4096, 0)
		put(44<<20+i*4096, 4096, 0)
		put(48<<20+i*4096, 4096, 0)
	}
	require.Equal(t, 12, d.writes.n)
	letGo(&d.writes)
	wg.Wait()
}

func TestNoWaitAndReadAheadGiveUp(t *testing.T) {
	d := open(t, image(t, 64<<20), Options{})
	d.facts.nowait = false
	hold(&d.reads)
	var wg sync.WaitGroup
	var errs []error
	put := func(off int64, f block.Flags) {
		wg.Add(1)
		d.Submit(&block.Bio{Op: block.OpRead, Flags: f, Off: off, Vecs: [][]byte{make([]byte, 512)}, Done: func(b *block.Bio) {
			if f != 0 {
				errs = append(errs, b.Err)
			}
			wg.Done()
		}})
	}
	for i := range int64(fullNoWait) {
		put(i*1024, 0)
	}
	put(32<<20, block.NoWait)
	put(32<<20, block.ReadAhead)
	require.Len(t, errs, 2)
	for _, err := range errs {
		require.ErrorIs(t, err, errno.AGAIN)
	}
	letGo(&d.reads)
	wg.Wait()
}

// Workers end when there is nothing to do.
func TestIdleDeviceHasNoGoroutines(t *testing.T) {
	d := open(t, image(t, 16<<20), Options{})
	var wg sync.WaitGroup
	for range 500 {
		wg.Add(1)
		off := rand.Int64N(1000) * 4096
		d.Submit(&block.Bio{Op: block.OpWrite, Off: off, Vecs: [][]byte{make([]byte, 4096)}, Done: func(*block.Bio) { wg.Done() }})
	}
	wg.Wait()
	require.Eventually(t, func() bool {
		d.writes.mu.Lock()
		defer d.writes.mu.Unlock()
		return d.writes.workers == 0 && d.writes.n == 0
	}, 5*time.Second, time.Millisecond)
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	if invariant.Enabled {
		t.Skip("the race detector drops pooled memory at random")
	}
	d := open(t, image(t, 1<<20), Options{})
	p := make([]byte, 4096)
	ch := make(chan struct{}, 1)
	b := &block.Bio{Op: block.OpWrite, Off: 4096, Vecs: [][]byte{p}, Done: func(*block.Bio) { ch <- struct{}{} }}
	require.Less(t, testing.AllocsPerRun(500, func() {
		_ = block.WriteAt(d, p, 8192, 0)
		_ = block.ReadAt(d, p, 8192)
		d.Submit(b)
		<-ch
	}), 1.0)
}

func TestErrorsReadWell(t *testing.T) {
	d := open(t, image(t, 1<<20), Options{})
	err := block.ReadAt(d, make([]byte, 4096), 1<<20)
	require.True(t, strings.HasPrefix(err.Error(), d.Name()+": read of 4096 bytes at byte 1048576: beyond the end of the device"), err.Error())
}
