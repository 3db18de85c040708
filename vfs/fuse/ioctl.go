//go:build linux

package fuse

import (
	"encoding/binary"
	"strings"

	gofuse "github.com/hanwen/go-fuse/v2/fuse"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Numbers of the ioctls that are answered for every filesystem (linux/fs.h), with the sizes of their arguments encoded.
const (
	iocGetFlags   = 0x80086601
	iocSetFlags   = 0x40086602
	iocGetXFlags  = 0x801c581f // FS_IOC_FSGETXATTR
	iocSetXFlags  = 0x401c5820
	iocGetVersion = 0x80087601
	iocGetLabel   = 0x81009431
	iocSetLabel   = 0x41009432
	iocShutdown   = 0x8004587d
	iocTrim       = 0xc0185879
)

// FiemapIoctl is a private ioctl that carries FIEMAP on a mounted file: the kernel answers FS_IOC_FIEMAP itself and does
// not pass it on. _IOWR('f', 200, 8192 bytes), little endian:
//
//	off  size  field
//	  0     8  start    bytes
//	  8     8  length   bytes
//	 16     4  flags    FIEMAP_FLAG_…; back: the bits that were refused
//	 20     4  room     extents that the caller wants, at most FiemapRoom; 0 only counts
//	 24     4  mapped   back: extents found
//	 28     4  (zero)
//	 32    32  extents: logical, physical, length (8 each), flags (4), zero (4)
const FiemapIoctl = 3<<30 | 8192<<16 | 'f'<<8 | 200

// FiemapRoom is how many extents one FiemapIoctl carries.
const FiemapRoom = (8192 - 32) / 32

// Flags of FS_IOC_FSGETXATTR (fsxattr.fsx_xflags) that have a counterpart among the chattr flags.
var xflags = []struct {
	x uint32
	f vfs.FileFlags
}{{0x8, vfs.FlagImmutable}, {0x10, vfs.FlagAppend}, {0x20, vfs.FlagSync}, {0x40, vfs.FlagNoAtime}, {0x80, vfs.FlagNoDump}}

// Ioctl answers the above; the rest goes to the filesystem.
func (fs *rawFS) Ioctl(cancel <-chan struct{}, in *gofuse.IoctlIn, inbuf []byte, _ *gofuse.IoctlOut, out []byte) gofuse.Status {
	f := fs.files.get(in.Fh)
	if f == nil {
		return gofuse.EBADF
	}
	return fs.status(fs.ioctl(request{cancel}, cred(&in.InHeader, 0), f, in.Cmd, inbuf, out))
}

func (fs *rawFS) ioctl(ctx request, who *vfs.Cred, f *vfs.File, cmd uint32, in, out []byte) error {
	le := binary.LittleEndian
	ip := f.Inode
	n := int(cmd >> 16 & 0x3fff)
	if cmd == iocGetFlags || cmd == iocSetFlags {
		n = 4 // the numbers say long, the kernel carries an int
	}
	if cmd>>30&1 != 0 && len(in) < n || cmd>>31 != 0 && len(out) < n {
		return errno.INVAL // the sizes in the number are what the code below relies on
	}
	switch cmd {
	case iocGetFlags:
		le.PutUint32(out, uint32(ip.Flags()))
		return nil
	case iocSetFlags:
		return ip.SetFlags(ctx, who, vfs.FileFlags(le.Uint32(in)))
	case iocGetXFlags:
		clear(out)
		var x uint32
		for _, m := range xflags {
			if ip.Flags()&m.f != 0 {
				x |= m.x
			}
		}
		le.PutUint32(out, x)
		return nil
	case iocSetXFlags:
		x, flags := le.Uint32(in), ip.Flags()
		for _, m := range xflags {
			flags &^= m.f
			if x&m.x != 0 {
				flags |= m.f
			}
			x &^= m.x
		}
		if x != 0 {
			return errno.OPNOTSUPP
		}
		return ip.SetFlags(ctx, who, flags)
	case iocGetVersion:
		le.PutUint32(out, ip.Gen)
		return nil
	case iocGetLabel:
		if fs.sb.Op.Label == nil {
			return errno.NOTTY
		}
		clear(out)
		copy(out[:255], fs.sb.Op.Label())
		return nil
	case iocSetLabel:
		if fs.sb.Op.SetLabel == nil {
			return errno.NOTTY
		}
		if !who.Capable() {
			return errno.PERM
		}
		label, _, _ := strings.Cut(string(in[:256]), "\x00")
		if err := fs.sb.WantWrite(); err != nil {
			return err
		}
		defer fs.sb.EndWrite()
		return fs.sb.Op.SetLabel(ctx, label)
	case iocShutdown:
		if !who.Capable() {
			return errno.PERM
		}
		if le.Uint32(in) != 2 { // all but "no log flush" write everything back first
			if err := fs.sb.Sync(ctx); err != nil {
				return err
			}
		}
		fs.sb.Shutdown()
		return nil
	case iocTrim:
		if !who.Capable() {
			return errno.PERM
		}
		if fs.sb.Op.Trim == nil {
			return errno.OPNOTSUPP
		}
		n := le.Uint64(in[8:])
		done, err := fs.sb.Op.Trim(ctx, int64(min(le.Uint64(in), 1<<62)), int64(min(n, 1<<62)), int64(min(le.Uint64(in[16:]), 1<<62)))
		copy(out, in[:24])
		le.PutUint64(out[8:], uint64(done))
		return err
	case FiemapIoctl:
		return fs.fiemap(ctx, ip, in, out)
	}
	if f.Inode.Fop.Ioctl == nil {
		return errno.NOTTY
	}
	_, err := ip.Fop.Ioctl(ctx, f, cmd, in, out)
	return err
}

func (fs *rawFS) fiemap(ctx request, ip *vfs.Inode, in, out []byte) error {
	le := binary.LittleEndian
	info := vfs.FiemapInfo{Start: le.Uint64(in), Len: le.Uint64(in[8:]), Flags: le.Uint32(in[16:]), Max: int(min(le.Uint32(in[20:]), FiemapRoom))}
	clear(out)
	copy(out, in[:32])
	at := out[32:]
	info.Emit = func(e vfs.FiemapExtent) error {
		le.PutUint64(at, e.Logical)
		le.PutUint64(at[8:], e.Physical)
		le.PutUint64(at[16:], e.Length)
		le.PutUint32(at[24:], e.Flags)
		at = at[32:]
		return nil
	}
	err := ip.Fiemap(ctx, &info)
	le.PutUint32(out[16:], info.Flags)
	le.PutUint32(out[24:], uint32(info.Mapped))
	return err
}
