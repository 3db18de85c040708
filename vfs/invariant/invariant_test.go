package invariant

import (
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

func TestRanks(t *testing.T) {
	for _, c := range []struct {
		name  string
		ranks []Rank
		ok    bool
	}{
		{"the whole order", []Rank{
			RankFreeze, RankRename, RankInode, RankInvalidate, RankFolio, RankTransaction, RankMap, RankAllocGroup, RankLeaf,
		}, true},
		{"two inodes", []Rank{RankInode, RankInode}, true},
		{"two folios", []Rank{RankFolio, RankFolio}, true},
		{"two leaves", []Rank{RankLeaf, RankLeaf}, false},
		{"two transactions", []Rank{RankTransaction, RankTransaction}, false},
		{"folio under map", []Rank{RankMap, RankFolio}, false},
		{"folio under transaction", []Rank{RankTransaction, RankFolio}, false},
		{"inode under folio", []Rank{RankFolio, RankInode}, false},
		{"anything under a leaf", []Rank{RankLeaf, RankMap}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got any
			var wg sync.WaitGroup
			wg.Go(func() {
				n := 0
				defer func() {
					got = recover()
					for _, r := range c.ranks[:n] {
						Release(r)
					}
				}()
				for _, r := range c.ranks {
					Acquire(r)
					n++
				}
			})
			wg.Wait()
			require.Equal(t, c.ok || !Enabled, got == nil, "%v", got)
		})
	}
}

func TestReleaseInAnyOrder(t *testing.T) {
	Acquire(RankInode)
	Acquire(RankMap)
	require.True(t, Held(RankMap))
	Release(RankInode)
	require.Equal(t, !Enabled, Held(RankInode))
	Acquire(RankLeaf)
	Release(RankLeaf)
	Release(RankMap)
	if Enabled {
		require.Panics(t, func() { Release(RankMap) })
	}
	Acquire(RankFreeze)
	AcquireTry(RankFolio)
	if Enabled {
		require.Panics(t, func() { NoneHeld(RankInode) })
	}
	Release(RankFolio)
	NoneHeld(RankInode)
	Release(RankFreeze)
}

func TestRanksArePerGoroutine(t *testing.T) {
	Acquire(RankLeaf)
	defer Release(RankLeaf)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 100 {
				Acquire(RankInode)
				Acquire(RankLeaf)
				Release(RankLeaf)
				Release(RankInode)
			}
		})
	}
	wg.Wait()
}

func TestNames(t *testing.T) {
	require.Equal(t, "freeze", RankFreeze.String())
	require.Equal(t, "leaf", RankLeaf.String())
	require.Equal(t, "unknown", Rank(99).String())
}
