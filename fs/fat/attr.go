package fat

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Requests of ioctl(2), numbers of linux/msdos_fs.h.
const (
	iocGetAttributes = 0x80047210
	iocSetAttributes = 0x40047211
	iocGetVolumeID   = 0x80047213
)

// ioctl is FileOperations.Ioctl: FAT_IOCTL_GET_ATTRIBUTES, FAT_IOCTL_SET_ATTRIBUTES, FAT_IOCTL_GET_VOLUME_ID.
func (fs *fsys) ioctl(_ context.Context, f *vfs.File, cmd uint32, in, out []byte) (int, error) {
	ip := inodeOf(f.Inode)
	switch cmd {
	case iocGetAttributes, iocGetVolumeID:
		if len(out) < 4 {
			return 0, errno.INVAL
		}
		v := fs.boot.Serial
		if cmd == iocGetAttributes {
			ip.AttrMu.Lock()
			v = uint32(ip.attr)
			ip.AttrMu.Unlock()
		}
		binary.LittleEndian.PutUint32(out, v)
		return 0, nil
	case iocSetAttributes:
		if len(in) < 4 {
			return 0, errno.INVAL
		}
		if err := fs.sb.WantWrite(); err != nil {
			return 0, err
		}
		defer fs.sb.EndWrite()
		ip.Rw.Lock()
		defer ip.Rw.Unlock()
		return 0, ip.changeAttrs(binary.LittleEndian.Uint32(in))
	}
	return 0, errno.NOTTY
}

// changeAttrs checks and stores attributes. Rw held exclusively.
func (ip *inode) changeAttrs(v uint32) error {
	ip.AttrMu.Lock()
	fixed := ip.attr &^ disk.AttrUser
	ip.AttrMu.Unlock()
	switch {
	case ip.Ino() == rootIno:
		return fmt.Errorf("the root directory has no attributes: %w", errno.INVAL)
	case v&^uint32(disk.AttrUser|disk.AttrDir) != 0 || v&uint32(disk.AttrDir) != 0 && fixed&disk.AttrDir == 0:
		return fmt.Errorf("attributes %#x: only read-only (1), hidden (2), system (4) and archive (20) can be changed: %w", v, errno.INVAL)
	}
	ip.setAttrs(disk.Attr(v))
	return nil
}

// Extended attributes that show what FAT stores.
const (
	xattrAttributes = "system.fat.attributes" // letters: R read-only, H hidden, S system, A archive
	xattrShort      = "system.fat.shortname"  // the short name; cannot be set
)

var attrLetters = []struct {
	letter byte
	bit    disk.Attr
}{{'R', disk.AttrReadOnly}, {'H', disk.AttrHidden}, {'S', disk.AttrSystem}, {'A', disk.AttrArchive}}

// getXattr is InodeOperations.GetXattr.
func (fs *fsys) getXattr(_ context.Context, vi *vfs.Inode, name string) ([]byte, error) {
	ip := inodeOf(vi)
	switch {
	case !strings.HasPrefix(name, "system.fat."):
		return nil, errno.OPNOTSUPP
	case vi.Ino() == rootIno:
		return nil, errno.NODATA
	}
	ip.AttrMu.Lock()
	attr, short := ip.attr, ip.raw.Name
	ip.AttrMu.Unlock()
	switch name {
	case xattrAttributes:
		v := []byte{}
		for _, l := range attrLetters {
			if attr&l.bit != 0 {
				v = append(v, l.letter)
			}
		}
		return v, nil
	case xattrShort:
		return []byte(disk.Name(disk.ShortUnits(short, 0, fs.opts.codePage))), nil
	}
	return nil, errno.NODATA
}

// listXattr is InodeOperations.ListXattr.
func (fs *fsys) listXattr(_ context.Context, vi *vfs.Inode) ([]string, error) {
	if vi.Ino() == rootIno {
		return nil, nil
	}
	return []string{xattrAttributes, xattrShort}, nil
}

// setXattr is InodeOperations.SetXattr: system.fat.attributes can be set.
func (fs *fsys) setXattr(_ context.Context, vi *vfs.Inode, name string, value []byte, flags int) error {
	switch {
	case name == xattrShort:
		return errno.PERM
	case name != xattrAttributes:
		return errno.OPNOTSUPP
	case flags&vfs.XattrCreate != 0:
		return errno.EXIST
	}
	var v disk.Attr
next:
	for _, c := range value {
		for _, l := range attrLetters {
			if c == l.letter || c == l.letter+'a'-'A' {
				v |= l.bit
				continue next
			}
		}
		return fmt.Errorf("%s: want letters of RHSA: %w", name, errno.INVAL)
	}
	return inodeOf(vi).changeAttrs(uint32(v))
}

// setVolumeLabel is SuperOperations.SetLabel: the label of the boot sector and the entry of the root directory, which is made, changed or
// taken out. At most 11 bytes in the code page; letters become capitals.
func (fs *fsys) setVolumeLabel(ctx context.Context, label string) error {
	raw, ok := disk.EncodeLabel(label, fs.opts.codePage)
	if !ok {
		return fmt.Errorf("label %q: at most 11 bytes in code page %d, without the characters *?.,;:/\\|+=<>[]\": %w", label, fs.opts.CodePage, errno.INVAL)
	}
	root := inodeOf(fs.sb.Root)
	root.Rw.Lock()
	defer root.Rw.Unlock()
	x, err := root.index(ctx)
	if err != nil {
		return err
	}
	slot, err := root.labelSlot(ctx, x)
	if err != nil {
		return err
	}
	fresh := slot < 0
	if fresh && label != "" {
		if slot, err = root.reserve(ctx, x, 1); err != nil {
			return err
		}
	}
	now := fs.stamp(fs.sb.Now())
	d := disk.Dirent{Name: raw, Attr: disk.AttrVolume, Written: disk.Stamp{Date: now.Date, Time: now.Time}}
	fs.begin()
	if slot >= 0 {
		if err = root.passEnd(ctx, x, slot, 1); err == nil {
			err = root.editSlots(ctx, slot, 1, func(_ int, p []byte) {
				if label == "" {
					disk.Delete(p)
					return
				}
				clear(p)
				d.EncodeTo(p, fs.geo.Width)
			})
		}
		if err == nil && label == "" || err != nil && fresh {
			x.release(slot, 1)
		}
	}
	if err == nil {
		fs.bootMu.Lock()
		fs.boot.Label, fs.label = disk.PadLabel(labelBytes(raw)), disk.DecodeBytes(labelBytes(raw), fs.opts.codePage)
		if label == "" {
			fs.label, fs.boot.Label = "", disk.PadLabel(nil)
		}
		fs.bootMu.Unlock()
		fs.commit.boot.Store(true)
		fs.change(func(*epoch) {})
	}
	fs.end()
	if err != nil {
		return err
	}
	return fs.commitNow(ctx)
}

// labelSlot finds the slot of the volume label in the root directory, -1 without.
func (ip *inode) labelSlot(ctx context.Context, x *dirIndex) (int, error) {
	for slot := range x.top {
		at, err := ip.slotAt(ctx, slot)
		if err != nil {
			return -1, err
		}
		bh, p, err := ip.fs.slotBuffer(ctx, at)
		if err != nil {
			return -1, err
		}
		ip.fs.begin()
		found := !disk.IsFree(p) && !disk.IsLong(p) && disk.DecodeDirent(p, ip.fs.geo.Width).Attr&disk.AttrVolume != 0
		ip.fs.end()
		bh.Put()
		if found {
			return slot, nil
		}
	}
	return -1, nil
}
