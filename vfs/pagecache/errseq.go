package pagecache

import (
	"github.com/iomapfs/iomapfs/vfs/invariant"
)

// ErrSeq keeps the last error of writeback so that everybody who watches sees each error once (errseq_t). The zero
// value is ready. Source: Documentation/core-api/errseq.rst.
type ErrSeq struct {
	mu   invariant.Mutex[invariant.Leaf] // guards the rest
	sets uint64                          // errors recorded
	seq  uint64                          // as above, but those that nobody saw in between count as one
	seen bool                            // somebody has been told of err
	err  error
}

// Set records an error. Nil is ignored.
func (e *ErrSeq) Set(err error) {
	if err == nil {
		return
	}
	e.mu.Lock()
	if e.err == nil || e.seen {
		e.seq++
	}
	e.sets++
	e.err, e.seen = err, false
	e.mu.Unlock()
}

// Sample gives the point to watch from: now, or before the last error when nobody has seen that yet.
func (e *ErrSeq) Sample() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err != nil && !e.seen {
		return e.seq - 1
	}
	return e.seq
}

// Check gives the last error recorded after *since, nil if there was none, and moves *since on.
func (e *ErrSeq) Check(since *uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if *since == e.seq {
		return nil
	}
	*since, e.seen = e.seq, true
	return e.err
}

// mark and since find errors recorded in between, whether or not somebody has seen them.
func (e *ErrSeq) mark() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sets
}

func (e *ErrSeq) since(mark uint64) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if mark == e.sets {
		return nil
	}
	return e.err
}
