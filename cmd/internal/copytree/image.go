package copytree

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// inode is a Node and a Dir of a mounted or offline filesystem. It holds one reference.
type inode struct{ ip *vfs.Inode }

// ImageNode gives the Node of ip, taking over its reference.
func ImageNode(ip *vfs.Inode) Node { return inode{ip} }

// ImageDir gives the Dir of the directory ip, taking over its reference.
func ImageDir(ip *vfs.Inode) Dir { return inode{ip} }

func (n inode) Close() { n.ip.Put() }

func (n inode) Key() Key { return Key{n.ip.SB(), n.ip.Ino()} }

func (n inode) Attr() Attr {
	st := n.ip.Stat()
	return Attr{
		Mode: st.Mode, UID: st.UID, GID: st.GID, Size: st.Size, Nlink: st.Nlink, Rdev: st.Rdev,
		Atime: st.Atime, Mtime: st.Mtime, Key: n.Key(),
	}
}

func (n inode) Readlink(ctx context.Context) (string, error) { return n.ip.Readlink(ctx) }

func (n inode) Xattrs(ctx context.Context) ([]Xattr, error) {
	names, err := n.ip.ListXattr(ctx, vfs.Root)
	if err != nil {
		return nil, err
	}
	var list []Xattr
	for _, name := range names {
		v, err := n.ip.GetXattr(ctx, name)
		if errors.Is(err, errno.NODATA) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, Xattr{name, v})
	}
	return list, nil
}

func (n inode) List(ctx context.Context) ([]string, error) {
	f, err := n.ip.Open(ctx, vfs.ORdonly)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var names []string
	err = f.ReadDir(ctx, 0, func(d *vfs.DirEntry) bool {
		if d.Name != "." && d.Name != ".." {
			names = append(names, strings.Clone(d.Name))
		}
		return true
	})
	return names, err
}

func (n inode) Child(ctx context.Context, name string) (Node, error) {
	ip, err := n.ip.Lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	return inode{ip}, nil
}

func (n inode) Open(ctx context.Context) (Reader, error) {
	f, err := n.ip.Open(ctx, vfs.ORdonly|vfs.ONoAtime)
	if err != nil {
		return nil, err
	}
	return file{f}, nil
}

func (n inode) Look(ctx context.Context, name string) (Attr, bool, error) {
	ip, err := n.ip.Lookup(ctx, name)
	if err != nil {
		if errors.Is(err, errno.NOENT) {
			err = nil
		}
		return Attr{}, false, err
	}
	defer ip.Put()
	return inode{ip}.Attr(), true, nil
}

func (n inode) Mkdir(ctx context.Context, name string) (Dir, error) {
	ip, err := n.ip.Mkdir(ctx, vfs.Root, name, 0o700)
	if errors.Is(err, errno.EXIST) {
		if ip, err = n.ip.Lookup(ctx, name); err == nil && !ip.IsDir() {
			ip.Put()
			err = errno.NOTDIR
		}
	}
	if err != nil {
		return nil, err
	}
	return inode{ip}, nil
}

func (n inode) Create(ctx context.Context, name string) (Writer, error) {
	ip, err := n.ip.Create(ctx, vfs.Root, name, 0o600)
	if err != nil {
		return nil, err
	}
	defer ip.Put()
	f, err := ip.Open(ctx, vfs.OWronly)
	if err != nil {
		return nil, err
	}
	return file{f}, nil
}

func (n inode) Symlink(ctx context.Context, name, target string) error {
	ip, err := n.ip.Symlink(ctx, vfs.Root, name, target)
	if err == nil {
		ip.Put()
	}
	return err
}

func (n inode) Mknod(ctx context.Context, name string, mode uint32, rdev vfs.Dev) error {
	ip, err := n.ip.Mknod(ctx, vfs.Root, name, mode, rdev)
	if err == nil {
		ip.Put()
	}
	return err
}

func (n inode) Remove(ctx context.Context, name string) error { return n.ip.Unlink(ctx, name) }

func (n inode) with(ctx context.Context, name string, f func(ip *vfs.Inode) error) error {
	ip, err := n.ip.Lookup(ctx, name)
	if err != nil {
		return err
	}
	defer ip.Put()
	return f(ip)
}

// Mark remembers the number: a reference for each file with links could be very many.
func (n inode) Mark(ctx context.Context, name string) (ino any, err error) {
	err = n.with(ctx, name, func(ip *vfs.Inode) error { ino = ip.Ino(); return nil })
	return ino, err
}

func (n inode) Link(ctx context.Context, name string, to any) error {
	ino, ok := to.(uint64)
	if !ok {
		return errno.XDEV
	}
	ip, err := n.ip.SB().Get(ctx, ino)
	if err != nil {
		return err
	}
	defer ip.Put()
	return n.ip.Link(ctx, name, ip)
}

func (n inode) SetXattr(ctx context.Context, name string, x Xattr) error {
	return n.with(ctx, name, func(ip *vfs.Inode) error { return ip.SetXattr(ctx, vfs.Root, x.Name, x.Value, 0) })
}

func (n inode) set(ctx context.Context, name string, a vfs.SetAttr) error {
	return n.with(ctx, name, func(ip *vfs.Inode) error {
		if a.Valid == vfs.SetMode && ip.IsSymlink() {
			return nil
		}
		return ip.SetAttr(ctx, vfs.Root, &a)
	})
}

func (n inode) SetOwner(ctx context.Context, name string, uid, gid uint32) (bool, error) {
	err := n.set(ctx, name, vfs.SetAttr{Valid: vfs.SetUID | vfs.SetGID, UID: uid, GID: gid})
	return err == nil, err
}

func (n inode) SetMode(ctx context.Context, name string, mode uint32) error {
	return n.set(ctx, name, vfs.SetAttr{Valid: vfs.SetMode, Mode: mode})
}

func (n inode) SetTimes(ctx context.Context, name string, atime, mtime vfs.Time) error {
	return n.set(ctx, name, vfs.SetAttr{Valid: vfs.SetAtime | vfs.SetMtime, Atime: atime, Mtime: mtime})
}

// file is an open regular file of a SuperBlock.
type file struct{ f *vfs.File }

func (f file) ReadAt(ctx context.Context, p []byte, pos int64) (int, error) {
	return f.f.ReadAt(ctx, p, pos)
}

func (f file) NextData(ctx context.Context, pos int64) (int64, int64, error) {
	start, err := f.f.Seek(ctx, pos, vfs.SeekData)
	if errors.Is(err, errno.NXIO) {
		return 0, 0, io.EOF
	}
	if err != nil {
		return 0, 0, err
	}
	end, err := f.f.Seek(ctx, start, vfs.SeekHole)
	return start, end, err
}

func (f file) WriteAt(ctx context.Context, p []byte, pos int64) (int, error) {
	for done := 0; done < len(p); {
		n, err := f.f.WriteAt(ctx, p[done:], pos+int64(done))
		done += n
		if err != nil {
			return done, err
		}
		if n == 0 {
			return done, io.ErrShortWrite
		}
	}
	return len(p), nil
}

func (f file) Truncate(ctx context.Context, size int64) error {
	return f.f.Inode.SetAttr(ctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize, Size: size, File: f.f})
}

func (f file) Close() error { f.f.Close(); return nil }
