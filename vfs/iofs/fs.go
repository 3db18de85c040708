package iofs

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// FS is a super block, read through io/fs.
type FS struct {
	ctx context.Context //nolint:containedctx // io/fs has no place for one
	sb  *vfs.SuperBlock
}

var (
	_ fs.StatFS     = (*FS)(nil)
	_ fs.ReadDirFS  = (*FS)(nil)
	_ fs.ReadFileFS = (*FS)(nil)
	_ fs.ReadLinkFS = (*FS)(nil)
)

// New shows sb. When ctx is done operations fail; the super block stays the caller's.
func New(ctx context.Context, sb *vfs.SuperBlock) *FS { return &FS{ctx, sb} }

// pathError makes the error of an operation on a path, as os would say it.
func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: kind(err)}
}

// known is an error that also is one of io/fs's own.
type known struct {
	error
	is error
}

func (k known) Is(target error) bool { return target == k.is }
func (k known) Unwrap() error        { return k.error }

func kind(err error) error {
	switch errno.From(err) {
	case errno.NOENT, errno.NOTDIR: // a path through a file leads nowhere, as fs.FS has it
		return known{err, fs.ErrNotExist}
	case errno.EXIST:
		return known{err, fs.ErrExist}
	case errno.PERM, errno.ACCES:
		return known{err, fs.ErrPermission}
	}
	return err
}

// walk finds what a path names, with a reference.
func (f *FS) walk(op, name string, follow bool) (*vfs.Inode, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	ip, err := f.sb.Walk(f.ctx, name, follow)
	return ip, pathError(op, name, err)
}

// Open opens a file or directory for reading. Devices, fifos and sockets open and read as empty.
func (f *FS) Open(name string) (fs.File, error) {
	ip, err := f.walk("open", name, true)
	if err != nil {
		return nil, err
	}
	defer ip.Put()
	of, err := ip.Open(f.ctx, vfs.ORdonly)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	base := file{fs: f, f: of, name: name}
	if ip.IsDir() {
		return &dir{file: base}, nil
	}
	return &regular{file: base}, nil
}

// Stat tells of what a path names, symbolic links followed.
func (f *FS) Stat(name string) (fs.FileInfo, error) { return f.stat("stat", name, true) }

// Lstat is Stat of a symbolic link itself.
func (f *FS) Lstat(name string) (fs.FileInfo, error) { return f.stat("lstat", name, false) }

func (f *FS) stat(op, name string, follow bool) (fs.FileInfo, error) {
	ip, err := f.walk(op, name, follow)
	if err != nil {
		return nil, err
	}
	defer ip.Put()
	return &info{base(name), ip.Stat()}, nil
}

// ReadLink gives the target of a symbolic link.
func (f *FS) ReadLink(name string) (string, error) {
	ip, err := f.walk("readlink", name, false)
	if err != nil {
		return "", err
	}
	defer ip.Put()
	to, err := ip.Readlink(f.ctx)
	return to, pathError("readlink", name, err)
}

// ReadDir lists a directory, sorted by name.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	of, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer of.Close() //nolint:errcheck // opened for reading
	d, ok := of.(*dir)
	if !ok {
		return nil, pathError("readdir", name, errno.NOTDIR)
	}
	list, err := d.ReadDir(-1)
	slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return list, err
}

// ReadFile reads a whole file.
func (f *FS) ReadFile(name string) ([]byte, error) {
	of, err := f.Open(name)
	if err != nil {
		return nil, err
	}
	defer of.Close() //nolint:errcheck // opened for reading
	r, ok := of.(*regular)
	if !ok {
		return nil, pathError("read", name, errno.ISDIR)
	}
	// The size is what the medium says: a sparse file may claim more than there is memory, so memory follows what is read.
	b := make([]byte, 0, min(r.f.Inode.Size(), 1<<20)+1)
	for {
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if errors.Is(err, io.EOF) {
			return b, nil
		}
		if err != nil {
			return b, err
		}
		if len(b) == cap(b) {
			b = slices.Grow(b, 1)
		}
	}
}

func base(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
