package copytree

import (
	"context"

	"github.com/iomapfs/iomapfs/vfs"
)

// Key tells files apart: two nodes with the same Key are one file. FS is comparable; nil means not known.
type Key struct {
	FS  any
	Ino uint64
}

// Attr is what is copied beside the contents.
type Attr struct {
	Mode         uint32 // type and permission bits, Linux numbers
	UID, GID     uint32
	Size         int64 // bytes; regular files
	Nlink        uint32
	Rdev         vfs.Dev
	Atime, Mtime vfs.Time
	Key          Key
}

func (a *Attr) kind() uint32 { return a.Mode & vfs.ModeType }

// Xattr is an extended attribute.
type Xattr struct {
	Name  string // with its namespace
	Value []byte
}

// Node is a file of any type to be copied from. Close it.
type Node interface {
	Attr() Attr
	Readlink(ctx context.Context) (string, error)
	Xattrs(ctx context.Context) ([]Xattr, error)
	// List gives the names in a directory without "." and "..".
	List(ctx context.Context) ([]string, error)
	Child(ctx context.Context, name string) (Node, error)
	Open(ctx context.Context) (Reader, error)
	Close()
}

// Reader is an open regular file.
type Reader interface {
	ReadAt(ctx context.Context, p []byte, pos int64) (int, error)
	// NextData gives the first run [start, end) of data at or after pos; io.EOF when only holes follow.
	NextData(ctx context.Context, pos int64) (start, end int64, err error)
	Close() error
}

// Dir is a directory to be copied into. Names are single path elements. Close it.
type Dir interface {
	// Look tells what a name is, without following it. found is false when it is free.
	Look(ctx context.Context, name string) (a Attr, found bool, err error)
	// Mkdir makes a directory, or opens the one that is there.
	Mkdir(ctx context.Context, name string) (Dir, error)
	// Create makes a regular file, which must not exist.
	Create(ctx context.Context, name string) (Writer, error)
	Symlink(ctx context.Context, name, target string) error
	Mknod(ctx context.Context, name string, mode uint32, rdev vfs.Dev) error
	// Link makes name another name of what Mark gave.
	Link(ctx context.Context, name string, to any) error
	// Mark remembers a name for Link.
	Mark(ctx context.Context, name string) (any, error)
	// Remove takes a name away that is no directory.
	Remove(ctx context.Context, name string) error
	// SetXattr stores one attribute of name, which is not followed.
	SetXattr(ctx context.Context, name string, x Xattr) error
	// SetOwner, SetMode and SetTimes change name, which is not followed. A symbolic link has no mode of its own: nothing
	// happens. kept is false when this user may not give files away.
	SetOwner(ctx context.Context, name string, uid, gid uint32) (kept bool, err error)
	SetMode(ctx context.Context, name string, mode uint32) error
	SetTimes(ctx context.Context, name string, atime, mtime vfs.Time) error
	Key() Key
	Close()
}

// Writer is a new regular file.
type Writer interface {
	WriteAt(ctx context.Context, p []byte, pos int64) (int, error)
	Truncate(ctx context.Context, size int64) error
	Close() error
}
