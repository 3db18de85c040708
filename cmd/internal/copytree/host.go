package copytree

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// hostNode is a file of the host.
type hostNode struct {
	path string
	a    Attr
}

// HostNode gives the Node of a host path. follow resolves a symbolic link at the end.
func HostNode(path string, follow bool) (Node, error) {
	if follow {
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			return nil, err
		}
		path = real
	}
	fi, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	return hostNode{path, attrOf(fi)}, nil
}

func (n hostNode) Attr() Attr { return n.a }
func (n hostNode) Close()     {}

func (n hostNode) Readlink(context.Context) (string, error) { return os.Readlink(n.path) }
func (n hostNode) Xattrs(context.Context) ([]Xattr, error)  { return listXattrs(n.path) }

func (n hostNode) List(context.Context) ([]string, error) {
	d, err := os.Open(n.path)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func (n hostNode) Child(_ context.Context, name string) (Node, error) {
	return HostNode(filepath.Join(n.path, name), false)
}

func (n hostNode) Open(context.Context) (Reader, error) {
	f, err := os.OpenFile(n.path, os.O_RDONLY|openNoBlock, 0)
	if err != nil {
		return nil, err
	}
	return hostFile{f}, nil
}

// hostDir is a directory of the host.
type hostDir struct {
	path string
	key  Key
}

// HostDir gives the Dir of a host directory.
func HostDir(path string) (Dir, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		return nil, fmt.Errorf("%s: %w", path, errno.NOTDIR)
	}
	return hostDir{path, attrOf(fi).Key}, nil
}

func (d hostDir) Key() Key { return d.key }
func (d hostDir) Close()   {}

// at joins a name, which may come from an image that somebody else made, and must not lead out of the directory.
func (d hostDir) at(name string) (string, error) {
	bad := name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || strings.ContainsRune(name, filepath.Separator) ||
		runtime.GOOS == "windows" && strings.ContainsAny(name, `\:`)
	if bad {
		return "", fmt.Errorf("%q cannot be a file name here: %w", name, errno.INVAL)
	}
	return filepath.Join(d.path, name), nil
}

func (d hostDir) Look(_ context.Context, name string) (Attr, bool, error) {
	p, err := d.at(name)
	if err != nil {
		return Attr{}, false, err
	}
	fi, err := os.Lstat(p)
	if os.IsNotExist(err) {
		return Attr{}, false, nil
	}
	if err != nil {
		return Attr{}, false, err
	}
	return attrOf(fi), true, nil
}

func (d hostDir) Mkdir(_ context.Context, name string) (Dir, error) {
	p, err := d.at(name)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(p, 0o700); err != nil && !os.IsExist(err) {
		return nil, err
	}
	fi, err := os.Lstat(p) // not Stat: a link in its place could lead anywhere
	if err != nil {
		return nil, err
	}
	if !fi.IsDir() {
		return nil, fmt.Errorf("%s: %w", p, errno.NOTDIR)
	}
	return hostDir{p, attrOf(fi).Key}, nil
}

func (d hostDir) Create(_ context.Context, name string) (Writer, error) {
	p, err := d.at(name)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // O_EXCL follows no link
	if err != nil {
		return nil, err
	}
	return hostFile{f}, nil
}

func (d hostDir) Symlink(_ context.Context, name, target string) error {
	p, err := d.at(name)
	if err != nil {
		return err
	}
	return os.Symlink(target, p)
}

func (d hostDir) Mknod(_ context.Context, name string, mode uint32, rdev vfs.Dev) error {
	p, err := d.at(name)
	if err != nil {
		return err
	}
	if err := mknod(p, mode, rdev); err != nil {
		return &os.PathError{Op: "mknod", Path: p, Err: err}
	}
	return nil
}

func (d hostDir) Mark(_ context.Context, name string) (any, error) { return d.at(name) }

