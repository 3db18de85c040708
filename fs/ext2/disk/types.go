package disk

import "fmt"

// FSBlock is the number of a block on the device, in units of Geometry.BlockSize. 0 never holds file data: in a block map it
// means a hole.
type FSBlock uint32

// FileBlock is the index of a block in a file, from 0.
type FileBlock uint64

// Ino is an inode number, from 1. 0 means none.
type Ino uint32

// Group is the number of a block group, from 0.
type Group uint32

// Inode numbers with a meaning. Those below Superblock.FirstIno are reserved.
const (
	BadBlocksIno Ino = 1 // its blocks are the bad blocks of the medium
	RootIno      Ino = 2
	ResizeIno    Ino = 7 // its double indirect block holds the reserved descriptor blocks
	JournalIno   Ino = 8
	OldFirstIno  Ino = 11 // first inode for files in revision 0, and what mke2fs sets
)

// Block sizes, in bytes.
const (
	MinBlockSize = 1024
	MaxBlockSize = 65536
	MinBlockBits = 10
	MaxBlockBits = 16
)

// LinkMax is the largest link count of an inode: EXT2_LINK_MAX of the kernel. A directory has two links and one for each
// subdirectory.
const LinkMax = 32000

// NameMax is the longest name of a directory entry, in bytes.
const NameMax = 255

// SectorSize is the unit of Inode.Sectors (i_blocks), in bytes, whatever the block size.
const SectorSize = 512

// Bad says that a structure holds what it must not.
type Bad struct {
	Struct string // "superblock", "group descriptor", "inode", "directory block" …
	Field  string // in the words of this package's documentation
	Got    uint64 // what it holds
	Want   string // what it may hold
	At     int    // byte offset inside the structure for structures that repeat (entry of a block), else -1
}

// Error reads "directory block at byte 24: record length is 3, want a multiple of 4 …".
func (b *Bad) Error() string {
	at := ""
	if b.At >= 0 {
		at = fmt.Sprintf(" at byte %d", b.At)
	}
	return fmt.Sprintf("%s%s: %s is %d, want %s", b.Struct, at, b.Field, b.Got, b.Want)
}

func bad(strct, field string, got uint64, want string, args ...any) *Bad {
	return badAt(strct, -1, field, got, want, args...)
}

func badAt(strct string, at int, field string, got uint64, want string, args ...any) *Bad {
	if len(args) > 0 {
		want = fmt.Sprintf(want, args...)
	}
	return &Bad{Struct: strct, Field: field, Got: got, Want: want, At: at}
}
