package vfs

import "github.com/iomapfs/iomapfs/vfs/errno"

// Fiemap request flags (linux/fiemap.h).
const (
	FiemapSync  uint32 = 1
	FiemapXattr uint32 = 2
	FiemapCache uint32 = 4
)

// Fiemap extent flags (linux/fiemap.h).
const (
	ExtentLast       uint32 = 0x1
	ExtentUnknown    uint32 = 0x2
	ExtentDelalloc   uint32 = 0x4
	ExtentEncoded    uint32 = 0x8
	ExtentEncrypted  uint32 = 0x80
	ExtentNotAligned uint32 = 0x100
	ExtentInline     uint32 = 0x200
	ExtentTail       uint32 = 0x400
	ExtentUnwritten  uint32 = 0x800
	ExtentMerged     uint32 = 0x1000
	ExtentShared     uint32 = 0x2000
)

// FiemapExtent is one extent of an answer. Bytes.
type FiemapExtent struct {
	Logical, Physical, Length uint64
	Flags                     uint32
}

// FiemapInfo is one FIEMAP request and its running answer. Source: Documentation/filesystems/fiemap.rst.
type FiemapInfo struct {
	Start, Len uint64 // bytes asked for
	Flags      uint32 // FiemapSync …; unsupported bits are returned here with errno.BADR
	Max        int    // room for that many extents; 0 counts only
	Mapped     int    // extents reported so far
	// Emit takes one extent; nil in count-only mode. An error stops the walk.
	Emit func(FiemapExtent) error
}

// Prep checks the request against the flags a filesystem supports (FiemapSync always is) and the largest file size,
// clips Len to it, and writes the file back when FiemapSync asks so.
// Errors: errno.INVAL for zero length, errno.FBIG past maxSize, errno.BADR for flags.
func (fi *FiemapInfo) Prep(supported uint32, maxSize uint64) error {
	switch {
	case fi.Len == 0:
		return errno.INVAL
	case fi.Start >= maxSize:
		return errno.FBIG
	}
	if fi.Len > maxSize-fi.Start {
		fi.Len = maxSize - fi.Start
	}
	if bad := fi.Flags &^ (supported | FiemapSync); bad != 0 {
		fi.Flags = bad
		return errno.BADR
	}
	return nil
}

// Clip ends the request at the end of a file of that size, for filesystems that have nothing behind it: an answer that gets there is
// whole. A request that begins behind it keeps one byte.
func (fi *FiemapInfo) Clip(size int64) {
	if left := max(uint64(size), fi.Start+1) - fi.Start; fi.Len > left {
		fi.Len = left
	}
}

// Fill reports one extent (fiemap_fill_next_extent), adding the flags that others imply. full says that there is no
// room for another: stop, with success.
func (fi *FiemapInfo) Fill(e FiemapExtent) (full bool, err error) {
	if fi.Max == 0 {
		fi.Mapped++
		return false, nil
	}
	if fi.Mapped >= fi.Max {
		return true, nil
	}
	if e.Flags&ExtentDelalloc != 0 {
		e.Flags |= ExtentUnknown
	}
	if e.Flags&ExtentEncrypted != 0 {
		e.Flags |= ExtentEncoded
	}
	if e.Flags&(ExtentTail|ExtentInline) != 0 {
		e.Flags |= ExtentNotAligned
	}
	if err := fi.Emit(e); err != nil {
		return true, err
	}
	fi.Mapped++
	return fi.Mapped == fi.Max, nil
}
