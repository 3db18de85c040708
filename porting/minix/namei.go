package minix

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/porting/minix/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// nameTable fills the table of directories.
func (fs *fsys) nameTable(d *vfs.InodeOperations) {
	d.Lookup, d.Parent = fs.lookup, fs.parent
	d.Create = func(ctx context.Context, cred *vfs.Cred, dir *vfs.Inode, name string, mode uint32) (*vfs.Inode, error) {
		return fs.create(ctx, cred, dir, name, mode, nil)
	}
	d.Mknod = func(ctx context.Context, cred *vfs.Cred, dir *vfs.Inode, name string, mode uint32, dev vfs.Dev) (*vfs.Inode, error) {
		return fs.create(ctx, cred, dir, name, mode, func(ip *inode) error { return ip.initDevice(dev) })
	}
	d.Mkdir = fs.mkdir
	d.Symlink = func(ctx context.Context, cred *vfs.Cred, dir *vfs.Inode, name, target string) (*vfs.Inode, error) {
		return fs.create(ctx, cred, dir, name, vfs.ModeSymlink|0o777, func(ip *inode) error { return ip.initLink(ctx, target) })
	}
	d.Link, d.Unlink, d.Rmdir, d.Rename = fs.link, fs.unlink, fs.rmdir, fs.rename
}

// lookup is InodeOperations.Lookup.
func (fs *fsys) lookup(ctx context.Context, dir *vfs.Inode, name string) (*vfs.Inode, error) {
	s, err := inodeOf(dir).find(ctx, name)
	if err != nil {
		return nil, err
	}
	ino := uint64(s.Ino())
	if !fs.super.ValidIno(ino) || ino == dir.Ino() {
		return nil, fs.corrupt(dir.Ino(), "the name %q is that of inode %d, which cannot have it", name, ino)
	}
	return fs.sb.Get(ctx, ino)
}

// create makes something with a name. fill gives it its contents. What fails is undone.
func (fs *fsys) create(ctx context.Context, cred *vfs.Cred, dir *vfs.Inode, name string, mode uint32, fill func(*inode) error) (*vfs.Inode, error) {
	if _, err := inodeOf(dir).find(ctx, name); err == nil {
		return nil, errno.EXIST
	} else if !errIsNoent(err) {
		return nil, err
	}
	ip, err := fs.newInode(ctx, cred, dir, mode)
	if err != nil {
		return nil, err
	}
	if fill != nil {
		err = fill(ip)
	}
	if err == nil {
		ip.Dirty(0)
		err = inodeOf(dir).add(ctx, name, disk.Ino(ip.Ino()))
	}
	if err != nil {
		ip.setLinks(0)
		ip.Publish(nil)
		ip.Put() // frees it
		return nil, fmt.Errorf("inode %d: %q: %w", dir.Ino(), name, err)
	}
	ip.Publish(nil)
	return ip.Inode, nil
}

// mkdir is InodeOperations.Mkdir.
func (fs *fsys) mkdir(ctx context.Context, cred *vfs.Cred, dir *vfs.Inode, name string, mode uint32) (*vfs.Inode, error) {
	if dir.Nlink() >= fs.super.LinkMax() {
		return nil, errno.MLINK
	}
	ip, err := fs.create(ctx, cred, dir, name, mode, func(ip *inode) error {
		size := fs.super.DirEntrySize()
		b := make([]byte, 2*size)
		fs.super.Entry(b).Set(disk.Ino(ip.Ino()), ".")
		fs.super.Entry(b[size:]).Set(disk.Ino(dir.Ino()), "..")
		ip.setLinks(2)
		return fs.tables.metaWrite(ctx, ip.Inode, 0, b)
	})
	if err == nil {
		inodeOf(dir).addLinks(1)
	}
	return ip, err
}

// initDevice stores a device number.
func (ip *inode) initDevice(dev vfs.Dev) error {
	if t := ip.A.Mode & vfs.ModeType; t != vfs.ModeBlock && t != vfs.ModeChar {
		return nil
	}
	if dev.Major > 0xff || dev.Minor > 0xff {
		return fmt.Errorf("device %d:%d: numbers have 8 bits: %w", dev.Major, dev.Minor, errno.INVAL)
	}
	ip.zone[0], ip.A.Rdev = dev.Major<<8|dev.Minor, dev
	return nil
}

// link is InodeOperations.Link.
func (fs *fsys) link(ctx context.Context, dir *vfs.Inode, name string, vi *vfs.Inode) error {
	if vi.Nlink() >= fs.super.LinkMax() {
		return errno.MLINK
	}
	if _, err := inodeOf(dir).find(ctx, name); err == nil {
		return errno.EXIST
	} else if !errIsNoent(err) {
		return err
	}
	ip := inodeOf(vi)
	ip.addLinks(1)
	if err := inodeOf(dir).add(ctx, name, disk.Ino(vi.Ino())); err != nil {
		ip.addLinks(-1)
		return err
	}
	return nil
}

