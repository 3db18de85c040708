package minix

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// tables are the operation tables of a mount, one for each type of file, and the parts of reading and writing.
type tables struct {
	file, dir, symlink, special vfs.InodeOperations
	fileFop, dirFop             vfs.FileOperations
	pages                       pagecache.Operations // of regular files
	metaPages                   pagecache.Operations // of directories and symbolic links
	folioOrder                  uint8                // of the largest folio of a regular file

	directRead, directWrite, bufferedWrite func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error)
	truncatePage                           func(ctx context.Context, ip *vfs.Inode, pos int64) error

	// What directories and symbolic links hold. metaRead gives fewer bytes only at the end; metaWrite stores within one block, and
	// moves the end. Hold Rw: shared to read, exclusively to write.
	metaRead  func(ctx context.Context, ip *vfs.Inode, pos int64, p []byte) (int, error)
	metaWrite func(ctx context.Context, ip *vfs.Inode, pos int64, p []byte) error
}

// makeTables fills the tables.
func (fs *fsys) makeTables() {
	t := &fs.tables
	t.special = vfs.InodeOperations{SetAttr: fs.setAttr}
	t.file, t.dir, t.symlink = t.special, t.special, t.special
	fs.nameTable(&t.dir)
	t.symlink.Readlink = fs.readlink
	t.dirFop = vfs.FileOperations{ReadDir: fs.readDir, Fsync: fs.fsync}
	t.fileFop = vfs.FileOperations{Read: fs.read, Write: fs.write, Fsync: fs.fsync}
	fs.iomapTable(t)
}

// mountPaths works out the paths from the mount's words, of which there is one.
func mountPaths(opts *vfs.MountOptions) (vfs.Paths, error) {
	p := vfs.AllPaths(vfs.Iomap)
	if opts.Paths != nil {
		p = *opts.Paths
	}
	for _, w := range opts.Words {
		ok, err := p.Set(w)
		if err == nil && !ok {
			err = fmt.Errorf("unknown mount option %q: %w", w, errno.INVAL)
		}
		if err != nil {
			return p, err
		}
	}
	for op, path := range p {
		if path != vfs.Iomap {
			return p, fmt.Errorf("%s has no %s side any more: %w", vfs.PathOp(op), path, errno.INVAL)
		}
	}
	return p, nil
}

// sides is FileSystem.Sides.
func sides(vfs.PathOp) []vfs.Path { return []vfs.Path{vfs.Iomap} }
