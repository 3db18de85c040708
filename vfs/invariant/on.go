//go:build invariants || race

package invariant

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
)

// Enabled is true when the checks are compiled in.
const Enabled = true

// Check panics with the message when cond is false and checks are compiled in.
func Check(cond bool, format string, args ...any) {
	if !cond {
		panic("invariant broken: " + fmt.Sprintf(format, args...))
	}
}

// held is the stack of ranks of one goroutine. Only that goroutine touches it.
type held struct{ ranks []Rank }

// shards keep the table of goroutines from being one lock.
var shards [64]struct {
	mu sync.Mutex // leaf; guards m
	m  map[uint64]*held
}

// goid is the number of the calling goroutine. The runtime gives it only in the first line of a stack dump
// ("goroutine 17 [running]:"), which is slow and good enough for checks.
func goid() uint64 {
	var buf [32]byte
	n := runtime.Stack(buf[:], false)
	var id uint64
	for _, c := range buf[len("goroutine "):n] {
		if c < '0' || c > '9' {
			break
		}
		id = id*10 + uint64(c-'0')
	}
	return id
}

// ranksOf gives the calling goroutine's entry; create makes one.
func ranksOf(create bool) (*held, uint64) {
	id := goid()
	s := &shards[id%uint64(len(shards))]
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.m[id]
	if h == nil && create {
		if s.m == nil {
			s.m = make(map[uint64]*held)
		}
		h = &held{ranks: make([]Rank, 0, 8)}
		s.m[id] = h
	}
	return h, id
}

// single says that a goroutine holds at most one lock of the rank.
func single(r Rank) bool {
	switch r {
	case RankFreeze, RankRename, RankTransaction, RankLeaf:
		return true
	}
	return false
}

// Acquire notes that the goroutine is about to wait for a lock of that rank.
func Acquire(r Rank) {
	h, _ := ranksOf(true)
	for _, o := range h.ranks {
		if o > r || (o == r && single(r)) {
			panic(fmt.Sprintf("lock order: waiting for %s while holding %s", r, list(h.ranks)))
		}
	}
	h.ranks = append(h.ranks, r)
}

// AcquireTry notes that the goroutine got a lock of that rank without waiting; no order is checked.
func AcquireTry(r Rank) {
	h, _ := ranksOf(true)
	h.ranks = append(h.ranks, r)
}

// Release notes that the goroutine gave up a lock of that rank.
func Release(r Rank) {
	h, id := ranksOf(false)
	if h != nil {
		for i := len(h.ranks) - 1; i >= 0; i-- {
			if h.ranks[i] != r {
				continue
			}
			h.ranks = append(h.ranks[:i], h.ranks[i+1:]...)
			if len(h.ranks) == 0 {
				s := &shards[id%uint64(len(shards))]
				s.mu.Lock()
				delete(s.m, id)
				s.mu.Unlock()
			}
			return
		}
	}
	panic(fmt.Sprintf("lock order: release of %s, which this goroutine does not hold", r))
}

// Held says whether the goroutine holds a lock of that rank.
func Held(r Rank) bool {
	h, _ := ranksOf(false)
	if h == nil {
		return false
	}
	for _, o := range h.ranks {
		if o == r {
			return true
		}
	}
	return false
}

// NoneHeld panics when the goroutine holds a lock of a rank from `from` on (an entry point that may wait for long calls it).
func NoneHeld(from Rank) {
	h, _ := ranksOf(false)
	if h == nil {
		return
	}
	for _, o := range h.ranks {
		if o >= from {
			panic(fmt.Sprintf("lock order: must hold nothing from %s on, holds %s", from, list(h.ranks)))
		}
	}
}

// list writes ranks for a message.
func list(rs []Rank) string {
	s := make([]string, len(rs))
	for i, r := range rs {
		s[i] = r.String()
	}
	return strings.Join(s, ", ")
}
