package pagecache

import "time"

// MarkDirty says that the folio's contents must be written. It reports whether the folio was clean before. Hold the
// lock, or keep truncation away otherwise.
func (fo *Folio) MarkDirty() bool {
	as := fo.AddressSpace()
	if as == nil {
		return false
	}
	if f := as.ops.DirtyFolio; f != nil {
		return f(as, fo)
	}
	return DirtyFolio(as, fo)
}

// DirtyFolio (filemap_dirty_folio) sets the dirty flag and tag, counts it, and puts the address space on the flusher's
// list. Layers with state of their own set that first and call this last.
func DirtyFolio(as *AddressSpace, fo *Folio) bool {
	if fo.flags.Load()&flagDirty != 0 {
		return false
	}
	as.mu.Lock()
	if fo.as.Load() != as || fo.flags.Or(flagDirty)&flagDirty != 0 {
		as.mu.Unlock()
		return false
	}
	as.tree.setTag(fo.index, TagDirty)
	n := as.dirty.Add(1)
	as.mu.Unlock()
	as.cache.dirty.Add(int64(fo.Len()))
	if n == 1 && as.wb != nil {
		as.wb.list(as, time.Now().UnixNano())
	}
	return true
}

// ClearDirtyForIO takes the dirty flag for writing; false when somebody else did. The tag stays until StartWriteback,
// so that an integrity sync finds the folio. Hold the lock.
func (fo *Folio) ClearDirtyForIO() bool {
	as := fo.AddressSpace()
	if as == nil {
		return false
	}
	old := fo.flags.And(^flagDirty)
	if old&flagDirty == 0 {
		return false
	}
	as.cache.unpark(fo, old)
	as.dirty.Add(-1)
	as.cache.dirty.Add(-int64(fo.Len()))
	as.cache.drained()
	return true
}

// CancelDirty forgets that the folio is dirty: its data is gone. Hold the lock.
func (fo *Folio) CancelDirty() {
	as := fo.AddressSpace()
	if as == nil {
		return
	}
	as.mu.Lock()
	old := fo.flags.And(^flagDirty)
	was := old&flagDirty != 0
	as.tree.clearTag(fo.index, TagDirty)
	as.tree.clearTag(fo.index, TagTowrite)
	if was {
		as.dirty.Add(-1)
	}
	as.mu.Unlock()
	if was {
		as.cache.unpark(fo, old)
		as.cache.dirty.Add(-int64(fo.Len()))
		as.cache.drained()
	}
}

// StartWriteback says that the folio is being written. Hold the lock; the dirty flag was taken before. It may be dirtied
// again meanwhile, which keeps its dirty tag.
func (fo *Folio) StartWriteback() {
	as := fo.AddressSpace()
	fo.refs.Add(1)
	as.mu.Lock()
	fo.flags.Or(flagWriteback)
	as.tree.setTag(fo.index, TagWriteback)
	if fo.flags.Load()&flagDirty == 0 {
		as.tree.clearTag(fo.index, TagDirty)
	}
	as.tree.clearTag(fo.index, TagTowrite)
	as.writeback.Add(1)
	as.mu.Unlock()
	as.cache.wback.Add(int64(fo.Len()))
}

// EndWriteback says that the write is over; any goroutine.
func (fo *Folio) EndWriteback() {
	as := fo.AddressSpace() // cannot have been removed: removal waits for writeback
	as.mu.Lock()
	old := fo.flags.And(^flagWriteback)
	as.tree.clearTag(fo.index, TagWriteback)
	as.writeback.Add(-1)
	as.mu.Unlock()
	as.cache.unpark(fo, old)
	as.cache.wback.Add(-int64(fo.Len()))
	as.cache.drained()
	if old&flagWaiters != 0 {
		fo.flags.And(^flagWaiters)
		fo.wake()
	}
	if old&flagDropBehind != 0 {
		fo.dropBehind()
	}
	fo.Put()
}

// drained wakes throttled writers.
func (c *Cache) drained() {
	if c.throttled.Load() == 0 {
		return
	}
	c.mu.Lock()
	c.drains.Broadcast()
	c.mu.Unlock()
}
