package disk

import (
	"encoding/binary"
	"math"
)

// Inode sizes, in bytes.
const (
	OldInodeSize = 128  // revision 0, and the part that every inode has
	MaxInodeSize = 1024 // the largest that this project makes; up to the block size is read
)

// MaxExtraSize is the number of bytes of extra fields that this package knows: Inode.ExtraSize of an inode with all of them.
const MaxExtraSize = 32

// Types of Inode.Mode.
const (
	ModeType    uint16 = 0xF000
	ModeFIFO    uint16 = 0x1000
	ModeChar    uint16 = 0x2000
	ModeDir     uint16 = 0x4000
	ModeBlock   uint16 = 0x6000
	ModeRegular uint16 = 0x8000
	ModeSymlink uint16 = 0xA000
	ModeSocket  uint16 = 0xC000
	ModePerm    uint16 = 0x0FFF // permission bits with set-user-id, set-group-id, sticky
)

// Time is a time stamp: seconds since 1970 and nanoseconds below 1e9.
type Time struct {
	Sec  int64
	Nsec uint32
}

// Limits of time stamps, in seconds. Without extra fields an inode reaches from 1901 to 2038 only.
const (
	MinTime      int64 = math.MinInt32
	MaxTime      int64 = math.MaxInt32         // without extra fields
	MaxExtraTime int64 = math.MaxInt32 + 3<<32 // with them: the year 2446
)

// Inode is one file. 128 bytes and, in larger inodes, ExtraSize bytes more; what is left of a larger inode holds extended
// attributes, see IBody.
//
//	off  size  field
//	  0     2  Mode          type and permissions
//	  2     2  UID           low half
//	  4     4  Size          low half, bytes
//	  8     4  Atime         seconds, signed
//	 12     4  Ctime
//	 16     4  Mtime
//	 20     4  Dtime         when deleted; 0 while in use
//	 24     2  GID           low half
//	 26     2  Links
//	 28     4  Sectors       512-byte units in use, indirect blocks and attribute block included
//	 32     4  Flags
//	 36     4  Version
//	 40    60  Block         block map, or target of a fast symlink, or device number
//	100     4  Generation
//	104     4  FileACL       block of extended attributes
//	108     4  Size          high half, of regular files; DirACL of others
//	112     4  FragAddr      (not in use)
//	116     4  osd2[0:4]     SectorsHigh (2), FileACLHigh (2): kept, used by other features only
//	120     2  UID           high half
//	122     2  GID           high half
//	124     4  (kept as found)
//	       from here on in inodes of more than 128 bytes, as far as ExtraSize reaches
//	128     2  ExtraSize     bytes in use from 128 on
//	130     2  (kept as found)
//	132     4  Ctime         nanoseconds << 2 | bits 32 and 33 of the seconds
//	136     4  Mtime
//	140     4  Atime
//	144     4  Crtime        seconds
//	148     4  Crtime        nanoseconds and epoch
//	152     8  (kept as found)
//
// Source: "The Second Extended Filesystem", inode table; ext4/inodes.rst for the extra fields.
type Inode struct {
	Mode                        uint16
	UID, GID                    uint32
	Size                        uint64 // bytes. Regular files use 64 bits, others 32
	Atime, Ctime, Mtime, Crtime Time   // Crtime is zero where the inode has no room for it
	Dtime                       uint32
	Links                       uint16
	Sectors                     uint32
	Flags                       InodeFlags
	Version                     uint32
	Block                       [NBlocks]uint32
	Generation                  uint32
	FileACL                     FSBlock
	DirACL                      uint32 // bytes 108 to 111 of what is no regular file
	FragAddr                    uint32
	SectorsHigh                 uint16
	ExtraSize                   uint16 // 0 in 128-byte inodes
}

