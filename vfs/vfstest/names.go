package vfstest

import (
	"context"
	"strings"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// entry is one name. Its cookie is its index plus 2, for "." and ".."; a removed one leaves an empty place, so that
// cookies stay.
type entry struct {
	name string
	ino  uint64
	typ  uint8
}

func (fs *FS) fillTables() {
	fs.iop = vfs.InodeOperations{
		Lookup: fs.lookup,
		Parent: func(_ context.Context, dir *vfs.Inode) (uint64, error) { return nodeOf(dir).parent, nil },
		Create: fs.create,
		Mkdir:  fs.create,
		Mknod: func(ctx context.Context, cred *vfs.Cred, dir *vfs.Inode, name string, mode uint32, dev vfs.Dev) (*vfs.Inode, error) {
			return fs.make(ctx, "Mknod", cred, dir, name, mode, func(ip *vfs.Inode) { ip.A.Rdev = dev })
		},
		Symlink: func(ctx context.Context, cred *vfs.Cred, dir *vfs.Inode, name, target string) (*vfs.Inode, error) {
			return fs.make(ctx, "Symlink", cred, dir, name, vfs.ModeSymlink|0o777, func(ip *vfs.Inode) {
				nodeOf(ip).target = target
				ip.SetSize(int64(len(target)))
			})
		},
		Tmpfile: func(ctx context.Context, cred *vfs.Cred, dir *vfs.Inode, mode uint32) (*vfs.Inode, error) {
			return fs.make(ctx, "Tmpfile", cred, dir, "", mode, func(ip *vfs.Inode) { ip.A.Nlink = 0 })
		},
		Link:      fs.link,
		Unlink:    fs.unlink,
		Rmdir:     fs.rmdir,
		Rename:    fs.rename,
		Readlink:  func(_ context.Context, ip *vfs.Inode) (string, error) { return nodeOf(ip).target, nil },
		SetAttr:   fs.setAttr,
		SetFlags:  fs.setFlags,
		GetXattr:  fs.getXattr,
		ListXattr: fs.listXattr,
		SetXattr:  fs.setXattr,
		Fiemap:    fs.fiemap,
	}
	fs.fop = vfs.FileOperations{
		Read: fs.read, Write: fs.write, Seek: fs.seek, Fallocate: fs.fallocate, ReadDir: fs.readDir,
		Fsync: func(ctx context.Context, f *vfs.File, _, _ int64, _ bool) error {
			return fs.hook(ctx, "Fsync", f.Inode)
		},
	}
}

// key is what a name is found by.
func (fs *FS) key(name string) string {
	if fs.iop.Stored != nil {
		return strings.ToLower(name)
	}
	return name
}

func (fs *FS) stored(_ context.Context, dir *vfs.Inode, name string) (string, error) {
	d := nodeOf(dir)
	i, ok := d.names[fs.key(name)]
	if !ok {
		return "", errno.NOENT
	}
	return d.entries[i].name, nil
}

func (fs *FS) lookup(ctx context.Context, dir *vfs.Inode, name string) (*vfs.Inode, error) {
	if err := fs.hook(ctx, "Lookup", dir); err != nil {
		return nil, err
	}
	d := nodeOf(dir)
	if d.names == nil {
		return nil, errno.NOTDIR
	}
	i, ok := d.names[fs.key(name)]
	if !ok {
		return nil, errno.NOENT
	}
	return fs.sb.Get(ctx, d.entries[i].ino)
}

// enter puts a name into a directory, drop takes it out. Each changes the directory's times.
func (fs *FS) enter(dir *vfs.Inode, name string, ip *vfs.Inode) {
	d := nodeOf(dir)
	d.names[fs.key(name)] = len(d.entries)
	d.entries = append(d.entries, entry{name, ip.Ino(), vfs.DType(ip.Mode())})
	dir.TouchNow(true)
}

func (fs *FS) drop(dir *vfs.Inode, name string) {
	d, key := nodeOf(dir), fs.key(name)
	d.entries[d.names[key]] = entry{}
	delete(d.names, key)
	dir.TouchNow(true)
}

// links adds to the number of links.
func links(ip *vfs.Inode, n int) {
	ip.AttrMu.Lock()
	ip.A.Nlink = uint32(int(ip.A.Nlink) + n)
	ip.AttrMu.Unlock()
	ip.TouchNow(false)
}

func (fs *FS) create(ctx context.Context, cred *vfs.Cred, dir *vfs.Inode, name string, mode uint32) (*vfs.Inode, error) {
	return fs.make(ctx, "Create", cred, dir, name, mode, func(*vfs.Inode) {})
}

// make makes something, without a name when name is empty.
func (fs *FS) make(ctx context.Context, op string, cred *vfs.Cred, dir *vfs.Inode, name string, mode uint32, fill func(*vfs.Inode)) (*vfs.Inode, error) {
	if err := fs.hook(ctx, op, dir); err != nil {
		return nil, err
	}
	if _, taken := nodeOf(dir).names[fs.key(name)]; taken {
		return nil, errno.EXIST
	}
	mode, access, deflt, err := dir.InheritACL(ctx, cred, mode)
	if err != nil {
		return nil, err
	}
	ip, err := fs.insert(cred, dir, mode)
	if err != nil {
		return nil, err
	}
	n := nodeOf(ip)
	if access != nil {
		n.xattrs[vfs.XattrACLAccess] = access
	}
	if deflt != nil {
		n.xattrs[vfs.XattrACLDefault] = deflt
	}
	if ip.IsDir() {
		n.parent, ip.A.Nlink = dir.Ino(), 2
		links(dir, 1)
	}
	fill(ip)
	ip.Publish(nil)
	if name != "" {
		fs.enter(dir, name, ip)
	}
	return ip, nil
}

func (fs *FS) link(_ context.Context, dir *vfs.Inode, name string, ip *vfs.Inode) error {
	if _, taken := nodeOf(dir).names[fs.key(name)]; taken {
		return errno.EXIST
	}
	fs.enter(dir, name, ip)
	links(ip, 1)
	return nil
}

func (fs *FS) unlink(ctx context.Context, dir *vfs.Inode, name string, ip *vfs.Inode) error {
	if err := fs.hook(ctx, "Unlink", ip); err != nil {
		return err
	}
	fs.drop(dir, name)
	links(ip, -1)
	return nil
}

func (fs *FS) rmdir(_ context.Context, dir *vfs.Inode, name string, ip *vfs.Inode) error {
	if len(nodeOf(ip).names) > 0 {
		return errno.NOTEMPTY
	}
	fs.drop(dir, name)
	links(ip, -2)
	links(dir, -1)
	return nil
}

func (fs *FS) rename(_ context.Context, r *vfs.Rename) error {
	move := func(ip, from, to *vfs.Inode) { // the parent's part of moving ip
		if ip.IsDir() && from != to {
			nodeOf(ip).parent = to.Ino()
			links(from, -1)
			links(to, 1)
		}
		ip.TouchNow(false)
	}
	if r.Exchange {
		a, b := nodeOf(r.From), nodeOf(r.To)
		ea, eb := &a.entries[a.names[fs.key(r.OldName)]], &b.entries[b.names[fs.key(r.NewName)]]
		ea.ino, ea.typ, eb.ino, eb.typ = eb.ino, eb.typ, ea.ino, ea.typ
		move(r.Old, r.From, r.To)
		move(r.New, r.To, r.From)
		r.From.TouchNow(true)
		r.To.TouchNow(true)
		return nil
	}
	if r.New != nil {
		if r.New.IsDir() {
			if err := fs.rmdir(context.Background(), r.To, r.NewName, r.New); err != nil {
				return err
			}
		} else {
			fs.drop(r.To, r.NewName)
			links(r.New, -1)
		}
	}
	fs.drop(r.From, r.OldName)
	fs.enter(r.To, r.NewName, r.Old)
	move(r.Old, r.From, r.To)
	return nil
}

func (fs *FS) readDir(ctx context.Context, f *vfs.File, pos int64, emit func(*vfs.DirEntry) bool) error {
	if err := fs.hook(ctx, "ReadDir", f.Inode); err != nil {
		return err
	}
	d := nodeOf(f.Inode)
	if d.names == nil {
		return errno.NOTDIR
	}
	for ; pos < int64(len(d.entries))+2; pos++ {
		e := vfs.DirEntry{Next: pos + 1, Type: vfs.DTDir}
		switch {
		case pos == 0:
			e.Name, e.Ino = ".", d.ino
		case pos == 1:
			e.Name, e.Ino = "..", d.parent
		default:
			at := &d.entries[pos-2]
			if at.name == "" {
				continue
			}
			e.Name, e.Ino, e.Type = at.name, at.ino, at.typ
		}
		if !emit(&e) {
			break
		}
	}
	return nil
}
