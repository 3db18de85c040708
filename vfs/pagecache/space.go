package pagecache

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/vfs/invariant"
)

// Host is what an address space must know about the object it caches. *vfs.Inode implements it.
type Host interface {
	Size() int64      // bytes; read atomically, may change unless the inode lock is held
	BlockBits() uint8 // log2 of the filesystem block size
	Ino() uint64      // for messages and traces only
	Pin() bool        // takes a reference unless the object is being evicted
	Unpin()
}

// Operations (struct address_space_operations) is what a filesystem does with cached pages. A nil entry means what its
// line says.
type Operations struct {
	// ReadFolio fills a locked folio and unlocks it by EndRead, maybe later on another goroutine. An error that is
	// known at once is returned too.
	ReadFolio func(ctx context.Context, fo *Folio) error
	// Readahead fills the folios that rac.Next hands out. Nil: folios are read one by one.
	Readahead func(ctx context.Context, rac *ReadaheadControl)
	// WritePages writes dirty folios, by WriteIter. Nil: the address space is never written back.
	WritePages func(ctx context.Context, as *AddressSpace, wbc *WritebackControl) error
	// DirtyFolio marks a folio dirty. Nil: the function DirtyFolio.
	DirtyFolio func(as *AddressSpace, fo *Folio) bool
	// ReleaseFolio drops the private state of a locked, clean folio, or refuses. Nil: refuses when there is any.
	ReleaseFolio func(fo *Folio) bool
	// InvalidateFolio tells that bytes [off, off+n) of a locked folio are being dropped.
	InvalidateFolio func(fo *Folio, off, n int)
	// IsPartiallyUptodate reports whether a part of a folio that is not uptodate is. Nil: never.
	IsPartiallyUptodate func(fo *Folio, from, n int) bool
	// Bmap gives the device block of a file block, 0 for none.
	Bmap func(ctx context.Context, as *AddressSpace, block uint64) (uint64, error)
	// SwapActivate reports the page runs of a swap file.
	SwapActivate func(ctx context.Context, as *AddressSpace, maxPages uint64, add func(startPage, nr uint64, addr int64) error) error
}

// AddressSpace (struct address_space) is the page cache of one inode. Embedded by value; an empty one owns no memory.
type AddressSpace struct {
	// InvalidateLock is held exclusively over truncation and punching, from before the cache is dropped until the blocks
	// are freed, and shared to add folios and read them. Inside the inode lock, outside folio locks.
	InvalidateLock invariant.RWMutex[invariant.Invalidate]

	PrivateMu sync.Mutex // guards Private and what hangs on it. Inside folio locks
	Private   any        // of the layer above: the buffers that fsync writes

	// immutable after Init
	cache *Cache
	wb    *Writeback
	host  Host

	ops      *Operations
	rank     invariant.Rank // of the folio locks
	minOrder uint8          // of new folios: a block is never larger than a folio
	maxOrder uint8

	mu   invariant.RWMutex[invariant.Leaf] // guards tree and nr
	tree tree
	nr   int64 // pages cached

	dirty     atomic.Int64 // folios dirty
	writeback atomic.Int64 // folios under writeback
	cursor    atomic.Uint64
	errs      ErrSeq

	// guarded by wb.mu
	on      *asList // the flusher's list it is on
	dirtied int64   // when it came to the list, ns
	wbNext  *AddressSpace
	wbPrev  *AddressSpace
}

var noOps = &Operations{}

// Init makes the address space ready. ops may be nil until SetOps.
func (as *AddressSpace) Init(c *Cache, wb *Writeback, host Host, ops *Operations) {
	as.cache, as.wb, as.host, as.rank = c, wb, host, invariant.RankFolio
	if as.ops = ops; ops == nil {
		as.ops = noOps
	}
}

// SetOps replaces the operations while nothing is cached.
func (as *AddressSpace) SetOps(ops *Operations) { as.ops = ops }

// SetMeta says, while nothing is cached, that this is the cache of a device: its folios hold a filesystem's metadata and are
// locked under the filesystem's locks, as buffers are.
func (as *AddressSpace) SetMeta() { as.rank = invariant.RankBuffer }

// Ops gives the operations in force.
func (as *AddressSpace) Ops() *Operations { return as.ops }

// Host gives the object that is cached.
func (as *AddressSpace) Host() Host { return as.host }

// Cache gives the cache the folios count against.
func (as *AddressSpace) Cache() *Cache { return as.cache }

// SetOrders sets the smallest and largest order of new folios while nothing is cached.
func (as *AddressSpace) SetOrders(lo, hi uint8) {
	as.minOrder, as.maxOrder = lo, max(lo, min(hi, MaxOrder))
}

// Pages is the number of pages cached.
func (as *AddressSpace) Pages() int64 {
	as.mu.RLock()
	defer as.mu.RUnlock()
	return as.nr
}

// Empty reports whether nothing is cached.
func (as *AddressSpace) Empty() bool { return as.Pages() == 0 }

// IsDirty reports whether a folio is dirty or under writeback, or on its way from one to the other: the tags say so
// without a gap, the counters do not.
func (as *AddressSpace) IsDirty() bool {
	as.mu.RLock()
	defer as.mu.RUnlock()
	return as.tree.tagged(TagDirty) || as.tree.tagged(TagWriteback)
}