// DecodeInode reads an inode from b, whose length is the filesystem's inode size: 128 or more. Only ExtraSize is judged here,
// the rest by Verify: an inode that is not in use may hold anything. An ExtraSize that cannot be is read as 0 and reported by
// the error; the inode is usable all the same, but has neither nanoseconds nor attributes in its body.
// Errors: *Bad.
func DecodeInode(b []byte) (Inode, error) {
	if len(b) < OldInodeSize {
		return Inode{}, bad("inode", "length", uint64(len(b)), "at least %d bytes", OldInodeSize)
	}
	le := binary.LittleEndian
	in := Inode{
		Mode:        le.Uint16(b[0:]),
		UID:         uint32(le.Uint16(b[2:])) | uint32(le.Uint16(b[120:]))<<16,
		Size:        uint64(le.Uint32(b[4:])),
		Atime:       Time{Sec: int64(int32(le.Uint32(b[8:])))},
		Ctime:       Time{Sec: int64(int32(le.Uint32(b[12:])))},
		Mtime:       Time{Sec: int64(int32(le.Uint32(b[16:])))},
		Dtime:       le.Uint32(b[20:]),
		GID:         uint32(le.Uint16(b[24:])) | uint32(le.Uint16(b[122:]))<<16,
		Links:       le.Uint16(b[26:]),
		Sectors:     le.Uint32(b[28:]),
		Flags:       InodeFlags(le.Uint32(b[32:])),
		Version:     le.Uint32(b[36:]),
		Generation:  le.Uint32(b[100:]),
		FileACL:     FSBlock(le.Uint32(b[104:])),
		FragAddr:    le.Uint32(b[112:]),
		SectorsHigh: le.Uint16(b[116:]),
	}
	for i := range in.Block {
		in.Block[i] = le.Uint32(b[40+4*i:])
	}
	if high := le.Uint32(b[108:]); in.Mode&ModeType == ModeRegular {
		in.Size |= uint64(high) << 32
	} else {
		in.DirACL = high
	}
	if len(b) < OldInodeSize+4 {
		return in, nil
	}
	in.ExtraSize = le.Uint16(b[128:])
	if in.ExtraSize == 0 {
		return in, nil
	}
	if int(in.ExtraSize) > len(b)-OldInodeSize || in.ExtraSize%4 != 0 {
		got := in.ExtraSize
		in.ExtraSize = 0
		return in, bad("inode", "extra size", uint64(got), "a multiple of 4 up to %d", len(b)-OldInodeSize)
	}
	extra := func(t *Time, off int) {
		if int(in.ExtraSize) >= off+4-OldInodeSize {
			w := le.Uint32(b[off:])
			t.Sec += int64(w&3) << 32
			t.Nsec = min(w>>2, 999_999_999)
		}
	}
	extra(&in.Ctime, 132)
	extra(&in.Mtime, 136)
	extra(&in.Atime, 140)
	if in.ExtraSize >= 20 {
		in.Crtime.Sec = int64(int32(le.Uint32(b[144:])))
		extra(&in.Crtime, 148)
	}
	return in, nil
}

