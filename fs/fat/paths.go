package fat

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// operations are the operation tables of a mount, for files and directories, and the parts of reading and writing that have a legacy
// and an iomap side.
type operations struct {
	file, dir       vfs.InodeOperations
	fileFop, dirFop vfs.FileOperations
	pages           pagecache.Operations

	// Reads directly; ip.Rw is held shared.
	directRead func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error)
	// Writes directly inside the file; ip.Rw is held shared.
	directOver func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error)
	// Writes whole blocks directly, up to the end of the file and on; ip.Rw and the invalidate lock are held exclusively.
	directFill func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error)
	// Writes through the cache; ip.Rw is held exclusively.
	bufferedWrite func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error)
	// Makes a file longer through the cache; nil where that is done on the device. ip.Rw is held exclusively.
	contExpand func(ctx context.Context, ip *vfs.Inode, size int64) error
	// Zeroes from pos to the end of its block; ip.Rw is held exclusively.
	truncatePage func(ctx context.Context, ip *vfs.Inode, pos int64) error
	// Says where a block of a directory lies, 0 behind its end. What it holds is metadata, and is read through the buffer cache on
	// every path.
	metaBlock func(ctx context.Context, ip *inode, fb fileBlock) (disk.Sector, error)
}

// cacheOps are the operations that share a folio's private slot, and so their path.
var cacheOps = []vfs.PathOp{vfs.OpBufferedRead, vfs.OpBufferedWrite, vfs.OpWriteback, vfs.OpFault, vfs.OpZero}

// checkPaths refuses mixtures that cannot work.
func checkPaths(p vfs.Paths) error {
	for _, op := range cacheOps[1:] {
		if (p[op] == vfs.Iomap) != (p[cacheOps[0]] == vfs.Iomap) {
			return fmt.Errorf("%s on %s, %s on %s: both keep their state in the same place of a cached folio, and go together with "+
				"buffered-read, buffered-write, writeback, fault, zero: %w", cacheOps[0], p[cacheOps[0]], op, p[op], errno.INVAL)
		}
	}
	return nil
}

// makeTables fills the tables: what all files have, then for each operation the side that the mount's paths name.
func (fs *fsys) makeTables() {
	t := &fs.tables
	t.file = vfs.InodeOperations{SetAttr: fs.setAttr, GetXattr: fs.getXattr, ListXattr: fs.listXattr, SetXattr: fs.setXattr}
	t.dir = t.file
	t.fileFop = vfs.FileOperations{Read: fs.read, Write: fs.write, Fsync: fs.fsync, Fallocate: fs.fallocate, Release: fs.releaseFile, Ioctl: fs.ioctl}
	t.dirFop = vfs.FileOperations{Fsync: fs.fsync, Ioctl: fs.ioctl}
	fs.nameTables()
	fs.legacyTable(t)
	fs.iomapTable(t)
}

// on reports whether an operation runs on a path.
func (fs *fsys) on(op vfs.PathOp, p vfs.Path) bool { return fs.opts.Paths[op] == p }

// getBlockFor gives the get_block of an operation: the filesystem's, or on the bridge one that asks the iomap begin.
func (fs *fsys) getBlockFor(op vfs.PathOp) bufhead.GetBlock {
	if fs.on(op, vfs.Bridge) {
		return fs.bridged
	}
	return fs.getBlock
}

// folioOrders are the smallest and the largest folio of a file.
func (fs *fsys) folioOrders() (lo, hi uint8) {
	if fs.on(vfs.OpBufferedRead, vfs.Iomap) {
		return 0, pagecache.MaxOrder
	}
	return 0, 0
}

// sides is FileSystem.Sides.
func sides(vfs.PathOp) []vfs.Path { return []vfs.Path{vfs.Legacy, vfs.Bridge, vfs.Iomap} }
