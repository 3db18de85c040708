//go:build linux

package fuse

import (
	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/iomapfs/iomapfs/vfs"
)

// made answers with something new in dir.
func (fs *rawFS) made(ctx request, dir *vfs.Inode, name string, ip *vfs.Inode, err error, out *gofuse.EntryOut) gofuse.Status {
	if err != nil {
		if ip != nil {
			ip.Put()
		}
		return fs.status(err)
	}
	fs.entry(ip, out)
	fs.remember(ctx, dir, name, out)
	return gofuse.OK
}

// Mknod makes a file without opening it.
func (fs *rawFS) Mknod(cancel <-chan struct{}, in *gofuse.MknodIn, name string, out *gofuse.EntryOut) gofuse.Status {
	dir := fs.nodes.get(in.NodeId)
	if dir == nil {
		return stale
	}
	ctx := request{cancel}
	ip, err := dir.Mknod(ctx, cred(&in.InHeader, in.Umask), name, in.Mode, vfs.MakeDev(in.Rdev))
	return fs.made(ctx, dir, name, ip, err, out)
}

// Mkdir makes a directory.
func (fs *rawFS) Mkdir(cancel <-chan struct{}, in *gofuse.MkdirIn, name string, out *gofuse.EntryOut) gofuse.Status {
	dir := fs.nodes.get(in.NodeId)
	if dir == nil {
		return stale
	}
	ctx := request{cancel}
	ip, err := dir.Mkdir(ctx, cred(&in.InHeader, in.Umask), name, in.Mode)
	return fs.made(ctx, dir, name, ip, err, out)
}

// Symlink makes a symbolic link.
func (fs *rawFS) Symlink(cancel <-chan struct{}, h *gofuse.InHeader, target, name string, out *gofuse.EntryOut) gofuse.Status {
	dir := fs.nodes.get(h.NodeId)
	if dir == nil {
		return stale
	}
	ctx := request{cancel}
	ip, err := dir.Symlink(ctx, cred(h, 0), name, target)
	return fs.made(ctx, dir, name, ip, err, out)
}

// Link gives a file another name.
func (fs *rawFS) Link(cancel <-chan struct{}, in *gofuse.LinkIn, name string, out *gofuse.EntryOut) gofuse.Status {
	dir, ip := fs.nodes.get(in.NodeId), fs.nodes.get(in.Oldnodeid)
	if dir == nil || ip == nil {
		return stale
	}
	if err := dir.Link(request{cancel}, name, ip); err != nil {
		return fs.status(err)
	}
	fs.entry(ip.Hold(), out)
	return gofuse.OK
}

// Unlink removes a name.
func (fs *rawFS) Unlink(cancel <-chan struct{}, h *gofuse.InHeader, name string) gofuse.Status {
	dir := fs.nodes.get(h.NodeId)
	if dir == nil {
		return stale
	}
	ctx := request{cancel}
	return fs.status(fs.changing(ctx, func() error { return dir.Unlink(ctx, name) }, dir, name, nil, ""))
}

// Rmdir removes a directory.
func (fs *rawFS) Rmdir(cancel <-chan struct{}, h *gofuse.InHeader, name string) gofuse.Status {
	dir := fs.nodes.get(h.NodeId)
	if dir == nil {
		return stale
	}
	ctx := request{cancel}
	return fs.status(fs.changing(ctx, func() error { return dir.Rmdir(ctx, name) }, dir, name, nil, ""))
}

// Rename moves a name.
func (fs *rawFS) Rename(cancel <-chan struct{}, in *gofuse.RenameIn, name, newName string) gofuse.Status {
	from, to := fs.nodes.get(in.NodeId), fs.nodes.get(in.Newdir)
	if from == nil || to == nil {
		return stale
	}
	ctx := request{cancel}
	return fs.status(fs.changing(ctx, func() error { return from.RenameTo(ctx, name, to, newName, in.Flags) }, from, name, to, newName))
}

// Readlink gives the target of a symbolic link.
func (fs *rawFS) Readlink(cancel <-chan struct{}, h *gofuse.InHeader) ([]byte, gofuse.Status) {
	ip := fs.nodes.get(h.NodeId)
	if ip == nil {
		return nil, stale
	}
	t, err := ip.Readlink(request{cancel})
	return []byte(t), fs.status(err)
}

// dirStream lists a directory into the kernel's buffer.
func (fs *rawFS) dirStream(cancel <-chan struct{}, in *gofuse.ReadIn, add func(e *vfs.DirEntry) bool) gofuse.Status {
	f := fs.files.get(in.Fh)
	if f == nil {
		return gofuse.EBADF
	}
	return fs.status(f.ReadDir(request{cancel}, int64(in.Offset), add))
}

// OpenDir opens a directory.
func (fs *rawFS) OpenDir(cancel <-chan struct{}, in *gofuse.OpenIn, out *gofuse.OpenOut) gofuse.Status {
	ip := fs.nodes.get(in.NodeId)
	if ip == nil {
		return stale
	}
	if !ip.IsDir() {
		return gofuse.ENOTDIR
	}
	f, err := ip.Open(request{cancel}, vfs.ORdonly)
	if err != nil {
		return fs.status(err)
	}
	out.Fh = fs.files.add(f)
	return gofuse.OK
}

// ReadDir lists names.
func (fs *rawFS) ReadDir(cancel <-chan struct{}, in *gofuse.ReadIn, out *gofuse.DirEntryList) gofuse.Status {
	return fs.dirStream(cancel, in, func(e *vfs.DirEntry) bool {
		return out.AddDirEntry(gofuse.DirEntry{Name: e.Name, Ino: e.Ino, Mode: uint32(e.Type) << 12, Off: uint64(e.Next)})
	})
}

// ReadDirPlus lists names and looks each up, which saves the kernel a request a name.
func (fs *rawFS) ReadDirPlus(cancel <-chan struct{}, in *gofuse.ReadIn, out *gofuse.DirEntryList) gofuse.Status {
	ctx := request{cancel}
	f := fs.files.get(in.Fh)
	forget := f != nil && f.Inode.Op.Stored != nil && fs.newEpoch == nil // see spelling.go
	return fs.dirStream(cancel, in, func(e *vfs.DirEntry) bool {
		de := gofuse.DirEntry{Name: e.Name, Ino: e.Ino, Mode: uint32(e.Type) << 12, Off: uint64(e.Next)}
		eo := out.AddDirLookupEntry(de)
		if eo == nil {
			return false
		}
		if e.Name == "." || e.Name == ".." {
			return true // never looked up: a node id of 0 says so
		}
		ip, err := fs.sb.Get(ctx, e.Ino)
		if err != nil {
			return true // listed all the same; who looks it up meets the error
		}
		fs.entry(ip, eo)
		if forget {
			eo.EntryValid, eo.EntryValidNsec = 0, 0
		}
		return true
	})
}

// ReleaseDir closes a directory.
func (fs *rawFS) ReleaseDir(in *gofuse.ReleaseIn) {
	if f := fs.files.remove(in.Fh); f != nil {
		f.Close()
	}
}

// FsyncDir makes a directory durable.
func (fs *rawFS) FsyncDir(cancel <-chan struct{}, in *gofuse.FsyncIn) gofuse.Status {
	return fs.Fsync(cancel, in)
}
