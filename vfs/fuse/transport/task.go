//go:build linux

package transport

import "sync"

// task is the request that a reader or a ring's thread is working on. It is used again for the next one, and so is its
// cancel channel as long as nobody had to close it: an operation does not keep it longer than it runs.
//
//	idle ──begin──► at work ──end──► idle
//	                   └─interrupt─► at work, its channel closed; the next request gets a new one
type task struct {
	mu     sync.Mutex // leaf; guards:
	unique uint64     // of the request, 0 for none
	own    bool       // it waits on our channel; else go-fuse has one of its own for it
	cancel chan struct{}
	closed bool // cancel is
}

// begin notes a request, and gives the channel that closes when its caller gives it up. own: the operation is going to
// wait on that.
func (t *task) begin(unique uint64, own bool) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unique, t.own = unique, own
	if t.cancel == nil || t.closed {
		t.cancel, t.closed = make(chan struct{}), false
	}
	return t.cancel
}

func (t *task) end() {
	t.mu.Lock()
	t.unique = 0
	t.mu.Unlock()
}

// current is the request in work, 0 for none.
func (t *task) current() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.unique
}

// interrupt closes the channel of the request with this number. false: it is not at work here, or go-fuse has to be told.
func (t *task) interrupt(unique uint64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.unique != unique || !t.own {
		return false
	}
	if !t.closed {
		close(t.cancel)
		t.closed = true
	}
	return true
}
