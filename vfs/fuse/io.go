//go:build linux

package fuse

import (
	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/iomapfs/iomapfs/vfs"
)

// openFlags keeps what matters below. O_APPEND does not: the kernel, which has the size, sends the position.
const openFlags = vfs.OAccMode | vfs.OTrunc | vfs.ODSync | vfs.OSync | vfs.ODirect | vfs.ONoAtime

func (fs *rawFS) opened(f *vfs.File, out *gofuse.OpenOut) {
	out.Fh = fs.files.add(f)
	if f.Flags&vfs.ODirect != 0 {
		// Around the kernel's cache as well as ours, several writers at once.
		out.OpenFlags = gofuse.FOPEN_DIRECT_IO | gofuse.FOPEN_PARALLEL_DIRECT_WRITES
		return
	}
	out.OpenFlags = gofuse.FOPEN_KEEP_CACHE
}

// Open opens a file.
func (fs *rawFS) Open(cancel <-chan struct{}, in *gofuse.OpenIn, out *gofuse.OpenOut) gofuse.Status {
	ip := fs.nodes.get(in.NodeId)
	if ip == nil {
		return stale
	}
	f, err := ip.Open(request{cancel}, vfs.OpenFlags(in.Flags)&openFlags)
	if err != nil {
		return fs.status(err)
	}
	fs.opened(f, out)
	return gofuse.OK
}

// Create makes a file and opens it.
func (fs *rawFS) Create(cancel <-chan struct{}, in *gofuse.CreateIn, name string, out *gofuse.CreateOut) gofuse.Status {
	dir := fs.nodes.get(in.NodeId)
	if dir == nil {
		return stale
	}
	ctx := request{cancel}
	ip, err := dir.Create(ctx, cred(&in.InHeader, in.Umask), name, in.Mode)
	st := fs.createdOpen(ctx, ip, err, in, out)
	if st.Ok() {
		fs.remember(ctx, dir, name, &out.EntryOut)
	}
	return st
}

// Tmpfile makes a file without a name and opens it.
func (fs *rawFS) Tmpfile(cancel <-chan struct{}, in *gofuse.CreateIn, out *gofuse.CreateOut) gofuse.Status {
	dir := fs.nodes.get(in.NodeId)
	if dir == nil {
		return stale
	}
	ctx := request{cancel}
	ip, err := dir.Tmpfile(ctx, cred(&in.InHeader, in.Umask), in.Mode)
	return fs.createdOpen(ctx, ip, err, in, out)
}

func (fs *rawFS) createdOpen(ctx request, ip *vfs.Inode, err error, in *gofuse.CreateIn, out *gofuse.CreateOut) gofuse.Status {
	if err != nil {
		if ip != nil {
			ip.Put()
		}
		return fs.status(err)
	}
	f, err := ip.Open(ctx, vfs.OpenFlags(in.Flags)&openFlags&^vfs.OTrunc)
	if err != nil {
		ip.Put()
		return fs.status(err)
	}
	fs.entry(ip, &out.EntryOut)
	fs.opened(f, &out.OpenOut)
	return gofuse.OK
}

// Read reads.
func (fs *rawFS) Read(cancel <-chan struct{}, in *gofuse.ReadIn, buf []byte) (gofuse.ReadResult, gofuse.Status) {
	f := fs.files.get(in.Fh)
	if f == nil {
		return nil, gofuse.EBADF
	}
	if int(in.Size) < len(buf) {
		buf = buf[:in.Size]
	}
	k := f.Kiocb(int64(in.Offset))
	k.Direct = vfs.OpenFlags(in.Flags)&vfs.ODirect != 0
	k.CachedAbove = !k.Direct
	n, err := k.Read(request{cancel}, buf)
	if err == nil && n < len(buf) && k.Direct && fs.writtenAbove(f.Inode) {
		// The end we know may be before the one that the kernel knows.
		k.Pos = int64(in.Offset)
		n, err = k.Read(request{cancel}, buf)
	}
	if err != nil {
		return nil, fs.status(err)
	}
	return gofuse.ReadResultData(buf[:n]), gofuse.OK
}

// writtenAbove has the kernel write back what it holds of ip, where it can hold anything: as long as a file is open for
// writing (each close writes back). The kernel does so itself only for the range that an operation names, and not at all
// for SEEK_HOLE and SEEK_DATA; of a size that it has not told us, we know nothing. It reports whether something was asked.
func (fs *rawFS) writtenAbove(ip *vfs.Inode) bool {
	if fs.o.NoWritebackCache || ip.Writers() == 0 || fs.kernel == nil {
		return false
	}
	fs.kernel.InodeNotify(fs.nodes.id(ip.Ino()), 0, 0) // fails when the kernel has forgotten it, and all it held
	return true
}