// Get gives the folio that covers page index, with a reference, or nil.
func (as *AddressSpace) Get(index uint64) *Folio {
	as.mu.RLock()
	fo := as.tree.get(index)
	if fo != nil {
		fo.refs.Add(1)
	}
	as.mu.RUnlock()
	return fo
}

// GetLocked gives the folio that covers page index, locked and with a reference, or nil.
func (as *AddressSpace) GetLocked(index uint64) *Folio {
	for {
		fo := as.Get(index)
		if fo == nil {
			return nil
		}
		fo.Lock()
		if fo.AddressSpace() == as {
			return fo
		}
		fo.Unlock()
		fo.Put()
	}
}

// Grab finds or makes the folio that covers page index and gives it locked and with a reference. A new one is not
// uptodate, and as large as sizeHint bytes from index on suggest and the address space allows. ctx does not end the wait
// for a lock: the caller may be in the middle of a change.
// Errors: errno.NOMEM.
func (as *AddressSpace) Grab(_ context.Context, index uint64, sizeHint int64) (*Folio, error) {
	return as.grab(index, sizeHint, false)
}

func (as *AddressSpace) grab(index uint64, sizeHint int64, uncached bool) (*Folio, error) {
	for {
		if fo := as.Get(index); fo != nil {
			fo.Lock()
			if fo.AddressSpace() == as {
				if !uncached {
					fo.keep()
				}
				return fo, nil
			}
			fo.Unlock()
			fo.Put()
			continue
		}
		fo, err := as.add(index, as.orderFor(index, sizeHint))
		if fo != nil && uncached {
			fo.SetDropBehind()
		}
		if fo != nil || err != nil {
			return fo, err
		}
	}
}

// orderFor picks the order of a new folio: no larger than what is wanted, than alignment and the address space allow.
func (as *AddressSpace) orderFor(index uint64, size int64) uint8 {
	o, top := as.minOrder, min(as.maxOrder, as.cache.maxOrder())
	for o < top && int64(PageSize)<<(o+1) <= size && index&(1<<(o+1)-1) == 0 {
		o++
	}
	return o
}

// add makes a folio at index, locked and with a reference; nil without error when somebody else was first.
func (as *AddressSpace) add(index uint64, order uint8) (*Folio, error) {
	want := index
	index &^= 1<<order - 1
	as.cache.makeRoom(PageSize << order)
	fo, err := newFolio(as, index, order)
	if err != nil {
		if order > as.minOrder {
			return as.add(want, as.minOrder)
		}
		return nil, err
	}
	as.mu.Lock()
	if as.tree.next(index, index+fo.pages(), TagAny) != nil {
		as.mu.Unlock()
		fo.Unlock()
		fo.Put()
		fo.Put()
		if order > as.minOrder {
			return as.add(want, as.minOrder) // a smaller one may fit beside what is there; the caller looks again
		}
		return nil, nil
	}
	as.tree.insert(fo)
	as.nr += int64(fo.pages())
	as.mu.Unlock()
	as.cache.added(fo)
	return fo, nil
}

// Batch looks up folios with the tag that cover pages in [start, end), in ascending order and with a reference each, and
// gives how many it stored in dst.
func (as *AddressSpace) Batch(start, end uint64, tag Tag, dst []*Folio) int {
	n := 0
	as.mu.RLock()
	for n < len(dst) {
		fo := as.tree.next(start, end, tag)
		if fo == nil {
			break
		}
		fo.refs.Add(1)
		dst[n] = fo
		n++
		start = fo.index + fo.pages()
	}
	as.mu.RUnlock()
	return n
}

// HasPages reports whether a folio covers a byte of [start, end).
func (as *AddressSpace) HasPages(start, end int64) bool {
	as.mu.RLock()
	defer as.mu.RUnlock()
	return as.nr > 0 && as.tree.next(uint64(start)>>PageShift, pageEnd(end), TagAny) != nil
}

// NeedsWriteback reports whether a folio over [start, end) is dirty, under writeback or locked.
func (as *AddressSpace) NeedsWriteback(start, end int64) bool {
	as.mu.RLock()
	defer as.mu.RUnlock()
	for i, e := uint64(start)>>PageShift, pageEnd(end); ; {
		fo := as.tree.next(i, e, TagAny)
		if fo == nil {
			return false
		}
		if fo.flags.Load()&(flagDirty|flagWriteback|flagLocked) != 0 {
			return true
		}
		i = fo.index + fo.pages()
	}
}

// pageEnd is the page index after the last page that holds a byte below end.
func pageEnd(end int64) uint64 {
	if end <= 0 {
		return 0
	}
	return uint64(end-1)>>PageShift + 1
}

// detach takes a locked folio out of the address space for good and drops the cache's reference. Not dirty, not under
// writeback, no private state.
func (as *AddressSpace) detach(fo *Folio) {
	as.mu.Lock()
	as.tree.remove(fo)
	as.nr -= int64(fo.pages())
	fo.as.Store(nil)
	as.mu.Unlock()
	as.cache.removed(fo)
	fo.Put()
}

// SetError (mapping_set_error) records an error of writeback for everybody who has the file open, and for those who sync the
// whole filesystem.
func (as *AddressSpace) SetError(err error) {
	as.errs.Set(err)
	if as.wb != nil {
		as.wb.errs.Set(err)
	}
}

// SampleError gives the point to watch errors from.
func (as *AddressSpace) SampleError() uint64 { return as.errs.Sample() }

// CheckError gives an error recorded since, once.
func (as *AddressSpace) CheckError(since *uint64) error { return as.errs.Check(since) }
