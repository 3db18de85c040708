//go:build linux

package fuse

import (
	"context"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/iomapfs/iomapfs/vfs"
)

// Where a name is found in several spellings (in any case, by a short name), the kernel, which remembers each spelling by itself, must
// not go on believing in "foo" when somebody removes "FOO". So it is let remember the stored spelling only, and never that a name
// is not there; and an operation that takes a name away by another spelling has it ask again for every name it remembers, before
// the operation is answered. Where the kernel knows no such request (before Linux 6.16), it remembers no name.

// remember says for how long the kernel may trust what it is told of a name.
func (fs *rawFS) remember(ctx context.Context, dir *vfs.Inode, name string, out *gofuse.EntryOut) {
	if dir.Op.Stored != nil && !(fs.newEpoch != nil && dir.Stored(ctx, name)) {
		out.EntryValid, out.EntryValidNsec = 0, 0
	}
}

// changing runs f, which takes names away or puts others behind them.
func (fs *rawFS) changing(ctx context.Context, f func() error, dir *vfs.Inode, name string, dir2 *vfs.Inode, name2 string) error {
	if dir.Op.Stored == nil || fs.newEpoch == nil {
		return f()
	}
	exact := func() bool { return dir.Stored(ctx, name) && (dir2 == nil || dir2.Stored(ctx, name2)) }
	asStored := exact()
	err := f()
	if err == nil && (!asStored || dir2 != nil && !dir2.Stored(ctx, name2)) {
		if err := fs.newEpoch(); err != nil {
			fs.log.Warn("fuse: the kernel may remember a name that is gone", "name", name, "error", err)
		}
	}
	return err
}
