package pagecache

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWaitsEnd holds that waits a user sits in end with his context: for a folio's lock, for a read in flight, for dirty memory.
func TestWaitsEnd(t *testing.T) {
	c := New(Options{Limit: 1 << 20})
	wb := NewWriteback(c, "test")
	f := newStore(c, wb, 1<<20, 0, 0)
	f.size.Store(1 << 20)
	f.gate = make(chan struct{})
	ended := func(why string, f func(ctx context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithCancel(context.Background())
		var err error
		done := async(func() { err = f(ctx) })
		blocked(t, done, why+" did not wait")
		cancel()
		<-done
		require.ErrorIs(t, err, context.Canceled, why)
	}
	fo, err := f.Grab(context.Background(), 100, PageSize)
	require.NoError(t, err)
	ended("the lock", fo.LockCtx)
	fo.Unlock()
	fo.Put()
	p := make([]byte, 100)
	ended("a read", func(ctx context.Context) error { _, err := f.Read(ctx, nil, p, 0, 0); return err })
	ended("a read of what is being read", func(ctx context.Context) error { _, err := f.Read(ctx, nil, p, 0, 0); return err })
	ended("ReadFolio", func(ctx context.Context) error { _, err := f.ReadFolio(ctx, 7); return err })

	for i := range uint64(100) {
		fo, err := f.Grab(context.Background(), 100+i, PageSize)
		require.NoError(t, err)
		fo.SetUptodate()
		fo.MarkDirty()
		fo.Unlock()
		fo.Put()
	}
	ended("a writer held back", func(ctx context.Context) error { return wb.Balance(ctx, &f.AddressSpace) })

	close(f.gate)
	f.io.Wait()
	require.NoError(t, wb.Balance(context.Background(), &f.AddressSpace))
	f.Evict()
	c.Close()
}

// TestGrabGoesOn does not end with a context: the caller may be in the middle of a change.
func TestGrabGoesOn(t *testing.T) {
	c := New(Options{Limit: 1 << 20})
	f := newStore(c, nil, 1<<20, 0, 0)
	fo, err := f.Grab(context.Background(), 0, PageSize)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	done := async(func() {
		fo, err := f.Grab(ctx, 0, PageSize)
		if err != nil {
			t.Error(err)
			return
		}
		fo.Unlock()
		fo.Put()
	})
	blocked(t, done, "two have the lock")
	time.Sleep(time.Millisecond)
	fo.Unlock()
	<-done
	fo.Put()
	f.Evict()
}
