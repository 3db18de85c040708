package iomap

import (
	"fmt"
	"math"
	"strings"

	"github.com/iomapfs/iomapfs/vfs/block"
)

// Type says what is behind a range of a file (iomap.type).
type Type uint16

// Types, with the kernel's numbers. Hole is zero on purpose: a zero source mapping means that there is none.
const (
	Hole      Type = iota // nothing allocated, reads as zeros
	Delalloc              // space promised, not yet chosen
	Mapped                // at Addr on the device
	Unwritten             // at Addr, but reads as zeros until the filesystem converts it
	Inline                // in memory, at InlineData
)

var typeNames = [...]string{"hole", "delalloc", "mapped", "unwritten", "inline"}

// String names the type as FIEMAP tools do.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", uint16(t))
}

// hasAddr reports whether a mapping of the type lies on a device.
func (t Type) hasAddr() bool { return t == Mapped || t == Unwritten }

// Flags qualify a mapping (iomap.flags). Those above FlagStale belong to the filesystem.
type Flags uint32

// Flags of a mapping. All but SizeChanged, FolioBatch and Stale are set by Begin.
const (
	// FlagNew: the space was allocated or reserved by this Begin. What the operation does not write of a touched block is
	// zeroed. A reservation that was there before must not be reported as new: End would give it back.
	FlagNew Flags = 1 << iota
	// FlagDirty: without more metadata on the medium the data could not be found after a crash, or the I/O may make such at
	// its completion (a direct write past EOF). Forbids FUA in place of a sync; swap activation refuses it.
	FlagDirty
	// FlagShared: the blocks belong to other files too, or the mapping is where a copy on write goes.
	FlagShared
	// FlagMerged: several native pointers were put together. FIEMAP shows it.
	FlagMerged
	// FlagBufferHead: the page cache of this mapping is kept in buffer heads (Mapping.Buffers).
	FlagBufferHead
	// FlagXattr: a mapping of the attribute fork.
	FlagXattr
	// FlagBoundary: never put into one ioend with what lies before it.
	FlagBoundary
	// FlagAnonWrite: no address until submission; Addr means nothing, WritebackOps.Submit gives it one.
	FlagAnonWrite
	// FlagAtomicBio: the device writes the mapping's range in one piece or not at all, in one bio.
	FlagAtomicBio
	// FlagSizeChanged is set by a buffered write that moved the file size while it used this mapping. End sees it.
	FlagSizeChanged
	// FlagFolioBatch is set with Mapping.Batch: the body visits only these folios.
	FlagFolioBatch
	// FlagStale is set by the library: the mapping was found outdated. End runs; the rest of the range is mapped afresh.
	FlagStale
	// FlagPrivate is the first of the filesystem's own flags.
	FlagPrivate Flags = 1 << 24
)

var flagNames = [...]string{
	"new", "dirty", "shared", "merged", "buffer-head", "xattr", "boundary", "anon-write", "atomic-bio",
	"size-changed", "folio-batch", "stale",
}

// String lists the flags, joined by "|".
func (f Flags) String() string {
	var s []string
	for i, n := range flagNames {
		if f&(1<<i) != 0 {
			s = append(s, n)
		}
	}
	if p := f &^ (1<<len(flagNames) - 1); p != 0 {
		s = append(s, fmt.Sprintf("%#x", uint32(p)))
	}
	return strings.Join(s, "|")
}

// NullAddr is the address of what lies on no device (IOMAP_NULL_ADDR).
const NullAddr = math.MaxUint64

