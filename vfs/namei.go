package vfs

import (
	"context"
	"fmt"
	"strings"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

func (dir *Inode) checkName(name string) error {
	switch {
	case !dir.IsDir():
		return errno.NOTDIR
	case name == "" || name == "." || name == ".." || strings.IndexByte(name, '/') >= 0 || strings.IndexByte(name, 0) >= 0:
		return errno.INVAL
	case len(name) > dir.sb.NameMax:
		return errno.NAMETOOL
	case dir.sb.IsShutdown():
		return errno.IO
	}
	return nil
}

// checkWritable refuses changes of immutable files, and of append-only ones unless append.
func (ip *Inode) checkWritable(appending bool) error {
	f := ip.Flags()
	if f&FlagImmutable != 0 || f&FlagAppend != 0 && !appending {
		return errno.PERM
	}
	return nil
}

// Lookup finds a name in dir, with a reference. errno.NOENT when it is not there.
func (dir *Inode) Lookup(ctx context.Context, name string) (*Inode, error) {
	if err := dir.checkName(name); err != nil {
		if err == errno.INVAL && name == "." {
			return dir.Hold(), nil
		}
		return nil, err
	}
	if dir.Op.Lookup == nil {
		return nil, errno.NOTDIR
	}
	dir.Rw.RLock()
	ip, err := dir.Op.Lookup(ctx, dir, name)
	dir.Rw.RUnlock()
	return ip, err
}

// Stored reports whether the directory holds name in this very spelling. A name that is not there, or cannot be looked for, is not
// held. A filesystem in which names have one spelling says yes to all.
func (dir *Inode) Stored(ctx context.Context, name string) bool {
	if dir.Op.Stored == nil {
		return true
	}
	dir.Rw.RLock()
	defer dir.Rw.RUnlock()
	return dirStored(ctx, dir, name)
}

// dirStored is Stored with dir.Rw held.
func dirStored(ctx context.Context, dir *Inode, name string) bool {
	if dir.Op.Stored == nil {
		return true
	}
	s, err := dir.Op.Stored(ctx, dir, name)
	return err == nil && s == name
}

// change runs f with dir locked exclusively and the right to write taken, after checking the name.
func (dir *Inode) change(name string, op bool, f func() error) error {
	if err := dir.checkName(name); err != nil {
		return err
	}
	if !op {
		return errno.OPNOTSUPP
	}
	if err := dir.checkWritable(true); err != nil {
		return err
	}
	if err := dir.sb.WantWrite(); err != nil {
		return err
	}
	defer dir.sb.EndWrite()
	dir.Rw.Lock()
	defer dir.Rw.Unlock()
	if dir.Nlink() == 0 {
		return errno.NOENT // removed while we waited
	}
	return f()
}

// syncDir follows a change of dir when the directory (chattr +D, +S) or the mount (DirSync) asks for synchronous changes.
func (dir *Inode) syncDir(ctx context.Context, err error) error {
	if err != nil || !dir.sb.DirSync && dir.Flags()&(FlagDirSync|FlagSync) == 0 || dir.sb.Op.Sync == nil {
		return err
	}
	return dir.sb.Op.Sync(ctx, true)
}

// Create makes a regular file. mode is permission bits before umask. errno.EXIST when the name is taken.
func (dir *Inode) Create(ctx context.Context, cred *Cred, name string, mode uint32) (ip *Inode, err error) {
	err = dir.change(name, dir.Op.Create != nil, func() error {
		ip, err = dir.Op.Create(ctx, cred, dir, name, ModeRegular|mode&ModePerm)
		return err
	})
	return ip, dir.syncDir(ctx, err)
}

// Mknod makes a file of any type but directory and symbolic link.
func (dir *Inode) Mknod(ctx context.Context, cred *Cred, name string, mode uint32, dev Dev) (ip *Inode, err error) {
	switch mode & ModeType {
	case 0, ModeRegular:
		return dir.Create(ctx, cred, name, mode)
	case ModeBlock, ModeChar, ModeFIFO, ModeSocket:
	default:
		return nil, errno.INVAL
	}
	err = dir.change(name, dir.Op.Mknod != nil, func() error {
		ip, err = dir.Op.Mknod(ctx, cred, dir, name, mode, dev)
		return err
	})
	return ip, dir.syncDir(ctx, err)
}

// Mkdir makes a directory.
func (dir *Inode) Mkdir(ctx context.Context, cred *Cred, name string, mode uint32) (ip *Inode, err error) {
	err = dir.change(name, dir.Op.Mkdir != nil, func() error {
		ip, err = dir.Op.Mkdir(ctx, cred, dir, name, ModeDir|mode&ModePerm)
		return err
	})
	return ip, dir.syncDir(ctx, err)
}

// Symlink makes a symbolic link to target, at most 4095 bytes.
func (dir *Inode) Symlink(ctx context.Context, cred *Cred, name, target string) (ip *Inode, err error) {
	if target == "" {
		return nil, errno.NOENT
	}
	if len(target) > 4095 {
		return nil, errno.NAMETOOL
	}
	err = dir.change(name, dir.Op.Symlink != nil, func() error {
		ip, err = dir.Op.Symlink(ctx, cred, dir, name, target)
		return err
	})
	return ip, dir.syncDir(ctx, err)
}

// Tmpfile makes a regular file without a name in dir; Link may name it later.
func (dir *Inode) Tmpfile(ctx context.Context, cred *Cred, mode uint32) (ip *Inode, err error) {
	err = dir.change("x", dir.Op.Tmpfile != nil, func() error {
		ip, err = dir.Op.Tmpfile(ctx, cred, dir, ModeRegular|mode&ModePerm)
		return err
	})
	return ip, err
}

// Link gives ip the name too. errno.PERM for directories, errno.XDEV across super blocks.
func (dir *Inode) Link(ctx context.Context, name string, ip *Inode) error {
	if ip.sb != dir.sb {
		return errno.XDEV
	}
	err := dir.change(name, dir.Op.Link != nil, func() error {
		if ip.IsDir() {
			if old, err := dir.Op.Lookup(ctx, dir, name); err == nil {
				old.Put()
				return errno.EXIST
			}
			return errno.PERM
		}
		ip.Rw.Lock() // a file, so never the directory itself; files come after directories
		defer ip.Rw.Unlock()
		if err := ip.checkWritable(false); err != nil {
			return err
		}
		return dir.Op.Link(ctx, dir, name, ip)
	})
	return dir.syncDir(ctx, err)
}

// victim finds what a name to be removed refers to, under dir's lock.
func (dir *Inode) victim(ctx context.Context, name string) (*Inode, error) {
	ip, err := dir.Op.Lookup(ctx, dir, name)
	if err != nil {
		return nil, err
	}
	err = ip.checkWritable(false)
	if err == nil {
		err = dir.checkWritable(false)
	}
	if err != nil {
		ip.Put()
		return nil, err
	}
	return ip, nil
}

// Unlink removes a name that is not a directory. The file lives until its last user is gone.
func (dir *Inode) Unlink(ctx context.Context, name string) error {
	err := dir.change(name, dir.Op.Unlink != nil, func() error {
		ip, err := dir.victim(ctx, name)
		if err != nil {
			return err
		}
		defer ip.Put()
		if ip.IsDir() {
			return errno.ISDIR
		}
		if ip.IsSwap() {
			return errno.PERM
		}
		ip.Rw.Lock()
		defer ip.Rw.Unlock()
		return dir.Op.Unlink(ctx, dir, name, ip)
	})
	return dir.syncDir(ctx, err)
}

// Rmdir removes an empty directory.
func (dir *Inode) Rmdir(ctx context.Context, name string) error {
	err := dir.change(name, dir.Op.Rmdir != nil, func() error {
		ip, err := dir.victim(ctx, name)
		if err != nil {
			return err
		}
		defer ip.Put()
		if !ip.IsDir() {
			return errno.NOTDIR
		}
		ip.Rw.Lock()
		defer ip.Rw.Unlock()
		return dir.Op.Rmdir(ctx, dir, name, ip)
	})
	return dir.syncDir(ctx, err)
}

// RenameTo moves dir/name to to/newName. flags: RenameNoReplace, RenameExchange.
// Errors: errno.INVAL for moving a directory below itself, errno.EXIST with NoReplace, errno.NOTEMPTY, errno.ISDIR,
// errno.NOTDIR for mismatched types, errno.XDEV across super blocks.
func (dir *Inode) RenameTo(ctx context.Context, name string, to *Inode, newName string, flags uint32) error {
	for _, e := range []error{dir.checkName(name), to.checkName(newName)} {
		if e != nil {
			return e
		}
	}
	switch {
	case dir.sb != to.sb:
		return errno.XDEV
	case flags&^(RenameNoReplace|RenameExchange) != 0, flags == RenameNoReplace|RenameExchange:
		return errno.INVAL
	case dir.Op.Rename == nil:
		return errno.OPNOTSUPP
	}
	for _, d := range []*Inode{dir, to} {
		if err := d.checkWritable(true); err != nil {
			return err
		}
	}
	sb := dir.sb
	if err := sb.WantWrite(); err != nil {
		return err
	}
	defer sb.EndWrite()
	if dir != to {
		sb.RenameMu.Lock()
		defer sb.RenameMu.Unlock()
	}
	err := sb.rename(ctx, &Rename{From: dir, OldName: name, To: to, NewName: newName, Exchange: flags&RenameExchange != 0}, flags)
	if err == nil && dir != to {
		err = to.syncDir(ctx, err)
	}
	return dir.syncDir(ctx, err)
}

// rename takes the directories' locks, an ancestor before its descendant, and runs the filesystem's entry.
func (sb *SuperBlock) rename(ctx context.Context, r *Rename, flags uint32) error {
	first, second := r.From, r.To
	if r.From != r.To {
		// An ancestor comes first, as in every walk down; the shape is stable under RenameMu.
		if under, err := sb.isBelow(ctx, r.From, r.To); err != nil {
			return err
		} else if under {
			first, second = r.To, r.From
		} else if below, err := sb.isBelow(ctx, r.To, r.From); err != nil {
			return err
		} else if !below && r.To.ino < r.From.ino {
			first, second = r.To, r.From
		}
	}
	first.Rw.Lock()
	defer first.Rw.Unlock()
	if first != second {
		second.Rw.Lock()
		defer second.Rw.Unlock()
	}
	if r.From.Nlink() == 0 || r.To.Nlink() == 0 {
		return errno.NOENT
	}
	old, err := r.From.victim(ctx, r.OldName)
	if err != nil {
		return err
	}
	defer old.Put()
	r.Old = old
	target, err := r.To.Op.Lookup(ctx, r.To, r.NewName)
	if err != nil && errno.From(err) != errno.NOENT {
		return err
	}
	if target != nil {
		defer target.Put()
		r.New = target
		if err := target.checkWritable(false); err != nil {
			return err
		}
	}
	switch {
	case target == nil && r.Exchange:
		return errno.NOENT
	case target != nil && flags&RenameNoReplace != 0:
		return errno.EXIST
	case r.Old.IsSwap() || target != nil && target.IsSwap():
		return errno.TXTBSY
	}
	// No directory may come to lie below itself.
	if r.From != r.To {
		if old.IsDir() {
			if below, err := sb.isBelow(ctx, r.To, old); err != nil {
				return err
			} else if below {
				return errno.INVAL
			}
		}
		if target != nil && target.IsDir() {
			if below, err := sb.isBelow(ctx, r.From, target); err != nil {
				return err
			} else if below {
				if r.Exchange {
					return errno.INVAL
				}
				return errno.NOTEMPTY
			}
		}
	}
	if target == old {
		// Two names of one file: nothing to do, unless it is one name that is to be spelled otherwise.
		if r.From != r.To || r.Exchange || dirStored(ctx, r.From, r.NewName) {
			return nil
		}
		r.New, target = nil, nil
	}
	if !r.Exchange && target != nil {
		switch od, td := old.IsDir(), target.IsDir(); {
		case od && !td:
			return errno.NOTDIR
		case !od && td:
			return errno.ISDIR
		}
	}
	// Directories below the two locked ones, then files, each class by number.
	a, b := old, target
	if b != nil && (lockClass(b) < lockClass(a) || lockClass(b) == lockClass(a) && b.ino < a.ino) {
		a, b = b, a
	}
	for _, ip := range []*Inode{a, b} {
		if ip != nil && ip != r.From && ip != r.To {
			ip.Rw.Lock()
			defer ip.Rw.Unlock()
		}
	}
	return r.From.Op.Rename(ctx, r)
}

func lockClass(ip *Inode) int {
	if ip.IsDir() {
		return 0
	}
	return 1
}

// isBelow reports whether d is top or lies below it, walking "..". Hold RenameMu, so that nothing moves. The walk is
// bounded by the depth that names can express; a loop on the medium is errno.UCLEAN.
func (sb *SuperBlock) isBelow(ctx context.Context, d, top *Inode) (bool, error) {
	d = d.Hold()
	defer func() { d.Put() }()
	for range 1 << 16 {
		if d == top {
			return true, nil
		}
		if d == sb.Root {
			return false, nil
		}
		p, err := d.Parent(ctx)
		if err != nil {
			return false, err
		}
		d.Put()
		d = p
	}
	return false, &errno.CorruptError{Dev: sb.Dev.Name(), Struct: "directory", Ino: d.ino, Why: "is its own ancestor"}
}

// Parent gives the directory that ".." names, with a reference.
func (dir *Inode) Parent(ctx context.Context) (*Inode, error) {
	if dir == dir.sb.Root {
		return dir.Hold(), nil
	}
	f := dir.Op.Parent
	if f == nil {
		return nil, errno.OPNOTSUPP
	}
	ino, err := f(ctx, dir)
	if err != nil {
		return nil, err
	}
	return dir.sb.Get(ctx, ino)
}

// maxSymlinks bounds the links followed by one walk, as Linux does.
const maxSymlinks = 40

// Walk resolves a path from the root of the super block, following symbolic links in the middle, and at the end when
// follow. Absolute targets start at the super block's root. The result carries a reference.
func (sb *SuperBlock) Walk(ctx context.Context, path string, follow bool) (*Inode, error) {
	ip, err := sb.walk(ctx, sb.Root.Hold(), path, follow, new(int))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return ip, nil
}

// walk consumes at's reference.
func (sb *SuperBlock) walk(ctx context.Context, at *Inode, path string, follow bool, links *int) (*Inode, error) {
	if strings.HasPrefix(path, "/") {
		at.Put()
		at = sb.Root.Hold()
	}
	for path = strings.TrimLeft(path, "/"); path != ""; {
		name, rest, more := strings.Cut(path, "/")
		path = strings.TrimLeft(rest, "/")
		var next *Inode
		var err error
		switch name {
		case ".":
			next = at.Hold()
		case "..":
			next, err = at.Parent(ctx)
		default:
			next, err = at.Lookup(ctx, name)
		}
		if err != nil {
			at.Put()
			return nil, err
		}
		if next.IsSymlink() && (follow || more) {
			if *links++; *links > maxSymlinks {
				next.Put()
				at.Put()
				return nil, errno.LOOP
			}
			target, err := next.Readlink(ctx)
			next.Put()
			if err != nil {
				at.Put()
				return nil, err
			}
			if next, err = sb.walk(ctx, at, target, true, links); err != nil {
				return nil, err
			}
			at = next
			continue
		}
		at.Put()
		at = next
		if more && !at.IsDir() {
			at.Put()
			return nil, errno.NOTDIR
		}
	}
	return at, nil
}

// Readlink gives the target of a symbolic link. errno.INVAL for anything else.
func (ip *Inode) Readlink(ctx context.Context) (string, error) {
	if !ip.IsSymlink() || ip.Op.Readlink == nil {
		return "", errno.INVAL
	}
	return ip.Op.Readlink(ctx, ip)
}
