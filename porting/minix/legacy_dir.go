package minix

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/vfs"
)

// bufferRead reads what directories and symbolic links hold, through the buffer cache.
func (fs *fsys) bufferRead(ctx context.Context, vi *vfs.Inode, pos int64, p []byte) (int, error) {
	p = p[:min(int64(len(p)), max(vi.Size()-pos, 0))]
	for n := 0; n < len(p); {
		at := pos + int64(n)
		bh, err := inodeOf(vi).metaBuffer(ctx, uint64(at)>>fs.sb.BlockBits)
		if err != nil {
			return 0, err
		}
		n += copy(p[n:], bh.Data[at&int64(fs.super.BlockSize-1):])
		bh.Put()
	}
	return len(p), nil
}

// metaBuffer gives the buffer of a block of a directory or symbolic link.
func (ip *inode) metaBuffer(ctx context.Context, block uint64) (*bufhead.BufferHead, error) {
	e, err := ip.resolve(ctx, block, 1)
	if err != nil {
		return nil, err
	}
	if e.first == 0 {
		return nil, ip.fs.corrupt(ip.Ino(), "block %d of a directory or symbolic link is a hole", block)
	}
	bh, err := ip.fs.bd.Bread(ctx, uint64(e.first))
	if err != nil {
		return nil, fmt.Errorf("inode %d: block %d: %w", ip.Ino(), block, err)
	}
	return bh, nil
}

// bufferWrite stores bytes of a directory or symbolic link, in one block, which is allocated when it is missing. They are written at
// the next sync, or fsync of the inode.
func (fs *fsys) bufferWrite(ctx context.Context, vi *vfs.Inode, pos int64, p []byte) error {
	ip := inodeOf(vi)
	block := uint64(pos) >> fs.sb.BlockBits
	e, err := ip.allocate(ctx, block, 1)
	if err != nil {
		return err
	}
	var bh *bufhead.BufferHead
	if e.isNew {
		bh, err = fs.bd.GetZeroed(ctx, uint64(e.first))
	} else {
		bh, err = fs.bd.Bread(ctx, uint64(e.first))
	}
	if err != nil {
		return fmt.Errorf("inode %d: block %d: %w", vi.Ino(), block, err)
	}
	defer bh.Put()
	bh.Lock()
	copy(bh.Data[pos&int64(fs.super.BlockSize-1):], p)
	bh.Unlock()
	fs.bd.MarkDirtyInode(bh, vi)
	if end := pos + int64(len(p)); end > vi.Size() {
		vi.SetSize(end)
		vi.Dirty(vfs.DirtySize)
	}
	return nil
}
