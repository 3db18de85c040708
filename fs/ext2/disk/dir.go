package disk

import (
	"encoding/binary"
	"strings"
)

// FileType is the type byte of a directory entry, in use with the FILETYPE feature; without it the byte is 0.
type FileType uint8

// File types of directory entries.
const (
	TypeUnknown FileType = 0
	TypeRegular FileType = 1
	TypeDir     FileType = 2
	TypeChar    FileType = 3
	TypeBlock   FileType = 4
	TypeFIFO    FileType = 5
	TypeSocket  FileType = 6
	TypeSymlink FileType = 7
)

// FileTypeOf gives the entry type for the mode of an inode; TypeUnknown for an unknown one.
func FileTypeOf(mode uint16) FileType {
	switch mode & ModeType {
	case ModeRegular:
		return TypeRegular
	case ModeDir:
		return TypeDir
	case ModeChar:
		return TypeChar
	case ModeBlock:
		return TypeBlock
	case ModeFIFO:
		return TypeFIFO
	case ModeSocket:
		return TypeSocket
	case ModeSymlink:
		return TypeSymlink
	}
	return TypeUnknown
}

// Mode gives the type bits of an inode's mode for an entry type; 0 when the type is unknown.
func (t FileType) Mode() uint16 {
	switch t {
	case TypeRegular:
		return ModeRegular
	case TypeDir:
		return ModeDir
	case TypeChar:
		return ModeChar
	case TypeBlock:
		return ModeBlock
	case TypeFIFO:
		return ModeFIFO
	case TypeSocket:
		return ModeSocket
	case TypeSymlink:
		return ModeSymlink
	}
	return 0
}

// DirHeader is the length of a directory entry before its name, dirAlign its alignment, in bytes.
const (
	DirHeader = 8
	dirAlign  = 4
)

// DirRecLen gives the bytes that an entry with a name of nameLen bytes needs.
func DirRecLen(nameLen int) int { return (DirHeader + nameLen + dirAlign - 1) &^ (dirAlign - 1) }

// ValidName reports whether name may be the name of a file: 1 to 255 bytes without '/' and zero. "." and ".." pass.
func ValidName(name string) bool {
	return len(name) > 0 && len(name) <= NameMax && strings.IndexByte(name, '/') < 0 && strings.IndexByte(name, 0) < 0
}

// DirBlock is a view of one block of a directory: a chain of entries that fills the block exactly.
//
//	off  size  field
//	  0     4  Ino       0: the entry is not in use
//	  4     2  RecLen    bytes to the next entry, a multiple of 4; 64 KiB is stored as 65535
//	  6     1  NameLen
//	  7     1  FileType
//	  8     n  Name      not ended by a zero
//
// Entries are named by their byte offset in the block. An entry keeps its offset for as long as it lives. Nothing here
// allocates. Walk it by
//
//	for off := 0; off < len(db); off = db.Next(off) {
//		if db.Ino(off) != 0 { … db.Name(off) … }
//	}
//
// A block of an index (htree) passes for a directory block too: the root holds "." and "..", whose record covers the index, and
// an inner node is one entry that is not in use.
//
// Source: "The Second Extended Filesystem", directory structure.
type DirBlock []byte

// AsDirBlock checks the chain of entries of b, one block of a directory on a filesystem with that many inodes: each record is
// a multiple of 4, long enough for its name, and ends in the block; names in use are not empty; inode numbers exist. Then all
// methods are safe on the offsets that a walk gives. Characters of names are not judged: ValidName.
// Errors: *Bad, with At telling the entry.
func AsDirBlock(b []byte, inodes uint32) (DirBlock, error) {
	db := DirBlock(b)
	const s = "directory block"
	if len(b) < MinBlockSize || len(b) > MaxBlockSize {
		return nil, bad(s, "length", uint64(len(b)), "%d to %d", MinBlockSize, MaxBlockSize)
	}
	for off := 0; off < len(b); {
		left := len(b) - off
		if left < DirHeader+dirAlign {
			return nil, badAt(s, off, "room for a record", uint64(left), "at least %d bytes", DirHeader+dirAlign)
		}
		rec, ino, name := db.RecLen(off), db.Ino(off), db.NameLen(off)
		switch {
		case rec < DirHeader+dirAlign || rec%dirAlign != 0:
			return nil, badAt(s, off, "record length", uint64(rec), "a multiple of 4, at least %d", DirHeader+dirAlign)
		case rec > left:
			return nil, badAt(s, off, "record length", uint64(rec), "at most the %d bytes left in the block", left)
		case rec < DirRecLen(name):
			return nil, badAt(s, off, "record length", uint64(rec), "at least %d for a name of %d bytes", DirRecLen(name), name)
		case uint32(ino) > inodes:
			return nil, badAt(s, off, "inode", uint64(ino), "at most %d", inodes)
		case ino != 0 && name == 0:
			return nil, badAt(s, off, "name length", 0, "1 to %d", NameMax)
		}
		off += rec
	}
	return db, nil
}

// Ino gives the inode of the entry at off; 0 when it is not in use.
func (db DirBlock) Ino(off int) Ino { return Ino(binary.LittleEndian.Uint32(db[off:])) }

// SetIno changes the inode of an entry.
func (db DirBlock) SetIno(off int, ino Ino) { binary.LittleEndian.PutUint32(db[off:], uint32(ino)) }

// RecLen gives the length of the record at off, in bytes.
func (db DirBlock) RecLen(off int) int {
	n := int(binary.LittleEndian.Uint16(db[off+4:]))
	if len(db) == MaxBlockSize && (n == 0 || n == 0xFFFF) {
		return MaxBlockSize
	}
	return n
}

