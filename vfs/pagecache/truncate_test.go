package pagecache

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// blocked reports that done is not closed although everybody had time to get on.
func blocked(t *testing.T, done chan struct{}, why string) {
	t.Helper()
	select {
	case <-done:
		t.Fatal(why)
	case <-time.After(20 * time.Millisecond):
	}
}

func async(f func()) chan struct{} {
	done := make(chan struct{})
	go func() { f(); close(done) }()
	return done
}

// TestTruncateWaitsForWriteback pauses a write in flight: truncation must not return before it is over, since the blocks are freed
// next and may be somebody else's when the write reaches the device.
func TestTruncateWaitsForWriteback(t *testing.T) {
	c := New(Options{Limit: 1 << 20})
	f := newStore(c, NewWriteback(c, "test"), 1<<20, 0, 2)
	f.write(t, bytes.Repeat([]byte{7}, 64<<10), 0)
	f.gate = make(chan struct{})
	require.NoError(t, f.WriteRange(context.Background(), 0, 1<<40))
	require.Positive(t, c.Stats().Writeback)
	done := async(func() { f.truncate(10000) })
	blocked(t, done, "truncated under a write in flight")
	close(f.gate)
	<-done
	require.Zero(t, c.Stats().Writeback)
	require.Equal(t, int64(4*PageSize), c.Stats().Bytes)
	f.io.Wait()
	f.Evict()
	c.Close()
}

// TestPunchWaitsForReadahead pauses readahead between the insertion of its folios and their reading: the punch waits, and what it
// punched does not come back.
func TestPunchWaitsForReadahead(t *testing.T) {
	for _, where := range []string{"before the read is sent", "before its folio is there", "in flight"} {
		t.Run(where, func(t *testing.T) {
			c := New(Options{Limit: 4 << 20})
			f := newStore(c, nil, 1<<20, 0, 2)
			from, to := int64(80<<10), int64(96<<10)
			if where == "before its folio is there" {
				f.SetOrders(0, 0)
				from, to = 500<<10, 516<<10 // readahead goes by 64 folios
			}
			for i := range f.bytes {
				f.bytes[i] = 9
			}
			f.size.Store(1 << 20)
			entered, gate := make(chan struct{}), make(chan struct{})
			if where == "in flight" {
				f.gate = gate
			} else {
				var once sync.Once // the read below comes here too
				ops := *f.ops
				ops.Readahead = func(ctx context.Context, rac *ReadaheadControl) {
					once.Do(func() { close(entered) })
					<-gate
					for fo := rac.Next(); fo != nil; fo = rac.Next() {
						_ = f.ops.ReadFolio(ctx, fo)
					}
				}
				f.SetOps(&ops)
			}
			ahead := async(func() { f.Readahead(context.Background(), 64<<10, 600<<10) })
			if where == "in flight" {
				<-ahead
			} else {
				<-entered
			}
			punched := async(func() {
				f.InvalidateLock.Lock()
				f.TruncateRange(from, to)
				f.mu.Lock()
				clear(f.bytes[from:to])
				f.mu.Unlock()
				f.InvalidateLock.Unlock()
			})
			blocked(t, punched, "punched under a read")
			close(gate)
			<-punched
			<-ahead
			p := make([]byte, 600<<10)
			n, err := f.Read(context.Background(), nil, p, 64<<10, 0)
			require.NoError(t, err)
			require.Equal(t, len(p), n)
			for i, b := range p {
				want := byte(9)
				if at := int64(i) + 64<<10; at >= from && at < to {
					want = 0
				}
				if b != want {
					t.Fatalf("byte %d is %d", 64<<10+i, b)
				}
			}
			f.io.Wait()
			f.Evict()
			c.Close()
		})
	}
}

