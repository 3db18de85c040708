package disk

import "encoding/binary"

// The index of a directory (DIR_INDEX, htree): a tree of at most three levels, keyed by HashName, whose leaves are ordinary
// directory blocks. Its root is block 0 of the directory. To one that does not know of the index, the directory's blocks
// look ordinary, and all names can be found by walking them.
//
//	root:  off  size  field                           node:  off  size  field
//	         0    12  entry "."                                0     8  entry not in use that covers the block
//	        12    12  entry "..", covers the rest              8     2  Limit
//	        24     4  zero                                    10     2  Count
//	        28     1  hash version                            12     4  block of entry 0
//	        29     1  length of this head, 8                  16   8×n  entries
//	        30     1  levels of nodes below the root
//	        31     1  flags
//	        32     2  Limit        entries there is room for
//	        34     2  Count        entries in use, entry 0 included
//	        36     4  block of entry 0, for all hashes below that of entry 1
//	        40   8×n  entries: hash (4), block of the directory (4)
//
// Entry i leads to names with hashes from its own to that of entry i+1. The lowest bit of an entry's hash is set when names
// with that hash also stand at the end of the block before. Source: D. Phillips, "A Directory Index for Ext2".
const (
	indexRootInfo  = 24
	indexInfoLen   = 8
	indexEntrySize = 8
	indexNodeHead  = 8
	indexBlockMask = 0x0FFFFFFF

	// IndexMaxLevels is the most levels of nodes below a root, without the LARGE_DIR feature.
	IndexMaxLevels = 1
)

// IndexEntries is a view of the entries of an index block, limit and count first. The zero value has none.
type IndexEntries []byte

// Count gives the number of entries, at least 1.
func (ie IndexEntries) Count() int { return int(binary.LittleEndian.Uint16(ie[2:])) }

// Limit gives the number of entries that the block has room for.
func (ie IndexEntries) Limit() int { return int(binary.LittleEndian.Uint16(ie)) }

// Hash gives the lowest hash that entry i is for, with the mark of a continued one as its lowest bit; 0 for entry 0.
func (ie IndexEntries) Hash(i int) uint32 {
	if i == 0 {
		return 0
	}
	return binary.LittleEndian.Uint32(ie[indexEntrySize*i:])
}

// Block gives the block of the directory that entry i leads to. Check it against the directory's size.
func (ie IndexEntries) Block(i int) FileBlock {
	return FileBlock(binary.LittleEndian.Uint32(ie[indexEntrySize*i+4:]) & indexBlockMask)
}

// Set writes entry i; of entry 0 only the block. Count must cover it.
func (ie IndexEntries) Set(i int, hash uint32, block FileBlock) {
	if i > 0 {
		binary.LittleEndian.PutUint32(ie[indexEntrySize*i:], hash)
	}
	binary.LittleEndian.PutUint32(ie[indexEntrySize*i+4:], uint32(block))
}

// SetCount changes the number of entries in use, which is 1 to Limit.
func (ie IndexEntries) SetCount(n int) { binary.LittleEndian.PutUint16(ie[2:], uint16(n)) }

