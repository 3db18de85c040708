package bufhead

import (
	"context"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// writer writes folios of one file, neighbours in one bio (mpage_writepages).
type writer struct {
	ip   *vfs.Inode
	gb   GetBlock
	sync bool
	c    *chain
}

// WritePages writes the dirty folios of a file. For pagecache.Operations.WritePages.
func WritePages(ctx context.Context, as *pagecache.AddressSpace, wbc *pagecache.WritebackControl, gb GetBlock) error {
	w := writer{ip: vfs.InodeOf(as), gb: gb, sync: wbc.SyncAll}
	err := as.WriteIter(ctx, wbc, func(fo *pagecache.Folio) error {
		err := w.write(ctx, fo)
		if err != nil {
			as.SetError(err)
		}
		return err
	})
	w.c.submit()
	return err
}

// write hands one folio on: into the growing bio when its blocks lie together (__mpage_writepage), else buffer by buffer.
// The folio is locked, its dirty flag taken; it is unlocked here.
func (w *writer) write(ctx context.Context, fo *pagecache.Folio) error {
	ip, bits := w.ip, w.ip.BlockBits()
	size := ip.Size()
	if fo.Pos() >= size {
		// Wholly past the end: a truncation is on its way and will drop it.
		fo.Unlock()
		return nil
	}
	if tail := size - fo.Pos(); tail < int64(fo.Len()) {
		clear(fo.Data()[tail:])
	}
	bs := buffersOf(fo)
	if bs == nil {
		// Never happens for folios dirtied by Write; one dirtied whole gets its buffers here, all dirty.
		bs = attach(fo, bits)
		for i := range bs.list {
			bs.list[i].Set(Dirty | Uptodate)
		}
	}
	n := len(bs.list)
	first := &bs.list[0]
	end := n
	for i := range bs.list {
		bh := &bs.list[i]
		switch {
		case bh.Has(Mapped) && bh.Has(Dirty) && bh.Has(Uptodate) && !bh.Has(Delay) && !bh.Has(Locked):
			if end < n || i > 0 && (bh.Dev != first.Dev || bh.Block != first.Block+uint64(i)) {
				return w.full(ctx, fo, bs, size)
			}
		case !bh.Has(Mapped) && !bh.Has(Dirty):
			end = min(end, i)
		case !bh.Has(Mapped) && fo.Pos()+int64(i)<<bits >= size:
			bh.Clear(Dirty) // past the end of the file
			end = min(end, i)
		default:
			return w.full(ctx, fo, bs, size)
		}
	}
	if end == 0 {
		fo.Unlock()
		return nil
	}
	fl := block.Flags(0)
	if w.sync {
		fl = block.Sync
	}
	fo.StartWriteback()
	w.c = w.c.add(first.Dev.dev, int64(first.Block)<<bits, fo.Data()[:end<<bits], fo, block.OpWrite, fl)
	w.c.pages = &ip.Pages
	// In the bio first, then clean: a folio that looks clean is on its way.
	for i := range bs.list[:end] {
		bs.list[i].Clear(Dirty)
	}
	fo.Unlock()
	if end < n {
		w.c.submit()
		w.c = nil
	}
	return nil
}

// full is block_write_full_folio: maps what is not mapped yet, then one bio for each dirty buffer.
func (w *writer) full(ctx context.Context, fo *pagecache.Folio, bs *buffers, size int64) error {
	w.c.submit()
	w.c = nil
	ip, bits := w.ip, w.ip.BlockBits()
	first := uint64(fo.Pos()) >> bits
	last := uint64(size-1) >> bits
	var failed error
	for i := range bs.list {
		bh := &bs.list[i]
		switch {
		case first+uint64(i) > last:
			// Past the end of the file: a store through a mapping made it dirty, nothing is to be written.
			bh.Clear(Dirty)
			bh.Set(Uptodate)
		case (!bh.Has(Mapped) || bh.Has(Delay)) && bh.Has(Dirty):
			if failed = ask(ctx, ip, first+uint64(i), bh, int64(1)<<bits, true, w.gb); failed != nil {
				break
			}
			bh.Size = 1 << bits
			bh.Clear(Delay)
			if bh.Clear(New)&New != 0 {
				bh.Dev.CleanAliases(bh.Block, 1)
			}
		}
		if failed != nil {
			// What is mapped is written all the same: it may be newly allocated. The rest is given up, and the error kept.
			for j := range bs.list {
				if bh := &bs.list[j]; !bh.Has(Mapped) {
					bh.Clear(Dirty)
				}
			}
			break
		}
	}
	if err := writeBuffers(fo, bs, bits, true); failed == nil {
		failed = err
	}
	return failed
}

// writeBuffers writes the dirty, mapped buffers of a locked folio, one bio each, and unlocks it. The last completion ends
// the folio's writeback. Without wait, buffers in use are left dirty, and so is the folio.
func writeBuffers(fo *pagecache.Folio, bs *buffers, bits uint8, wait bool) error {
	as := fo.AddressSpace()
	var todo []*BufferHead
	for i := range bs.list {
		bh := &bs.list[i]
		if !bh.Has(Mapped) || !bh.Has(Dirty) {
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
		todo = append(todo, bh)
	}
	if len(todo) == 0 {
		fo.Unlock()
		return nil
	}
	fo.StartWriteback()
	fo.Unlock()
	for _, bh := range todo {
		bh.Set(Req)
		biosSubmitted.Add(1)
		bh.Dev.dev.Submit(&block.Bio{
			Op: block.OpWrite, Off: int64(bh.Block) << bits, Vecs: [][]byte{bh.Data},
			Done: func(b *block.Bio) { endWrite(as, fo, bs, bh, b.Err) },
		})
	}
	return nil
}

// endWrite ends one buffer's write (end_buffer_async_write). A failed write leaves the buffer invalid: a later read shows
// what the device really holds, or fails.
func endWrite(as *pagecache.AddressSpace, fo *pagecache.Folio, bs *buffers, bh *BufferHead, err error) {
	if err != nil {
		as.SetError(err)
		d := bh.Dev
		d.assocMu.Lock()
		if bh.assoc != nil {
			bh.assoc.pages.SetError(err)
		}
		d.assocMu.Unlock()
		bh.Set(WriteEIO)
		bh.Clear(Uptodate)
		fo.ClearUptodate()
	} else {
		bh.Clear(WriteEIO)
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
