package pagecache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// TestLimit has eight writers and eight readers in as many files, with folios as large as the cache allows: memory stays within
// the limit and a folio for each of them.
func TestLimit(t *testing.T) {
	defer goleak.VerifyNone(t)
	const limit, workers, fileSize = 1 << 20, 8, 2 << 20
	c := New(Options{Limit: limit, Interval: 10 * time.Millisecond, Expire: 50 * time.Millisecond})
	wb := NewWriteback(c, "test")
	wb.Start()
	var files [workers]*store
	for i := range files {
		files[i] = newStore(c, wb, fileSize, 0, MaxOrder)
		files[i].countRuns()
		files[i].slow = i%2 == 0
		files[i].size.Store(fileSize)
	}
	var most atomic.Int64
	look := func() {
		n := c.Stats().Bytes
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
	}
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			for range 40 {
				files[i].writeBalanced(t, make([]byte, 1+r.IntN(200<<10)), r.Int64N(fileSize-200<<10), look)
			}
		})
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 2))
			f, p := files[(i+1)%workers], make([]byte, 256<<10)
			var ra Readahead
			for pos := int64(0); pos < 2*fileSize; pos += int64(len(p)) {
				_, err := f.Read(context.Background(), &ra, p, pos%fileSize, 0)
				if err != nil {
					t.Error(err)
				}
				_, _ = f.Read(context.Background(), nil, p[:1+r.IntN(len(p))], r.Int64N(fileSize), 0)
				look()
			}
		})
	}
	wg.Wait()
	folio := int64(PageSize) << c.maxOrder()
	t.Logf("at most %d KiB of %d KiB, folios of %d KiB; %d looked at for %d reclaimed", most.Load()>>10, limit>>10, folio>>10, c.Stats().Scanned, c.Stats().Reclaimed)
	require.LessOrEqual(t, most.Load(), limit+2*workers*folio)
	require.Greater(t, c.Stats().Reclaimed, int64(100))
	require.NoError(t, wb.SyncAll(context.Background()))
	for _, f := range files {
		f.io.Wait()
		f.Evict()
	}
	wb.Stop(context.Background())
	c.Close()
	require.Zero(t, c.Stats().Bytes)
}

// TestDirtyAndDead has everything dirty on a device that fails: writers get on, memory comes back, each file knows.
func TestDirtyAndDead(t *testing.T) {
	defer goleak.VerifyNone(t)
	c := New(Options{Limit: 1 << 20, Interval: 5 * time.Millisecond, Expire: time.Millisecond})
	wb := NewWriteback(c, "test")
	wb.Start()
	var files [4]*store
	var wg sync.WaitGroup
	for i := range files {
		files[i] = newStore(c, wb, 4<<20, 0, MaxOrder)
		files[i].fail.Store(true)
		wg.Go(func() { files[i].writeBalanced(t, make([]byte, 4<<20), 0, nil) })
	}
	wg.Wait()
	require.LessOrEqual(t, c.Stats().Bytes, int64(1<<20)+4*int64(PageSize)<<c.maxOrder())
	for _, f := range files {
		since := f.SampleError()
		_ = f.WriteAndWait(context.Background(), 0, 1<<40)
		require.ErrorIs(t, f.CheckError(&since), errno.IO)
	}
	require.Zero(t, c.Stats().Dirty, "what cannot be written does not stay dirty")
	for _, f := range files {
		f.io.Wait()
		f.Evict()
	}
	wb.Stop(context.Background())
	c.Close()
}

