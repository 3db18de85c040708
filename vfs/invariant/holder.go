//go:build invariants || race

package invariant

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
)

// taken is one lock that a goroutine holds.
type taken struct {
	h     *Holder
	rank  Rank
	group uintptr // locks of the rank with the same group, not 0, are taken in ascending …
	order uint64  // … order
	pc    uintptr // who took it
}

// table is a part of what all goroutines hold. A lock may be released by another goroutine than the one that took it, so a
// goroutine's list is not its own.
type table struct {
	mu   sync.Mutex // leaf; guards held
	held map[uintptr][]taken
	_    [48]byte
}

var tables [64]table

func tableOf(g uintptr) *table { return &tables[g>>7*0x9e3779b97f4a7c15>>58] }

// Holder knows who holds a lock that is not a Mutex or RWMutex. The zero value is ready.
type Holder struct {
	owner atomic.Uintptr // the goroutine that took it exclusively; 0: nobody, or disowned
}

// single says that a goroutine holds at most one lock of the rank.
func single(r Rank) bool {
	switch r {
	case RankFreeze, RankRename, RankCommit, RankTransaction, RankMap, RankList, RankShard, RankLeaf:
		return true
	}
	return false
}

// Wait checks the order before the goroutine waits for the lock. Locks of one rank and one group, not 0, are waited for in
// ascending order.
func (h *Holder) Wait(r Rank, group uintptr, order uint64) {
	g := goroutine()
	t := tableOf(g)
	t.mu.Lock()
	why, held := "", taken{}
	for _, o := range t.held[g] {
		switch {
		case o.h == h:
			why = "holding it already"
		case o.rank > r:
			why = "holding a lock that comes after it"
		case o.rank == r && single(r):
			why = "holding another of them"
		case o.rank == r && group != 0 && o.group == group && o.order >= order:
			why = "holding one that comes after it"
		default:
			continue
		}
		held = o
		break
	}
	t.mu.Unlock()
	if why != "" {
		panic(fmt.Sprintf("lock order: waiting for %s (%s) while %s: %s (%s)", r, where(caller(4)), why, held.rank, where(held.pc)))
	}
}

// Took says that the goroutine has the lock now. group and order are Wait's.
func (h *Holder) Took(r Rank, group uintptr, order uint64) { h.owner.Store(h.note(r, group, order, 5)) }

// note puts the lock on the goroutine's list.
func (h *Holder) note(r Rank, group uintptr, order uint64, skip int) uintptr {
	g := goroutine()
	t := tableOf(g)
	pc := caller(skip)
	t.mu.Lock()
	if t.held == nil {
		t.held = make(map[uintptr][]taken)
	}
	t.held[g] = append(t.held[g], taken{h, r, group, order, pc})
	t.mu.Unlock()
	return g
}

// Released is called just before the lock is given up, on whatever goroutine.
func (h *Holder) Released() {
	if g := h.owner.Swap(0); g != 0 {
		h.drop(g)
	}
}

// Disown says that another goroutine will release the lock. Nothing if this one does not hold it.
func (h *Holder) Disown() { h.drop(goroutine()) }

// drop takes the lock off a goroutine's list, if it is there.
func (h *Holder) drop(g uintptr) bool {
	t := tableOf(g)
	t.mu.Lock()
	defer t.mu.Unlock()
	list := t.held[g]
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].h != h {
			continue
		}
		if list = append(list[:i], list[i+1:]...); len(list) == 0 {
			delete(t.held, g)
		} else {
			t.held[g] = list
		}
		return true
	}
	return false
}

// Held says whether this goroutine holds the lock.
func (h *Holder) Held() bool {
	g := goroutine()
	t := tableOf(g)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.held[g] {
		if o.h == h {
			return true
		}
	}
	return false
}

// NoneHeld panics when the goroutine holds a lock of a rank from `from` on (an entry point that may wait for long calls it).
func NoneHeld(from Rank) {
	g := goroutine()
	t := tableOf(g)
	t.mu.Lock()
	var bad []string
	for _, o := range t.held[g] {
		if o.rank >= from {
			bad = append(bad, fmt.Sprintf("%s (%s)", o.rank, where(o.pc)))
		}
	}
	t.mu.Unlock()
	if bad != nil {
		panic(fmt.Sprintf("lock order: must hold nothing from %s on, holds %s", from, strings.Join(bad, ", ")))
	}
}

// caller gives the program counter that many calls up.
func caller(skip int) uintptr {
	var pc [1]uintptr
	runtime.Callers(skip, pc[:])
	return pc[0]
}

func where(pc uintptr) string {
	f, _ := runtime.CallersFrames([]uintptr{pc}).Next()
	return fmt.Sprintf("%s:%d", filepath.Base(f.File), f.Line)
}