// Search gives the entry that leads to names of the given major hash: the last whose hash is not above it.
func (ie IndexEntries) Search(hash uint32) int {
	lo, hi := 1, ie.Count()
	for lo < hi {
		mid := (lo + hi) / 2
		if ie.Hash(mid) > hash {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo - 1
}

// verify checks limit and count, and that the hashes ascend.
func (ie IndexEntries) verify(s string, at int) error {
	room := len(ie) / indexEntrySize
	// The METADATA_CSUM feature takes the last entry's room.
	if l := ie.Limit(); l != room && l != room-1 {
		return badAt(s, at, "limit", uint64(l), "%d", room)
	}
	if c := ie.Count(); c == 0 || c > ie.Limit() {
		return badAt(s, at+2, "count", uint64(c), "1 to %d", ie.Limit())
	}
	for i := 2; i < ie.Count(); i++ {
		if ie.Hash(i) < ie.Hash(i-1) {
			return badAt(s, at+indexEntrySize*i, "hash", uint64(ie.Hash(i)), "at least %d, that of the entry before", ie.Hash(i-1))
		}
	}
	return nil
}

// IndexRoot is a view of block 0 of a directory with an index.
type IndexRoot []byte

// AsIndexRoot checks the root of an index in b, block 0 of a directory. The entries "." and ".." are for AsDirBlock.
// Errors: *Bad.
func AsIndexRoot(b []byte) (IndexRoot, error) {
	const s = "index root"
	if len(b) < MinBlockSize {
		return nil, bad(s, "length", uint64(len(b)), "a block")
	}
	ir := IndexRoot(b)
	db := DirBlock(b)
	switch {
	case db.RecLen(0) != 12 || db.RecLen(12) != len(b)-12:
		return nil, badAt(s, 12, "record length of \"..\"", uint64(db.RecLen(12)), "%d, the rest of the block", len(b)-12)
	case binary.LittleEndian.Uint32(b[indexRootInfo:]) != 0:
		return nil, badAt(s, indexRootInfo, "reserved word", uint64(binary.LittleEndian.Uint32(b[indexRootInfo:])), "0")
	case ir.HashVersion() > HashTEA:
		return nil, badAt(s, 28, "hash version", uint64(b[28]), "0, 1 or 2")
	case b[29] != indexInfoLen:
		return nil, badAt(s, 29, "head length", uint64(b[29]), "%d", indexInfoLen)
	case ir.Levels() > IndexMaxLevels:
		return nil, badAt(s, 30, "levels", uint64(b[30]), "at most %d", IndexMaxLevels)
	case b[31]&1 != 0:
		return nil, badAt(s, 31, "flags", uint64(b[31]), "0")
	}
	return ir, ir.Entries().verify(s, indexRootInfo+indexInfoLen)
}

// HashVersion gives the version as stored; pass it through Superblock.HashVersionOf.
func (ir IndexRoot) HashVersion() HashVersion { return HashVersion(ir[28]) }

// Levels gives how many levels of nodes stand between the root and the leaves, 0 or 1.
func (ir IndexRoot) Levels() int { return int(ir[30]) }

// Entries gives the root's entries.
func (ir IndexRoot) Entries() IndexEntries { return IndexEntries(ir[indexRootInfo+indexInfoLen:]) }

// InitIndexRoot makes b block 0 of a directory with an index without entries but entry 0, which leads to block first.
func InitIndexRoot(b []byte, self, parent Ino, types bool, v HashVersion, levels int, first FileBlock) IndexRoot {
	InitFirstDirBlock(b, self, parent, types)
	b[28], b[29], b[30] = byte(v), indexInfoLen, byte(levels)
	ir := IndexRoot(b)
	ir.Entries().init(first)
	return ir
}

// IndexNode is a view of an inner block of an index.
type IndexNode []byte

// AsIndexNode checks an inner block of an index.
// Errors: *Bad.
func AsIndexNode(b []byte) (IndexNode, error) {
	const s = "index node"
	if len(b) < MinBlockSize {
		return nil, bad(s, "length", uint64(len(b)), "a block")
	}
	db := DirBlock(b)
	if db.Ino(0) != 0 || db.RecLen(0) != len(b) {
		return nil, badAt(s, 0, "record length", uint64(db.RecLen(0)), "%d, in an entry that is not in use", len(b))
	}
	in := IndexNode(b)
	return in, in.Entries().verify(s, indexNodeHead)
}

// Entries gives the node's entries.
func (in IndexNode) Entries() IndexEntries { return IndexEntries(in[indexNodeHead:]) }

// InitIndexNode makes b an inner block of an index with entry 0 only, which leads to block first.
func InitIndexNode(b []byte, first FileBlock) IndexNode {
	InitDirBlock(b)
	in := IndexNode(b)
	in.Entries().init(first)
	return in
}

func (ie IndexEntries) init(first FileBlock) {
	binary.LittleEndian.PutUint16(ie, uint16(len(ie)/indexEntrySize))
	ie.SetCount(1)
	ie.Set(0, 0, first)
}
