package minix

import (
	"context"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
)

var (
	writeOps  = &iomap.Ops{Begin: writeBegin, End: writeEnd}   // allocates
	directOps = &iomap.Ops{Begin: directBegin, End: directEnd} // direct writes: allocates behind the end only

	extending = &iomap.DirectOps{EndIO: directDone}
)

// writeBegin maps pos for writing, with new zones where there is a hole.
func writeBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, _ iomap.OpFlags, m, _ *iomap.Mapping) error {
	ip := inodeOf(vi)
	block, n := ip.span(pos, length)
	var e extent
	err := ip.fs.retryFull(ctx, func() (err error) {
		e, err = ip.allocate(ctx, block, n)
		return err
	})
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

// directBegin maps pos for a direct write. Inside the file a hole is left to the cache: a new zone would be seen before its data.
func directBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
	size := vi.Size()
	if pos&^int64(vi.BlockSize()-1) >= size {
		return writeBegin(ctx, vi, pos, length, flags, m, src)
	}
	err := overBegin(ctx, vi, pos, length, flags, m, src)
	if pos+length > size {
		m.Flags |= iomap.FlagDirty
	}
	return err
}

// directEnd is writeEnd; and a write that got nowhere takes the way through the cache.
func directEnd(ctx context.Context, vi *vfs.Inode, pos, length, done int64, flags iomap.OpFlags, m *iomap.Mapping) error {
	if err := writeEnd(ctx, vi, pos, length, done, flags, m); err != nil || done > 0 {
		return err
	}
	return vfs.ErrNotBlock
}

// directDone is called when all of a direct write is on the device, or failed.
func directDone(_ context.Context, k *vfs.Kiocb, size int64, err error, _ iomap.DirectResult) error {
	if end := k.Pos + size; err == nil && end > k.Inode.Size() {
		k.Inode.SetSize(end)
		k.Inode.Dirty(vfs.DirtySize)
	}
	return err
}

// iomapDirectWrite puts direct writes on iomap.
func (fs *fsys) iomapDirectWrite(t *tables) {
	t.directWrite = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
		return iomap.Direct(ctx, k, p, true, directOps, extending, iomap.DirectForceWait, nil, 0)
	}
}