// EncodeTo writes the inode over b, whose length is the filesystem's inode size. Times out of range are clamped (see
// ClampTime); ExtraSize must fit into b, an ExtraSize of 0 leaves all behind the first 128 bytes but ExtraSize itself.
func (in *Inode) EncodeTo(b []byte) {
	_ = b[OldInodeSize-1]
	le := binary.LittleEndian
	le.PutUint16(b[0:], in.Mode)
	le.PutUint16(b[2:], uint16(in.UID))
	le.PutUint32(b[4:], uint32(in.Size))
	le.PutUint32(b[20:], in.Dtime)
	le.PutUint16(b[24:], uint16(in.GID))
	le.PutUint16(b[26:], in.Links)
	le.PutUint32(b[28:], in.Sectors)
	le.PutUint32(b[32:], uint32(in.Flags))
	le.PutUint32(b[36:], in.Version)
	for i, p := range in.Block {
		le.PutUint32(b[40+4*i:], p)
	}
	le.PutUint32(b[100:], in.Generation)
	le.PutUint32(b[104:], uint32(in.FileACL))
	if in.Mode&ModeType == ModeRegular {
		le.PutUint32(b[108:], uint32(in.Size>>32))
	} else {
		le.PutUint32(b[108:], in.DirACL)
	}
	le.PutUint32(b[112:], in.FragAddr)
	le.PutUint16(b[116:], in.SectorsHigh)
	le.PutUint16(b[120:], uint16(in.UID>>16))
	le.PutUint16(b[122:], uint16(in.GID>>16))

	size := int(in.ExtraSize)
	stamp := func(t Time, off, extraOff int) {
		hasExtra := size >= extraOff+4-OldInodeSize
		t = clampTime(t, hasExtra)
		le.PutUint32(b[off:], uint32(t.Sec))
		if hasExtra {
			epoch := uint32((t.Sec-int64(int32(t.Sec)))>>32) & 3
			le.PutUint32(b[extraOff:], t.Nsec<<2|epoch)
		}
	}
	if len(b) >= OldInodeSize+4 {
		size = min(size, len(b)-OldInodeSize)
		le.PutUint16(b[128:], uint16(size))
	} else {
		size = 0
	}
	stamp(in.Atime, 8, 140)
	stamp(in.Ctime, 12, 132)
	stamp(in.Mtime, 16, 136)
	if size >= 20 {
		stamp(in.Crtime, 144, 148)
	}
}

// ClampTime gives what of t an inode with ExtraSize can hold: seconds in range, and no nanoseconds without extra fields.
func (in *Inode) ClampTime(t Time) Time { return clampTime(t, in.ExtraSize >= 16) }

func clampTime(t Time, hasExtra bool) Time {
	if !hasExtra {
		return Time{Sec: min(max(t.Sec, MinTime), MaxTime)}
	}
	return Time{Sec: min(max(t.Sec, MinTime), MaxExtraTime), Nsec: min(t.Nsec, 999_999_999)}
}

// Type gives the type bits of the mode.
func (in *Inode) Type() uint16 { return in.Mode & ModeType }

// IsDir, IsRegular and IsSymlink report the type.
func (in *Inode) IsDir() bool { return in.Mode&ModeType == ModeDir }

// IsRegular reports whether the inode is a regular file.
func (in *Inode) IsRegular() bool { return in.Mode&ModeType == ModeRegular }

// IsSymlink reports whether the inode is a symbolic link.
func (in *Inode) IsSymlink() bool { return in.Mode&ModeType == ModeSymlink }

// HasBlockMap reports whether Block holds a block map: regular files, directories and slow symlinks.
func (in *Inode) HasBlockMap(g *Geometry) bool {
	switch in.Mode & ModeType {
	case ModeRegular, ModeDir:
		return true
	case ModeSymlink:
		return !in.IsFastSymlink(g)
	}
	return false
}

// FastSymlinkMax is the longest target that is kept in the inode: 59 bytes and the zero that ends it.
const FastSymlinkMax = NBlocks*4 - 1

// IsFastSymlink reports whether the target of a symbolic link is in Block: the inode has no blocks other than that of its
// extended attributes.
func (in *Inode) IsFastSymlink(g *Geometry) bool {
	if in.Mode&ModeType != ModeSymlink {
		return false
	}
	acl := uint32(0)
	if in.FileACL != 0 {
		acl = g.BlockSize / SectorSize
	}
	return in.Sectors == acl && in.SectorsHigh == 0
}

// FastSymlink gives the target of a fast symbolic link: Size bytes of Block, which must be 1 to 59 and hold no zero.
// Errors: *Bad.
func (in *Inode) FastSymlink() (string, error) {
	if in.Size == 0 || in.Size > FastSymlinkMax {
		return "", bad("inode", "size of a fast symbolic link", in.Size, "1 to %d", FastSymlinkMax)
	}
	var b [NBlocks * 4]byte
	for i, w := range in.Block {
		binary.LittleEndian.PutUint32(b[4*i:], w)
	}
	t := b[:in.Size]
	for i, c := range t {
		if c == 0 {
			return "", bad("inode", "target length of a fast symbolic link", uint64(i), "%d, the inode's size", in.Size)
		}
	}
	return string(t), nil
}