// writeKillPriv (FUSE_WRITE_KILL_SUIDGID) marks a write by somebody without the privilege to keep set-id bits.
const writeKillPriv = 1 << 2

// Write writes. What comes from the kernel's cache was paid for by whoever dirtied it there: no privileges to drop.
func (fs *rawFS) Write(cancel <-chan struct{}, in *gofuse.WriteIn, data []byte) (uint32, gofuse.Status) {
	f := fs.files.get(in.Fh)
	if f == nil {
		return 0, gofuse.EBADF
	}
	k := f.Kiocb(int64(in.Offset))
	k.Direct = vfs.OpenFlags(in.Flags)&vfs.ODirect != 0
	k.CachedAbove = !k.Direct
	if in.WriteFlags&writeKillPriv != 0 && f.Inode.Mode()&(vfs.ModeSetUID|vfs.ModeSetGID) != 0 {
		if err := f.Inode.SetAttr(request{cancel}, cred(&in.InHeader, 0), &vfs.SetAttr{Valid: vfs.KillSUID, File: f}); err != nil {
			return 0, fs.status(err)
		}
	}
	n, err := k.Write(request{cancel}, data)
	return uint32(n), fs.status(err)
}

// Writev writes from several pieces.
func (fs *rawFS) Writev(cancel <-chan struct{}, in *gofuse.WriteIn, data [][]byte) (uint32, gofuse.Status) {
	if len(data) == 1 {
		return fs.Write(cancel, in, data[0])
	}
	var done uint32
	at := *in
	for _, p := range data {
		n, st := fs.Write(cancel, &at, p)
		done += n
		at.Offset += uint64(n)
		if st != gofuse.OK || int(n) < len(p) {
			if done > 0 {
				return done, gofuse.OK
			}
			return 0, st
		}
	}
	return done, gofuse.OK
}

// Lseek answers SEEK_DATA and SEEK_HOLE.
func (fs *rawFS) Lseek(cancel <-chan struct{}, in *gofuse.LseekIn, out *gofuse.LseekOut) gofuse.Status {
	f := fs.files.get(in.Fh)
	if f == nil {
		return gofuse.EBADF
	}
	fs.writtenAbove(f.Inode)
	pos, err := f.Seek(request{cancel}, int64(in.Offset), int(in.Whence))
	out.Offset = uint64(pos)
	return fs.status(err)
}

// CopyFileRange copies between two files without the data going up.
func (fs *rawFS) CopyFileRange(cancel <-chan struct{}, in *gofuse.CopyFileRangeIn) (uint32, gofuse.Status) {
	src, dst := fs.files.get(in.FhIn), fs.files.get(in.FhOut)
	if src == nil || dst == nil {
		return 0, gofuse.EBADF
	}
	want := int64(min(in.Len, 1<<30))
	n, err := vfs.CopyRange(request{cancel}, src, int64(in.OffIn), dst, int64(in.OffOut), want)
	if err == nil && n < want && fs.writtenAbove(src.Inode) {
		var m int64
		m, err = vfs.CopyRange(request{cancel}, src, int64(in.OffIn)+n, dst, int64(in.OffOut)+n, want-n)
		if n += m; n > 0 {
			err = nil
		}
	}
	return uint32(n), fs.status(err)
}

// Flush is asked at each close; nothing is to be done then. The kernel stops asking.
func (fs *rawFS) Flush(<-chan struct{}, *gofuse.FlushIn) gofuse.Status { return gofuse.ENOSYS }

// Fsync makes a file durable.
func (fs *rawFS) Fsync(cancel <-chan struct{}, in *gofuse.FsyncIn) gofuse.Status {
	f := fs.files.get(in.Fh)
	if f == nil {
		return gofuse.EBADF
	}
	return fs.status(f.Fsync(request{cancel}, in.FsyncFlags&1 != 0))
}

// Fallocate changes the allocation of a range.
func (fs *rawFS) Fallocate(cancel <-chan struct{}, in *gofuse.FallocateIn) gofuse.Status {
	f := fs.files.get(in.Fh)
	if f == nil {
		return gofuse.EBADF
	}
	return fs.status(f.Fallocate(request{cancel}, in.Mode, int64(in.Offset), int64(in.Length)))
}

// Release closes a file.
func (fs *rawFS) Release(_ <-chan struct{}, in *gofuse.ReleaseIn) {
	if f := fs.files.remove(in.Fh); f != nil {
		f.Close()
	}
}
