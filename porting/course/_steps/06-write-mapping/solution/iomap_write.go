package minix

import (
	"context"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
)

// writeOps map for writing, and allocate.
var writeOps = &iomap.Ops{Begin: writeBegin, End: writeEnd}

// writeBegin maps pos for writing, with new zones where there is a hole.
func writeBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, _ iomap.OpFlags, m, _ *iomap.Mapping) error {
	ip := inodeOf(vi)
	block, n := ip.span(pos, length)
	e, err := ip.allocate(ctx, block, n)
	if err != nil {
		return err
	}
	ip.fill(m, block, e)
	if e.isNew {
		m.Flags |= iomap.FlagNew
	}
	if e.isNew || pos+length > vi.Size() {
		m.Flags |= iomap.FlagDirty
	}
	return nil
}

// writeEnd gives back what was allocated behind the end of the file and not written.
func writeEnd(ctx context.Context, vi *vfs.Inode, pos, length, done int64, _ iomap.OpFlags, m *iomap.Mapping) error {
	end := max(vi.Size(), pos+done)
	if done == length || m.Flags&iomap.FlagNew == 0 || end >= m.End() {
		return nil
	}
	if done == 0 {
		end = max(vi.Size(), m.Offset)
	}
	bs := int64(vi.BlockSize())
	return inodeOf(vi).freeFrom(ctx, uint64((end+bs-1)/bs))
}
