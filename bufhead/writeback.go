package bufhead

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// writer writes folios of one file, neighbours in one bio (mpage_writepages).
type writer struct {
	ip   *vfs.Inode
	gb   GetBlock
	wait bool // for buffers in use: somebody waits for the pass
	fl   block.Flags
	c    *chain
}

// WritePages (mpage_writepages) writes the dirty folios of a file. For pagecache.Operations.WritePages.
//
// Dirty blocks that are not mapped, delayed or unwritten are mapped here. Where that fails, what is mapped of the folio is written
// all the same, the rest is given up, and the error is recorded for all who have the file open. Errors: the first of get_block; those
// of the I/O are recorded when it completes.
func WritePages(ctx context.Context, as *pagecache.AddressSpace, wbc *pagecache.WritebackControl, gb GetBlock) error {
	w := writer{ip: vfs.InodeOf(as), gb: gb, wait: wbc.SyncAll}
	if w.wait {
		w.fl = block.Sync
	}
	err := as.WriteIter(ctx, wbc, func(fo *pagecache.Folio) error {
		err := w.write(ctx, fo)
		if err != nil {
			as.SetError(err)
		}
		return err
	})
	w.flush()
	return err
}

// flush hands on the bio that grows.
func (w *writer) flush() {
	w.c.submit()
	w.c = nil
}

// layout is where a folio lies on the device when all of it that is to be written is one run, from its start on.
type layout struct {
	dev      *Device
	first    uint64
	n        int // blocks
	boundary *Device
	last     uint64 // block that the boundary lies behind
}

// add appends block i of a folio to the run; false when it lies elsewhere.
func (l *layout) add(i int, bh *BufferHead) bool {
	if i == 0 {
		l.dev, l.first = bh.Dev, bh.Block
	} else if bh.Dev != l.dev || bh.Block != l.first+uint64(i) {
		return false
	}
	l.n = i + 1
	if l.boundary = nil; bh.Has(Boundary) {
		l.boundary, l.last = bh.Dev, bh.Block
	}
	return true
}

// write (__mpage_writepage) hands one folio on: into the growing bio when its blocks lie together, else buffer by buffer.
// The folio is locked, its dirty flag taken; it is unlocked here.
func (w *writer) write(ctx context.Context, fo *pagecache.Folio) error {
	ip, bits := w.ip, w.ip.BlockBits()
	size := ip.Size()
	if fo.Pos() >= size {
		nothing(fo) // a truncation is on its way and will drop it
		return nil
	}
	if tail := size - fo.Pos(); tail < int64(fo.Len()) {
		clear(fo.Data()[tail:]) // what a store through a mapping left there
	}
	bs := buffersOf(fo)
	var l layout
	var together bool
	if bs != nil {
		together = bs.layout(&l)
	} else {
		together = w.bare(ctx, fo, size, &l)
	}
	if !together || l.n == 0 || !fits(l.dev.dev, fo.Len()) {
		if bs == nil {
			bs = attach(fo, bits)
			for i := range bs.list {
				bs.list[i].Set(Dirty | Uptodate)
			}
		}
		return w.full(ctx, fo, bs, size)
	}
	fo.StartWriteback()
	w.c = w.c.add(ip, l.dev.dev, int64(l.first)<<bits, fo.Data()[:l.n<<bits], fo, block.OpWrite, w.fl)
	// In the bio first, then clean: a folio that looks clean is on its way.
	if bs != nil {
		for i := range bs.list[:l.n] {
			bs.list[i].Clear(Dirty)
		}
	}
	fo.Unlock()
	if l.boundary != nil || l.n<<bits < fo.Len() {
		// What follows lies elsewhere: let this go, and behind it the metadata that leads on, which is next on the device.
		w.flush()
		if l.boundary != nil {
			l.boundary.pushOut(l.last + 1)
		}
	}
	return nil
}

// layout looks whether the buffers are one run of dirty blocks, with nothing but clean holes behind.
func (bs *buffers) layout(l *layout) bool {
	for i := range bs.list {
		bh := &bs.list[i]
		switch {
		case !bh.Has(Mapped):
			if bh.Has(Dirty) {
				return false // a store through a mapping into a hole
			}
		case l.n < i, !bh.Has(Dirty | Uptodate), !bh.readable(), bh.Has(Locked), !l.add(i, bh):
			return false
		}
	}
	return true
}

// bare maps a folio that has no buffers, and is dirty as a whole up to the end of the file. It has none afterwards either.
func (w *writer) bare(ctx context.Context, fo *pagecache.Folio, size int64, l *layout) bool {
	bits := w.ip.BlockBits()
	first, last := uint64(fo.Pos())>>bits, uint64(size-1)>>bits
	for i := 0; i < fo.Len()>>bits && first+uint64(i) <= last; i++ {
		var bh BufferHead
		if err := ask(ctx, w.ip, first+uint64(i), &bh, int64(1)<<bits, true, w.gb); err != nil || !bh.readable() {
			return false
		}
		if bh.Has(New) {
			bh.cleanAlias()
		}
		if !l.add(i, &bh) {
			return false
		}
	}
	return true
}

// nothing ends the writeback of a folio of which nothing is written. Unlocks it.
func nothing(fo *pagecache.Folio) {
	fo.StartWriteback() // takes the dirty tag with it
	fo.Unlock()
	fo.EndWriteback()
}

