package pagecache

import (
	"context"
	"sync"
	"time"
)

// Writeback (struct bdi_writeback) is the flusher of one super block: the list of its dirty address spaces and the
// goroutine that writes them: those older than Options.Expire every Options.Interval, all of them when the cache holds
// more dirty memory than its background threshold.
type Writeback struct {
	cache *Cache
	name  string

	mu    sync.Mutex // guards the list and the address spaces' places on it. Leaf
	first *AddressSpace
	last  *AddressSpace

	wake    chan struct{}
	stop    context.CancelFunc
	stopped chan struct{}
}

// NewWriteback makes a flusher; Start lets it run.
func NewWriteback(c *Cache, name string) *Writeback {
	return &Writeback{cache: c, name: name, wake: make(chan struct{}, 1)}
}

// Start begins background writeback.
func (wb *Writeback) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	wb.stop, wb.stopped = cancel, make(chan struct{})
	wb.cache.mu.Lock()
	wb.cache.wbs[wb] = struct{}{}
	wb.cache.mu.Unlock()
	go wb.run(ctx)
}

// Stop ends it and waits for the goroutine; it does not write.
func (wb *Writeback) Stop(context.Context) {
	if wb.stop == nil {
		return
	}
	wb.stop()
	<-wb.stopped
	wb.stop = nil
	wb.cache.mu.Lock()
	delete(wb.cache.wbs, wb)
	wb.cache.mu.Unlock()
}

// Wake starts a pass now.
func (wb *Writeback) Wake() {
	select {
	case wb.wake <- struct{}{}:
	default:
	}
}

func (c *Cache) wakeAll() {
	c.mu.Lock()
	for wb := range c.wbs {
		wb.Wake()
	}
	c.mu.Unlock()
}

func (wb *Writeback) list(as *AddressSpace, now int64) {
	wb.mu.Lock()
	if !as.listed {
		as.listed, as.dirtied = true, now
		wb.append(as)
	}
	wb.mu.Unlock()
}

func (wb *Writeback) append(as *AddressSpace) {
	as.wbPrev, as.wbNext = wb.last, nil
	if wb.last != nil {
		wb.last.wbNext = as
	} else {
		wb.first = as
	}
	wb.last = as
}

func (wb *Writeback) unlink(as *AddressSpace) {
	if as.wbPrev != nil {
		as.wbPrev.wbNext = as.wbNext
	} else {
		wb.first = as.wbNext
	}
	if as.wbNext != nil {
		as.wbNext.wbPrev = as.wbPrev
	} else {
		wb.last = as.wbPrev
	}
	as.wbNext, as.wbPrev = nil, nil
}

// forget takes an address space that is being evicted off the list.
func (wb *Writeback) forget(as *AddressSpace) {
	wb.mu.Lock()
	if as.listed {
		wb.unlink(as)
		as.listed = false
	}
	wb.mu.Unlock()
}

// take gives the oldest dirty address space dirtied before the given time, pinned and moved to the end of the list.
func (wb *Writeback) take(before, now int64) *AddressSpace {
	wb.mu.Lock()
	defer wb.mu.Unlock()
	for as := wb.first; as != nil; {
		next := as.wbNext
		if as.dirty.Load() == 0 {
			if !as.IsDirty() {
				wb.unlink(as)
				as.listed = false
			}
			as = next
			continue
		}
		if as.dirtied > before {
			return nil
		}
		if as.host.Pin() {
			wb.unlink(as)
			as.dirtied = now
			wb.append(as)
			return as
		}
		as = next
	}
	return nil
}

func (wb *Writeback) run(ctx context.Context) {
	defer close(wb.stopped)
	t := time.NewTicker(wb.cache.opts.Interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-wb.wake:
		}
		wb.pass(ctx)
	}
}

// budget is how many pages of one file are written before the next file's turn.
const passBudget = 4096

// pass writes what is old enough, and while the cache is over its background threshold everything, oldest first.
func (wb *Writeback) pass(ctx context.Context) {
	begun := time.Now().UnixNano()
	for ctx.Err() == nil {
		now := time.Now().UnixNano()
		before := now - int64(wb.cache.opts.Expire)
		if wb.cache.dirty.Load() > wb.cache.background() {
			before = now
		}
		// What was visited in this pass has a younger date and waits for the next, unless memory is short.
		if before > begun && wb.cache.dirty.Load() <= wb.cache.background() {
			before = begun
		}
		as := wb.take(before, now)
		if as == nil {
			return
		}
		wbc := WritebackControl{Budget: passBudget, Cyclic: true}
		err := as.ops.writePages(ctx, as, &wbc)
		if err == nil && wbc.Wrote == 0 && as.dirty.Load() > 0 {
			// Everything dirty was locked or in flight: let that end instead of spinning.
			select {
			case <-ctx.Done():
			case <-time.After(time.Millisecond):
			}
		}
		as.host.Unpin()
	}
}

func (ops *Operations) writePages(ctx context.Context, as *AddressSpace, wbc *WritebackControl) error {
	if ops.WritePages == nil {
		return nil
	}
	return ops.WritePages(ctx, as, wbc)
}

// SyncAll writes everything dirty of the super block and waits for it. The first error is returned.
func (wb *Writeback) SyncAll(ctx context.Context) error {
	var list []*AddressSpace
	wb.mu.Lock()
	for as := wb.first; as != nil; as = as.wbNext {
		if as.IsDirty() && as.host.Pin() {
			list = append(list, as)
		}
	}
	wb.mu.Unlock()
	var first error
	for _, as := range list {
		if err := as.WriteRange(ctx, 0, 1<<62); err != nil && first == nil {
			first = err
		}
	}
	for _, as := range list {
		if err := as.WaitRange(ctx, 0, 1<<62); err != nil && first == nil {
			first = err
		}
		as.host.Unpin()
	}
	return first
}

// Balance (balance_dirty_pages) holds a writer back while the cache has too much dirty memory, and lets it write its own
// file meanwhile. Call with the inode lock at most: no folio, map or transaction held.
// Errors: ctx's.
func (wb *Writeback) Balance(ctx context.Context, as *AddressSpace) error {
	c := wb.cache
	load := c.dirty.Load() + c.wback.Load()
	if load <= c.background() {
		return nil
	}
	wb.Wake()
	for tries := 0; load > c.dirtyMax(); tries++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		wbc := WritebackControl{Budget: 512, Cyclic: true}
		if as.dirty.Load() > 0 {
			_ = as.ops.writePages(ctx, as, &wbc) // recorded in the address space by the filesystem
		}
		if wbc.Wrote == 0 {
			// Nothing of ours to write: wait for a completion. The flusher was woken, so there will be one; the time
			// limit covers files that cannot be written at all, whose writers must not hang.
			c.throttled.Add(1)
			t := time.AfterFunc(10*time.Millisecond, c.drained)
			c.mu.Lock()
			if c.dirty.Load()+c.wback.Load() > c.dirtyMax() {
				c.drains.Wait()
			}
			c.mu.Unlock()
			c.throttled.Add(-1)
			t.Stop()
			if tries > 500 {
				return nil
			}
		}
		load = c.dirty.Load() + c.wback.Load()
	}
	return nil
}
