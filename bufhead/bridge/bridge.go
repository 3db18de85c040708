// Package bridge answers get_block from an iomap begin: the step of the porting guide in which a filesystem's buffer-head operations
// run on its new mappings, so that a wrong one shows before anything else has changed.
//
// Source: Linux Documentation/filesystems/iomap/porting.rst.
package bridge

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// GetBlock fills bh from ops' mapping of block iblock; dev is the device that the buffers' block numbers count on. ops is the
// table for reading when create is false, and else one whose Begin allocates:
//
//	hole        stays unmapped; with create it is no answer: errno.IO
//	mapped      Mapped, and New when the mapping is
//	unwritten   unmapped for a reader; Mapped and Unwritten with create
//	delalloc    unmapped for a reader; Mapped, Delay and New with create
//
// bh.Size is in bytes, asked and answered. Inline data has no block: errno.OPNOTSUPP.
func GetBlock(ctx context.Context, ip *vfs.Inode, iblock uint64, bh *bufhead.BufferHead, create bool, ops *iomap.Ops, dev *bufhead.Device) error {
	bits := ip.BlockBits()
	var flags iomap.OpFlags
	if create {
		flags = iomap.OpWrite
	}
	it := iomap.NewIter(ip, int64(iblock)<<bits, max(int64(bh.Size), 1<<bits), flags, ops)
	defer it.Close(ctx)
	if !it.Next(ctx) {
		return it.Err()
	}
	m, n := &it.Map, it.Usable()
	block := m.AddrOf(it.Pos()) >> bits
	it.Advance(n) // the buffers keep all of it
	bh.Size = int(min(n, 1<<30))
	switch m.Type {
	case iomap.Mapped:
		bh.Map(dev, uint64(block))
	case iomap.Unwritten:
		if create {
			bh.Map(dev, uint64(block))
			bh.Set(bufhead.Unwritten)
		}
	case iomap.Delalloc:
		if create {
			bh.Set(bufhead.Mapped | bufhead.Delay | bufhead.New)
		}
	case iomap.Hole:
		if create {
			return fmt.Errorf("inode %d: block %d: a hole is no answer to a write: %w", ip.Ino(), iblock, errno.IO)
		}
	default:
		return fmt.Errorf("inode %d: block %d: %s data has no block: %w", ip.Ino(), iblock, m.Type, errno.OPNOTSUPP)
	}
	if m.Flags&iomap.FlagNew != 0 && create {
		bh.Set(bufhead.New)
	}
	return nil
}
