package iomap

import (
	"context"

	"github.com/iomapfs/iomapfs/vfs"
)

// Bmap (iomap_bmap) gives the device block, in blocks of the filesystem, behind block of the file; 0 for what lies on no device.
// The VFS has written the file back before. Errors: Begin's.
// Source: Documentation/filesystems/iomap/operations.rst, "FIBMAP"; not to be offered by filesystems that never did.
func Bmap(ctx context.Context, ip *vfs.Inode, block uint64, ops *Ops) (uint64, error) {
	bits := ip.BlockBits()
	if block > 1<<(63-bits)-1 {
		return 0, nil
	}
	var at uint64
	it := NewIter(ip, int64(block)<<bits, 1<<bits, OpReport, ops)
	defer it.Close(ctx)
	if it.Next(ctx) && it.Map.Type == Mapped {
		at = uint64(it.Map.AddrOf(it.Pos())) >> bits
	}
	return at, it.Err()
}
