package minix

import (
	"context"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
)

// metaOps read directories and symbolic links.
var metaOps = &iomap.Ops{Begin: metaBegin}

// metaBegin is readBegin for what may have no holes.
func metaBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
	err := readBegin(ctx, vi, pos, length, flags, m, src)
	if err == nil && m.Type == iomap.Hole && m.Offset < vi.Size() {
		err = inodeOf(vi).fs.corrupt(vi.Ino(), "a directory or symbolic link has a hole at byte %d", m.Offset)
	}
	return err
}

// iomapDir puts what directories and symbolic links hold in the page cache.
func (fs *fsys) iomapDir(t *tables) {
	t.metaPages = cachePages(metaOps)
	t.metaRead = func(ctx context.Context, ip *vfs.Inode, pos int64, p []byte) (int, error) {
		return ip.Pages.Read(ctx, nil, p, pos, 0)
	}
	t.metaWrite = func(ctx context.Context, ip *vfs.Inode, pos int64, p []byte) error {
		k := vfs.Kiocb{Inode: ip, Pos: pos}
		_, err := iomap.BufferedWrite(ctx, &k, p, bufferedOps, nil, nil) // in one block: all or nothing
		return err
	}
}
