package minix

import (
	"context"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/bufhead/bridge"
	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
)

// readOps say where the bytes of a file are, and allocate nothing.
var readOps = &iomap.Ops{Begin: readBegin}

// readBegin maps byte pos of the file, and as much of what follows as lies together.
func readBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, _ iomap.OpFlags, m, _ *iomap.Mapping) error {
	ip := inodeOf(vi)
	fs, bits := ip.fs, ip.fs.sb.BlockBits
	block := uint64(pos) >> bits
	want := (uint64(pos+length)+1<<bits-1)>>bits - block
	if block >= fs.super.MaxBlocks() {
		m.Offset, m.Length = int64(block)<<bits, int64(want)<<bits // nothing can be there
		return nil
	}
	e, err := ip.resolve(ctx, block, want)
	if err != nil {
		return err
	}
	m.Offset, m.Length, m.Dev = int64(block)<<bits, int64(e.n)<<bits, fs.sb.Dev
	if e.first != 0 {
		m.Type, m.Addr, m.Flags = iomap.Mapped, uint64(e.first)<<bits, iomap.FlagMerged
	}
	return nil
}

// bridged is get_block answered by readBegin, for reading.
func (fs *fsys) bridged(ctx context.Context, vi *vfs.Inode, iblock uint64, bh *bufhead.BufferHead, create bool) error {
	if create {
		return fs.getBlock(ctx, vi, iblock, bh, create)
	}
	return bridge.GetBlock(ctx, vi, iblock, bh, create, readOps, fs.bd)
}

// iomapTable puts the iomap side of an operation in the table where the paths say so.
func (fs *fsys) iomapTable(t *tables, p vfs.Paths) {
	if p[vfs.OpFiemap] == vfs.Iomap {
		t.file.Fiemap = func(ctx context.Context, ip *vfs.Inode, info *vfs.FiemapInfo) error {
			info.Clip(ip.Size()) // behind the end of the file there is nothing to walk through
			return iomap.Fiemap(ctx, ip, info, readOps)
		}
	}
}
