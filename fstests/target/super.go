package target

import (
	"context"
	"path"
	"sort"
	"strings"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Super is a filesystem of this repository in the same process. Safe for concurrent use.
type Super struct {
	SB    *vfs.SuperBlock
	Label string
	Flags vfs.OpenFlags // added to every open: ODirect, OSync …
}

var ctx = context.Background()

// Name is the label, or the device's name.
func (s *Super) Name() string {
	if s.Label != "" {
		return s.Label
	}
	return s.SB.Dev.Name()
}

func (s *Super) at(p string, f func(ip *vfs.Inode) error) errno.Errno {
	ip, err := s.SB.Walk(ctx, p, false)
	if err != nil {
		return errno.From(err)
	}
	defer ip.Put()
	return errno.From(f(ip))
}

func (s *Super) in(p string, f func(dir *vfs.Inode, name string) error) errno.Errno {
	dir, name := path.Split(p)
	d, err := s.SB.Walk(ctx, dir, true)
	if err != nil {
		return errno.From(err)
	}
	defer d.Put()
	if !d.IsDir() {
		return errno.NOTDIR
	}
	return errno.From(f(d, name))
}

func (s *Super) open(p string, flags vfs.OpenFlags, f func(f *vfs.File) error) errno.Errno {
	return s.at(p, func(ip *vfs.Inode) error {
		if ip.IsSymlink() {
			return errno.LOOP
		}
		o, err := ip.Open(ctx, flags|s.Flags)
		if err != nil {
			return err
		}
		defer o.Close()
		return f(o)
	})
}

func put(ip *vfs.Inode, err error) error {
	if err == nil {
		ip.Put()
	}
	return err
}

// Create makes an empty regular file.
func (s *Super) Create(p string, mode uint32) errno.Errno {
	return s.in(p, func(d *vfs.Inode, n string) error { return put(d.Create(ctx, vfs.Root, n, mode)) })
}

// Mkdir makes a directory.
func (s *Super) Mkdir(p string, mode uint32) errno.Errno {
	return s.in(p, func(d *vfs.Inode, n string) error { return put(d.Mkdir(ctx, vfs.Root, n, mode)) })
}

// Mknod makes a special file.
func (s *Super) Mknod(p string, mode uint32, dev vfs.Dev) errno.Errno {
	return s.in(p, func(d *vfs.Inode, n string) error { return put(d.Mknod(ctx, vfs.Root, n, mode, dev)) })
}

// Symlink makes a symbolic link.
func (s *Super) Symlink(target, p string) errno.Errno {
	return s.in(p, func(d *vfs.Inode, n string) error { return put(d.Symlink(ctx, vfs.Root, n, target)) })
}

// Link makes a hard link.
func (s *Super) Link(from, to string) errno.Errno {
	return s.at(from, func(ip *vfs.Inode) error {
		if e := s.in(to, func(d *vfs.Inode, n string) error { return d.Link(ctx, n, ip) }); e != 0 {
			return e
		}
		return nil
	})
}

// Unlink removes a name.
func (s *Super) Unlink(p string) errno.Errno {
	return s.in(p, func(d *vfs.Inode, n string) error { return d.Unlink(ctx, n) })
}

// Rmdir removes a directory.
func (s *Super) Rmdir(p string) errno.Errno {
	return s.in(p, func(d *vfs.Inode, n string) error { return d.Rmdir(ctx, n) })
}

// Rename moves a name.
func (s *Super) Rename(from, to string, flags uint32) errno.Errno {
	return s.in(from, func(d *vfs.Inode, n string) error {
		if e := s.in(to, func(d2 *vfs.Inode, n2 string) error { return d.RenameTo(ctx, n, d2, n2, flags) }); e != 0 {
			return e
		}
		return nil
	})
}

// Write stores p at off.
func (s *Super) Write(p string, off int64, b []byte) (n int, e errno.Errno) {
	e = s.open(p, vfs.OWronly, func(f *vfs.File) (err error) { n, err = f.WriteAt(ctx, b, off); return err })
	return n, e
}

// Append stores p at the end.
func (s *Super) Append(p string, b []byte) (n int, e errno.Errno) {
	e = s.open(p, vfs.OWronly|vfs.OAppend, func(f *vfs.File) (err error) { n, err = f.WriteAt(ctx, b, 0); return err })
	return n, e
}

// Read gives up to n bytes.
func (s *Super) Read(p string, off int64, n int) (b []byte, e errno.Errno) {
	b = make([]byte, n)
	e = s.open(p, vfs.ORdonly, func(f *vfs.File) (err error) { n, err = f.ReadAt(ctx, b, off); return err })
	if e != 0 {
		return nil, e
	}
	return b[:n], 0
}

// Store stores through a mapping.
func (s *Super) Store(p string, off int64, b []byte) (n int, e errno.Errno) {
	e = s.open(p, vfs.ORdwr, func(f *vfs.File) (err error) {
		size := f.Inode.Size()
		if f.Inode.IsRegular() && off >= size {
			return nil
		}
		n, err = f.Store(ctx, b[:max(min(int64(len(b)), size-off), 0)], off)
		return err
	})
	return n, e
}

// Truncate sets the size.
func (s *Super) Truncate(p string, size int64) errno.Errno {
	return s.open(p, vfs.OWronly, func(f *vfs.File) error {
		return f.Inode.SetAttr(ctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize, Size: size, File: f})
	})
}

