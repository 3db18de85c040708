package pagecache

import (
	"context"
	"math"
)

// WritebackControl (struct writeback_control) says what one writeback pass is to write.
type WritebackControl struct {
	SyncAll    bool  // integrity: everything dirty in the range, waiting for writes in flight
	Start, End int64 // bytes, half open; End 0 means no end
	Budget     int64 // pages; 0 means no limit. Not for SyncAll
	Cyclic     bool  // go on where the last pass stopped, not past the end of the file
	Wrote      int64 // pages handed to the filesystem, counted here
}

// WriteIter (writeback_iter) hands the dirty folios of the range to fn one by one, in ascending order: locked, the dirty
// flag taken, not under writeback, with a reference that is WriteIter's. fn unlocks. In integrity mode only what was
// dirty when the pass began is written, so that a steady writer cannot hold it up; it goes on after errors and returns
// the first. Otherwise it stops at the first error or at the budget.
// Source: Linux mm/page-writeback.c as of 6.12, "writeback_iter".
func (as *AddressSpace) WriteIter(ctx context.Context, wbc *WritebackControl, fn func(fo *Folio) error) error {
	start, end := uint64(max(wbc.Start, 0))>>PageShift, uint64(maxIndex)
	if wbc.End > 0 && wbc.End < math.MaxInt64 {
		end = pageEnd(wbc.End)
	}
	if wbc.Cyclic {
		start, end = as.cursor.Load(), maxIndex
	}
	tag := TagDirty
	if wbc.SyncAll {
		as.tagTowrite(start, end)
		tag = TagTowrite
	}
	var first error
	var batch [16]*Folio
	for {
		n := as.Batch(start, end, tag, batch[:])
		if n == 0 {
			if wbc.Cyclic {
				as.cursor.Store(0)
			}
			return first
		}
		for i, fo := range batch[:n] {
			start = fo.index + fo.pages()
			if !as.takeForWrite(fo, wbc.SyncAll) {
				fo.Put()
				continue
			}
			pages := int64(fo.pages())
			err := fn(fo)
			as.untag(fo)
			fo.Put()
			wbc.Wrote += pages
			if err != nil && first == nil {
				first = err
			}
			stop := err != nil || wbc.Budget > 0 && wbc.Wrote >= wbc.Budget
			if !wbc.SyncAll && stop || ctx.Err() != nil {
				for _, rest := range batch[i+1 : n] {
					rest.Put()
				}
				if wbc.Cyclic {
					as.cursor.Store(start)
				}
				if first == nil {
					first = ctx.Err()
				}
				return first
			}
		}
	}
}

// takeForWrite locks the folio and takes its dirty flag. False when it is not, or no longer, to be written.
func (as *AddressSpace) takeForWrite(fo *Folio, wait bool) bool {
	fo.Lock()
	for {
		f := fo.flags.Load()
		switch {
		case fo.AddressSpace() != as:
		case f&flagWriteback != 0 && wait:
			fo.WaitWriteback()
			continue
		case f&flagWriteback != 0:
		case fo.ClearDirtyForIO():
			return true
		default:
			as.clearStaleTags(fo)
		}
		fo.Unlock()
		return false
	}
}

// untag takes the tags off a folio that was handed out and not written after all, since a truncation is about to drop it: they
// would keep the inode for dirty. Whoever has the folio's lock meanwhile sees to its tags himself.
func (as *AddressSpace) untag(fo *Folio) {
	if fo.flags.Load()&(flagDirty|flagWriteback) != 0 || !fo.TryLock() {
		return
	}
	if fo.AddressSpace() == as {
		as.clearStaleTags(fo)
	}
	fo.Unlock()
}

// clearStaleTags makes the tags of a locked folio agree with its flags.
func (as *AddressSpace) clearStaleTags(fo *Folio) {
	as.mu.Lock()
	if fo.flags.Load()&flagDirty == 0 {
		as.tree.clearTag(fo.index, TagDirty)
		as.tree.clearTag(fo.index, TagTowrite)
	}
	as.mu.Unlock()
}

// tagTowrite marks what is dirty now in [start, end).
func (as *AddressSpace) tagTowrite(start, end uint64) {
	as.mu.Lock()
	for {
		fo := as.tree.next(start, end, TagDirty)
		if fo == nil {
			break
		}
		as.tree.setTag(fo.index, TagTowrite)
		start = fo.index + fo.pages()
	}
	as.mu.Unlock()
}

// WriteRange starts integrity writeback of [start, end) and does not wait for it to end.
func (as *AddressSpace) WriteRange(ctx context.Context, start, end int64) error {
	if !as.IsDirty() {
		return nil
	}
	return as.ops.writePages(ctx, as, &WritebackControl{SyncAll: true, Start: start, End: end})
}

// FlushStart starts background writeback of [start, end).
func (as *AddressSpace) FlushStart(ctx context.Context, start, end int64) error {
	if !as.IsDirty() {
		return nil
	}
	return as.ops.writePages(ctx, as, &WritebackControl{Start: start, End: end})
}

// WaitRange waits until no folio over [start, end) is under writeback, and gives an error recorded meanwhile; the error
// stays for others.
func (as *AddressSpace) WaitRange(ctx context.Context, start, end int64) error {
	mark := as.errs.mark()
	var batch [16]*Folio
	for i, e := uint64(start)>>PageShift, pageEnd(end); as.writeback.Load() > 0; {
		n := as.Batch(i, e, TagWriteback, batch[:])
		if n == 0 {
			break
		}
		for _, fo := range batch[:n] {
			i = fo.index + fo.pages()
			fo.WaitWriteback()
			fo.Put()
		}
	}
	return as.errs.since(mark)
}

// WriteAndWait writes everything dirty over [start, end) and waits for it. The error is the first found; it stays
// recorded for open files.
func (as *AddressSpace) WriteAndWait(ctx context.Context, start, end int64) error {
	if !as.IsDirty() {
		return nil
	}
	mark := as.errs.mark()
	err := as.WriteRange(ctx, start, end)
	if werr := as.WaitRange(ctx, start, end); err == nil {
		err = werr
	}
	if err == nil {
		err = as.errs.since(mark)
	}
	return err
}
