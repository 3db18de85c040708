package iofs

import (
	"errors"
	"io"
	"io/fs"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// file is what open files and directories have in common.
type file struct {
	fs     *FS
	f      *vfs.File
	name   string
	closed bool
}

func (f *file) Stat() (fs.FileInfo, error) {
	if f.closed {
		return nil, pathError("stat", f.name, fs.ErrClosed)
	}
	return &info{base(f.name), f.f.Inode.Stat()}, nil
}

func (f *file) Close() error {
	if f.closed {
		return pathError("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	f.f.Close()
	return nil
}

// regular is an open file that is not a directory.
type regular struct {
	file
	pos int64
}

var (
	_ io.ReaderAt = (*regular)(nil)
	_ io.Seeker   = (*regular)(nil)
)

func (r *regular) Read(p []byte) (int, error) {
	n, err := r.read(p, r.pos)
	r.pos += int64(n)
	if err == nil && n == 0 && len(p) > 0 {
		err = io.EOF
	}
	return n, err
}

// ReadAt reads as io.ReaderAt says: fewer bytes than asked only with an error.
func (r *regular) ReadAt(p []byte, pos int64) (int, error) {
	if pos < 0 {
		return 0, pathError("read", r.name, fs.ErrInvalid)
	}
	n, err := r.read(p, pos)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

func (r *regular) read(p []byte, pos int64) (int, error) {
	switch {
	case r.closed:
		return 0, pathError("read", r.name, fs.ErrClosed)
	case len(p) == 0 || !r.f.Inode.IsRegular():
		return 0, nil
	}
	n, err := r.f.ReadAt(r.fs.ctx, p, pos)
	return n, pathError("read", r.name, err)
}

// Seek moves the position of Read.
func (r *regular) Seek(off int64, whence int) (int64, error) {
	if r.closed {
		return 0, pathError("seek", r.name, fs.ErrClosed)
	}
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		off += r.pos
	case io.SeekEnd:
		off += r.f.Inode.Size()
	default:
		off = -1
	}
	if off < 0 {
		return 0, pathError("seek", r.name, fs.ErrInvalid)
	}
	r.pos = off
	return off, nil
}

// dir is an open directory.
type dir struct {
	file
	pos int64 // cookie of what comes next
	end bool
}

var _ fs.ReadDirFile = (*dir)(nil)

func (d *dir) Read([]byte) (int, error) { return 0, pathError("read", d.name, errno.ISDIR) }

// ReadDir lists the next n entries, or all that are left, in the directory's own order. Entries that are gone by the time
// their type is asked for are left out.
func (d *dir) ReadDir(n int) ([]fs.DirEntry, error) {
	if d.closed {
		return nil, pathError("readdir", d.name, fs.ErrClosed)
	}
	list := []fs.DirEntry{}
	var untyped []int // the filesystem's directories keep no types
	for !d.end && (n <= 0 || len(list) < n) {
		began := d.pos
		err := d.f.ReadDir(d.fs.ctx, d.pos, func(e *vfs.DirEntry) bool {
			if n > 0 && len(list) == n {
				return false
			}
			d.pos = e.Next
			if e.Name == "." || e.Name == ".." {
				return true
			}
			if e.Type == vfs.DTUnknown {
				untyped = append(untyped, len(list))
			}
			name := string([]byte(e.Name)) // e's is valid only now
			list = append(list, &dirEntry{fs: d.fs, dir: d.name, name: name, typ: goMode(uint32(e.Type) << 12).Type()})
			return true
		})
		if err != nil {
			return list, pathError("readdir", d.name, err)
		}
		d.end = d.pos == began
	}
	for i := len(untyped) - 1; i >= 0; i-- {
		e := list[untyped[i]].(*dirEntry)
		fi, err := e.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist):
			list = append(list[:untyped[i]], list[untyped[i]+1:]...)
		case err != nil:
			return list, err
		default:
			e.typ = fi.Mode().Type()
		}
	}
	if n > 0 && len(list) == 0 {
		return list, io.EOF
	}
	return list, nil
}
