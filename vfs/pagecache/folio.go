package pagecache

import (
	"context"
	"sync/atomic"
	"unsafe"

	"github.com/iomapfs/iomapfs/vfs/arena"
	"github.com/iomapfs/iomapfs/vfs/invariant"
)

// Sizes.
const (
	PageShift = 12
	PageSize  = 1 << PageShift
	MaxOrder  = 8 // folios of up to 1 MiB
)

// Flag word of a folio.
const (
	flagLocked uint32 = 1 << iota
	flagUptodate
	flagDirty
	flagWriteback
	flagWaiters    // somebody sleeps in the wait table
	flagAccessed   // read or written once since it came to the inactive list
	flagReferenced // … twice: worth keeping
	flagReadahead  // reaching this folio starts the next readahead window
	flagDropBehind // not worth keeping after use
	flagReading    // counted in Cache.reading
	flagParked     // taken off the reclaim lists while dirty or under writeback
)

// Folio (struct folio) is 2^order pages of a file, naturally aligned in it, in memory outside the Go heap.
//
// References: the cache holds one while the folio is in its address space, the private slot one while it is set, each
// look-up one. The memory is given back when the last goes, so a folio that was truncated lives as long as its readers.
//
// States: not uptodate → uptodate by a read or a write; clean → dirty → writeback → clean; removed (AddressSpace is nil)
// is final. The lock guards: uptodate becoming set, the private slot, belonging to the address space, and the contents
// against truncation; it is held over a read and given up by its completion, on any goroutine.
type Folio struct {
	as    atomic.Pointer[AddressSpace]
	index uint64 // of the first page in the file
	order uint8
	list  uint8 // LRU list the folio is on; guarded by its shard's lock
	rank  invariant.Rank
	flags atomic.Uint32
	refs  atomic.Int32
	data  []byte

	holder invariant.Holder
	group  uintptr // of the lock order: the address space

	private any // guarded by the folio lock

	next, prev *Folio // LRU ring; guarded by the shard's lock
}

func newFolio(as *AddressSpace, index uint64, order uint8) (*Folio, error) {
	mem, err := arena.Alloc(uint(order))
	if err != nil {
		return nil, err
	}
	fo := &Folio{index: index, order: order, rank: as.rank, group: uintptr(unsafe.Pointer(as)), data: mem}
	fo.as.Store(as)
	fo.refs.Store(2) // the cache's and the caller's
	fo.flags.Store(flagLocked)
	invariant.Taken(fo.rank)
	if invariant.Enabled {
		fo.holder.Took(fo.rank, fo.group, fo.index)
	}
	return fo, nil
}

// Data is the folio's memory, valid while a reference is held. Its contents mean something only in uptodate parts.
func (fo *Folio) Data() []byte { return fo.data }

// Pos is the file byte where the folio begins.
func (fo *Folio) Pos() int64 { return int64(fo.index) << PageShift }

// Len is the folio's length in bytes.
func (fo *Folio) Len() int { return PageSize << fo.order }

// End is the file byte after the folio.
func (fo *Folio) End() int64 { return fo.Pos() + int64(fo.Len()) }

// Index is the number of the folio's first page in the file.
func (fo *Folio) Index() uint64 { return fo.index }

// Order is log2 of the number of pages.
func (fo *Folio) Order() uint8 { return fo.order }

func (fo *Folio) pages() uint64 { return 1 << fo.order }

// AddressSpace is what the folio caches a part of; nil once it was removed. Stable while the folio is locked.
func (fo *Folio) AddressSpace() *AddressSpace { return fo.as.Load() }

// Get takes another reference; the caller has one, or the folio is locked or under writeback.
func (fo *Folio) Get() {
	n := fo.refs.Add(1)
	if invariant.Enabled {
		invariant.Check(n > 1, "folio %d: reference taken on a free folio", fo.index)
	}
}

// Put drops a reference. The last one frees the memory.
func (fo *Folio) Put() {
	n := fo.refs.Add(-1)
	if n > 0 {
		return
	}
	if invariant.Enabled {
		invariant.Check(n == 0, "folio %d: %d references", fo.index, n)
		invariant.Check(fo.flags.Load()&(flagDirty|flagWriteback) == 0, "folio %d: freed dirty or under writeback", fo.index)
	}
	mem := fo.data
	fo.data = nil
	arena.Free(mem)
}

