package iomap

import (
	"context"
	"fmt"
	"sync"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// WritebackOps (struct iomap_writeback_ops) is a filesystem's part in writing dirty folios.
type WritebackOps struct {
	// MapBlocks (map_blocks) makes wc.Map cover byte pos, for length bytes if it can; it may leave the mapping of the call before, if
	// that covers pos and still holds. Delayed blocks are chosen here. A hole is skipped: dirty blocks that were punched. The
	// folio is locked; map lock and transactions nest inside.
	MapBlocks func(ctx context.Context, wc *WritebackContext, pos, length int64) error
	// Submit (submit_ioend) sends io off by io.Submit, after preparing it: converting what is shared, choosing an address, and
	// setting io.End to complete it in its own way. What it cannot send off it ends by io.Finish, and gives the error. Nil: io.Submit.
	Submit func(wc *WritebackContext, io *Ioend) error
	// DiscardFolio (discard_folio) is told that a folio will not be written from byte pos on, since MapBlocks failed there: what
	// was reserved for it goes. The folio is locked. Nil: nothing is reserved.
	DiscardFolio func(fo *pagecache.Folio, pos int64)
}

// WritebackContext (struct iomap_writepage_ctx) is one pass of writeback over a file.
type WritebackContext struct {
	Inode *vfs.Inode
	Map   Mapping // of the last MapBlocks; empty at first
	Sync  bool    // somebody waits for the pass

	ops *WritebackOps
	io  *Ioend // being built
}

var writebackContexts = sync.Pool{New: func() any { return new(WritebackContext) }}

// WritePages (iomap_writepages) writes dirty folios as wbc says: runs of dirty blocks, mapped by the filesystem and collected in ioends
// as large as device and file allow. A folio whose blocks cannot be mapped is clean afterwards, and the error is recorded for all who
// have the file open: a device that is gone must not fill memory with what cannot be written. For pagecache.Operations.
//
// Errors: the first of MapBlocks and Submit. Errors of the I/O itself are recorded in the address space when it completes.
// Source: Documentation/filesystems/iomap/operations.rst, "Writeback".
func WritePages(ctx context.Context, as *pagecache.AddressSpace, wbc *pagecache.WritebackControl, ops *WritebackOps) error {
	wc := writebackContexts.Get().(*WritebackContext)
	wc.Inode, wc.Sync, wc.ops = vfs.InodeOf(as), wbc.SyncAll, ops
	wc.Map = Mapping{Addr: NullAddr}
	err := as.WriteIter(ctx, wbc, func(fo *pagecache.Folio) error { return wc.folio(ctx, fo) })
	if serr := wc.submit(); err == nil {
		err = serr
	}
	*wc = WritebackContext{}
	writebackContexts.Put(wc)
	return err
}

// folio (iomap_writeback_folio) writes one folio: locked, its dirty flag taken. It unlocks it.
func (wc *WritebackContext) folio(ctx context.Context, fo *pagecache.Folio) error {
	ip := wc.Inode
	size := ip.Size()
	if fo.Pos() >= size {
		// A truncation is about to drop it.
		fo.Unlock()
		return nil
	}
	end := fo.Len()
	if fo.End() > size {
		// What a store through a mapping left behind the end is not to reach the medium, each time anew.
		end = int(size - fo.Pos())
		clear(fo.Data()[end:])
	}
	bits := ip.BlockBits()
	if fo.Len()>>bits > 1 && stateOf(fo) == nil {
		st := ensureState(fo, bits)
		from, to := st.span(0, end)
		st.set(st.half, from, to)
	}
	// One more than what is handed out, so that no completion ends writeback before all is.
	st := stateOf(fo)
	if st != nil {
		st.writes.Add(1)
	}
	fo.StartWriteback()
	bs := 1 << bits
	added, err := wc.blocks(ctx, fo, (end+bs-1)&^(bs-1), size)
	// Clean whether it went well or not. Before the lock goes: from then on blocks may be dirtied for the next pass.
	clearDirty(fo)
	if err != nil {
		ip.Pages.SetError(err)
	}
	fo.Unlock()
	if st != nil {
		endWrites(fo, st, 1)
	} else if !added {
		fo.EndWriteback()
	}
	return err
}

// blocks maps the dirty blocks of the folio's first end bytes and adds them to ioends. added says whether any was.
func (wc *WritebackContext) blocks(ctx context.Context, fo *pagecache.Folio, end int, size int64) (added bool, err error) {
	for off := 0; off < end; {
		at, n := nextDirty(fo, off, end)
		if n == 0 {
			break
		}
		off = at + n
		for n > 0 {
			pos := fo.Pos() + int64(at)
			if err := wc.mapBlocks(ctx, pos, int64(n)); err != nil {
				if wc.ops.DiscardFolio != nil {
					wc.ops.DiscardFolio(fo, pos)
				}
				return added, err
			}
			k := int(min(int64(n), wc.Map.End()-pos))
			switch wc.Map.Type {
			case Hole:
			case Mapped, Unwritten:
				if err := wc.add(fo, at, k, size); err != nil {
					return added, err
				}
				added = true
			default:
				return added, fmt.Errorf("inode %d: writeback of %s at %d: %w", wc.Inode.Ino(), &wc.Map, pos, errno.IO)
			}
			at, n = at+k, n-k
		}
	}
	return added, nil
}

// mapBlocks asks the filesystem, and checks its answer.
func (wc *WritebackContext) mapBlocks(ctx context.Context, pos, length int64) error {
	err := wc.ops.MapBlocks(ctx, wc, pos, length)
	ip := wc.Inode
	if t := ip.SB().Trace; t != nil {
		t.Emit(trace.Event{Kind: trace.MapBlocks, Ino: ip.Ino(), Pos: pos, Len: length, Addr: wc.Map.Addr, Got: wc.Map.Length, Err: err})
	}
	if err != nil {
		return err
	}
	if why := wc.Map.check(pos, int64(ip.BlockSize()), OpWrite); why != "" {
		return fmt.Errorf("iomap: inode %d: bad mapping for writeback at %d: %s: %s: %w", ip.Ino(), pos, &wc.Map, why, errno.IO)
	}
	return nil
}

// add (iomap_add_to_ioend) puts bytes [off, off+n) of the folio behind what is collected, or into a new ioend. The ioend's size ends at
// the file's, as it was when the folio was taken: completion may store it as the size of the file on the medium, which must not be
// moved past data by an append meanwhile.
func (wc *WritebackContext) add(fo *pagecache.Folio, off, n int, size int64) error {
	pos := fo.Pos() + int64(off)
	for n > 0 {
		k := n
		if wc.io != nil {
			k = wc.io.room(&wc.Map, pos, n)
		}
		if wc.io == nil || k == 0 {
			if err := wc.submit(); err != nil {
				return err
			}
			wc.io = newIoend(wc.Inode, &wc.Map, pos)
			k = wc.io.room(&wc.Map, pos, n)
		}
		if st := stateOf(fo); st != nil {
			st.writes.Add(int64(k))
		}
		wc.io.add(fo, off, k)
		wc.io.Size = max(min(pos+int64(k), size)-wc.io.Pos, 0)
		off, pos, n = off+k, pos+int64(k), n-k
	}
	return nil
}

// submit sends off what is collected.
func (wc *WritebackContext) submit() error {
	io := wc.io
	if io == nil {
		return nil
	}
	wc.io = nil
	if wc.Sync {
		io.bio.Flags |= block.Sync
	}
	if wc.ops.Submit != nil {
		return wc.ops.Submit(wc, io)
	}
	io.Submit()
	return nil
}

// endWrites takes n off the pending writes of a folio; with the last its writeback ends.
func endWrites(fo *pagecache.Folio, st *folioState, n int64) {
	if st.writes.Add(-n) == 0 {
		fo.EndWriteback()
	}
}
