package pagecache

import (
	"context"
	"math"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Truncate (truncate_pagecache) drops everything past newSize, which the host already has as its size, and zeroes the
// rest of the folio it lies in. It waits for writeback of what it drops. Hold the invalidate lock exclusively.
func (as *AddressSpace) Truncate(newSize int64) { as.TruncateRange(newSize, math.MaxInt64) }

// TruncateRange drops the cache of [start, end): folios wholly inside go, the parts of folios at the edges are zeroed.
// Dirty data in the range is lost, on purpose. Hold the invalidate lock exclusively.
func (as *AddressSpace) TruncateRange(start, end int64) {
	if start >= end {
		return
	}
	as.InvalidateLock.AssertExclusive()
	as.truncate(start, end)
}

func (as *AddressSpace) truncate(start, end int64) {
	first, last := uint64(start)>>PageShift, uint64(maxIndex)
	if end < maxIndex<<PageShift {
		last = pageEnd(end)
	}
	var batch [16]*Folio
	for i := first; ; {
		n := as.Batch(i, last, TagAny, batch[:])
		if n == 0 {
			return
		}
		for _, fo := range batch[:n] {
			i = fo.index + fo.pages()
			fo.Lock()
			if fo.AddressSpace() == as {
				as.cut(fo, start, end)
			}
			fo.Unlock()
			fo.Put()
		}
	}
}

// cut removes the part of a locked folio that lies in [start, end).
func (as *AddressSpace) cut(fo *Folio, start, end int64) {
	fo.WaitWriteback()
	from, to := max(start-fo.Pos(), 0), min(end-fo.Pos(), int64(fo.Len()))
	if from == 0 && to == int64(fo.Len()) {
		as.drop(fo)
		return
	}
	clear(fo.data[from:to])
	if as.ops.InvalidateFolio != nil {
		as.ops.InvalidateFolio(fo, int(from), int(to-from))
	}
}

// drop takes a locked folio, not under writeback, out of the cache whatever it holds.
func (as *AddressSpace) drop(fo *Folio) {
	if fo.private != nil && as.ops.InvalidateFolio != nil {
		as.ops.InvalidateFolio(fo, 0, fo.Len())
	}
	fo.CancelDirty()
	if fo.private != nil && as.ops.ReleaseFolio != nil {
		as.ops.ReleaseFolio(fo)
	}
	as.detach(fo)
}

// Invalidate (invalidate_inode_pages2_range) drops the cache of [start, end) after the caller wrote it back, so that
// later reads come from the device. errno.BUSY when a folio is dirty again or in use by the layer above: it stays.
func (as *AddressSpace) Invalidate(ctx context.Context, start, end int64) error {
	return as.invalidate(start, end, true)
}

// DropClean drops clean folios of [start, end) that nobody uses, without waiting.
func (as *AddressSpace) DropClean(start, end int64) { _ = as.invalidate(start, end, false) }

func (as *AddressSpace) invalidate(start, end int64, wait bool) error {
	last := uint64(maxIndex)
	if end < maxIndex<<PageShift {
		last = pageEnd(end)
	}
	var batch [16]*Folio
	var busy error
	for i := uint64(start) >> PageShift; ; {
		n := as.Batch(i, last, TagAny, batch[:])
		if n == 0 {
			return busy
		}
		for _, fo := range batch[:n] {
			i = fo.index + fo.pages()
			switch {
			case wait:
				fo.Lock()
				fo.WaitWriteback()
				if fo.AddressSpace() == as && !as.evictClean(fo) {
					busy = errno.BUSY
				}
				fo.Unlock()
			case fo.TryLock():
				if fo.AddressSpace() == as {
					as.tryRemove(fo, 2)
				}
				fo.Unlock()
			}
			fo.Put()
		}
	}
}

// evictClean drops a locked folio that is clean; readers may still hold it.
func (as *AddressSpace) evictClean(fo *Folio) bool {
	if fo.flags.Load()&(flagDirty|flagWriteback) != 0 {
		return false
	}
	if fo.private != nil && (as.ops.ReleaseFolio == nil || !as.ops.ReleaseFolio(fo)) {
		return false
	}
	as.mu.Lock()
	if fo.flags.Load()&flagDirty != 0 {
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

// Evict empties the address space when its inode goes. What is dirty is lost: a live inode was written back before.
func (as *AddressSpace) Evict() {
	as.truncate(0, math.MaxInt64) // nobody else has the inode: no lock is needed
	if as.wb != nil {
		as.wb.forget(as)
	}
}

// Extended (pagecache_isize_extended) is told that the size grows from from to to by something that starts beyond from:
// the bytes of the folio that straddled the old end must be zeros now that they come into sight.
func (as *AddressSpace) Extended(from, to int64) {
	if from >= to || from&(PageSize-1) == 0 && from&int64(as.minFolio()-1) == 0 {
		return
	}
	fo := as.GetLocked(uint64(from) >> PageShift)
	if fo == nil {
		return
	}
	if end := min(to, fo.End()); fo.Dirty() && from < end {
		clear(fo.data[from-fo.Pos() : end-fo.Pos()])
	}
	fo.Unlock()
	fo.Put()
}

func (as *AddressSpace) minFolio() int { return PageSize << as.minOrder }