func (db DirBlock) setRecLen(off, n int) {
	if n == MaxBlockSize {
		n = 0xFFFF
	}
	binary.LittleEndian.PutUint16(db[off+4:], uint16(n))
}

// NameLen gives the length of the entry's name.
func (db DirBlock) NameLen(off int) int { return int(db[off+6]) }

// Name gives the entry's name: bytes of the block, good until it changes.
func (db DirBlock) Name(off int) []byte { return db[off+DirHeader:][:db[off+6]:db[off+6]] }

// FileType gives the entry's type byte. It means nothing without the FILETYPE feature.
func (db DirBlock) FileType(off int) FileType { return FileType(db[off+7]) }

// SetFileType changes the entry's type byte.
func (db DirBlock) SetFileType(off int, t FileType) { db[off+7] = byte(t) }

// Next gives the offset of the next entry; the length of the block after the last.
func (db DirBlock) Next(off int) int { return off + db.RecLen(off) }

// Find looks for a name in use. It gives the entry and the one before it (-1 for the first), which Remove wants.
func (db DirBlock) Find(name string) (off, prev int, ok bool) {
	prev = -1
	for off = 0; off < len(db); off = db.Next(off) {
		if db.NameLen(off) == len(name) && db.Ino(off) != 0 && string(db.Name(off)) == name {
			return off, prev, true
		}
		prev = off
	}
	return 0, -1, false
}

// Prev gives the entry before the one at off, -1 when off is the first. False when no entry is at off.
func (db DirBlock) Prev(off int) (prev int, ok bool) {
	prev = -1
	for o := 0; o < len(db) && o <= off; o = db.Next(o) {
		if o == off {
			return prev, true
		}
		prev = o
	}
	return -1, false
}

// Room gives how many bytes of the record at off a new entry could have.
func (db DirBlock) Room(off int) int {
	if db.Ino(off) == 0 {
		return db.RecLen(off)
	}
	return db.RecLen(off) - DirRecLen(db.NameLen(off))
}

// FindRoom finds the first record that has room for a name of nameLen bytes.
func (db DirBlock) FindRoom(nameLen int) (off int, ok bool) {
	need := DirRecLen(nameLen)
	for off = 0; off < len(db); off = db.Next(off) {
		if db.Room(off) >= need {
			return off, true
		}
	}
	return 0, false
}

// MaxRoom gives the largest Room of the block's records: the index in memory keeps it.
func (db DirBlock) MaxRoom() int {
	most := 0
	for off := 0; off < len(db); off = db.Next(off) {
		most = max(most, db.Room(off))
	}
	return most
}

// Insert puts an entry into the record at off, which has room for it (FindRoom), and gives the new entry's offset: off itself
// when the record was not in use, else behind the entry in it, which is cut to what it needs. name is 1 to 255 bytes.
func (db DirBlock) Insert(off int, name string, ino Ino, t FileType) int {
	if db.Ino(off) != 0 {
		used, rec := DirRecLen(db.NameLen(off)), db.RecLen(off)
		// The new entry is whole before the old one's length makes it part of the chain.
		db.setRecLen(off+used, rec-used)
		db.put(off+used, name, ino, t)
		db.setRecLen(off, used)
		return off + used
	}
	db.put(off, name, ino, t)
	return off
}

func (db DirBlock) put(off int, name string, ino Ino, t FileType) {
	db[off+6] = byte(len(name))
	db[off+7] = byte(t)
	n := copy(db[off+DirHeader:], name)
	for i := off + DirHeader + n; i < off+DirRecLen(n); i++ {
		db[i] = 0
	}
	db.SetIno(off, ino)
}

// Remove takes the entry at off out of use and gives its record to the entry before it, prev (-1 when it is the block's first).
// Offsets of other entries stay.
func (db DirBlock) Remove(off, prev int) {
	db.SetIno(off, 0)
	if prev >= 0 {
		db.setRecLen(prev, db.RecLen(prev)+db.RecLen(off))
	}
}

// Empty reports whether no name but "." and ".." is in use.
func (db DirBlock) Empty() bool {
	for off := 0; off < len(db); off = db.Next(off) {
		if db.Ino(off) != 0 && !IsDots(db.Name(off)) {
			return false
		}
	}
	return true
}

// IsDots reports whether name is "." or "..".
func IsDots(name []byte) bool {
	return len(name) == 1 && name[0] == '.' || len(name) == 2 && name[0] == '.' && name[1] == '.'
}

// InitDirBlock makes b, one block, a directory block without names: one record that is not in use.
func InitDirBlock(b []byte) DirBlock {
	clear(b)
	db := DirBlock(b)
	db.setRecLen(0, len(b))
	return db
}

// InitFirstDirBlock makes b the first block of a directory: "." for self and ".." for parent. types says whether entries carry
// types (Superblock.HasFileType).
func InitFirstDirBlock(b []byte, self, parent Ino, types bool) DirBlock {
	t := TypeUnknown
	if types {
		t = TypeDir
	}
	db := InitDirBlock(b)
	db.Insert(0, ".", self, t)
	db.Insert(0, "..", parent, t)
	return db
}

// DotDot gives the offset of ".." in the first block of a directory.
// Errors: *Bad when the block does not begin with "." for self and "..".
func (db DirBlock) DotDot(self Ino) (off int, err error) {
	const s = "directory block"
	if string(db.Name(0)) != "." || db.Ino(0) != self {
		return 0, badAt(s, 0, "inode of the first entry", uint64(db.Ino(0)), "\".\" for inode %d", self)
	}
	off = db.Next(0)
	if off >= len(db) || string(db.Name(off)) != ".." || db.Ino(off) == 0 {
		return 0, badAt(s, min(off, len(db)), "second entry", 0, "\"..\"")
	}
	return off, nil
}
