package ext2

import (
	"context"
	"encoding/binary"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// setFlags is InodeOperations.SetFlags: the flags that chattr(1) may change, as far as files of the type have them. Flags
// that are the filesystem's own stay, and may be given as they are; what no ext2 knows is refused.
func (fs *fsys) setFlags(ctx context.Context, vi *vfs.Inode, f vfs.FileFlags) error {
	ip := inodeOf(vi)
	const visible, modifiable = vfs.FileFlags(disk.FlagsUserVisible), vfs.FileFlags(disk.FlagsUserModifiable)
	cur := ip.Flags()
	if f&^(visible|cur) != 0 {
		return errno.OPNOTSUPP
	}
	mode := uint16(ip.Mode())
	set := vfs.FileFlags(disk.InodeFlags(f & modifiable).Mask(mode))
	if mode&disk.ModeType != disk.ModeDir && mode&disk.ModeType != disk.ModeRegular {
		set |= f & (vfs.FlagImmutable | vfs.FlagAppend)
	}
	fs.begin()
	defer fs.end()
	ip.AttrMu.Lock()
	ip.A.Flags = ip.A.Flags&^modifiable | set
	ip.AttrMu.Unlock()
	ip.changedNow()
	return nil
}

// Requests of ioctl(2), numbers of linux/fs.h; the 32-bit forms differ in the size they name.
const (
	iocGetVersion   = 0x80087601
	iocSetVersion   = 0x40087602
	iocGetVersion32 = 0x80047601
	iocSetVersion32 = 0x40047602
)

// ioctl is FileOperations.Ioctl: the version number that lsattr -v shows and chattr -v sets, which NFS servers and the
// on-disk generation share.
func (fs *fsys) ioctl(ctx context.Context, f *vfs.File, cmd uint32, in, out []byte) (int, error) {
	ip := inodeOf(f.Inode)
	switch cmd {
	case iocGetVersion, iocGetVersion32:
		if len(out) < 4 {
			return 0, errno.INVAL
		}
		ip.AttrMu.Lock()
		v := ip.raw.Generation
		ip.AttrMu.Unlock()
		clear(out)
		binary.LittleEndian.PutUint32(out, v)
		return 0, nil
	case iocSetVersion, iocSetVersion32:
		if len(in) < 4 {
			return 0, errno.INVAL
		}
		if err := fs.sb.WantWrite(); err != nil {
			return 0, err
		}
		defer fs.sb.EndWrite()
		ip.Rw.Lock()
		defer ip.Rw.Unlock()
		if ip.Flags()&vfs.FlagImmutable != 0 {
			return 0, errno.PERM
		}
		fs.begin()
		defer fs.end()
		ip.AttrMu.Lock()
		ip.raw.Generation = binary.LittleEndian.Uint32(in)
		ip.AttrMu.Unlock()
		ip.changedNow()
		return 0, nil
	}
	return 0, errno.NOTTY
}
