package pagecache

import (
	"sync"
	"sync/atomic"
	"time"
)

// Options of a Cache; zero values are the defaults.
type Options struct {
	Limit           int64         // bytes; DefaultLimit
	DirtyBackground int64         // bytes dirty at which the flusher starts: 10% of the limit
	DirtyMax        int64         // bytes dirty at which writers wait: 20% of the limit
	Interval        time.Duration // of periodic writeback: 5 s
	Expire          time.Duration // age at which dirty data is written: 30 s
}

// Stats are a cache's counters.
type Stats struct {
	Limit, Bytes     int64 // bytes
	Dirty, Writeback int64 // bytes
	Folios           int64
	Hits, Misses     int64 // folio look-ups by reads
	Reclaimed        int64 // folios
}

// Cache is the memory that address spaces share: one limit, least recently used folios first out.
//
// Reclaim is a two-list clock in shards: a folio enters the inactive list; a second use before it reaches the end moves it
// to the active list, so that one big scan passes through without pushing out what is used again and again. Reclaim takes
// clean, unlocked folios that nobody refers to. Dirty ones are the flusher's: when reclaim finds nothing it wakes it, and
// lets the cache exceed its limit rather than wait, since the waiter may hold what the flusher needs. Dirty memory itself
// is bounded by throttling writers in Balance, where nothing is held.
type Cache struct {
	opts   Options
	limit  atomic.Int64
	bytes  atomic.Int64
	folios atomic.Int64
	dirty  atomic.Int64 // bytes
	wback  atomic.Int64 // bytes

	hits, misses, reclaimed atomic.Int64

	shards [cacheShards]shard
	hand   atomic.Uint32

	mu        sync.Mutex // guards wbs and doneCh's waiters. Leaf
	wbs       map[*Writeback]struct{}
	drains    sync.Cond    // signalled when dirty or writeback memory shrinks and somebody waits
	throttled atomic.Int32 // writers that wait on drains
}

const (
	cacheShards = 16
	listNone    = 0
	listIn      = 1
	listActive  = 2
)

type shard struct {
	mu     sync.Mutex // guards the lists and list, next, prev of their folios. Leaf
	lists  [3]Folio   // sentinels; next is the newest
	counts [3]int64   // pages
	_      [32]byte
}

// New makes a cache.
func New(o Options) *Cache {
	if o.Limit <= 0 {
		o.Limit = DefaultLimit()
	}
	if o.Interval <= 0 {
		o.Interval = 5 * time.Second
	}
	if o.Expire <= 0 {
		o.Expire = 30 * time.Second
	}
	c := &Cache{opts: o, wbs: make(map[*Writeback]struct{})}
	c.drains.L = &c.mu
	c.limit.Store(o.Limit)
	for i := range c.shards {
		for l := range c.shards[i].lists {
			s := &c.shards[i].lists[l]
			s.next, s.prev = s, s
		}
	}
	return c
}

// DefaultLimit is the smaller of a quarter of the machine's memory and 1 GiB.
func DefaultLimit() int64 {
	if m := totalMemory(); m > 0 {
		return min(m/4, 1<<30)
	}
	return 256 << 20
}

// Limit is the limit in bytes.
func (c *Cache) Limit() int64 { return c.limit.Load() }

// SetLimit changes it and reclaims what is over.
func (c *Cache) SetLimit(n int64) {
	c.limit.Store(max(n, 16*PageSize))
	c.makeRoom(0)
}

func (c *Cache) background() int64 {
	if c.opts.DirtyBackground > 0 {
		return c.opts.DirtyBackground
	}
	return c.Limit() / 10
}

func (c *Cache) dirtyMax() int64 {
	if c.opts.DirtyMax > 0 {
		return c.opts.DirtyMax
	}
	return c.Limit() / 5
}

// Stats reads the counters.
func (c *Cache) Stats() Stats {
	return Stats{Limit: c.Limit(), Bytes: c.bytes.Load(), Dirty: c.dirty.Load(), Writeback: c.wback.Load(), Folios: c.folios.Load(),
		Hits: c.hits.Load(), Misses: c.misses.Load(), Reclaimed: c.reclaimed.Load()}
}

// Close checks that nothing is left; address spaces are evicted by their owners before.
func (c *Cache) Close() {}

func (c *Cache) shardOf(fo *Folio) *shard {
	// Runs of 64 pages of one file share a shard, so that a sequential reader takes one lock at a time.
	return &c.shards[(fo.index>>6+uint64(fo.order))%cacheShards]
}

func (sh *shard) push(fo *Folio, list uint8) {
	s := &sh.lists[list]
	fo.next, fo.prev = s.next, s
	s.next.prev, s.next = fo, fo
	fo.list = list
	sh.counts[list] += int64(fo.pages())
}

