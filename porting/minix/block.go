package minix

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/vfs"
)

// metaBlock is one block of a directory or symbolic link, held for looking at and changing it.
type metaBlock struct {
	data []byte
	ip   *inode
	bh   *bufhead.BufferHead
}

// metaBlock gives block n of a directory or symbolic link; ok is false for a hole.
func (ip *inode) metaBlock(ctx context.Context, n uint64) (b metaBlock, ok bool, err error) {
	e, err := ip.resolve(ctx, n, 1)
	if err != nil || e.first == 0 {
		return b, false, err
	}
	bh, err := ip.fs.bd.Bread(ctx, uint64(e.first))
	if err != nil {
		return b, false, fmt.Errorf("inode %d: block %d: %w", ip.Ino(), n, err)
	}
	return metaBlock{bh.Data, ip, bh}, true, nil
}

// addMetaBlock gives block n, which is a hole, zeroed. The size does not change.
func (ip *inode) addMetaBlock(ctx context.Context, n uint64) (metaBlock, error) {
	e, err := ip.allocate(ctx, n, 1)
	if err != nil {
		return metaBlock{}, err
	}
	bh, err := ip.fs.bd.GetZeroed(ctx, uint64(e.first))
	if err != nil {
		return metaBlock{}, err
	}
	return metaBlock{bh.Data, ip, bh}, nil
}

// change lets f edit the block, which is written at the next sync, or fsync of the inode.
func (b *metaBlock) change(f func()) {
	b.bh.Lock()
	f()
	b.bh.Unlock()
	b.ip.fs.bd.MarkDirtyInode(b.bh, b.ip.Inode)
}

// put releases the block.
func (b *metaBlock) put() { b.bh.Put() }

// grow raises the size of a directory or symbolic link. Hold Rw exclusively.
func (ip *inode) grow(size int64) {
	ip.SetSize(size)
	ip.Dirty(vfs.DirtySize)
}