// TestPartialTruncate cuts a large dirty folio: it stays, dirty, with zeros behind the new end; only what is before the end is
// written, and growing again shows zeros, from memory and from the medium.
func TestPartialTruncate(t *testing.T) {
	c := New(Options{Limit: 8 << 20})
	f := newStore(c, NewWriteback(c, "test"), 1<<20, 4, 4)
	f.write(t, bytes.Repeat([]byte{5}, 128<<10), 0)
	f.truncate(70001)
	require.Equal(t, int64(2*64<<10), c.Stats().Bytes)
	fo := f.Get(16)
	require.Equal(t, uint8(4), fo.Order())
	require.True(t, fo.Dirty())
	require.True(t, fo.Uptodate())
	require.Equal(t, bytes.Repeat([]byte{5}, 70001-64<<10), fo.Data()[:70001-64<<10])
	require.Equal(t, make([]byte, 128<<10-70001), fo.Data()[70001-64<<10:])
	fo.Put()
	require.NoError(t, f.WriteAndWait(context.Background(), 0, 1<<40))
	f.size.Store(128 << 10)
	for range 2 {
		p := make([]byte, 128<<10)
		n, err := f.Read(context.Background(), nil, p, 0, 0)
		require.NoError(t, err)
		require.Equal(t, len(p), n)
		require.Equal(t, append(bytes.Repeat([]byte{5}, 70001), make([]byte, 128<<10-70001)...), p)
		require.NoError(t, f.Invalidate(context.Background(), 0, 1<<40))
		require.Zero(t, c.Stats().Bytes)
	}

	// In the middle: the folio stays, with a hole of zeros. At its whole: it goes, dirty or not.
	f.write(t, bytes.Repeat([]byte{6}, 128<<10), 0)
	f.InvalidateLock.Lock()
	f.TruncateRange(1000, 3000)
	f.TruncateRange(64<<10, 128<<10)
	f.InvalidateLock.Unlock()
	require.Equal(t, int64(64<<10), c.Stats().Bytes)
	require.Equal(t, int64(64<<10), c.Stats().Dirty)
	fo = f.Get(0)
	require.Equal(t, make([]byte, 2000), fo.Data()[1000:3000])
	require.Equal(t, byte(6), fo.Data()[3000])
	fo.Put()
	f.io.Wait()
	f.Evict()
	c.Close()
}

// TestPastEndIsNotDirty hands a folio to writeback that lies past the end, as while a truncation is on its way: neither flag nor
// tag is left to keep the inode for dirty.
func TestPastEndIsNotDirty(t *testing.T) {
	c := New(Options{Limit: 8 << 20})
	f := newStore(c, NewWriteback(c, "test"), 1<<20, 0, 0)
	f.write(t, make([]byte, 8<<10), 0)
	f.size.Store(4 << 10)
	require.NoError(t, f.WriteAndWait(context.Background(), 0, 1<<40))
	require.False(t, f.IsDirty())
	f.io.Wait()
	f.Evict()
}

// TestFsyncOfAFolioInFlight dirties a folio while its old contents are being written: the sync that follows must wait for that
// write and write again.
func TestFsyncOfAFolioInFlight(t *testing.T) {
	c := New(Options{Limit: 8 << 20})
	f := newStore(c, NewWriteback(c, "test"), 1<<20, 0, 0)
	f.write(t, []byte("old"), 0)
	f.gate = make(chan struct{})
	require.NoError(t, f.FlushStart(context.Background(), 0, 1<<40))
	f.write(t, []byte("new"), 0)
	require.NoError(t, f.FlushStart(context.Background(), 0, 1<<40), "background writeback passes it over")
	require.Positive(t, c.Stats().Dirty)
	done := async(func() {
		if err := f.WriteAndWait(context.Background(), 0, 1<<40); err != nil {
			t.Error(err)
		}
	})
	blocked(t, done, "synced while the folio was in flight")
	close(f.gate)
	<-done
	f.mu.Lock()
	require.Equal(t, "new", string(f.bytes[:3]))
	f.mu.Unlock()
	f.io.Wait()
	f.Evict()
	c.Close()
}

// TestInvalidateKeepsWhatIsDirty reports and keeps a folio that became dirty after the caller wrote it back.
func TestInvalidateKeepsWhatIsDirty(t *testing.T) {
	c := New(Options{Limit: 8 << 20})
	f := newStore(c, NewWriteback(c, "test"), 1<<20, 0, 0)
	f.write(t, make([]byte, 16<<10), 0)
	require.NoError(t, f.WriteAndWait(context.Background(), 0, 1<<40))
	f.write(t, []byte("x"), 5000)
	require.Error(t, f.Invalidate(context.Background(), 0, 1<<40))
	require.Equal(t, int64(PageSize), c.Stats().Bytes)
	require.Equal(t, int64(PageSize), c.Stats().Dirty)
	f.io.Wait()
	f.Evict()
	c.Close()
}