// Lock waits for the folio lock. Rank: inside the invalidate lock, outside transactions. Several: ascending index.
func (fo *Folio) Lock() {
	if invariant.Enabled {
		fo.holder.Wait(fo.rank, fo.group, fo.index)
	}
	if !fo.TryLock() {
		fo.wait((*Folio).TryLock)
	}
}

// LockCtx (folio_lock_killable) is Lock that gives up when ctx ends.
func (fo *Folio) LockCtx(ctx context.Context) error {
	if invariant.Enabled {
		fo.holder.Wait(fo.rank, fo.group, fo.index)
	}
	if fo.TryLock() {
		return nil
	}
	return fo.waitCtx(ctx, (*Folio).TryLock)
}

// TryLock takes the lock if it is free.
func (fo *Folio) TryLock() bool {
	ok := fo.flags.Or(flagLocked)&flagLocked == 0
	if ok {
		invariant.Taken(fo.rank)
	}
	if ok && invariant.Enabled {
		fo.holder.Took(fo.rank, fo.group, fo.index)
	}
	return ok
}

// Disown says that the lock, which this goroutine took, is left to I/O in flight. The checks of lock order need to know.
func (fo *Folio) Disown() {
	if invariant.Enabled {
		fo.holder.Disown()
	}
}

// Locked reports whether somebody holds the lock.
func (fo *Folio) Locked() bool { return fo.flags.Load()&flagLocked != 0 }

// Unlock releases the lock; any goroutine.
func (fo *Folio) Unlock() {
	if invariant.Enabled {
		invariant.Check(fo.Locked(), "folio %d: unlocked while not locked", fo.index)
		fo.holder.Released()
	}
	if fo.flags.Load()&flagReading != 0 {
		fo.endReading()
	}
	old := fo.flags.And(^(flagLocked | flagWaiters))
	if old&flagWaiters != 0 {
		fo.wake()
	}
}

// startReading and endReading count a locked folio among those that are being read ahead.
func (fo *Folio) startReading() {
	fo.flags.Or(flagReading)
	fo.AddressSpace().cache.reading.Add(int64(fo.Len()))
}

func (fo *Folio) endReading() {
	fo.flags.And(^flagReading)
	fo.AddressSpace().cache.reading.Add(-int64(fo.Len()))
}

// EndRead ends a read: sets uptodate when ok and unlocks, in that order for every observer.
func (fo *Folio) EndRead(ok bool) {
	if ok {
		fo.flags.Or(flagUptodate)
	}
	fo.Unlock()
}

// Uptodate reports whether the whole folio holds valid data.
func (fo *Folio) Uptodate() bool { return fo.flags.Load()&flagUptodate != 0 }

// SetUptodate marks the contents valid. Hold the lock.
func (fo *Folio) SetUptodate() { fo.flags.Or(flagUptodate) }

// ClearUptodate marks the contents invalid, after a failed write of the legacy path. Hold the lock or writeback.
func (fo *Folio) ClearUptodate() { fo.flags.And(^flagUptodate) }

// Dirty reports whether writeback must visit the folio.
func (fo *Folio) Dirty() bool { return fo.flags.Load()&flagDirty != 0 }

// Writeback reports whether the folio is being written.
func (fo *Folio) Writeback() bool { return fo.flags.Load()&flagWriteback != 0 }

// WaitWriteback waits until the folio is not being written. With the lock held it cannot start again.
func (fo *Folio) WaitWriteback() {
	if fo.Writeback() {
		fo.wait(func(fo *Folio) bool { return !fo.Writeback() })
	}
}

// WaitStable waits for writeback when the device needs contents to hold still meanwhile. None of ours does: a device
// that checksums copies first. Kept as the one place to ask.
func (fo *Folio) WaitStable() {}

// Private is what the layer above keeps with the folio: buffer heads or iomap state. Hold the lock, or be sure that the
// folio is under writeback.
func (fo *Folio) Private() any { return fo.private }

// SetPrivate stores it; the slot holds a reference of the folio while it is not nil. Hold the lock.
func (fo *Folio) SetPrivate(p any) {
	had := fo.private != nil
	fo.private = p
	switch {
	case p != nil && !had:
		fo.Get()
	case p == nil && had:
		fo.Put()
	}
}

// MarkAccessed tells reclaim that the folio was used. Two uses make it worth keeping.
func (fo *Folio) MarkAccessed() {
	switch f := fo.flags.Load(); {
	case f&flagReferenced != 0:
	case f&flagAccessed == 0:
		fo.flags.Or(flagAccessed)
	default:
		fo.flags.Or(flagReferenced)
	}
}
