package vfs

// File type and permission bits of a mode, Linux numbers (stat.h) on every host.
const (
	ModeType    uint32 = 0o170000
	ModeSocket  uint32 = 0o140000
	ModeSymlink uint32 = 0o120000
	ModeRegular uint32 = 0o100000
	ModeBlock   uint32 = 0o060000
	ModeDir     uint32 = 0o040000
	ModeChar    uint32 = 0o020000
	ModeFIFO    uint32 = 0o010000

	ModeSetUID uint32 = 0o4000
	ModeSetGID uint32 = 0o2000
	ModeSticky uint32 = 0o1000
	ModePerm   uint32 = 0o7777 // all bits that chmod changes
)

// Directory entry types (DT_ of dirent.h).
const (
	DTUnknown uint8 = 0
	DTFIFO    uint8 = 1
	DTChar    uint8 = 2
	DTDir     uint8 = 4
	DTBlock   uint8 = 6
	DTRegular uint8 = 8
	DTSymlink uint8 = 10
	DTSocket  uint8 = 12
)

// DType gives the directory entry type of a mode.
func DType(mode uint32) uint8 { return uint8(mode & ModeType >> 12) }

// Dev is a device number.
type Dev struct{ Major, Minor uint32 }

// MakeDev splits a Linux dev_t in the 32-bit form that FUSE and stat(2) use.
func MakeDev(d uint32) Dev { return Dev{d >> 8 & 0xfff, d&0xff | d>>12&0xfff00} }

// Encode gives the 32-bit dev_t form.
func (d Dev) Encode() uint32 { return d.Minor&0xff | d.Major<<8 | d.Minor&^0xff<<12 }