// SetFastSymlink stores a target of at most FastSymlinkMax bytes in Block and sets Size. It reports whether it fits.
func (in *Inode) SetFastSymlink(target string) bool {
	if len(target) == 0 || len(target) > FastSymlinkMax {
		return false
	}
	var b [NBlocks * 4]byte
	copy(b[:], target)
	for i := range in.Block {
		in.Block[i] = binary.LittleEndian.Uint32(b[4*i:])
	}
	in.Size = uint64(len(target))
	return true
}

// Device gives the device number of a device node. Block[0] holds the old form, 8 bits of major and 8 of minor; where it is 0,
// Block[1] holds the new one, 12 and 20 bits.
func (in *Inode) Device() (major, minor uint32) {
	if old := in.Block[0]; old != 0 {
		return old >> 8 & 0xFF, old & 0xFF
	}
	d := in.Block[1]
	return d >> 8 & 0xFFF, d&0xFF | d>>12&0xFFF00
}

// SetDevice stores a device number: in the old form where it fits. It reports whether it fits at all: major below 4096, minor
// below 2^20.
func (in *Inode) SetDevice(major, minor uint32) bool {
	if major > 0xFFF || minor > 0xFFFFF {
		return false
	}
	in.Block = [NBlocks]uint32{}
	if major < 256 && minor < 256 {
		in.Block[0] = major<<8 | minor
	} else {
		in.Block[1] = minor&0xFF | major<<8 | minor&0xFFF00<<12
	}
	return true
}

// Verify makes sure that an inode in use is one that ext2 can serve: a known type, no flags that give its fields another
// meaning, a size in range, a valid attribute block. Block pointers are checked as they are followed.
// Errors: *Bad.
func (in *Inode) Verify(g *Geometry) error {
	const s = "inode"
	switch in.Mode & ModeType {
	case ModeFIFO, ModeChar, ModeDir, ModeBlock, ModeRegular, ModeSymlink, ModeSocket:
	default:
		return bad(s, "type", uint64(in.Mode>>12), "1, 2, 4, 6, 8, 10 or 12")
	}
	switch {
	case in.Flags&FlagsForeign != 0:
		return bad(s, "flags", uint64(in.Flags), "none of %v, which ext2 does not have", (in.Flags & FlagsForeign).Names())
	case in.FileACL != 0 && !g.ValidBlock(in.FileACL):
		return bad(s, "attribute block", uint64(in.FileACL), "0 or %d to %d", g.FirstDataBlock, g.Blocks-1)
	case in.IsRegular() && in.Size > uint64(g.MaxFileBlocks())<<g.BlockBits:
		return bad(s, "size", in.Size, "at most %d", uint64(g.MaxFileBlocks())<<g.BlockBits)
	case in.IsDir() && (in.Size&uint64(g.BlockSize-1) != 0 || in.Size == 0):
		return bad(s, "size of a directory", in.Size, "a multiple of the block size %d, not 0", g.BlockSize)
	case in.IsSymlink() && in.IsFastSymlink(g) && (in.Size == 0 || in.Size > FastSymlinkMax):
		return bad(s, "size of a fast symbolic link", in.Size, "1 to %d", FastSymlinkMax)
	case in.IsSymlink() && (in.Size == 0 || in.Size >= uint64(g.BlockSize)):
		return bad(s, "size of a symbolic link", in.Size, "1 to %d, less than a block", g.BlockSize-1)
	}
	return nil
}

// Live reports whether the inode is in use: it has links. (A deleted one has none and Dtime set.)
func (in *Inode) Live() bool { return in.Links != 0 }

// IBody gives the part of raw, an inode of the filesystem's inode size, behind the extra fields: where attributes may stand,
// with their magic number. Nil when the inode has no such room.
func (in *Inode) IBody(raw []byte) []byte {
	from := OldInodeSize + int(in.ExtraSize)
	if in.ExtraSize < 4 || from+xattrBodyHeader+4 > len(raw) {
		return nil
	}
	return raw[from:]
}
