package ext2

import (
	"context"
	"errors"
	"fmt"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// nameTables fills the entries of the operation tables that concern names.
func (fs *fsys) nameTables() {
	fs.dirs.limit = max(indexesMin, fs.sb.Cache.Limit()/indexesPart)
	t := &fs.tables
	d := &t.dir
	d.Lookup, d.Parent = fs.lookup, fs.parent
	d.Create = func(ctx context.Context, cred *vfs.Cred, dir *vfs.Inode, name string, mode uint32) (*vfs.Inode, error) {
		return fs.create(ctx, dir, newFile{cred: cred, name: name, mode: mode})
	}
	d.Mknod = func(ctx context.Context, cred *vfs.Cred, dir *vfs.Inode, name string, mode uint32, dev vfs.Dev) (*vfs.Inode, error) {
		return fs.create(ctx, dir, newFile{cred: cred, name: name, mode: mode, dev: dev})
	}
	d.Mkdir = func(ctx context.Context, cred *vfs.Cred, dir *vfs.Inode, name string, mode uint32) (*vfs.Inode, error) {
		return fs.create(ctx, dir, newFile{cred: cred, name: name, mode: mode})
	}
	d.Symlink = func(ctx context.Context, cred *vfs.Cred, dir *vfs.Inode, name, target string) (*vfs.Inode, error) {
		return fs.create(ctx, dir, newFile{cred: cred, name: name, mode: vfs.ModeSymlink | 0o777, target: target})
	}
	d.Tmpfile = fs.tmpfile
	d.Link, d.Unlink, d.Rmdir, d.Rename = fs.link, fs.unlink, fs.rmdir, fs.rename
	t.symlink.Readlink = fs.readlink
	t.dirFop.ReadDir = fs.readDir
}

// lookup is InodeOperations.Lookup.
func (fs *fsys) lookup(ctx context.Context, dir *vfs.Inode, name string) (*vfs.Inode, error) {
	ip := inodeOf(dir)
	e, err := ip.find(ctx, name)
	if err != nil {
		return nil, err
	}
	ino, at := e.ino, fs.addr(e.bh)
	e.release()
	if !fs.geo.FileIno(ino) || ino == disk.RootIno || uint64(ino) == dir.Ino() {
		return nil, fs.corrupt("directory", dir.Ino(), at, "the name %q is that of inode %d, which cannot have a name there", name, ino)
	}
	vi, err := fs.sb.Get(ctx, uint64(ino))
	if errors.Is(err, errno.STALE) {
		return nil, fs.corrupt("directory", dir.Ino(), at, "the name %q is that of inode %d, which is not in use", name, ino)
	}
	return vi, err
}

// parent is InodeOperations.Parent.
func (fs *fsys) parent(ctx context.Context, dir *vfs.Inode) (uint64, error) {
	aux, err := inodeOf(dir).dirAux(ctx)
	if err != nil {
		return 0, err
	}
	if p := aux.parent.Load(); p != 0 {
		return uint64(p), nil
	}
	return 0, aux.absent()
}

// newFile is what create makes.
type newFile struct {
	cred   *vfs.Cred
	name   string
	mode   uint32 // with type
	dev    vfs.Dev
	target string // of a symbolic link
}

// create makes something new with a name. Everything that can fail for want of space comes before the name: room in the
// directory, the inode, its first block, its attributes; so ENOSPC leaves nothing behind but, at most, an empty block of the
// directory.
func (fs *fsys) create(ctx context.Context, dvi *vfs.Inode, f newFile) (*vfs.Inode, error) {
	dir, isDir := inodeOf(dvi), f.mode&vfs.ModeType == vfs.ModeDir
	if isDir && dvi.Nlink() >= disk.LinkMax {
		return nil, errno.MLINK
	}
	if len(f.target) >= int(fs.geo.BlockSize) {
		return nil, errno.NAMETOOL
	}
	e, err := dir.placeFor(ctx, f.name)
	if err != nil {
		return nil, err
	}
	defer e.release()
	mode, acls, err := fs.inherit(ctx, dvi, f.cred, f.mode)
	if err != nil {
		return nil, err
	}
	var ip *inode
	err = fs.retryFull(ctx, func() error {
		fs.begin()
		failed, err := fs.createIn(ctx, dir, &e, &f, mode, acls, &ip)
		fs.end()
		if failed != nil {
			failed.Put() // frees what it had
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("inode %d: %q: %w", dir.Ino(), f.name, err)
	}
	return ip.Inode, nil
}

// createIn is create inside a transaction. An inode that was given up is returned for the caller to put.
func (fs *fsys) createIn(ctx context.Context, dir *inode, e *entry, f *newFile, mode uint32, acls []disk.Xattr, out **inode) (failed *inode, err error) {
	if err := dir.makeRoom(ctx, e, len(f.name)); err != nil {
		return nil, err
	}
	ip, err := fs.newInode(ctx, f.cred, dir, mode)
	if err != nil {
		return nil, err
	}
	nlink := uint32(1)
	switch mode & vfs.ModeType {
	case vfs.ModeDir:
		nlink = 2
		err = ip.initDir(ctx, dir)
	case vfs.ModeSymlink:
		err = ip.initLink(ctx, f.target)
	case vfs.ModeBlock, vfs.ModeChar:
		err = ip.initDevice(f.dev)
	}
	if err == nil {
		err = ip.initXattrs(ctx, acls, true)
	}
	if err != nil {
		fs.abandonInode(ip)
		return ip, err
	}
	ip.AttrMu.Lock()
	ip.A.Nlink = nlink
	ip.AttrMu.Unlock()
	dir.store(e, f.name, ip)
	if nlink == 2 {
		dir.addLinks(1)
	}
	fs.dirtyInode(ip)
	ip.Publish(nil)
	*out = ip
	return nil, nil
}

// initDir gives a new directory its first block.
func (ip *inode) initDir(ctx context.Context, parent *inode) error {
	bh, _, err := ip.appendBlock(ctx)
	if err != nil {
		return err
	}
	disk.InitFirstDirBlock(bh.Data, disk.Ino(ip.Ino()), disk.Ino(parent.Ino()), ip.fs.super.HasFileType())
	ip.fs.newDirBlock(ip, bh)
	bh.Put()
	_, err = ip.dirAux(ctx)
	return err
}

// initDevice stores a device number.
func (ip *inode) initDevice(dev vfs.Dev) error {
	var in disk.Inode
	if !in.SetDevice(dev.Major, dev.Minor) {
		return fmt.Errorf("device %d:%d: %w", dev.Major, dev.Minor, errno.INVAL)
	}
	ip.mapMu.Lock()
	ip.data = in.Block
	ip.mapMu.Unlock()
	ip.AttrMu.Lock()
	ip.A.Rdev = dev
	ip.AttrMu.Unlock()
	return nil
}

// addLinks changes the link count, which stays within what the medium can hold whatever a damaged one said.
func (ip *inode) addLinks(n int) {
	ip.AttrMu.Lock()
	ip.A.Nlink = uint32(min(max(int(ip.A.Nlink)+n, 0), 1<<16-1))
	ip.AttrMu.Unlock()
	ip.fs.dirtyInode(ip)
}

// changedNow moves ctime.
func (ip *inode) changedNow() {
	now := ip.fs.sb.Now()
	ip.AttrMu.Lock()
	ip.A.Ctime = now
	ip.AttrMu.Unlock()
	ip.fs.dirtyInode(ip)
}

// tmpfile is InodeOperations.Tmpfile.
func (fs *fsys) tmpfile(ctx context.Context, cred *vfs.Cred, dvi *vfs.Inode, mode uint32) (*vfs.Inode, error) {
	mode, acls, err := fs.inherit(ctx, dvi, cred, mode)
	if err != nil {
		return nil, err
	}
	var ip *inode
	err = fs.retryFull(ctx, func() error {
		fs.begin()
		n, err := fs.newInode(ctx, cred, inodeOf(dvi), mode)
		if err == nil {
			fs.bornInode(n, nil)
			if err = n.initXattrs(ctx, acls, false); err != nil {
				fs.abandonInode(n)
			} else {
				fs.dirtyInode(n)
				n.Publish(nil)
				ip = n
			}
		}
		fs.end()
		if err != nil && n != nil {
			n.Put()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return ip.Inode, nil
}

// link is InodeOperations.Link. A file whose last name is gone cannot have another; one that never had a name can.
func (fs *fsys) link(ctx context.Context, dvi *vfs.Inode, name string, vi *vfs.Inode) error {
	dir, ip := inodeOf(dvi), inodeOf(vi)
	nlink := vi.Nlink()
	switch {
	case nlink >= disk.LinkMax:
		return errno.MLINK
	case nlink == 0 && (ip.ord.live || ip.ord.ghost.Load()):
		return errno.NOENT
	}
	e, err := dir.placeFor(ctx, name)
	if err != nil {
		return err
	}
	defer e.release()
	return fs.retryFull(ctx, func() error {
		fs.begin()
		defer fs.end()
		if err := dir.makeRoom(ctx, &e, len(name)); err != nil {
			return err
		}
		if nlink == 0 {
			fs.bornInode(ip, dir)
		}
		ip.addLinks(1)
		ip.changedNow()
		dir.store(&e, name, ip)
		return nil
	})
}

// victim finds the entry of a name that is to go, and what is before it.
func (ip *inode) victim(ctx context.Context, name string, child *inode) (e entry, prev int, err error) {
	if e, err = ip.find(ctx, name); err != nil {
		return e, 0, err
	}
	if uint64(e.ino) != child.Ino() {
		err = ip.fs.corrupt("directory", ip.Ino(), ip.fs.addr(e.bh), "the name %q is that of inode %d and of inode %d", name, e.ino, child.Ino())
	} else {
		prev, err = ip.prevOf(&e)
	}
	if err != nil {
		e.release()
	}
	return e, prev, err
}

// unlink is InodeOperations.Unlink.
func (fs *fsys) unlink(ctx context.Context, dvi *vfs.Inode, name string, vi *vfs.Inode) error {
	return fs.removeName(ctx, inodeOf(dvi), name, inodeOf(vi))
}

// rmdir is InodeOperations.Rmdir.
func (fs *fsys) rmdir(ctx context.Context, dvi *vfs.Inode, name string, vi *vfs.Inode) error {
	ip := inodeOf(vi)
	if empty, err := ip.isEmpty(ctx); err != nil {
		return err
	} else if !empty {
		return errno.NOTEMPTY
	}
	return fs.removeName(ctx, inodeOf(dvi), name, ip)
}

func (fs *fsys) removeName(ctx context.Context, dir *inode, name string, ip *inode) error {
	if err := fs.settleRemove(ctx, dir, ip); err != nil {
		return err
	}
	e, prev, err := dir.victim(ctx, name, ip)
	if err != nil {
		return err
	}
	defer e.release()
	fs.begin()
	dir.unstore(&e, prev, name)
	fs.dropLink(dir, ip)
	fs.nameRemoved(dir, e.bh, ip)
	fs.end()
	return nil
}

// dropLink counts a name of ip in dir out; a directory goes with its only one. Inside a transaction.
func (fs *fsys) dropLink(dir, ip *inode) {
	now := fs.sb.Now()
	ip.AttrMu.Lock()
	ip.A.Ctime = now
	isDir := ip.A.Mode&vfs.ModeType == vfs.ModeDir
	if isDir {
		ip.A.Nlink = 0
	} else if ip.A.Nlink > 0 {
		ip.A.Nlink--
	}
	dead := ip.A.Nlink == 0
	ip.AttrMu.Unlock()
	if isDir {
		dir.dropSubdir()
	}
	if dead {
		ip.orphanXattrs()
		fs.inodeDied(ip, dir)
	} else {
		fs.dirtyInode(ip)
	}
}

// dropSubdir takes away the link that a subdirectory's ".." was. A damaged count is not made worse: a directory in use
// keeps two.
func (ip *inode) dropSubdir() {
	ip.AttrMu.Lock()
	if ip.A.Nlink > 2 {
		ip.A.Nlink--
	}
	ip.AttrMu.Unlock()
	ip.fs.dirtyInode(ip)
}
