package iomap

import (
	"context"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// PageMkwrite (iomap_page_mkwrite) prepares a folio for the first store through a mapping: space for it is found or reserved, and all of
// it is marked dirty. The folio is locked, uptodate, and stays locked. Hold the invalidate lock shared.
//
// Errors: errno.FAULT when the folio left the cache or lies behind the end of the file (the fault is tried again); Begin's.
// Source: Documentation/filesystems/iomap/operations.rst, "mmap Write Faults".
func PageMkwrite(ctx context.Context, ip *vfs.Inode, fo *pagecache.Folio, ops *Ops) error {
	size := ip.Size()
	if fo.AddressSpace() != &ip.Pages || fo.Pos() >= size {
		return errno.FAULT
	}
	n := min(int64(fo.Len()), size-fo.Pos())
	it := NewIter(ip, fo.Pos(), n, OpWrite|OpFault, ops)
	defer it.Close(ctx)
	for it.Next(ctx) {
		if it.Map.Flags&FlagBufferHead != 0 {
			it.Fail(it.Map.Buffers.Mkwrite(ctx, ip, fo, int(it.Pos()-fo.Pos()), int(it.Usable()), &it.Map))
		} else {
			fo.MarkDirty()
		}
		it.Advance(it.Usable())
	}
	if err := it.Err(); err != nil {
		return err
	}
	fo.WaitStable()
	return nil
}
