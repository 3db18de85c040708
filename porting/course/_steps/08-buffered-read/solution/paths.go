package minix

import (
	"context"
	"fmt"
	"slices"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// tables are the operation tables of a mount, one for each type of file, and the parts of reading and writing that have
// two sides.
type tables struct {
	file, dir, symlink, special vfs.InodeOperations
	fileFop, dirFop             vfs.FileOperations
	pages                       pagecache.Operations // of regular files
	metaPages                   pagecache.Operations // of directories and symbolic links: none while they lie in the buffer cache
	folioOrder                  uint8                // of the largest folio of a regular file: buffer heads have single pages

	directRead, directWrite, bufferedWrite func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error)
	truncatePage                           func(ctx context.Context, ip *vfs.Inode, pos int64) error

	// What directories and symbolic links hold. metaRead gives fewer bytes only at the end; metaWrite stores within one block, and
	// moves the end. Hold Rw: shared to read, exclusively to write.
	metaRead  func(ctx context.Context, ip *vfs.Inode, pos int64, p []byte) (int, error)
	metaWrite func(ctx context.Context, ip *vfs.Inode, pos int64, p []byte) error
}

// makeTables fills the tables: what all types have, the legacy side, and what the mount's paths put in its place.
func (fs *fsys) makeTables() {
	t := &fs.tables
	t.special = vfs.InodeOperations{SetAttr: fs.setAttr}
	t.file, t.dir, t.symlink = t.special, t.special, t.special
	fs.nameTable(&t.dir)
	t.symlink.Readlink = fs.readlink
	t.dirFop = vfs.FileOperations{ReadDir: fs.readDir, Fsync: fs.fsync}
	t.fileFop = vfs.FileOperations{Read: fs.read, Write: fs.write, Fsync: fs.fsync}
	fs.legacyTable(t)
	fs.iomapTable(t, fs.sb.Paths)
}

// mountPaths works out the path of each operation from the mount's words.
func mountPaths(opts *vfs.MountOptions) (vfs.Paths, error) {
	var p vfs.Paths
	for _, op := range Ported {
		// What reads through the cache moves by itself only where nothing is written.
		if op != vfs.OpBufferedRead || opts.ReadOnly || slices.Contains(Ported, vfs.OpWriteback) {
			p[op] = vfs.Iomap
		}
	}
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
		if !slices.Contains(sides(vfs.PathOp(op)), path) {
			return p, fmt.Errorf("%s has no %s side yet: %w", vfs.PathOp(op), path, errno.INVAL)
		}
	}
	return p, checkPaths(p, opts.ReadOnly)
}

// cacheOps keep their state in the private slot of a cached folio: a list of buffer heads, or iomap's two bits a block. What one of them
// left there the others must understand.
var cacheOps = []vfs.PathOp{vfs.OpBufferedRead, vfs.OpBufferedWrite, vfs.OpWriteback, vfs.OpFault, vfs.OpZero}

// checkPaths refuses mixtures that cannot work.
func checkPaths(p vfs.Paths, readOnly bool) error {
	if readOnly {
		return nil // nothing but reads gets to the cache
	}
	for _, op := range cacheOps[1:] {
		if (p[op] == vfs.Iomap) != (p[cacheOps[0]] == vfs.Iomap) {
			return fmt.Errorf("%s on %s, %s on %s: both keep their state in the same place of a cached folio, and go together with "+
				"buffered-read, buffered-write, writeback, fault, zero: %w", cacheOps[0], p[cacheOps[0]], op, p[op], errno.INVAL)
		}
	}
	return nil
}

// sides is FileSystem.Sides.
func sides(op vfs.PathOp) []vfs.Path {
	s := []vfs.Path{vfs.Legacy}
	if hasBridge {
		s = append(s, vfs.Bridge)
	}
	if slices.Contains(Ported, op) {
		s = append(s, vfs.Iomap)
	}
	return s
}
