// Package model is a filesystem in memory that does nothing but be right: what the others are compared with. It follows
// POSIX and what Linux's filesystems answer where POSIX leaves it open. Not safe for concurrent use.
package model

import (
	"sort"
	"strings"

	"github.com/iomapfs/iomapfs/fstests/target"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// FS is the model.
type FS struct {
	root  *node
	next  uint64
	Links uint32 // most links of a file
	// Fold, when set, is what names are compared by: names that fold to the same are the same. Such a filesystem keeps the case a
	// name was made with, and has no hard links. Set it before use.
	Fold func(name string) string
}

type node struct {
	ino    uint64
	mode   uint32
	uid    uint32
	gid    uint32
	nlink  uint32
	data   []byte
	target string
	dev    vfs.Dev
	kids   map[string]*node  // by folded name
	shown  map[string]string // folded name → name
	parent *node
	xattr  map[string][]byte
}

// New makes an empty filesystem with a lost+found, as mke2fs does, when lostFound.
func New(lostFound bool) *FS {
	fs := &FS{Links: 32000}
	fs.root = fs.node(vfs.ModeDir | 0o755)
	fs.root.parent = fs.root
	if lostFound {
		fs.Mkdir("lost+found", 0o700)
	}
	return fs
}

func (fs *FS) node(mode uint32) *node {
	fs.next++
	n := &node{ino: fs.next, mode: mode, nlink: 1, xattr: map[string][]byte{}}
	if mode&vfs.ModeType == vfs.ModeDir {
		n.nlink, n.kids, n.shown = 2, map[string]*node{}, map[string]string{}
	}
	return n
}

// Name is "model".
func (fs *FS) Name() string { return "model" }

func (fs *FS) fold(name string) string {
	if fs.Fold == nil {
		return name
	}
	return fs.Fold(name)
}

// enter puts a child under a name: the last part of p, which folds to key.
func (n *node) enter(key, p string, kid *node) {
	n.kids[key] = kid
	n.shown[key] = p[strings.LastIndexByte(p, '/')+1:]
}

func (n *node) remove(key string) {
	delete(n.kids, key)
	delete(n.shown, key)
}

func (fs *FS) walk(p string) (*node, errno.Errno) {
	n := fs.root
	for _, name := range strings.Split(p, "/") {
		if name == "" {
			continue
		}
		if n.kids == nil {
			return nil, n.notDir()
		}
		k := n.kids[fs.fold(name)]
		if k == nil {
			return nil, errno.NOENT
		}
		n = k
	}
	return n, 0
}

// notDir is what walking through something that is no directory answers. Symbolic links lead nowhere in the model.
func (n *node) notDir() errno.Errno {
	if n.mode&vfs.ModeType == vfs.ModeSymlink {
		return errno.NOENT
	}
	return errno.NOTDIR
}

// dir gives the directory that p lies in, and the folded last part.
func (fs *FS) dir(p string) (*node, string, errno.Errno) {
	i := strings.LastIndexByte(p, '/')
	d, e := fs.walk(p[:max(i, 0)])
	if e != 0 {
		return nil, "", e
	}
	if d.kids == nil {
		return nil, "", d.notDir()
	}
	if len(p[i+1:]) > 255 {
		return nil, "", errno.NAMETOOL
	}
	return d, fs.fold(p[i+1:]), 0
}

func (fs *FS) add(p string, n *node) errno.Errno {
	d, name, e := fs.dir(p)
	if e != 0 {
		return e
	}
	if d.kids[name] != nil {
		return errno.EXIST
	}
	if n.kids != nil {
		d.nlink++
		n.parent = d
	}
	if d.mode&vfs.ModeSetGID != 0 {
		n.gid = d.gid
		if n.kids != nil {
			n.mode |= vfs.ModeSetGID
		}
	}
	d.enter(name, p, n)
	return 0
}

// Create makes an empty regular file.
func (fs *FS) Create(p string, mode uint32) errno.Errno {
	return fs.add(p, fs.node(vfs.ModeRegular|mode))
}

// Mkdir makes a directory.
func (fs *FS) Mkdir(p string, mode uint32) errno.Errno { return fs.add(p, fs.node(vfs.ModeDir|mode)) }

// Mknod makes a special file.
func (fs *FS) Mknod(p string, mode uint32, d vfs.Dev) errno.Errno {
	n := fs.node(mode)
	if t := mode & vfs.ModeType; t == vfs.ModeBlock || t == vfs.ModeChar {
		n.dev = d
	}
	return fs.add(p, n)
}

// Symlink makes a symbolic link.
func (fs *FS) Symlink(target, p string) errno.Errno {
	n := fs.node(vfs.ModeSymlink | 0o777)
	n.target = target
	return fs.add(p, n)
}

// Link makes a hard link.
func (fs *FS) Link(from, to string) errno.Errno {
	n, e := fs.walk(from)
	if e != 0 {
		return e
	}
	d, name, e := fs.dir(to)
	switch {
	case e != 0:
		return e
	case d.kids[name] != nil:
		return errno.EXIST
	case n.kids != nil:
		return errno.PERM
	case n.nlink >= fs.Links:
		return errno.MLINK
	}
	n.nlink++
	d.enter(name, to, n)
	return 0
}

// Unlink removes a name.
func (fs *FS) Unlink(p string) errno.Errno {
	d, name, e := fs.dir(p)
	if e != 0 {
		return e
	}
	n := d.kids[name]
	switch {
	case n == nil:
		return errno.NOENT
	case n.kids != nil:
		return errno.ISDIR
	}
	n.nlink--
	d.remove(name)
	return 0
}

// Rmdir removes a directory.
func (fs *FS) Rmdir(p string) errno.Errno {
	d, name, e := fs.dir(p)
	if e != 0 {
		return e
	}
	n := d.kids[name]
	switch {
	case n == nil:
		return errno.NOENT
	case n.kids == nil:
		return errno.NOTDIR
	case len(n.kids) > 0:
		return errno.NOTEMPTY
	}
	d.nlink--
	n.nlink = 0
	d.remove(name)
	return 0
}

func (n *node) below(top *node) bool {
	for ; ; n = n.parent {
		if n == top {
			return true
		}
		if n.parent == n {
			return false
		}
	}
}

// Rename moves a name.
func (fs *FS) Rename(from, to string, flags uint32) errno.Errno {
	fd, fn, e := fs.dir(from)
	if e != 0 {
		return e
	}
	td, tn, e := fs.dir(to)
	if e != 0 {
		return e
	}
	old, target := fd.kids[fn], td.kids[tn]
	exchange := flags&vfs.RenameExchange != 0
	switch {
	case old == nil:
		return errno.NOENT
	case exchange && target == nil:
		return errno.NOENT
	case target != nil && flags&vfs.RenameNoReplace != 0:
		return errno.EXIST
	case old.kids != nil && td.below(old):
		return errno.INVAL
	case exchange && target.kids != nil && fd.below(target):
		return errno.INVAL
	case !exchange && target != nil && target.kids != nil && fd.below(target):
		return errno.NOTEMPTY
	case target == old:
		if fd == td && fn == tn { // the same name in other case
			td.enter(tn, to, old)
		}
		return 0
	}
	if exchange {
		fd.kids[fn], td.kids[tn] = target, old
		if old.kids != nil {
			old.parent = td
			fd.nlink--
			td.nlink++
		}
		if target.kids != nil {
			target.parent = fd
			td.nlink--
			fd.nlink++
		}
		return 0
	}
	if target != nil {
		switch {
		case old.kids != nil && target.kids == nil:
			return errno.NOTDIR
		case old.kids == nil && target.kids != nil:
			return errno.ISDIR
		case len(target.kids) > 0:
			return errno.NOTEMPTY
		}
		if target.kids != nil {
			td.nlink--
		} else {
			target.nlink--
		}
	}
	fd.remove(fn)
	td.enter(tn, to, old)
	if old.kids != nil {
		old.parent = td
		fd.nlink--
		td.nlink++
	}
	return 0
}

func (fs *FS) file(p string) (*node, errno.Errno) {
	n, e := fs.walk(p)
	switch {
	case e != 0:
		return nil, e
	case n.kids != nil:
		return nil, errno.ISDIR
	case n.mode&vfs.ModeType == vfs.ModeSymlink:
		return nil, errno.LOOP
	case n.mode&vfs.ModeType != vfs.ModeRegular:
		return nil, errno.INVAL
	}
	return n, 0
}

func (n *node) grow(size int64) {
	if int64(len(n.data)) < size {
		n.data = append(n.data, make([]byte, size-int64(len(n.data)))...)
	}
}

// Write stores p at off.
func (fs *FS) Write(p string, off int64, b []byte) (int, errno.Errno) {
	n, e := fs.file(p)
	if e != 0 {
		return 0, e
	}
	n.grow(off + int64(len(b)))
	copy(n.data[off:], b)
	return len(b), 0
}

// Append stores p at the end.
func (fs *FS) Append(p string, b []byte) (int, errno.Errno) {
	n, e := fs.file(p)
	if e != 0 {
		return 0, e
	}
	n.data = append(n.data, b...)
	return len(b), 0
}

// Read gives up to n bytes.
func (fs *FS) Read(p string, off int64, n int) ([]byte, errno.Errno) {
	f, e := fs.file(p)
	if e != 0 {
		return nil, e
	}
	off = min(off, int64(len(f.data)))
	return append([]byte{}, f.data[off:min(off+int64(n), int64(len(f.data)))]...), 0
}

// Store stores through a mapping.
func (fs *FS) Store(p string, off int64, b []byte) (int, errno.Errno) {
	n, e := fs.file(p)
	if e != 0 || off >= int64(len(n.data)) {
		return 0, e
	}
	return copy(n.data[off:], b), 0
}

// Truncate sets the size.
func (fs *FS) Truncate(p string, size int64) errno.Errno {
	n, e := fs.file(p)
	if e != 0 {
		return e
	}
	n.grow(size)
	clear(n.data[size:])
	n.data = n.data[:size]
	return 0
}

// Punch zeroes a range inside the file.
func (fs *FS) Punch(p string, off, c int64) errno.Errno {
	n, e := fs.file(p)
	if e != 0 {
		return e
	}
	size := int64(len(n.data))
	clear(n.data[min(off, size):min(off+c, size)])
	return 0
}

// ZeroRange zeroes a range and grows the file.
func (fs *FS) ZeroRange(p string, off, c int64) errno.Errno {
	n, e := fs.file(p)
	if e != 0 {
		return e
	}
	n.grow(off + c)
	clear(n.data[off : off+c])
	return 0
}

// Chmod changes the permission bits.
func (fs *FS) Chmod(p string, mode uint32) errno.Errno {
	n, e := fs.walk(p)
	if e != 0 {
		return e
	}
	n.mode = n.mode&vfs.ModeType | mode&vfs.ModePerm
	return 0
}

// Chown changes the owner; set-id bits of files go, as they do for the superuser too.
func (fs *FS) Chown(p string, uid, gid uint32) errno.Errno {
	n, e := fs.walk(p)
	if e != 0 {
		return e
	}
	n.uid, n.gid = uid, gid
	if n.kids == nil {
		n.mode &^= vfs.ModeSetUID
		if n.mode&0o010 != 0 {
			n.mode &^= vfs.ModeSetGID
		}
	}
	return 0
}

// SetXattr stores an attribute.
func (fs *FS) SetXattr(p, name string, v []byte, flags int) errno.Errno {
	n, e := fs.walk(p)
	if e != 0 {
		return e
	}
	_, have := n.xattr[name]
	switch t := n.mode & vfs.ModeType; {
	case strings.HasPrefix(name, "user.") && t != vfs.ModeRegular && t != vfs.ModeDir:
		return errno.PERM
	case have && flags&vfs.XattrCreate != 0:
		return errno.EXIST
	case !have && flags&vfs.XattrReplace != 0:
		return errno.NODATA
	}
	n.xattr[name] = append([]byte{}, v...)
	return 0
}

// GetXattr gives its value.
func (fs *FS) GetXattr(p, name string) ([]byte, errno.Errno) {
	n, e := fs.walk(p)
	if e != 0 {
		return nil, e
	}
	v, have := n.xattr[name]
	if !have {
		return nil, errno.NODATA
	}
	return v, 0
}

// RemoveXattr removes it.
func (fs *FS) RemoveXattr(p, name string) errno.Errno {
	n, e := fs.walk(p)
	if e != 0 {
		return e
	}
	if t := n.mode & vfs.ModeType; strings.HasPrefix(name, "user.") && t != vfs.ModeRegular && t != vfs.ModeDir {
		return errno.PERM
	}
	if _, have := n.xattr[name]; !have {
		return errno.NODATA
	}
	delete(n.xattr, name)
	return 0
}

// ListXattr gives all names, sorted.
func (fs *FS) ListXattr(p string) ([]string, errno.Errno) {
	n, e := fs.walk(p)
	if e != 0 {
		return nil, e
	}
	var names []string
	for k := range n.xattr {
		names = append(names, k)
	}
	sort.Strings(names)
	return names, 0
}

// Stat gives the attributes.
func (fs *FS) Stat(p string) (target.Info, errno.Errno) {
	n, e := fs.walk(p)
	if e != 0 {
		return target.Info{}, e
	}
	size := int64(len(n.data))
	if n.mode&vfs.ModeType == vfs.ModeSymlink {
		size = int64(len(n.target))
	}
	return target.Info{Mode: n.mode, UID: n.uid, GID: n.gid, Nlink: n.nlink, Size: size, Rdev: n.dev, Ino: n.ino}, 0
}

// Readlink gives the target.
func (fs *FS) Readlink(p string) (string, errno.Errno) {
	n, e := fs.walk(p)
	if e != 0 {
		return "", e
	}
	if n.mode&vfs.ModeType != vfs.ModeSymlink {
		return "", errno.INVAL
	}
	return n.target, 0
}

// ReadDir lists names, sorted.
func (fs *FS) ReadDir(p string) ([]string, errno.Errno) {
	n, e := fs.walk(p)
	if e != 0 {
		return nil, e
	}
	if n.kids == nil {
		return nil, errno.NOTDIR
	}
	var names []string
	for _, name := range n.shown {
		names = append(names, name)
	}
	sort.Strings(names)
	return names, 0
}

// Fsync does nothing.
func (fs *FS) Fsync(p string) errno.Errno { return 0 }

// Sync does nothing.
func (fs *FS) Sync() errno.Errno { return 0 }

var _ target.Target = (*FS)(nil)
