package iomap

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// GetFolio (iomap_get_folio) finds or makes the folio over pos, locked and referenced; a new one is as large as length suggests. For
// FolioOps.GetFolio.
func (it *Iter) GetFolio(ctx context.Context, pos, length int64) (*pagecache.Folio, error) {
	as := &it.Inode.Pages
	index := uint64(pos) >> pagecache.PageShift
	if it.Flags&OpNoWait != 0 {
		// No waiting for its lock, nor for memory.
		fo := as.Get(index)
		if fo == nil || !fo.TryLock() {
			if fo != nil {
				fo.Put()
			}
			return nil, errno.AGAIN
		}
		if fo.AddressSpace() == as {
			return fo, nil
		}
		fo.Unlock()
		fo.Put()
		return nil, errno.AGAIN
	}
	size := length + pos&(pagecache.PageSize-1)
	if it.Flags&OpDontCache != 0 {
		return as.GrabUncached(ctx, index, size)
	}
	return as.Grab(ctx, index, size)
}

// writeBegin (iomap_write_begin) gives the folio over the iterator's position, locked and ready for storing n bytes there, n no more than
// want and within it: what the store will not cover of a block is valid. Nil without error: the mapping is stale.
func writeBegin(ctx context.Context, it *Iter, ro *ReadOps, want int64) (fo *pagecache.Folio, n int, err error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	pos, fops := it.Pos(), it.Map.FolioOps
	if fops != nil && fops.GetFolio != nil {
		fo, err = fops.GetFolio(ctx, it, pos, want)
	} else {
		fo, err = it.GetFolio(ctx, pos, want)
	}
	if err != nil {
		return nil, 0, err
	}
	fo.WaitStable()
	// What the mapping says may have changed since: writeback may have chosen and converted blocks of a folio that memory was taken
	// from since. With the lock held it cannot any more.
	if fops != nil && fops.Valid != nil && !fops.Valid(it.Inode, &it.Map) {
		it.MarkStale()
		putFolio(it, pos, 0, fo)
		return nil, 0, nil
	}
	off := int(pos - fo.Pos())
	n = int(min(want, int64(fo.Len()-off)))
	src := it.Source()
	switch {
	case src.Type == Inline:
		err = beginInline(it, fo)
	case src.Flags&FlagBufferHead != 0:
		err = src.Buffers.WriteBegin(ctx, it.Inode, fo, off, n, src)
	default:
		err = beginBlocks(ctx, it, ro, fo, off, n)
	}
	if err != nil {
		putFolio(it, pos, 0, fo)
		return nil, 0, err
	}
	return fo, n, nil
}

// beginInline fills the folio of inline data, which can only be the first.
func beginInline(it *Iter, fo *pagecache.Folio) error {
	if fo.Pos() != 0 {
		return fmt.Errorf("inode %d: inline data at %d: %w", it.Inode.Ino(), fo.Pos(), errno.IO)
	}
	if fo.Uptodate() {
		return nil
	}
	src, size := it.Source(), it.Inode.Size()
	if size > src.Length || size > int64(fo.Len()) {
		return fmt.Errorf("inode %d: %d bytes in %s: %w", it.Inode.Ino(), size, src, errno.IO)
	}
	data := fo.Data()
	clear(data[copy(data, src.InlineData[:size]):])
	setUptodate(fo, 0, fo.Len())
	return nil
}

// beginBlocks (__iomap_write_begin) makes the blocks valid that the store of [off, off+n) touches and does not cover.
func beginBlocks(ctx context.Context, it *Iter, ro *ReadOps, fo *pagecache.Folio, off, n int) error {
	ip, unshare := it.Inode, it.Flags&OpUnshare != 0
	bits := ip.BlockBits()
	if off == 0 && n == fo.Len() && !unshare {
		return nil // covered as a whole, and so in no need of a state
	}
	ensureState(fo, bits)
	src, size := it.Source(), ip.Size()
	bs := 1 << bits
	for at, end := off&^(bs-1), (off+n+bs-1)&^(bs-1); at < end; {
		from, k := readRange(fo, at, end, size, bits)
		if k == 0 {
			return nil
		}
		at = from + k
		pos := fo.Pos() + int64(from)
		switch {
		case !unshare && off <= from && from+k <= off+n:
			continue // covered
		case needsZero(src, pos, size):
			if unshare {
				return fmt.Errorf("inode %d: unshare of %s at %d: %w", ip.Ino(), src, pos, errno.IO)
			}
			// All of it, also what is to be stored to: the store may fail.
			clear(fo.Data()[from : from+k])
		case it.Flags&OpNoWait != 0:
			return errno.AGAIN
		default:
			if err := readBlocks(ctx, it, ro, fo, from, k); err != nil {
				return err
			}
		}
		// Also where the store's own bytes are to come: the lock is held until they have.
		setUptodate(fo, from, k)
	}
	return nil
}

// readBlocks reads blocks of the folio and waits.
func readBlocks(ctx context.Context, it *Iter, ro *ReadOps, fo *pagecache.Folio, off, n int) error {
	src := it.Source()
	if ro != nil && ro.ReadRange != nil {
		return ro.ReadRange(ctx, it, fo, off, n)
	}
	if err := readSync(it.Inode, ro, src.Dev, src.AddrOf(fo.Pos()+int64(off)), fo, off, n); err != nil {
		return fmt.Errorf("inode %d: read of %d bytes at %d before a write: %w", it.Inode.Ino(), n, fo.Pos()+int64(off), err)
	}
	return nil
}

// writeEnd (iomap_write_end) accepts copied bytes of the n that were stored at off, and gives how many count: none when the copy was
// short and the folio is not valid, since a later read would overwrite half a block.
func writeEnd(it *Iter, fo *pagecache.Folio, off, n, copied int) int {
	src := it.Source()
	switch {
	case src.Type == Inline:
		pos := fo.Pos() + int64(off)
		copy(src.InlineData[pos-src.Offset:], fo.Data()[off:off+copied])
		it.Inode.Dirty(vfs.DirtySize)
		return copied
	case src.Flags&FlagBufferHead != 0:
		return src.Buffers.WriteEnd(it.Inode, fo, off, n, copied)
	case copied < n && !fo.Uptodate():
		return 0
	}
	setUptodate(fo, off, n)
	setDirty(fo, off, copied)
	fo.MarkAccessed()
	return copied
}

// putFolio unlocks and releases the folio after n bytes were stored.
func putFolio(it *Iter, pos, n int64, fo *pagecache.Folio) {
	if f := it.Map.FolioOps; f != nil && f.PutFolio != nil {
		f.PutFolio(it.Inode, pos, n, fo)
		return
	}
	fo.Unlock()
	fo.Put()
}
