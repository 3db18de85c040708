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
	return ip.fs.tables.metaWrite(ctx, ip.Inode, 0, []byte(target))
}

// readlink is InodeOperations.Readlink.
func (fs *fsys) readlink(ctx context.Context, vi *vfs.Inode) (string, error) {
	n := vi.Size()
	if n <= 0 || n >= int64(fs.super.BlockSize) {
		return "", fs.corrupt(vi.Ino(), "the symbolic link has a target of %d bytes", n)
	}
	target := make([]byte, n)
	if _, err := fs.tables.metaRead(ctx, vi, 0, target); err != nil {
		return "", err
	}
	return string(target), nil
}

func errIsNoent(err error) bool { return errors.Is(err, errno.NOENT) }
