package pagecache

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"github.com/iomapfs/iomapfs/vfs/invariant"
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
	Scanned          int64 // folios that reclaim looked at
	Reclaimed        int64 // folios
}

// Cache is the memory that address spaces share: one limit, least recently used folios first out.
//
// Reclaim is a two-list clock in shards: a folio enters the inactive list; a second use before it reaches the end moves it
// to the active list, so that one big scan passes through without pushing out what is used again and again. Reclaim takes
// clean, unlocked folios that nobody refers to. Dirty ones that it meets are taken off the list until they are clean, so that
// they are not looked at again and again, and come back at its end. When reclaim finds too little it wakes the flusher and
// lets the cache exceed its limit rather than wait, since the waiter may hold what the flusher needs. What cannot be
// reclaimed is bounded in other ways: dirty memory by holding writers back in Balance, where nothing is held; memory
// of reads in flight by smaller windows. What one call of reclaim looks at grows with what is wanted, not with what is cached, nor
// with the number of address spaces.
type Cache struct {
	opts    Options
	limit   atomic.Int64
	bytes   atomic.Int64
	folios  atomic.Int64
	dirty   atomic.Int64 // bytes
	wback   atomic.Int64 // bytes
	reading atomic.Int64 // bytes of folios locked for readahead

	hits, misses, scanned, reclaimed atomic.Int64

	inUse  uint32 // shards; immutable. The smaller the cache, the fewer, or their lists would be too short to tell ages
	shards [cacheShards]shard
	hand   atomic.Uint32

	mu        invariant.Mutex[invariant.Leaf] // guards wbs and the waiters of drains
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
	mu     invariant.Mutex[invariant.Leaf] // guards the lists and list, next, prev of their folios
	lists  [3]Folio                        // sentinels; next is the newest
	counts [3]int                          // folios
	_      [32]byte
}

// minLimit is the smallest limit.
const minLimit = 16 * PageSize

// New makes a cache.
func New(o Options) *Cache {
	if o.Limit <= 0 {
		o.Limit = DefaultLimit()
	}
	o.Limit = max(o.Limit, minLimit)
	if o.Interval <= 0 {
		o.Interval = 5 * time.Second
	}
	if o.Expire <= 0 {
		o.Expire = 30 * time.Second
	}
	c := &Cache{opts: o, wbs: make(map[*Writeback]struct{})}
	c.drains.L = &c.mu
	c.limit.Store(o.Limit)
	c.inUse = uint32(min(max(o.Limit>>23, 1), cacheShards))
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
	c.limit.Store(max(n, minLimit))
	c.makeRoom(0)
}

// readRoom is how many pages may be read ahead now: all reads in flight together take a quarter of the limit, and each a 64th in any
// case.
func (c *Cache) readRoom() uint64 {
	return uint64(max(c.Limit()/4-c.reading.Load(), c.Limit()/64, PageSize)) >> PageShift
}

// maxOrder keeps a folio below a 32nd of the limit.
func (c *Cache) maxOrder() uint8 {
	return uint8(max(bits.Len64(uint64(c.Limit()/32))-1-PageShift, 0))
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
	return Stats{
		Limit: c.Limit(), Bytes: c.bytes.Load(), Dirty: c.dirty.Load(), Writeback: c.wback.Load(), Folios: c.folios.Load(),
		Hits: c.hits.Load(), Misses: c.misses.Load(), Scanned: c.scanned.Load(), Reclaimed: c.reclaimed.Load(),
	}
}

// Close checks that nothing is left; address spaces are evicted by their owners before.
func (c *Cache) Close() {
	if invariant.Enabled {
		n, dirty, wback, reading := c.bytes.Load(), c.dirty.Load(), c.wback.Load(), c.reading.Load()
		invariant.Check(n == 0 && dirty == 0 && wback == 0 && reading == 0, "cache closed with %d bytes, %d dirty, %d under writeback, %d being read", n, dirty, wback, reading)
	}
}

func (c *Cache) shardOf(fo *Folio) *shard {
	// Runs of 64 pages of one file share a shard, so that a sequential reader takes one lock at a time.
	h := (uint64(fo.group)>>6 + fo.index>>6) * 0x9e3779b97f4a7c15
	return &c.shards[h>>32%uint64(c.inUse)]
}

func (sh *shard) push(fo *Folio, list uint8) {
	s := &sh.lists[list]
	fo.next, fo.prev = s.next, s
	s.next.prev, s.next = fo, fo
	fo.list = list
	sh.counts[list]++
}

