//go:build invariants || race

package invariant

import "sync"

// Mutex is a sync.Mutex with a rank.
type Mutex[C Class] struct {
	mu sync.Mutex // what is ranked
	h  Holder
}

// Lock is sync.Mutex's.
func (m *Mutex[C]) Lock() {
	count[C]()
	m.h.Wait(rankOf[C](), 0, 0)
	m.mu.Lock()
	m.h.Took(rankOf[C](), 0, 0)
}

// TryLock is sync.Mutex's.
func (m *Mutex[C]) TryLock() bool {
	ok := m.mu.TryLock()
	if ok {
		m.h.Took(rankOf[C](), 0, 0)
	}
	return ok
}

// Unlock is sync.Mutex's.
func (m *Mutex[C]) Unlock() {
	m.h.Released()
	m.mu.Unlock()
}

// AssertHeld panics when this goroutine does not hold the lock.
func (m *Mutex[C]) AssertHeld() {
	Check(m.h.Held(), "the %s lock is not held", rankOf[C]())
}

// Disown says that another goroutine will unlock.
func (m *Mutex[C]) Disown() { m.h.Disown() }

// RWMutex is a sync.RWMutex with a rank.
type RWMutex[C Class] struct {
	mu sync.RWMutex // what is ranked
	h  Holder
}

// Lock is sync.RWMutex's.
func (m *RWMutex[C]) Lock() {
	count[C]()
	m.h.Wait(rankOf[C](), 0, 0)
	m.mu.Lock()
	m.h.Took(rankOf[C](), 0, 0)
}

// TryLock is sync.RWMutex's.
func (m *RWMutex[C]) TryLock() bool {
	ok := m.mu.TryLock()
	if ok {
		m.h.Took(rankOf[C](), 0, 0)
	}
	return ok
}

// Unlock is sync.RWMutex's.
func (m *RWMutex[C]) Unlock() {
	m.h.Released()
	m.mu.Unlock()
}

// RLock is sync.RWMutex's. The goroutine that took it releases it.
func (m *RWMutex[C]) RLock() {
	count[C]()
	m.h.Wait(rankOf[C](), 0, 0)
	m.mu.RLock()
	m.h.note(rankOf[C](), 0, 0, 4)
}

// TryRLock is sync.RWMutex's.
func (m *RWMutex[C]) TryRLock() bool {
	ok := m.mu.TryRLock()
	if ok {
		m.h.note(rankOf[C](), 0, 0, 4)
	}
	return ok
}

// RUnlock is sync.RWMutex's.
func (m *RWMutex[C]) RUnlock() {
	Check(m.h.drop(goroutine()), "the %s lock is released by a goroutine that did not take it", rankOf[C]())
	m.mu.RUnlock()
}

// AssertHeld panics when this goroutine does not hold the lock, shared or exclusively.
func (m *RWMutex[C]) AssertHeld() {
	Check(m.h.Held(), "the %s lock is not held", rankOf[C]())
}

// AssertExclusive panics when nobody holds the lock exclusively: it may have been taken on behalf of this goroutine by another.
func (m *RWMutex[C]) AssertExclusive() {
	if m.mu.TryRLock() {
		m.mu.RUnlock()
		Check(false, "the %s lock is not held exclusively", rankOf[C]())
	}
	Check(m.h.owner.Load() != 0 || !m.h.Held(), "the %s lock is held shared only", rankOf[C]())
}

// Disown says that another goroutine will unlock.
func (m *RWMutex[C]) Disown() { m.h.Disown() }