// unlink is InodeOperations.Unlink.
func (fs *fsys) unlink(ctx context.Context, dir *vfs.Inode, name string, vi *vfs.Inode) error {
	s, err := inodeOf(dir).find(ctx, name)
	if err != nil {
		return err
	}
	if err := inodeOf(dir).remove(ctx, s); err != nil {
		return err
	}
	inodeOf(vi).addLinks(-1)
	return nil
}

// rmdir is InodeOperations.Rmdir.
func (fs *fsys) rmdir(ctx context.Context, dir *vfs.Inode, name string, vi *vfs.Inode) error {
	if empty, err := inodeOf(vi).isEmpty(ctx); err != nil || !empty {
		if err == nil {
			err = errno.NOTEMPTY
		}
		return err
	}
	s, err := inodeOf(dir).find(ctx, name)
	if err != nil {
		return err
	}
	if err := inodeOf(dir).remove(ctx, s); err != nil {
		return err
	}
	inodeOf(vi).setLinks(0)
	inodeOf(vi).Dirty(0)
	inodeOf(dir).addLinks(-1)
	return nil
}

// rename is InodeOperations.Rename.
func (fs *fsys) rename(ctx context.Context, r *vfs.Rename) error {
	from, to, old := inodeOf(r.From), inodeOf(r.To), inodeOf(r.Old)
	moves := r.Old.IsDir() && r.From != r.To // its ".." changes
	if r.Exchange {
		return fs.exchange(ctx, r)
	}
	if moves && r.New == nil && r.To.Nlink() >= fs.super.LinkMax() {
		return errno.MLINK
	}
	if r.New != nil && r.New.IsDir() {
		if empty, err := inodeOf(r.New).isEmpty(ctx); err != nil || !empty {
			if err == nil {
				err = errno.NOTEMPTY
			}
			return err
		}
	}
	src, err := from.find(ctx, r.OldName)
	if err != nil {
		return err
	}
	// The new name first: a crash leaves two names rather than none.
	if r.New != nil {
		dst, err := to.find(ctx, r.NewName)
		if err != nil {
			return err
		}
		if err := to.replace(ctx, dst, disk.Ino(r.Old.Ino())); err != nil {
			return err
		}
		n := inodeOf(r.New)
		if r.New.IsDir() {
			n.setLinks(0)
			n.Dirty(0)
			to.addLinks(-1)
		} else {
			n.addLinks(-1)
		}
	} else if err := to.add(ctx, r.NewName, disk.Ino(r.Old.Ino())); err != nil {
		return err
	}
	if err := from.remove(ctx, src); err != nil {
		return err
	}
	old.touchCtime()
	if moves {
		return fs.reparent(ctx, old, from, to)
	}
	return nil
}

// exchange swaps two names.
func (fs *fsys) exchange(ctx context.Context, r *vfs.Rename) error {
	from, to := inodeOf(r.From), inodeOf(r.To)
	a, err := from.find(ctx, r.OldName)
	if err != nil {
		return err
	}
	b, err := to.find(ctx, r.NewName)
	if err != nil {
		return err
	}
	if err := from.replace(ctx, a, disk.Ino(r.New.Ino())); err != nil {
		return err
	}
	if err := to.replace(ctx, b, disk.Ino(r.Old.Ino())); err != nil {
		return err
	}
	inodeOf(r.Old).touchCtime()
	inodeOf(r.New).touchCtime()
	if r.From == r.To {
		return nil
	}
	if r.Old.IsDir() {
		if err := fs.reparent(ctx, inodeOf(r.Old), from, to); err != nil {
			return err
		}
	}
	if r.New.IsDir() {
		return fs.reparent(ctx, inodeOf(r.New), to, from)
	}
	return nil
}

// reparent lets the ".." of a directory that moved name its new parent.
func (fs *fsys) reparent(ctx context.Context, dir, from, to *inode) error {
	s, err := dir.find(ctx, "..")
	if err != nil {
		return fs.corrupt(dir.Ino(), "the directory has no \"..\": %v", err)
	}
	if err := dir.replace(ctx, s, disk.Ino(to.Ino())); err != nil {
		return err
	}
	to.addLinks(1)
	from.addLinks(-1)
	return nil
}

// setLinks stores the link count of an inode that the caller marks dirty.
func (ip *inode) setLinks(n uint32) {
	ip.AttrMu.Lock()
	ip.A.Nlink = n
	ip.AttrMu.Unlock()
}

// addLinks changes the link count and ctime.
func (ip *inode) addLinks(n int) {
	ip.AttrMu.Lock()
	ip.A.Nlink = uint32(max(int(ip.A.Nlink)+n, 0))
	ip.AttrMu.Unlock()
	ip.touchCtime()
}

func (ip *inode) touchCtime() {
	now := ip.fs.sb.Now()
	ip.AttrMu.Lock()
	ip.A.Ctime = now
	ip.AttrMu.Unlock()
	ip.Dirty(0)
}
