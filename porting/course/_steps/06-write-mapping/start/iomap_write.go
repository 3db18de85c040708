package minix

import (
	"context"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
)

// writeOps map for writing, and allocate.
var writeOps = &iomap.Ops{Begin: writeBegin, End: writeEnd}

// writeBegin maps pos for writing, with new zones where there is a hole.
func writeBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
	// Your task: allocate where there is a hole, and say by flags what the caller must know.
	return readBegin(ctx, vi, pos, length, flags, m, src)
}

// writeEnd gives back what was allocated behind the end of the file and not written.
func writeEnd(ctx context.Context, vi *vfs.Inode, pos, length, done int64, flags iomap.OpFlags, m *iomap.Mapping) error {
	// Your task.
	return nil
}
