//go:build !invariants && !race

package invariant

import "sync"

// Enabled is true when the checks are compiled in.
const Enabled = false

// Check panics with the message when cond is false and checks are compiled in.
func Check(cond bool, format string, args ...any) {}

// NoneHeld panics when the goroutine holds a lock of a rank from `from` on (an entry point that may wait for long calls it).
func NoneHeld(from Rank) {}

// Mutex is a sync.Mutex with a rank.
type Mutex[C Class] struct {
	sync.Mutex // what its user says
}

// Lock is sync.Mutex's.
func (m *Mutex[C]) Lock() {
	if counting.Load() {
		count[C]()
	}
	m.Mutex.Lock()
}

// AssertHeld panics when this goroutine does not hold the lock.
func (m *Mutex[C]) AssertHeld() {}

// Disown says that another goroutine will unlock.
func (m *Mutex[C]) Disown() {}

// RWMutex is a sync.RWMutex with a rank.
type RWMutex[C Class] struct {
	sync.RWMutex // what its user says
}

// Lock is sync.RWMutex's.
func (m *RWMutex[C]) Lock() {
	if counting.Load() {
		count[C]()
	}
	m.RWMutex.Lock()
}

// RLock is sync.RWMutex's.
func (m *RWMutex[C]) RLock() {
	if counting.Load() {
		count[C]()
	}
	m.RWMutex.RLock()
}

// AssertHeld panics when this goroutine does not hold the lock, shared or exclusively.
func (m *RWMutex[C]) AssertHeld() {}

// AssertExclusive panics when nobody holds the lock exclusively: it may have been taken on behalf of this goroutine by another.
func (m *RWMutex[C]) AssertExclusive() {}

// Disown says that another goroutine will unlock.
func (m *RWMutex[C]) Disown() {}

// Holder knows who holds a lock that is not a Mutex or RWMutex. The zero value is ready.
type Holder struct{}

// Wait checks the order before the goroutine waits for the lock. Locks of one rank and one group, not 0, are waited for in
// ascending order.
func (h *Holder) Wait(r Rank, group uintptr, order uint64) {}

// Took says that the goroutine has the lock now. group and order are Wait's.
func (h *Holder) Took(r Rank, group uintptr, order uint64) {}

// Released is called just before the lock is given up, on whatever goroutine.
func (h *Holder) Released() {}

// Disown says that another goroutine will release the lock. Nothing if this one does not hold it.
func (h *Holder) Disown() {}

// Held says whether this goroutine holds the lock. Without checks it answers true, so that Check(h.Held(), …) holds.
func (h *Holder) Held() bool { return true }