// Punch deallocates a range.
func (s *Super) Punch(p string, off, n int64) errno.Errno {
	return s.open(p, vfs.OWronly, func(f *vfs.File) error {
		return f.Fallocate(ctx, vfs.FallocPunchHole|vfs.FallocKeepSize, off, n)
	})
}

// ZeroRange zeroes a range.
func (s *Super) ZeroRange(p string, off, n int64) errno.Errno {
	return s.open(p, vfs.OWronly, func(f *vfs.File) error { return f.Fallocate(ctx, vfs.FallocZeroRange, off, n) })
}

// Chmod changes the permission bits.
func (s *Super) Chmod(p string, mode uint32) errno.Errno {
	return s.at(p, func(ip *vfs.Inode) error {
		return ip.SetAttr(ctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetMode, Mode: mode})
	})
}

// Chown changes the owner.
func (s *Super) Chown(p string, uid, gid uint32) errno.Errno {
	return s.at(p, func(ip *vfs.Inode) error {
		return ip.SetAttr(ctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetUID | vfs.SetGID, UID: uid, GID: gid})
	})
}

// SetXattr stores an attribute.
func (s *Super) SetXattr(p, name string, v []byte, flags int) errno.Errno {
	return s.at(p, func(ip *vfs.Inode) error { return ip.SetXattr(ctx, vfs.Root, name, v, flags) })
}

// GetXattr gives its value.
func (s *Super) GetXattr(p, name string) (v []byte, e errno.Errno) {
	e = s.at(p, func(ip *vfs.Inode) (err error) { v, err = ip.GetXattr(ctx, name); return err })
	return v, e
}

// RemoveXattr removes it.
func (s *Super) RemoveXattr(p, name string) errno.Errno {
	return s.at(p, func(ip *vfs.Inode) error { return ip.RemoveXattr(ctx, vfs.Root, name) })
}

// ListXattr gives all names, sorted.
func (s *Super) ListXattr(p string) (names []string, e errno.Errno) {
	e = s.at(p, func(ip *vfs.Inode) (err error) { names, err = ip.ListXattr(ctx, vfs.Root); return err })
	sort.Strings(names)
	return names, e
}

// Stat gives the attributes.
func (s *Super) Stat(p string) (i Info, e errno.Errno) {
	e = s.at(p, func(ip *vfs.Inode) error {
		st := ip.Stat()
		i = Info{Mode: st.Mode, UID: st.UID, GID: st.GID, Nlink: st.Nlink, Size: st.Size, Ino: st.Ino, Rdev: st.Rdev}
		if st.Mode&vfs.ModeType == vfs.ModeDir {
			i.Size = 0
		}
		return nil
	})
	return i, e
}

// Readlink gives the target.
func (s *Super) Readlink(p string) (t string, e errno.Errno) {
	e = s.at(p, func(ip *vfs.Inode) (err error) { t, err = ip.Readlink(ctx); return err })
	return t, e
}

// ReadDir lists names, sorted.
func (s *Super) ReadDir(p string) (names []string, e errno.Errno) {
	e = s.at(p, func(ip *vfs.Inode) error {
		if !ip.IsDir() {
			return errno.NOTDIR
		}
		f, err := ip.Open(ctx, vfs.ORdonly)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.ReadDir(ctx, 0, func(d *vfs.DirEntry) bool {
			if d.Name != "." && d.Name != ".." {
				names = append(names, strings.Clone(d.Name))
			}
			return true
		})
	})
	sort.Strings(names)
	return names, e
}

// Fsync makes a file or directory durable.
func (s *Super) Fsync(p string) errno.Errno {
	return s.open(p, vfs.ORdonly, func(f *vfs.File) error { return f.Fsync(ctx, false) })
}

// Sync makes everything durable.
func (s *Super) Sync() errno.Errno { return errno.From(s.SB.Sync(ctx)) }

var _ Target = (*Super)(nil)
