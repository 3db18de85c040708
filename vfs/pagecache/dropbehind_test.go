package pagecache

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestUncachedRead leaves nothing behind, and what was there before where it was.
func TestUncachedRead(t *testing.T) {
	c := New(Options{Limit: 64 << 20})
	f := newStore(c, NewWriteback(c, "test"), 4<<20, 0, MaxOrder)
	f.countRuns()
	f.size.Store(4 << 20)
	f.readAll(t, nil, 1<<20, 64<<10, 64<<10)
	f.io.Wait()
	kept := c.Stats().Bytes
	var ra Readahead
	p := make([]byte, 32<<10)
	for pos := int64(0); pos < 4<<20; pos += int64(len(p)) {
		_, err := f.Read(context.Background(), &ra, p, pos, DontCache)
		require.NoError(t, err)
		f.io.Wait()
		require.LessOrEqual(t, c.Stats().Bytes, kept+3<<20)
	}
	require.Equal(t, kept, c.Stats().Bytes)
	require.True(t, f.HasPages(1<<20, 1<<20+64<<10))
	f.Evict()
	c.Close()
}

// TestUncachedWrite drops what it wrote when it is on the medium, but not what an ordinary write dirtied again meanwhile.
func TestUncachedWrite(t *testing.T) {
	c := New(Options{Limit: 64 << 20})
	f := newStore(c, NewWriteback(c, "test"), 4<<20, 0, 0)
	ctx := context.Background()
	write := func(index uint64) {
		fo, err := f.GrabUncached(ctx, index, PageSize)
		require.NoError(t, err)
		fo.SetUptodate()
		fo.MarkDirty()
		fo.Unlock()
		fo.Put()
	}
	f.size.Store(16 * PageSize)
	write(0)
	write(1)
	f.write(t, []byte("kept"), 2*PageSize)
	write(2) // was there before
	require.NoError(t, f.WriteAndWait(ctx, 0, 1<<40))
	f.io.Wait()
	require.False(t, f.HasPages(0, 2*PageSize))
	require.True(t, f.HasPages(2*PageSize, 3*PageSize))

	write(4)
	write(5)
	write(6)
	f.gate = make(chan struct{})
	require.NoError(t, f.WriteRange(ctx, 0, 1<<40))
	fo := f.Get(4)
	fo.Lock()
	fo.MarkDirty() // another opener, uncached as well: dirty, so it stays until it is written
	fo.Unlock()
	fo.Put()
	f.write(t, []byte("mine"), 5*PageSize) // an ordinary one: it stays
	close(f.gate)
	require.NoError(t, f.WaitRange(ctx, 0, 1<<40))
	f.io.Wait()
	require.Equal(t, int64(2*PageSize), c.Stats().Dirty)
	require.False(t, f.HasPages(6*PageSize, 7*PageSize))
	require.NoError(t, f.WriteAndWait(ctx, 0, 1<<40))
	f.io.Wait()
	require.False(t, f.HasPages(4*PageSize, 5*PageSize))
	require.True(t, f.HasPages(5*PageSize, 6*PageSize))
	require.Equal(t, int64(2*PageSize), c.Stats().Bytes)
	f.Evict()
	c.Close()
}

// TestDropBehindNeedsTheLock leaves a folio alone that somebody has locked, or that is dirty.
func TestDropBehindNeedsTheLock(t *testing.T) {
	c := New(Options{Limit: 64 << 20})
	f := newStore(c, NewWriteback(c, "test"), 4<<20, 0, 0)
	fo, err := f.GrabUncached(context.Background(), 0, PageSize)
	require.NoError(t, err)
	fo.SetUptodate()
	fo.dropBehind()
	require.NotNil(t, fo.AddressSpace(), "locked")
	fo.MarkDirty()
	fo.Unlock()
	fo.dropBehind()
	require.NotNil(t, fo.AddressSpace(), "dirty")
	fo.Lock()
	fo.CancelDirty()
	fo.Unlock()
	fo.dropBehind()
	require.Nil(t, fo.AddressSpace())
	fo.Put()
	c.Close()
}