// full is block_write_full_folio: maps what is not mapped yet, then one bio for each dirty buffer.
func (w *writer) full(ctx context.Context, fo *pagecache.Folio, bs *buffers, size int64) error {
	w.flush()
	bits := w.ip.BlockBits()
	first, last := uint64(fo.Pos())>>bits, uint64(size-1)>>bits
	var err error
	for i := range bs.list {
		bh := &bs.list[i]
		if first+uint64(i) > last {
			// Past the end of the file: a store through a mapping made it dirty, nothing is to be written.
			bh.Clear(Dirty)
			bh.Set(Uptodate)
		} else if bh.Has(Dirty) && !bh.readable() {
			if err = w.choose(ctx, bh, first+uint64(i)); err != nil {
				break
			}
		}
	}
	if err != nil {
		// What is mapped is written all the same: it may be newly allocated, and must not show what was there. The rest is given up.
		for i := range bs.list {
			if bh := &bs.list[i]; !bh.readable() {
				bh.Clear(Dirty)
			}
		}
	}
	writeBuffers(fo, bs, bits, w.wait || err != nil, w.fl)
	return err
}

// choose asks for the block of a dirty buffer that has none yet, block i of the file.
func (w *writer) choose(ctx context.Context, bh *BufferHead, i uint64) error {
	old := bh.Clear(Delay|Unwritten) & (Delay | Unwritten)
	err := ask(ctx, w.ip, i, bh, int64(w.ip.BlockSize()), true, w.gb)
	bh.Size = w.ip.BlockSize()
	if err == nil && !bh.readable() {
		err = fmt.Errorf("inode %d: writeback of block %d was given no block on the device: %w", w.ip.Ino(), i, errno.IO)
	}
	if err != nil {
		bh.Set(old)
		return err
	}
	if bh.Clear(New)&New != 0 {
		bh.cleanAlias()
	}
	return nil
}

// writeBuffers writes the dirty, mapped buffers of a locked folio, one bio each, and unlocks it. The last completion ends
// the folio's writeback. Without wait, buffers in use are left dirty, and so is the folio.
func writeBuffers(fo *pagecache.Folio, bs *buffers, bits uint8, wait bool, fl block.Flags) {
	as := fo.AddressSpace()
	var todo []*BufferHead
	for i := range bs.list {
		bh := &bs.list[i]
		if !bh.readable() || !bh.Has(Dirty) {
			continue
		}
		if wait {
			bh.Lock()
		} else if !bh.TryLock() {
			pagecache.DirtyFolio(as, fo)
			continue
		}
		if bh.Clear(Dirty)&Dirty == 0 {
			bh.Unlock()
			continue
		}
		bh.Set(AsyncWrite)
		bh.Disown() // endWrite unlocks
		todo = append(todo, bh)
	}
	if len(todo) == 0 {
		nothing(fo)
		return
	}
	fo.StartWriteback()
	fo.Unlock()
	t, ino := sinkOf(bs, as)
	for _, bh := range todo {
		bh.Set(Req)
		bh.Clear(WriteEIO)
		send(bh.Dev.dev, &block.Bio{
			Op: block.OpWrite, Flags: fl, Off: int64(bh.Block) << bits, Vecs: [][]byte{bh.Data},
			Done: func(b *block.Bio) { endWrite(as, fo, bs, bh, b.Err) },
		}, t, ino)
	}
}

// endWrite ends one buffer's write (end_buffer_async_write).
func endWrite(as *pagecache.AddressSpace, fo *pagecache.Folio, bs *buffers, bh *BufferHead, err error) {
	if err != nil && bh.writeFailed(as, err) {
		fo.ClearUptodate()
	}
	bs.mu.Lock()
	bh.Clear(AsyncWrite)
	bh.Unlock()
	done := true
	for i := range bs.list {
		done = done && !bs.list[i].Has(AsyncWrite)
	}
	bs.mu.Unlock()
	if done {
		fo.EndWriteback()
	}
}

// writeFailed (mark_buffer_write_io_error, clear_buffer_uptodate) records that a buffer of as could not be written, also for the
// inode whose metadata it is. A buffer of metadata is not valid any more: a later read shows what the device really holds, or fails. One
// that was made dirty again meanwhile stays valid: what is in memory is all there is of it, and it will be written again. File data stays
// valid too, as with the bios of whole folios: a store to a part of the block must not be completed from the device, where it may never
// have been written. It reports whether the buffer is invalid.
func (bh *BufferHead) writeFailed(as *pagecache.AddressSpace, err error) (invalid bool) {
	as.SetError(err)
	d := bh.Dev
	if d == nil || as != &d.pages {
		bh.Set(WriteEIO)
		return false
	}
	d.assocMu.Lock()
	if bh.assoc != nil {
		bh.assoc.pages.SetError(err)
	}
	d.assocMu.Unlock()
	for {
		s := State(bh.state.Load())
		n := s | WriteEIO
		if invalid = s&Dirty == 0; invalid {
			n &^= Uptodate | Verified
		}
		if bh.state.CompareAndSwap(uint32(s), uint32(n)) {
			return invalid
		}
	}
}
