//go:build linux

package fuse

import (
	"context"
	"log/slog"
	"syscall"
	"time"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// rawFS translates requests into calls of the VFS.
type rawFS struct {
	gofuse.RawFileSystem // answers ENOSYS to what is not overridden
	sb                   *vfs.SuperBlock
	o                    Options
	log                  *slog.Logger
	nodes                nodeTable
	files                fileTable
	kernel               *gofuse.Server // to tell the kernel; set before the first operation
	newEpoch             func() error   // has the kernel ask again for all names; nil where it cannot
}

func newRawFS(sb *vfs.SuperBlock, o Options) *rawFS {
	fs := &rawFS{RawFileSystem: gofuse.NewDefaultRawFileSystem(), sb: sb, o: o, log: o.Log}
	fs.nodes.init(sb.Root)
	return fs
}

func (fs *rawFS) drop() {
	fs.files.drop()
	fs.nodes.drop()
}

// String names the filesystem in go-fuse's messages.
func (fs *rawFS) String() string { return "iomapfs:" + fs.sb.Dev.Name() }

// request is the context of one request: done when the caller is interrupted. It fits an interface without allocation.
type request struct{ cancel <-chan struct{} }

func (r request) Deadline() (time.Time, bool) { return time.Time{}, false }
func (r request) Done() <-chan struct{}       { return r.cancel }
func (r request) Value(any) any               { return nil }
func (r request) Err() error {
	select {
	case <-r.cancel:
		return context.Canceled
	default:
		return nil
	}
}

// status turns an error into its number. What points at damage or a failing device is logged.
func (fs *rawFS) status(err error) gofuse.Status {
	if err == nil {
		return gofuse.OK
	}
	e := errno.From(err)
	if e == errno.IO || e == errno.UCLEAN {
		fs.log.Warn("operation failed", "error", err)
	}
	return gofuse.Status(e)
}

const stale = gofuse.Status(syscall.ESTALE)

func cred(h *gofuse.InHeader, umask uint32) *vfs.Cred {
	return &vfs.Cred{UID: h.Uid, GID: h.Gid, PID: h.Pid, Umask: umask}
}

func seconds(d time.Duration) (uint64, uint32) {
	if d < 0 {
		return 0, 0
	}
	return uint64(d / time.Second), uint32(d % time.Second)
}

// attr fills what the kernel shows of an inode.
func (fs *rawFS) attr(ip *vfs.Inode, a *gofuse.Attr) {
	st := ip.Stat()
	a.Ino, a.Size, a.Blocks = st.Ino, uint64(st.Size), uint64(st.Blocks)
	a.Atime, a.Atimensec = uint64(st.Atime.Sec), st.Atime.Nsec
	a.Mtime, a.Mtimensec = uint64(st.Mtime.Sec), st.Mtime.Nsec
	a.Ctime, a.Ctimensec = uint64(st.Ctime.Sec), st.Ctime.Nsec
	a.Nlink, a.Rdev, a.Blksize = st.Nlink, st.Rdev.Encode(), max(st.BlockSize, 4096)
	a.Mode, a.Uid, a.Gid = fs.shown(&st)
}

// shown gives mode and owner as the squash options want them.
func (fs *rawFS) shown(st *vfs.Stat) (mode, uid, gid uint32) {
	mode, uid, gid = st.Mode, st.UID, st.GID
	if sq := fs.o.Squash; sq != nil {
		if sq.UID != nil {
			uid = *sq.UID
		}
		if sq.GID != nil {
			gid = *sq.GID
		}
		if mode&vfs.ModeType == vfs.ModeDir {
			mode &^= sq.DirMask & 0o777
		} else {
			mode &^= sq.FileMask & 0o777
		}
	}
	return mode, uid, gid
}

// entry answers with ip, whose reference goes to the table.
func (fs *rawFS) entry(ip *vfs.Inode, out *gofuse.EntryOut) {
	fs.attr(ip, &out.Attr)
	out.Generation = uint64(ip.Gen)
	out.EntryValid, out.EntryValidNsec = seconds(fs.o.EntryTimeout)
	out.AttrValid, out.AttrValidNsec = seconds(fs.o.AttrTimeout)
	out.NodeId = fs.nodes.add(ip)
}

// Lookup finds a name. That a name is not there is worth remembering too.
func (fs *rawFS) Lookup(cancel <-chan struct{}, h *gofuse.InHeader, name string, out *gofuse.EntryOut) gofuse.Status {
	dir := fs.nodes.get(h.NodeId)
	if dir == nil {
		return stale
	}
	ctx := request{cancel}
	var ip *vfs.Inode
	var err error
	if name == ".." {
		ip, err = dir.Parent(ctx)
	} else {
		ip, err = dir.Lookup(ctx, name)
	}
	if err != nil {
		if errno.From(err) == errno.NOENT && fs.o.EntryTimeout > 0 && dir.Op.Stored == nil {
			out.NodeId = 0
			out.EntryValid, out.EntryValidNsec = seconds(fs.o.EntryTimeout)
			return gofuse.OK
		}
		return fs.status(err)
	}
	fs.entry(ip, out)
	fs.remember(ctx, dir, name, out)
	return gofuse.OK
}

// Forget takes back look-ups.
func (fs *rawFS) Forget(id, n uint64) { fs.nodes.forget(id, n) }

// GetAttr gives the attributes.
func (fs *rawFS) GetAttr(_ <-chan struct{}, in *gofuse.GetAttrIn, out *gofuse.AttrOut) gofuse.Status {
	ip := fs.nodes.get(in.NodeId)
	if ip == nil {
		return stale
	}
	fs.attr(ip, &out.Attr)
	out.AttrValid, out.AttrValidNsec = seconds(fs.o.AttrTimeout)
	return gofuse.OK
}

// Statx is GetAttr with the birth time.
func (fs *rawFS) Statx(_ <-chan struct{}, in *gofuse.StatxIn, out *gofuse.StatxOut) gofuse.Status {
	ip := fs.nodes.get(in.NodeId)
	if ip == nil {
		return stale
	}
	st := ip.Stat()
	time := func(t vfs.Time) gofuse.SxTime { return gofuse.SxTime{Sec: uint64(t.Sec), Nsec: t.Nsec} }
	mode, uid, gid := fs.shown(&st)
	s := &out.Statx
	s.Mask = 0x7ff // STATX_BASIC_STATS
	s.Blksize, s.Nlink, s.Uid, s.Gid, s.Mode = max(st.BlockSize, 4096), st.Nlink, uid, gid, uint16(mode)
	s.Ino, s.Size, s.Blocks = st.Ino, uint64(st.Size), uint64(st.Blocks)
	s.Atime, s.Mtime, s.Ctime = time(st.Atime), time(st.Mtime), time(st.Ctime)
	s.RdevMajor, s.RdevMinor = st.Rdev.Major, st.Rdev.Minor
	if st.HasBtime {
		s.Mask |= 0x800
		s.Btime = time(st.Btime)
	}
	s.AttributesMask = 0x10 | 0x20 | 0x40 // immutable, append, nodump: numbers of chattr
	s.Attributes = uint64(st.Flags) & s.AttributesMask
	out.AttrValid, out.AttrValidNsec = seconds(fs.o.AttrTimeout)
	return gofuse.OK
}

// SetAttr changes attributes.
func (fs *rawFS) SetAttr(cancel <-chan struct{}, in *gofuse.SetAttrIn, out *gofuse.AttrOut) gofuse.Status {
	ip := fs.nodes.get(in.NodeId)
	if ip == nil {
		return stale
	}
	a := vfs.SetAttr{
		Mode: in.Mode & vfs.ModePerm, UID: in.Uid, GID: in.Gid, Size: int64(in.Size),
		Atime: vfs.Time{Sec: int64(in.Atime), Nsec: in.Atimensec}, Mtime: vfs.Time{Sec: int64(in.Mtime), Nsec: in.Mtimensec},
		Ctime: vfs.Time{Sec: int64(in.Ctime), Nsec: in.Ctimensec},
	}
	for _, m := range [...]struct {
		fuse uint32
		vfs  vfs.SetValid
	}{
		{gofuse.FATTR_MODE, vfs.SetMode},
		{gofuse.FATTR_UID, vfs.SetUID},
		{gofuse.FATTR_GID, vfs.SetGID},
		{gofuse.FATTR_SIZE, vfs.SetSize},
		{gofuse.FATTR_ATIME, vfs.SetAtime},
		{gofuse.FATTR_MTIME, vfs.SetMtime},
		{gofuse.FATTR_ATIME_NOW, vfs.SetAtimeNow},
		{gofuse.FATTR_MTIME_NOW, vfs.SetMtimeNow},
		{gofuse.FATTR_CTIME, vfs.SetCtime},
		{gofuse.FATTR_KILL_SUIDGID, vfs.KillSUID},
	} {
		if in.Valid&m.fuse != 0 {
			a.Valid |= m.vfs
		}
	}
	if in.Valid&gofuse.FATTR_FH != 0 {
		a.File = fs.files.get(in.Fh)
	}
	if err := ip.SetAttr(request{cancel}, cred(&in.InHeader, 0), &a); err != nil {
		return fs.status(err)
	}
	fs.attr(ip, &out.Attr)
	out.AttrValid, out.AttrValidNsec = seconds(fs.o.AttrTimeout)
	return gofuse.OK
}

// StatFs gives the numbers of statfs(2).
func (fs *rawFS) StatFs(_ <-chan struct{}, _ *gofuse.InHeader, out *gofuse.StatfsOut) gofuse.Status {
	st, err := fs.sb.StatFS()
	if err != nil {
		return fs.status(err)
	}
	out.Blocks, out.Bfree, out.Bavail, out.Files, out.Ffree = st.Blocks, st.Free, st.Avail, st.Files, st.FilesFree
	out.Bsize, out.Frsize, out.NameLen = st.BlockSize, st.BlockSize, st.NameMax
	return gofuse.OK
}

// Access is the kernel's work: it stops asking.
func (fs *rawFS) Access(<-chan struct{}, *gofuse.AccessIn) gofuse.Status { return gofuse.ENOSYS }

// Init is called when the kernel agreed on the protocol.
func (fs *rawFS) Init(k *gofuse.Server) { fs.kernel = k }

// OnUnmount is called when the connection ended.
func (fs *rawFS) OnUnmount() {}

// SetDebug is for go-fuse's own printing.
func (fs *rawFS) SetDebug(bool) {}
