package minix

import (
	"context"
	"errors"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// initLink stores the target of a new symbolic link in its first block.
func (ip *inode) initLink(ctx context.Context, target string) error {
	if len(target) >= int(ip.fs.super.BlockSize) {
		return errno.NAMETOOL
	}
	b, err := ip.addMetaBlock(ctx, 0)
	if err != nil {
		return err
	}
	defer b.put()
	b.change(func() { copy(b.data, target) })
	ip.grow(int64(len(target)))
	return nil
}

// readlink is InodeOperations.Readlink.
func (fs *fsys) readlink(ctx context.Context, vi *vfs.Inode) (string, error) {
	b, ok, err := inodeOf(vi).metaBlock(ctx, 0)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", fs.corrupt(vi.Ino(), "the symbolic link has no target")
	}
	defer b.put()
	if n := vi.Size(); n > 0 && n < int64(len(b.data)) {
		return string(b.data[:n]), nil
	}
	return "", fs.corrupt(vi.Ino(), "the symbolic link has a target of %d bytes", vi.Size())
}

func errIsNoent(err error) bool { return errors.Is(err, errno.NOENT) }
