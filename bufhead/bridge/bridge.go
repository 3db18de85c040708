// Package bridge answers get_block from an iomap begin: the step of the porting guide in which a filesystem's buffer-head operations
// run on its new mappings, so that a wrong one shows before anything else has changed. And the other way round: iomap's operations on
// folios that are kept in buffer heads, for mappings that ask for it (Buffers).
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
// table for reading when create is false, and else one whose Begin allocates. For a reader what is not mapped is unmapped. With
// create the rules are those of Buffers, but a hole is no answer: errno.IO.
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
	it.Advance(n) // the buffers keep all of it
	bh.Size = int(min(n, 1<<30))
	switch {
	case create && m.Type == iomap.Hole:
		return fmt.Errorf("inode %d: block %d: a hole is no answer to a write: %w", ip.Ino(), iblock, errno.IO)
	case create, m.Type == iomap.Mapped, m.Type == iomap.Inline:
		err := toBuffer(ip, iblock, bh, m, dev)
		if !create {
			bh.Clear(bufhead.New)
		}
		return err
	}
	return nil
}
