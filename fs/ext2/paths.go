package ext2

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// tables are the operation tables of a mount, one for each type of file, and the parts of reading and writing that have a
// legacy and an iomap side.
type tables struct {
	file, dir, symlink, special vfs.InodeOperations
	fileFop, dirFop             vfs.FileOperations
	pages                       pagecache.Operations

	// Reads directly; ip.Rw is held shared.
	directRead func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error)
	// Writes directly over blocks that exist; ip.Rw is held shared, the range lies inside the file. Holes end it short.
	directOver func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error)
	// Writes directly; ip.Rw is held exclusively. Holes below the end of the file end it short.
	directWrite func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error)
	// Writes whole blocks directly, into holes too; ip.Rw and the invalidate lock are held exclusively.
	directFill func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error)
	// Writes through the cache; ip.Rw is held exclusively.
	bufferedWrite func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error)
	// Zeroes from pos to the end of its block; ip.Rw is held exclusively.
	truncatePage func(ctx context.Context, ip *vfs.Inode, pos int64) error
	// Zeroes what is mapped of [pos, end) through the cache; ip.Rw and the invalidate lock are held exclusively.
	zeroRange func(ctx context.Context, ip *vfs.Inode, pos, end int64) error
	// Says where a block of a directory or symbolic link lies, 0 for a hole. What it holds is metadata, and is read through the
	// buffer cache on every path.
	metaBlock func(ctx context.Context, ip *inode, fb disk.FileBlock) (disk.FSBlock, error)
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

// makeTables fills the tables: what all types of file have, then for each operation the side that the mount's paths name.
func (fs *fsys) makeTables() {
	t := &fs.tables
	t.special = vfs.InodeOperations{SetAttr: fs.setAttr, SetFlags: fs.setFlags, GetXattr: fs.getXattr, ListXattr: fs.listXattr, SetXattr: fs.setXattr}
	t.file, t.dir, t.symlink = t.special, t.special, t.special
	t.fileFop = vfs.FileOperations{Read: fs.read, Write: fs.write, Fsync: fs.fsync, Fallocate: fs.fallocate, Release: fs.releaseFile, Ioctl: fs.ioctl}
	fs.nameTables()
	t.dirFop.Fsync, t.dirFop.Ioctl = fs.fsync, fs.ioctl
	fs.legacyTable(t)
	fs.iomapTable(t)
	if fs.dax != nil {
		fs.daxTable(t)
	}
	t.dir.Fiemap = t.file.Fiemap
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

// folioOrders are the smallest and the largest folio of a regular file: a block at least, and on buffer heads no more than that.
func (fs *fsys) folioOrders() (lo, hi uint8) {
	for uint32(pagecache.PageSize)<<lo < fs.geo.BlockSize {
		lo++
	}
	if fs.on(vfs.OpBufferedRead, vfs.Iomap) {
		return lo, pagecache.MaxOrder
	}
	return lo, lo
}

// sides is FileSystem.Sides.
func sides(vfs.PathOp) []vfs.Path { return []vfs.Path{vfs.Legacy, vfs.Bridge, vfs.Iomap} }
