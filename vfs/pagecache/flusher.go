package pagecache

import (
	"context"
	"time"

	"github.com/iomapfs/iomapfs/vfs/invariant"
)

// Writeback (struct bdi_writeback) is the flusher of one super block: its dirty address spaces and the goroutine that writes
// them: those older than Options.Expire every Options.Interval, all of them when the cache holds more dirty memory than
// its background threshold.
//
// An address space comes to the dirty list, which is in order of age, when its first folio becomes dirty. A pass moves those that
// are old enough to the list of what is being written, and writes a piece of each in turn until that list is empty.
type Writeback struct {
	cache *Cache
	name  string

	mu    invariant.Mutex[invariant.List] // guards the lists and the address spaces' places on them; hosts are pinned and tags looked at under it
	dirty asList                          // oldest first
	io    asList                          // being written

	errs ErrSeq // errors of data, for syncfs

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

// asList is a list of address spaces by their places. Guarded by Writeback.mu.
type asList struct{ first, last *AddressSpace }

func (l *asList) append(as *AddressSpace) {
	as.wbPrev, as.wbNext, as.on = l.last, nil, l
	if l.last != nil {
		l.last.wbNext = as
	} else {
		l.first = as
	}
	l.last = as
}

func (l *asList) unlink(as *AddressSpace) {
	if as.wbPrev != nil {
		as.wbPrev.wbNext = as.wbNext
	} else {
		l.first = as.wbNext
	}
	if as.wbNext != nil {
		as.wbNext.wbPrev = as.wbPrev
	} else {
		l.last = as.wbPrev
	}
	as.wbNext, as.wbPrev, as.on = nil, nil, nil
}

// list puts an address space that became dirty on the list.
func (wb *Writeback) list(as *AddressSpace, now int64) {
	wb.mu.Lock()
	if as.on == nil {
		as.dirtied = now
		wb.dirty.append(as)
	}
	wb.mu.Unlock()
}

// forget takes an address space that is being evicted off its list.
func (wb *Writeback) forget(as *AddressSpace) {
	wb.mu.Lock()
	if as.on != nil {
		as.on.unlink(as)
	}
	wb.mu.Unlock()
}

// take gives the next address space to write, pinned, which stays on the list; nil when there is none. Those dirtied before the
// given time go to the list of what is being written first.
func (wb *Writeback) take(before int64) *AddressSpace {
	wb.mu.Lock()
	defer wb.mu.Unlock()
	for as := wb.dirty.first; as != nil && as.dirtied <= before; as = wb.dirty.first {
		wb.dirty.unlink(as)
		wb.io.append(as)
	}
	for as := wb.io.first; as != nil; as = wb.io.first {
		if as.IsDirty() && as.host.Pin() {
			return as
		}
		wb.io.unlink(as) // clean, or about to be evicted
	}
	return nil
}

// visited puts an address space that take gave to the end: of those being written when more of it is waiting, else of the dirty
// ones.
func (wb *Writeback) visited(as *AddressSpace, more bool, now int64) {
	wb.mu.Lock()
	defer wb.mu.Unlock()
	if as.on != &wb.io {
		return // evicted
	}
	wb.io.unlink(as)
	switch {
	case more:
		wb.io.append(as)
	case as.IsDirty():
		as.dirtied = now
		wb.dirty.append(as)
	}
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
	for ctx.Err() == nil {
		before := time.Now().UnixNano()
		if wb.cache.dirty.Load() <= wb.cache.background() {
			before -= int64(wb.cache.opts.Expire)
		}
		as := wb.take(before)
		if as == nil {
			return
		}
		wbc := WritebackControl{Budget: passBudget, Cyclic: true}
		_ = as.ops.writePages(ctx, as, &wbc) // recorded in the address space by the filesystem
		wb.visited(as, wbc.Wrote >= passBudget, time.Now().UnixNano())
		as.host.Unpin()
		if wbc.Wrote == 0 {
			// Everything dirty was locked or in flight, or cannot be written: let that end instead of spinning.
			select {
			case <-ctx.Done():
			case <-time.After(time.Millisecond):
			}
		}
	}
}

// writePages calls WritePages, which the end of ctx does not reach: a folio whose blocks could not be mapped is given up, and that must
// not be for a signal.
func (ops *Operations) writePages(ctx context.Context, as *AddressSpace, wbc *WritebackControl) error {
	if ops.WritePages == nil {
		return nil
	}
	if ctx.Done() != nil {
		ctx = context.WithoutCancel(ctx)
	}
	return ops.WritePages(ctx, as, wbc)
}

// SyncAll writes everything dirty of the super block and waits for it. The first error is returned.
func (wb *Writeback) SyncAll(ctx context.Context) error {
	var list []*AddressSpace
	wb.mu.Lock()
	for _, l := range []*asList{&wb.io, &wb.dirty} {
		for as := l.first; as != nil; as = as.wbNext {
			if as.IsDirty() && as.host.Pin() {
				list = append(list, as)
			}
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

// SampleError gives the point to watch errors of data of the whole super block from.
func (wb *Writeback) SampleError() uint64 { return wb.errs.Sample() }

// CheckError gives an error of data of any file recorded since, once.
func (wb *Writeback) CheckError(since *uint64) error { return wb.errs.Check(since) }

// Balance (balance_dirty_pages) holds a writer back while the cache has too much dirty memory, and lets it write its own
// file meanwhile. Call with the inode lock at most: no folio, map or transaction held.
// Errors: ctx's.
func (wb *Writeback) Balance(ctx context.Context, as *AddressSpace) error {
	invariant.NoneHeld(invariant.RankFolio)
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