func (d hostDir) Link(_ context.Context, name string, to any) error {
	p, err := d.at(name)
	if err != nil {
		return err
	}
	old, ok := to.(string)
	if !ok {
		return errno.XDEV
	}
	return os.Link(old, p)
}

func (d hostDir) Remove(_ context.Context, name string) error {
	p, err := d.at(name)
	if err != nil {
		return err
	}
	return os.Remove(p)
}

func (d hostDir) SetXattr(_ context.Context, name string, x Xattr) error {
	p, err := d.at(name)
	if err != nil {
		return err
	}
	return setXattr(p, x)
}

func (d hostDir) SetOwner(_ context.Context, name string, uid, gid uint32) (bool, error) {
	p, err := d.at(name)
	if err != nil {
		return false, err
	}
	if err := os.Lchown(p, int(uid), int(gid)); err != nil {
		switch errno.From(err) {
		case errno.PERM, errno.INVAL, errno.OPNOTSUPP: // INVAL: a user namespace without that user
			return false, nil
		}
		return false, ignoreUnsupported(err)
	}
	return true, nil
}

func (d hostDir) SetMode(_ context.Context, name string, mode uint32) error {
	p, err := d.at(name)
	if err != nil {
		return err
	}
	fi, err := os.Lstat(p)
	if err != nil || fi.Mode()&os.ModeSymlink != 0 {
		return err
	}
	m := os.FileMode(mode & 0o777)
	for bit, std := range map[uint32]os.FileMode{vfs.ModeSetUID: os.ModeSetuid, vfs.ModeSetGID: os.ModeSetgid, vfs.ModeSticky: os.ModeSticky} {
		if mode&bit != 0 {
			m |= std
		}
	}
	return os.Chmod(p, m)
}

func (d hostDir) SetTimes(_ context.Context, name string, atime, mtime vfs.Time) error {
	p, err := d.at(name)
	if err != nil {
		return err
	}
	return setTimes(p, atime, mtime)
}

// hostFile is an open regular file.
type hostFile struct{ f *os.File }

func (f hostFile) ReadAt(_ context.Context, p []byte, pos int64) (int, error) {
	n, err := f.f.ReadAt(p, pos)
	if err == io.EOF && n > 0 {
		err = nil
	}
	return n, err
}

func (f hostFile) NextData(_ context.Context, pos int64) (int64, int64, error) {
	return nextData(f.f, pos)
}

func (f hostFile) WriteAt(_ context.Context, p []byte, pos int64) (int, error) {
	return f.f.WriteAt(p, pos)
}

func (f hostFile) Truncate(_ context.Context, size int64) error { return f.f.Truncate(size) }
func (f hostFile) Close() error                                 { return f.f.Close() }

// modeOf turns the standard library's mode into Linux numbers.
func modeOf(m os.FileMode) uint32 {
	mode := uint32(m.Perm())
	switch m.Type() {
	case 0:
		mode |= vfs.ModeRegular
	case os.ModeDir:
		mode |= vfs.ModeDir
	case os.ModeSymlink:
		mode |= vfs.ModeSymlink
	case os.ModeNamedPipe:
		mode |= vfs.ModeFIFO
	case os.ModeSocket:
		mode |= vfs.ModeSocket
	case os.ModeDevice:
		mode |= vfs.ModeBlock
	case os.ModeDevice | os.ModeCharDevice:
		mode |= vfs.ModeChar
	}
	for bit, std := range map[uint32]os.FileMode{vfs.ModeSetUID: os.ModeSetuid, vfs.ModeSetGID: os.ModeSetgid, vfs.ModeSticky: os.ModeSticky} {
		if m&std != 0 {
			mode |= bit
		}
	}
	return mode
}

// plainAttr is what every host tells of a file.
func plainAttr(fi os.FileInfo) Attr {
	t := vfs.TimeOf(fi.ModTime())
	return Attr{Mode: modeOf(fi.Mode()), Size: fi.Size(), Nlink: 1, Atime: t, Mtime: t}
}
