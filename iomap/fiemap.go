package iomap

import (
	"context"
	"errors"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Fiemap (iomap_fiemap) reports the mappings of info's range as extents, in order and as Begin gives them: neither clipped to the range nor
// put together. Holes are left out. The last extent of the range is marked so, when the answer reaches it. Each is handed to info as
// soon as the next is known: a file may have millions. vfs.FiemapSync was served by the VFS. vfs.FiemapXattr asks for other mappings, so
// it is refused here: a filesystem that has them passes their operations, and clears the flag. Hold ip.Rw shared.
//
// Errors: those of FiemapInfo.Prep, Begin's, Emit's; errno.NOENT from Begin means that there is nothing to map, and is success.
// Source: Documentation/filesystems/iomap/operations.rst, "FS_IOC_FIEMAP"; Documentation/filesystems/fiemap.rst.
func Fiemap(ctx context.Context, ip *vfs.Inode, info *vfs.FiemapInfo, ops *Ops) error {
	if err := info.Prep(0, uint64(ip.SB().MaxBytes)); err != nil {
		return err
	}
	var prev vfs.FiemapExtent // known not to be the last when the next one comes
	full := false
	it := NewIter(ip, int64(info.Start), int64(info.Len), OpReport, ops)
	defer it.Close(ctx)
	for !full && it.Next(ctx) {
		if it.Map.Type != Hole {
			if prev.Length > 0 {
				var err error
				full, err = info.Fill(prev)
				it.Fail(err)
			}
			prev = extentOf(&it.Map)
		}
		it.Advance(it.Usable())
	}
	if err := it.Err(); err != nil && !errors.Is(err, errno.NOENT) {
		return err
	}
	if !full && prev.Length > 0 {
		prev.Flags |= vfs.ExtentLast
		if _, err := info.Fill(prev); err != nil {
			return err
		}
	}
	return nil
}

// extentOf is a mapping in FIEMAP's terms.
func extentOf(m *Mapping) vfs.FiemapExtent {
	e := vfs.FiemapExtent{Logical: uint64(m.Offset), Length: uint64(m.Length)}
	if m.Addr != NullAddr {
		e.Physical = m.Addr
	}
	switch m.Type {
	case Delalloc:
		e.Flags = vfs.ExtentDelalloc | vfs.ExtentUnknown
	case Unwritten:
		e.Flags = vfs.ExtentUnwritten
	case Inline:
		e.Flags = vfs.ExtentInline | vfs.ExtentNotAligned
	}
	if m.Flags&FlagMerged != 0 {
		e.Flags |= vfs.ExtentMerged
	}
	if m.Flags&FlagShared != 0 {
		e.Flags |= vfs.ExtentShared
	}
	return e
}
