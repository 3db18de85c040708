package iomap

import (
	"context"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Seek (iomap_seek_data, iomap_seek_hole) answers vfs.SeekData and vfs.SeekHole from byte pos on: pos itself when it lies inside what is
// sought, not rounded to blocks. Over unwritten space the page cache decides: what it holds uptodate is data. The end of the file is
// a hole. Hold ip.Rw shared.
//
// Errors: errno.NXIO for a position outside the file, and for no data behind it; errno.INVAL for another whence; Begin's.
// Source: Documentation/filesystems/iomap/operations.rst, "File Space Mapping Reporting".
func Seek(ctx context.Context, ip *vfs.Inode, pos int64, whence int, ops *Ops) (int64, error) {
	size := ip.Size()
	if whence != vfs.SeekData && whence != vfs.SeekHole {
		return 0, errno.INVAL
	}
	if pos < 0 || pos >= size {
		return 0, errno.NXIO
	}
	found := int64(-1)
	it := NewIter(ip, pos, size-pos, OpReport, ops)
	defer it.Close(ctx)
	for found < 0 && it.Next(ctx) {
		if at, ok := seekIn(it, whence == vfs.SeekData); ok {
			found = at
		} else {
			it.Advance(it.Usable())
		}
	}
	switch {
	case it.Err() != nil:
		return 0, it.Err()
	case found >= 0:
		return found, nil
	case whence == vfs.SeekHole:
		return size, nil
	}
	return 0, errno.NXIO
}

// seekIn looks for data, or for a hole, in the mapping in use.
func seekIn(it *Iter, data bool) (int64, bool) {
	pos, end := it.Pos(), it.Pos()+it.Usable()
	switch it.Map.Type {
	case Hole:
		return pos, !data
	case Unwritten:
		if data {
			return it.Inode.Pages.SeekData(pos, end)
		}
		return it.Inode.Pages.SeekHole(pos, end)
	}
	return pos, data
}