// TestReclaimCost holds that what reclaim looks at goes with what it takes, however many files there are, and that what it looks
// at in vain is bounded when there is nothing to take.
func TestReclaimCost(t *testing.T) {
	for _, n := range []int{100, 10000} {
		t.Run(fmt.Sprint(n, " files"), func(t *testing.T) {
			c := New(Options{Limit: int64(n) * PageSize / 2})
			files := make([]*store, n)
			for i := range files {
				files[i] = newStore(c, nil, 0, 0, 0)
				fo, err := files[i].Grab(context.Background(), uint64(i*64), PageSize)
				require.NoError(t, err)
				fo.EndRead(true)
				fo.Put()
				require.GreaterOrEqual(t, c.Stats().Bytes, min(int64(i+1)*PageSize, c.Limit()-c.Limit()/16-2*PageSize), "more was reclaimed than wanted")
			}
			st := c.Stats()
			require.LessOrEqual(t, st.Bytes, st.Limit+PageSize)
			require.LessOrEqual(t, st.Scanned, 4*st.Reclaimed, "%d looked at for %d", st.Scanned, st.Reclaimed)
			for _, f := range files {
				f.Evict()
			}
		})
	}
	t.Run("all dirty", func(t *testing.T) {
		c := New(Options{Limit: 64 * PageSize})
		f := newStore(c, NewWriteback(c, "test"), 8192*PageSize, 0, 0)
		f.write(t, make([]byte, 8192*PageSize), 0)
		st := c.Stats()
		require.Equal(t, int64(8192*PageSize), st.Dirty)
		require.Zero(t, st.Reclaimed)
		require.LessOrEqual(t, st.Scanned, int64(2*8192), "dirty folios are looked at once")
		require.NoError(t, f.WriteAndWait(context.Background(), 0, 1<<40))
		f.io.Wait()
		c.makeRoom(0)
		c.makeRoom(0)
		require.LessOrEqual(t, c.Stats().Bytes, c.Limit(), "clean folios are found again")
		f.Evict()
		c.Close()
	})
}

// TestScan lets a scan of four times the limit pass through: what is read again and again stays.
func TestScan(t *testing.T) {
	c := New(Options{Limit: 512 * PageSize})
	hot, cold := newStore(c, nil, 64*PageSize, 0, 0), newStore(c, nil, 2048*PageSize, 0, 3)
	hot.size.Store(64 * PageSize)
	cold.size.Store(2048 * PageSize)
	ctx, p := context.Background(), make([]byte, PageSize)
	touch := func() {
		for i := range int64(64) {
			_, err := hot.Read(ctx, nil, p, i*PageSize, 0)
			require.NoError(t, err)
		}
	}
	touch()
	touch()
	var ra Readahead
	for pos := int64(0); pos < cold.Size(); pos += PageSize {
		_, err := cold.Read(ctx, &ra, p, pos, 0)
		require.NoError(t, err)
		if pos%(256*PageSize) == 0 {
			touch()
		}
	}
	cold.io.Wait()
	before := c.Stats().Misses
	touch()
	require.LessOrEqual(t, c.Stats().Misses-before, int64(6), "pages of 64 that were lost")
	hot.io.Wait()
	hot.Evict()
	cold.Evict()
}

// TestExpired writes a file that is old enough and larger than what one turn of the flusher takes, whole in one pass.
func TestExpired(t *testing.T) {
	c := New(Options{Limit: 1 << 30, Expire: 24 * time.Hour})
	wb := NewWriteback(c, "test")
	f := newStore(c, wb, (passBudget+100)*PageSize, 4, 4)
	f.write(t, make([]byte, (passBudget+100)*PageSize), 0)
	wb.pass(context.Background())
	require.NotZero(t, c.Stats().Dirty, "too young")
	f.dirtied -= int64(25 * time.Hour) // nobody else has it: the flusher was not started
	wb.pass(context.Background())
	require.Zero(t, c.Stats().Dirty)
	f.io.Wait()
	require.Nil(t, wb.take(time.Now().UnixNano()), "what is clean is on no list")
	f.Evict()
}

// TestFlusherGoesOn does not spin on a file that stays dirty, and does not starve others.
func TestFlusherGoesOn(t *testing.T) {
	defer goleak.VerifyNone(t)
	c := New(Options{Limit: 1 << 20, Interval: time.Millisecond, Expire: time.Microsecond})
	wb := NewWriteback(c, "test")
	stuck, other := newStore(c, wb, 1<<20, 0, 0), newStore(c, wb, 1<<20, 0, 0)
	var calls atomic.Int64
	ops := *stuck.ops
	ops.WritePages = func(context.Context, *AddressSpace, *WritebackControl) error { calls.Add(1); return errno.IO }
	stuck.SetOps(&ops)
	stuck.write(t, make([]byte, 512<<10), 0) // over the background threshold for good
	other.write(t, make([]byte, 64<<10), 0)
	began := time.Now()
	wb.Start()
	require.Eventually(t, func() bool { return other.dirty.Load() == 0 }, 10*time.Second, time.Millisecond)
	time.Sleep(20 * time.Millisecond)
	wb.Stop(context.Background())
	require.LessOrEqual(t, calls.Load(), int64(time.Since(began)/time.Millisecond)+10, "calls of a file that cannot be written")
	other.io.Wait()
	stuck.Evict()
	other.Evict()
	c.Close()
}
