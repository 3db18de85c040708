package ext2

import (
	"bytes"
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs"
)

// A symbolic link's target lies in the inode when it has at most 59 bytes, else in one block, which is metadata: it is
// written before the inode that points to it.

// initLink stores the target of a new symbolic link, which is shorter than a block. Inside a transaction.
func (ip *inode) initLink(ctx context.Context, target string) error {
	var in disk.Inode
	if in.SetFastSymlink(target) {
		ip.mapMu.Lock()
		ip.data = in.Block
		ip.mapMu.Unlock()
		ip.SetSize(int64(len(target)))
		return nil
	}
	bh, _, err := ip.appendBlock(ctx)
	if err != nil {
		return err
	}
	copy(bh.Data, target)
	ip.fs.dirtyBuffer(bh, kindNew)
	bh.Put()
	ip.SetSize(int64(len(target)))
	return nil
}

// readlink is InodeOperations.Readlink.
func (fs *fsys) readlink(ctx context.Context, vi *vfs.Inode) (string, error) {
	ip := inodeOf(vi)
	size := uint64(ip.Size())
	ip.xattrs.mu.RLock() // blocks and fileACL change together
	fast := ip.fastLink()
	ip.xattrs.mu.RUnlock()
	if fast {
		in := disk.Inode{Size: size}
		ip.mapMu.RLock()
		in.Block = ip.data
		ip.mapMu.RUnlock()
		target, err := in.FastSymlink()
		if err != nil {
			return "", fs.corrupt("symbolic link", ip.Ino(), 0, "%v", err)
		}
		return target, nil
	}
	if size == 0 || size >= uint64(fs.geo.BlockSize) {
		return "", fs.corrupt("symbolic link", ip.Ino(), 0, "size is %d, want 1 to %d", size, fs.geo.BlockSize-1)
	}
	bh, err := ip.readBlock(ctx, 0)
	if err != nil {
		return "", fmt.Errorf("symbolic link: %w", err)
	}
	if bh == nil {
		return "", fs.corrupt("symbolic link", ip.Ino(), 0, "its block is missing")
	}
	defer bh.Put()
	target := string(bh.Data[:size])
	if i := bytes.IndexByte(bh.Data[:size], 0); i >= 0 {
		return "", fs.corrupt("symbolic link", ip.Ino(), fs.addr(bh), "the target ends after %d bytes, want %d, the inode's size", i, size)
	}
	return target, nil
}
