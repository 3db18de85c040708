package iomap

import (
	"context"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// ZeroRange (iomap_zero_range) makes [pos, pos+length) of ip read as zeros, through the cache. Bytes; the size does not change, and past
// it there is nothing to do for a filesystem that answers with a hole there. Holes and clean unwritten space are left alone; data that
// waits in the cache over them is written first, and mapped afresh, or visited through Mapping.Batch. did reports whether anything was
// zeroed. Hold ip.Rw and the invalidate lock exclusively. On error a part may have been zeroed; calling again is safe.
//
// Errors: Begin's, of reads and writes, ctx's.
// Source: Documentation/filesystems/iomap/operations.rst, "Zeroing for File Operations"; Linux 6.12 for dirty data over unwritten space.
func ZeroRange(ctx context.Context, ip *vfs.Inode, pos, length int64, ops *Ops, ro *ReadOps) (did bool, err error) {
	waiting := ip.Pages.NeedsWriteback(pos, pos+length)
	it := NewIter(ip, pos, length, OpZero, ops)
	defer it.Close(ctx)
	for it.Next(ctx) {
		src := it.Source()
		switch {
		case src.Type != Hole && src.Type != Unwritten:
			zeroMapping(ctx, it, ro, &did)
		case it.Map.Flags&FlagFolioBatch != 0:
			zeroBatch(ctx, it, ro, &did)
		case waiting:
			waiting = false
			it.Fail(ip.Pages.WriteAndWait(ctx, it.Pos(), it.Pos()+it.Left()))
			it.MarkStale()
		default:
			it.Advance(it.Usable())
		}
	}
	return did, it.Err()
}

// zeroMapping zeroes what the mapping in use serves.
func zeroMapping(ctx context.Context, it *Iter, ro *ReadOps, did *bool) {
	for it.Usable() > 0 && !it.IsStale() {
		if !zeroFolio(ctx, it, ro, min(it.Usable(), pagecache.PageSize<<pagecache.MaxOrder), did) {
			return
		}
	}
}

// zeroFolio zeroes up to n bytes at the iterator's position and advances over them. False: stale, or an error.
func zeroFolio(ctx context.Context, it *Iter, ro *ReadOps, n int64, did *bool) bool {
	pos := it.Pos()
	fo, k, err := writeBegin(ctx, it, ro, n)
	if err != nil || fo == nil {
		it.Fail(err)
		return false
	}
	off := int(pos - fo.Pos())
	clear(fo.Data()[off : off+k])
	k = writeEnd(it, fo, off, k, k)
	putFolio(it, pos, int64(k), fo)
	*did = true
	it.Advance(int64(k))
	return true
}

// zeroBatch zeroes the folios of the batch, and skips what lies between: it is unwritten, and not cached.
func zeroBatch(ctx context.Context, it *Iter, ro *ReadOps, did *bool) {
	for _, fo := range it.Map.Batch.Folios {
		if it.Usable() == 0 || fo.Pos() >= it.Pos()+it.Usable() {
			break
		}
		if gap := fo.Pos() - it.Pos(); gap > 0 {
			it.Advance(gap)
		}
		if fo.AddressSpace() != &it.Inode.Pages {
			it.MarkStale() // left the cache: what it held is in another state now
			return
		}
		if !zeroFolio(ctx, it, ro, min(it.Usable(), fo.End()-it.Pos()), did) {
			return
		}
	}
	it.Advance(it.Usable())
}

// TruncatePage (iomap_truncate_page) zeroes from pos to the end of its block; nothing when pos begins one. For the old end of a file that
// grows, and the new end of one that is cut. Locks and errors: ZeroRange.
func TruncatePage(ctx context.Context, ip *vfs.Inode, pos int64, ops *Ops, ro *ReadOps) (did bool, err error) {
	bs := int64(ip.BlockSize())
	off := pos & (bs - 1)
	if off == 0 {
		return false, nil
	}
	return ZeroRange(ctx, ip, pos, bs-off, ops, ro)
}

// Unshare (iomap_file_unshare) makes what [pos, pos+length) shares with other files the file's own: it reads the blocks and marks them
// dirty, and writeback writes them elsewhere. Cut at the end of the file. Locks: ZeroRange's. Errors: Begin's, of reads.
// Source: Documentation/filesystems/iomap/operations.rst, "Unsharing Reflinked File Data".
func Unshare(ctx context.Context, ip *vfs.Inode, pos, length int64, ops *Ops, ro *ReadOps) error {
	size := ip.Size()
	if pos < 0 || pos >= size {
		return nil
	}
	it := NewIter(ip, pos, min(length, size-pos), OpWrite|OpUnshare, ops)
	defer it.Close(ctx)
	for it.Next(ctx) {
		// Shared without a source is where a copy would go, over nothing that could be copied.
		if it.Map.Flags&FlagShared == 0 || it.Src.Type != Mapped {
			it.Advance(it.Usable())
			continue
		}
		for it.Usable() > 0 && !it.IsStale() {
			pos := it.Pos()
			fo, n, err := writeBegin(ctx, it, ro, it.Usable())
			if err != nil || fo == nil {
				it.Fail(err)
				break
			}
			n = writeEnd(it, fo, int(pos-fo.Pos()), n, n)
			putFolio(it, pos, int64(n), fo)
			it.Advance(int64(n))
			if err := ip.SB().WB.Balance(ctx, &ip.Pages); err != nil {
				it.Fail(err)
				break
			}
		}
	}
	return it.Err()
}
