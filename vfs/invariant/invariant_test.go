package invariant

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCheck(t *testing.T) {
	Check(true, "fine")
	if Enabled {
		require.PanicsWithValue(t, "invariant broken: 3 is not 4", func() { Check(false, "%d is not %d", 3, 4) })
		return
	}
	Check(false, "compiled to nothing")
}

// panicOf runs f on a goroutine of its own and gives what it panicked with, "" for nothing.
func panicOf(f func()) string {
	var got any
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() { got = recover() }()
		f()
	})
	wg.Wait()
	if got == nil {
		return ""
	}
	return fmt.Sprint(got)
}

// TestRanks takes locks in an order, all of which are released.
func TestRanks(t *testing.T) {
	for _, c := range []struct {
		name  string
		ranks []Rank
		wrong string
	}{
		{"the whole order", []Rank{
			RankFreeze, RankRename, RankInode, RankInvalidate, RankFolio, RankCommit, RankTransaction, RankMap, RankAllocGroup, RankList, RankShard, RankLeaf,
		}, ""},
		{"two inodes", []Rank{RankInode, RankInode}, ""},
		{"two folios", []Rank{RankFolio, RankFolio}, ""},
		{"two leaves", []Rank{RankLeaf, RankLeaf}, "waiting for leaf .* while holding another of them: leaf"},
		{"two transactions", []Rank{RankTransaction, RankTransaction}, "transaction"},
		{"folio under map", []Rank{RankMap, RankFolio}, "waiting for folio .* while holding a lock that comes after it: map"},
		{"folio under transaction", []Rank{RankTransaction, RankFolio}, "transaction"},
		{"inode under folio", []Rank{RankFolio, RankInode}, "waiting for inode .* folio"},
		{"anything under a leaf", []Rank{RankLeaf, RankMap}, "leaf"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := panicOf(func() {
				var took []*Holder
				defer func() {
					for _, h := range took {
						h.Released()
					}
				}()
				for _, r := range c.ranks {
					h := new(Holder)
					h.Wait(r, 0, 0)
					h.Took(r, 0, 0)
					took = append(took, h)
				}
			})
			if c.wrong == "" || !Enabled {
				require.Empty(t, got)
				return
			}
			require.Regexp(t, c.wrong, got)
		})
	}
}

// TestMutexes holds that the locks themselves are ranked, and that the message says where both were taken.
func TestMutexes(t *testing.T) {
	if !Enabled {
		t.Skip("checks are not compiled in")
	}
	var inode RWMutex[Inode]
	var mapping RWMutex[Map]
	var leaf Mutex[Leaf]
	require.Empty(t, panicOf(func() {
		inode.Lock()
		mapping.RLock()
		leaf.Lock()
		inode.Unlock() // in any order
		leaf.Unlock()
		mapping.RUnlock()
		NoneHeld(RankFreeze)
	}))
	require.Regexp(t, `waiting for inode \(invariant_test.go:\d+\) while .*: map \(invariant_test.go:\d+\)`, panicOf(func() {
		mapping.RLock()
		defer mapping.RUnlock()
		inode.RLock()
	}))
	require.Regexp(t, "waiting for map .* holding it already", panicOf(func() {
		mapping.RLock()
		defer mapping.RUnlock()
		mapping.RLock() // would deadlock with a writer between the two
	}))
	require.Regexp(t, "waiting for leaf .* leaf", panicOf(func() {
		var other Mutex[Leaf]
		leaf.Lock()
		defer leaf.Unlock()
		other.Lock()
	}))
	require.Regexp(t, "did not take", panicOf(inode.RUnlock))
	require.Empty(t, panicOf(func() {
		leaf.Lock()
		require.True(t, mapping.TryLock()) // cannot deadlock
		mapping.Unlock()
		leaf.Unlock()
	}))
	require.Regexp(t, "must hold nothing from map on, holds leaf", panicOf(func() {
		leaf.Lock()
		defer leaf.Unlock()
		NoneHeld(RankMap)
	}))
}

func TestAssertions(t *testing.T) {
	if !Enabled {
		t.Skip("checks are not compiled in")
	}
	var m Mutex[Leaf]
	var rw RWMutex[Invalidate]
	require.Regexp(t, "leaf lock is not held", panicOf(m.AssertHeld))
	require.Regexp(t, "not held exclusively", panicOf(rw.AssertExclusive))
	require.Regexp(t, "not held exclusively", panicOf(func() {
		rw.RLock()
		defer rw.RUnlock()
		rw.AssertHeld()
		rw.AssertExclusive()
	}))
	require.Empty(t, panicOf(func() {
		m.Lock()
		m.AssertHeld()
		m.Unlock()
		rw.Lock()
		rw.AssertExclusive()
		rw.AssertHeld()
		rw.Unlock()
	}))
}

// TestAscending holds locks of one rank to their order within a group.
func TestAscending(t *testing.T) {
	if !Enabled {
		t.Skip("checks are not compiled in")
	}
	var a, b, other Holder
	require.Empty(t, panicOf(func() {
		a.Took(RankFolio, 1, 5)
		b.Wait(RankFolio, 1, 6)
		other.Wait(RankFolio, 2, 3)
		a.Released()
	}))
	require.Regexp(t, "waiting for folio .* comes after it: folio", panicOf(func() {
		a.Took(RankFolio, 1, 5)
		defer a.Released()
		b.Wait(RankFolio, 1, 4)
	}))
}

// TestHandedOver releases on another goroutine, before and after the taker let go.
func TestHandedOver(t *testing.T) {
	var h Holder
	for _, disown := range []bool{true, false} {
		h.Took(RankFolio, 0, 0)
		require.True(t, h.Held())
		if disown {
			h.Disown()
			require.Equal(t, !Enabled, h.Held())
		}
		require.Empty(t, panicOf(h.Released))
		require.Equal(t, !Enabled, h.Held())
		NoneHeld(RankFreeze)
	}
	var m RWMutex[Freeze]
	m.Lock()
	m.Disown()
	require.Empty(t, panicOf(m.Unlock))
	require.True(t, m.TryLock())
	m.Unlock()
}

func TestRanksArePerGoroutine(t *testing.T) {
	var leaf Mutex[Leaf]
	leaf.Lock()
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			var inode RWMutex[Inode]
			var mine Mutex[Leaf]
			for range 100 {
				inode.Lock()
				mine.Lock()
				mine.AssertHeld()
				mine.Unlock()
				inode.Unlock()
			}
		})
	}
	wg.Wait()
	leaf.Unlock()
}

func TestNames(t *testing.T) {
	require.Equal(t, "freeze", RankFreeze.String())
	require.Equal(t, "leaf", RankLeaf.String())
	require.Equal(t, "unknown", Rank(99).String())
}

func BenchmarkLock(b *testing.B) {
	var m Mutex[Leaf]
	for b.Loop() {
		m.Lock()
		m.AssertHeld()
		m.Unlock()
	}
}

func TestCountLocks(t *testing.T) {
	var a Mutex[Map]
	var b RWMutex[Inode]
	use := func() {
		b.RLock()
		a.Lock()
		a.Unlock()
		b.RUnlock()
		b.Lock()
		b.Unlock()
		Taken(RankFolio)
	}
	use()
	n := CountLocks(use)
	use()
	require.Equal(t, []int64{1, 2, 1, 0}, []int64{n[RankMap], n[RankInode], n[RankFolio], n[RankLeaf]})
}