// Mapping (struct iomap) says where one range of a file is. Begin fills it in; the library reads it.
//
// It is a snapshot: the filesystem's map lock is not held while it is used. Operations on the page cache ask FolioOps.Valid
// with the folio locked whether it still holds; direct I/O relies on the inode lock, on invalidation, and on truncation waiting.
//
//	        Offset ≤ pos < Offset+Length
//	file    ──────┬──────────────┬─────      byte p of the file is at Addr + (p − Offset) on Dev,
//	              └──── Length ──┘           or at InlineData[p − Offset]
//
// Source: Documentation/filesystems/iomap/design.rst, "struct iomap".
type Mapping struct {
	Offset int64  // file byte where it begins; at most the position asked for, block aligned unless Inline
	Length int64  // bytes, more than 0 and past the position asked for; more or less than was asked is fine
	Addr   uint64 // device byte of Offset; NullAddr for Hole, Delalloc, Inline
	Type   Type
	Flags  Flags

	Dev block.Device // of Mapped and Unwritten; may be set always
	Dax block.Mapper // the device as memory, in place of Dev when OpDax is asked

	InlineData []byte // Inline: at least Length bytes, the filesystem's memory until End

	// FolioOps replaces how buffered writes get, put and check folios. Nil: the page cache's way, never stale.
	FolioOps *FolioOps
	// Buffers serves FlagBufferHead.
	Buffers BufferHooks
	// Cookie is the version of the map that the other fields were read from, under the same hold of the map lock.
	// It means something to FolioOps.Valid only.
	Cookie uint64
	// Batch holds the dirty folios that zeroing must visit (FlagFolioBatch).
	Batch *FolioBatch
	// Private is passed to End as it is.
	Private any
}

// End is the file byte behind the mapping.
func (m *Mapping) End() int64 { return m.Offset + m.Length }

// AddrOf is the device byte of file byte pos, which the mapping covers.
func (m *Mapping) AddrOf(pos int64) int64 { return int64(m.Addr) + (pos - m.Offset) }

// Inline gives the bytes of an Inline mapping from file byte pos on.
func (m *Mapping) Inline(pos int64) []byte { return m.InlineData[pos-m.Offset : m.Length] }

// String reads "mapped [4096,8192) at 65536 new|merged".
func (m *Mapping) String() string {
	s := fmt.Sprintf("%s [%d,%d)", m.Type, m.Offset, m.End())
	if m.Addr != NullAddr {
		s += fmt.Sprintf(" at %d", m.Addr)
	}
	if m.Flags != 0 {
		s += " " + m.Flags.String()
	}
	return s
}

// check verifies what Begin answered for byte pos of a file with that block size. It gives what is wrong, or "".
func (m *Mapping) check(pos int64, bs int64, op OpFlags) string {
	switch {
	case m.Type > Inline:
		return "unknown type"
	case m.Length <= 0:
		return "empty"
	case m.Offset < 0 || m.Offset > pos:
		return "begins after the position"
	case m.Length > math.MaxInt64-m.Offset:
		return "ends past the largest file"
	case m.End() <= pos:
		return "ends before the position"
	case m.Flags&FlagStale != 0:
		return "stale already"
	}
	if m.Type == Inline {
		if m.Addr != NullAddr {
			return "inline, but with an address"
		}
		if int64(len(m.InlineData)) < m.Length {
			return "more inline bytes than there is memory"
		}
		return ""
	}
	if (m.Offset|m.Length)&(bs-1) != 0 && m.End() != math.MaxInt64 {
		return "not aligned to blocks"
	}
	if !m.Type.hasAddr() {
		if m.Addr != NullAddr {
			return "an address where nothing lies on a device"
		}
		return ""
	}
	switch {
	case op&OpDax != 0 && m.Dax == nil:
		return "the device is not memory"
	case op&OpDax == 0 && m.Dev == nil:
		return "no device"
	case m.Flags&FlagAnonWrite != 0 && op != OpWrite:
		return "no address yet, but asked for other than writeback"
	case m.Flags&FlagAnonWrite != 0:
		return ""
	case m.Addr > math.MaxInt64 || int64(m.Addr) > math.MaxInt64-m.Length:
		return "address out of range"
	case m.Dev != nil && int64(m.Addr)+m.Length > m.Dev.Size():
		return "ends past the device"
	}
	return ""
}
