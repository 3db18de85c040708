//go:build invariants || race

package pagecache

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs/invariant"
)

// panics runs f on a goroutine of its own and gives what it panicked with.
func panics(f func()) string {
	var got any
	<-async(func() {
		defer func() { got = recover() }()
		f()
	})
	return fmt.Sprint(got)
}

// TestLockOrder holds the order of the locks of this package, and that of folios.
func TestLockOrder(t *testing.T) {
	c := New(Options{Limit: 1 << 20})
	f := newStore(c, nil, 1<<20, 0, 0)
	g := newStore(c, nil, 1<<20, 0, 0)
	g.SetMeta()
	ctx := context.Background()
	var mapping invariant.RWMutex[invariant.Map]
	grab := func(s *store, i uint64) *Folio {
		fo, err := s.Grab(ctx, i, PageSize)
		if err != nil {
			panic(err)
		}
		return fo
	}
	for i := range uint64(3) {
		fo := grab(f, i)
		fo.SetUptodate()
		fo.Unlock()
		fo.Put()
	}
	require.Regexp(t, `waiting for invalidate .* after it: folio \(`, panics(func() {
		fo := grab(f, 1)
		defer func() { fo.Unlock(); fo.Put() }()
		f.InvalidateLock.RLock()
	}))
	require.Regexp(t, `waiting for folio .* comes after it: folio`, panics(func() {
		a := grab(f, 2)
		defer func() { a.Unlock(); a.Put() }()
		b := f.Get(1)
		defer b.Put()
		b.Lock()
	}))
	require.Regexp(t, `waiting for folio .* after it: map`, panics(func() {
		fo := f.Get(1)
		defer fo.Put()
		mapping.Lock()
		defer mapping.Unlock()
		fo.Lock()
	}))
	require.Equal(t, "<nil>", panics(func() {
		fo := grab(f, 1)
		mapping.Lock()
		meta := grab(g, 1) // metadata is locked under the map lock
		meta.Unlock()
		meta.Put()
		mapping.Unlock()
		fo.Unlock()
		fo.Put()
		invariant.NoneHeld(invariant.RankFreeze)
	}))
	require.Regexp(t, "not held exclusively", panics(func() { f.Truncate(0) }))
	require.Regexp(t, "unlocked while not locked", panics(func() {
		fo := f.Get(0)
		defer fo.Put()
		fo.Unlock()
	}))
	f.Evict()
	g.Evict()
}

// TestLastReference holds that memory is poisoned when the last reference goes, and that a reference too many is dropped, or one is
// taken of a folio that is free, does not go unseen.
func TestLastReference(t *testing.T) {
	c := New(Options{Limit: 1 << 20})
	f := newStore(c, nil, 1<<20, 0, 0)
	fo, err := f.Grab(context.Background(), 0, PageSize)
	require.NoError(t, err)
	mem := fo.Data()
	clear(mem)
	fo.Unlock()
	f.Evict()
	require.Zero(t, mem[17], "readers of a folio that left the cache still have its memory")
	fo.Put()
	require.NotZero(t, mem[17], "freed memory is poisoned")
	require.Regexp(t, "references", panics(fo.Put))
	require.Regexp(t, "free folio", panics(fo.Get))
	c.Close()
}