func (sh *shard) pull(fo *Folio) {
	if fo.list == listNone {
		return
	}
	fo.prev.next, fo.next.prev = fo.next, fo.prev
	fo.next, fo.prev = nil, nil
	sh.counts[fo.list] -= int64(fo.pages())
	fo.list = listNone
}

// added counts a new folio in.
func (c *Cache) added(fo *Folio) {
	c.bytes.Add(int64(fo.Len()))
	c.folios.Add(1)
	sh := c.shardOf(fo)
	sh.mu.Lock()
	if fo.AddressSpace() != nil { // may have been truncated already
		sh.push(fo, listIn)
	}
	sh.mu.Unlock()
}

// removed counts a folio out that has left its address space.
func (c *Cache) removed(fo *Folio) {
	sh := c.shardOf(fo)
	sh.mu.Lock()
	sh.pull(fo)
	sh.mu.Unlock()
	c.bytes.Add(-int64(fo.Len()))
	c.folios.Add(-1)
}

// makeRoom reclaims until n more bytes fit, or nothing more can be had.
func (c *Cache) makeRoom(n int64) {
	over := c.bytes.Load() + n - c.Limit()
	if over <= 0 {
		return
	}
	// A little more than needed, so that not every allocation comes here.
	over += min(c.Limit()/64, 1<<20)
	var got int64
	start := c.hand.Add(1)
	for pass := 0; pass < 3 && got < over; pass++ {
		for i := range uint32(cacheShards) {
			if got += c.shrink(&c.shards[(start+i)%cacheShards], over-got, pass > 0); got >= over {
				return
			}
		}
	}
	if got < over && c.dirty.Load() > 0 {
		c.wakeAll()
	}
}

// shrink reclaims up to want bytes of one shard. Hard looks through the whole list, else through a part.
func (c *Cache) shrink(sh *shard, want int64, hard bool) (got int64) {
	var victims [32]*Folio
	budget := 256
	if hard {
		budget = 4096
	}
	for budget > 0 && got < want {
		n := 0
		sh.mu.Lock()
		// Keep the active list at no more than two thirds.
		for i := 0; i < 32 && sh.counts[listActive] > 2*sh.counts[listIn]; i++ {
			fo := sh.lists[listActive].prev
			if fo == &sh.lists[listActive] {
				break
			}
			sh.pull(fo)
			fo.flags.And(^(flagAccessed | flagReferenced))
			sh.push(fo, listIn)
		}
		for n < len(victims) && budget > 0 {
			fo := sh.lists[listIn].prev
			if fo == &sh.lists[listIn] {
				budget = 0
				break
			}
			budget--
			sh.pull(fo)
			f := fo.flags.Load()
			switch {
			case f&flagReferenced != 0 && f&flagDropBehind == 0:
				fo.flags.And(^(flagAccessed | flagReferenced))
				sh.push(fo, listActive)
			case f&(flagLocked|flagDirty|flagWriteback) != 0:
				sh.push(fo, listIn)
			default:
				// The folio stays on no list while it is looked at; a reference keeps its memory. It cannot have been
				// freed: whoever removes it from the cache comes through this lock first.
				fo.refs.Add(1)
				sh.push(fo, listIn)
				victims[n] = fo
				n++
			}
		}
		sh.mu.Unlock()
		if n == 0 {
			break
		}
		for _, fo := range victims[:n] {
			size := int64(fo.Len())
			if c.reclaim(fo) {
				got += size
				c.reclaimed.Add(1)
			}
		}
	}
	return got
}

// reclaim drops one folio if it is clean and nobody else uses it. Consumes a reference.
func (c *Cache) reclaim(fo *Folio) bool {
	if !fo.TryLock() {
		fo.Put()
		return false
	}
	as := fo.AddressSpace()
	ok := as != nil && as.tryRemove(fo, 2)
	fo.Unlock()
	fo.Put()
	return ok
}

// tryRemove drops a locked folio that is clean and has just refs references beside the private one's.
func (as *AddressSpace) tryRemove(fo *Folio, refs int32) bool {
	if fo.flags.Load()&(flagDirty|flagWriteback) != 0 {
		return false
	}
	if fo.private != nil {
		if fo.refs.Load() != refs+1 || as.ops.ReleaseFolio == nil || !as.ops.ReleaseFolio(fo) {
			return false
		}
	}
	as.mu.Lock()
	if fo.refs.Load() != refs || fo.private != nil || fo.flags.Load()&(flagDirty|flagWriteback) != 0 {
		as.mu.Unlock()
		return false
	}
	as.tree.remove(fo)
	as.nr -= int64(fo.pages())
	fo.as.Store(nil)
	as.mu.Unlock()
	as.cache.removed(fo)
	fo.Put()
	return true
}