// pushOld puts the folio where reclaim looks next.
func (sh *shard) pushOld(fo *Folio) {
	s := &sh.lists[listIn]
	fo.next, fo.prev = s, s.prev
	s.prev.next, s.prev = fo, fo
	fo.list = listIn
	sh.counts[listIn]++
}

func (sh *shard) pull(fo *Folio) {
	if fo.list == listNone {
		return
	}
	fo.prev.next, fo.next.prev = fo.next, fo.prev
	fo.next, fo.prev = nil, nil
	sh.counts[fo.list]--
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

// makeRoom reclaims until n more bytes fit, or enough was looked at.
func (c *Cache) makeRoom(n int64) {
	over := c.bytes.Load() + n - c.Limit()
	if over <= 0 {
		return
	}
	// A little more than needed, so that not every allocation comes here.
	over += min(c.Limit()/64, 1<<20)
	budget := 1024 + 4*int(over>>PageShift)
	start := c.hand.Add(1)
	for pass := 0; pass < 2 && over > 0; pass++ { // twice: the first may only take marks of use off
		for i := uint32(0); i < c.inUse && over > 0 && budget > 0; i++ {
			over -= c.shrink(&c.shards[(start+i)%c.inUse], over, &budget)
		}
	}
	if over > 0 && c.dirty.Load() > 0 {
		c.wakeAll()
	}
}

// shrink reclaims up to want bytes of one shard, and looks at no more folios than the budget allows and the list holds.
func (c *Cache) shrink(sh *shard, want int64, budget *int) (got int64) {
	var victims [32]*Folio
	sh.mu.Lock()
	look := min(*budget, sh.counts[listIn]+sh.counts[listActive])
	sh.mu.Unlock()
	for look > 0 && got < want {
		sh.mu.Lock()
		n, seen := sh.isolate(victims[:], want-got, min(look, 4*len(victims)))
		sh.mu.Unlock()
		look -= seen
		*budget -= seen
		c.scanned.Add(int64(seen))
		for i, fo := range victims[:n] {
			if size := int64(fo.Len()); c.reclaim(fo) {
				got += size
				c.reclaimed.Add(1)
			}
			victims[i] = nil
		}
		if seen == 0 {
			break
		}
	}
	return got
}

// isolate looks at the oldest inactive folios, look of them at most, and gives want bytes of those that may be reclaimed, with a
// reference, and how many it looked at. Hold the shard's lock.
func (sh *shard) isolate(victims []*Folio, want int64, look int) (n, seen int) {
	// Keep the active list at no more than two thirds.
	for i := 0; i < 32 && sh.counts[listActive] > 2*sh.counts[listIn]; i++ {
		fo := sh.lists[listActive].prev
		sh.pull(fo)
		fo.flags.And(^(flagAccessed | flagReferenced))
		sh.push(fo, listIn)
	}
	for n < len(victims) && seen < look && want > 0 {
		fo := sh.lists[listIn].prev
		if fo == &sh.lists[listIn] {
			break
		}
		seen++
		sh.pull(fo)
		f := fo.flags.Load()
		switch {
		case f&(flagDirty|flagWriteback) != 0:
			sh.park(fo)
		case f&flagReferenced != 0 && f&flagDropBehind == 0:
			fo.flags.And(^(flagAccessed | flagReferenced))
			sh.push(fo, listActive)
		case f&flagLocked != 0:
			sh.push(fo, listIn)
		default:
			// A reference keeps its memory. It cannot have been freed: whoever removes it from the cache comes through this
			// lock first.
			fo.refs.Add(1)
			sh.push(fo, listIn)
			victims[n] = fo
			n++
			want -= int64(fo.Len())
		}
	}
	return n, seen
}

// park leaves a dirty folio off the lists. Whoever makes it clean looks for the mark after he did, and this looks at the folio
// after it set the mark, so one of the two puts it back. Hold the shard's lock.
func (sh *shard) park(fo *Folio) {
	fo.flags.Or(flagParked)
	if fo.flags.Load()&(flagDirty|flagWriteback) == 0 && fo.flags.And(^flagParked)&flagParked != 0 {
		sh.push(fo, listIn)
	}
}

// unpark puts a folio that became clean back, to be looked at soon. old are its flags from when it did.
func (c *Cache) unpark(fo *Folio, old uint32) {
	if old&flagParked == 0 {
		return
	}
	sh := c.shardOf(fo)
	sh.mu.Lock()
	if fo.flags.And(^flagParked)&flagParked != 0 && fo.list == listNone && fo.AddressSpace() != nil {
		sh.pushOld(fo)
	}
	sh.mu.Unlock()
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
