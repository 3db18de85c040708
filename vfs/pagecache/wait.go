package pagecache

import (
	"context"
	"sync"
	"unsafe"
)

// Waiting for a folio's lock or writeback bit goes through a hashed table, so that a folio needs no queue of its own.
// A waiter sets flagWaiters under its bucket's lock before it looks; whoever clears a bit clears flagWaiters with it and
// then takes the bucket's lock to wake everybody, so no wake-up is lost.

const waitBuckets = 256

type waitBucket struct {
	mu   sync.Mutex // guards waiting; leaf
	cond sync.Cond
	_    [40]byte // a cache line each
}

var waitTable [waitBuckets]waitBucket

func init() {
	for i := range waitTable {
		waitTable[i].cond.L = &waitTable[i].mu
	}
}

func (fo *Folio) bucket() *waitBucket {
	h := uintptr(unsafe.Pointer(fo)) >> 5 * 0x9e3779b97f4a7c15
	return &waitTable[h>>56]
}

// wait blocks until try succeeds; try is run again after every change of the folio's lock or writeback bit.
func (fo *Folio) wait(try func(fo *Folio) bool) {
	b := fo.bucket()
	b.mu.Lock()
	for {
		fo.flags.Or(flagWaiters)
		if try(fo) {
			break
		}
		b.cond.Wait()
	}
	b.mu.Unlock()
}

// waitCtx is wait that gives up when ctx ends.
func (fo *Folio) waitCtx(ctx context.Context, try func(fo *Folio) bool) error {
	if ctx.Done() == nil {
		fo.wait(try)
		return nil
	}
	defer context.AfterFunc(ctx, fo.wake)()
	b := fo.bucket()
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		fo.flags.Or(flagWaiters)
		if try(fo) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		b.cond.Wait()
	}
}

func (fo *Folio) wake() {
	b := fo.bucket()
	b.mu.Lock()
	b.cond.Broadcast()
	b.mu.Unlock()
}
