package disk

import "encoding/binary"

// The block map: Inode.Block has 15 entries, of which 12 point to data, one to an indirect block (a block full of pointers),
// one to a double indirect block (pointers to indirect blocks) and one to a triple indirect block.
const (
	NDirect   = 12 // entries that point to data
	IndBlock  = 12 // entry of the indirect block
	DIndBlock = 13 // entry of the double indirect block
	TIndBlock = 14 // entry of the triple indirect block
	NBlocks   = 15 // entries in all
)

// Path is the way from an inode to a block of its file: Index[0] in Inode.Block, Index[i] in the i-th indirect block.
type Path struct {
	Depth int       // entries of Index in use, 1 to 4: the number of indirect blocks and one
	Index [4]uint32 // all but the first below PtrsPerBlock
	Left  uint32    // pointers from the last index to the end of its block (or of the direct entries), this one included
}

// PathOf finds the way to block fb. False when it is beyond what three levels of indirection reach.
func (g *Geometry) PathOf(fb FileBlock) (Path, bool) {
	p := uint64(g.PtrsPerBlock)
	mask := p - 1
	n := uint64(fb)
	if n < NDirect {
		return Path{Depth: 1, Index: [4]uint32{uint32(n)}, Left: uint32(NDirect - n)}, true
	}
	n -= NDirect
	left := uint32(p - n&mask)
	if n < p {
		return Path{Depth: 2, Index: [4]uint32{IndBlock, uint32(n)}, Left: left}, true
	}
	n -= p
	left = uint32(p - n&mask)
	if n>>g.PtrBits < p {
		return Path{Depth: 3, Index: [4]uint32{DIndBlock, uint32(n >> g.PtrBits), uint32(n & mask)}, Left: left}, true
	}
	n -= p << g.PtrBits
	left = uint32(p - n&mask)
	if n>>(2*g.PtrBits) < p {
		return Path{Depth: 4, Index: [4]uint32{TIndBlock, uint32(n >> (2 * g.PtrBits)), uint32(n >> g.PtrBits & mask), uint32(n & mask)}, Left: left}, true
	}
	return Path{}, false
}

// LevelStart gives the first block of a file that Inode.Block[entry] leads to.
func (g *Geometry) LevelStart(entry int) FileBlock {
	p := uint64(g.PtrsPerBlock)
	switch {
	case entry <= NDirect:
		return FileBlock(entry)
	case entry == DIndBlock:
		return FileBlock(NDirect + p)
	default:
		return FileBlock(NDirect + p + p*p)
	}
}

// LevelSpan gives how many blocks of a file one pointer leads to that stands at height levels above the data: 1 for height 0
// (a pointer to data), PtrsPerBlock for 1 (to an indirect block) and so on. height is 0 to 3.
func (g *Geometry) LevelSpan(height int) uint64 { return 1 << (uint(g.PtrBits) * uint(height)) }

// PtrBlock is a view of an indirect block: pointers of 4 bytes. Any bytes will do, so check pointers with Geometry.ValidBlock
// before use; a 0 is a hole.
type PtrBlock []byte

// Len gives the number of pointers.
func (pb PtrBlock) Len() int { return len(pb) / 4 }

// At gives pointer i.
func (pb PtrBlock) At(i uint32) FSBlock { return FSBlock(binary.LittleEndian.Uint32(pb[4*i:])) }

// Set writes pointer i.
func (pb PtrBlock) Set(i uint32, b FSBlock) { binary.LittleEndian.PutUint32(pb[4*i:], uint32(b)) }

// Run gives the pointer at i and how many pointers from it on, at most limit and up to the end of the block, continue it: for
// a hole the number of holes, otherwise of blocks with ascending numbers.
func (pb PtrBlock) Run(i, limit uint32) (first FSBlock, n uint32) {
	first = pb.At(i)
	limit = min(limit, uint32(pb.Len())-i)
	step := FSBlock(1)
	if first == 0 {
		step = 0
	}
	for n = 1; n < limit && pb.At(i+n) == first+step*FSBlock(n); n++ {
	}
	return first, n
}

// Empty reports whether all pointers are holes.
func (pb PtrBlock) Empty() bool {
	i := 0
	for ; i+8 <= len(pb); i += 8 {
		if binary.LittleEndian.Uint64(pb[i:]) != 0 {
			return false
		}
	}
	for ; i < len(pb); i++ {
		if pb[i] != 0 {
			return false
		}
	}
	return true
}

// FirstInvalid gives the index of the first pointer that is neither a hole nor a valid block, or false.
func (pb PtrBlock) FirstInvalid(g *Geometry) (uint32, bool) {
	for i := range uint32(pb.Len()) {
		if b := pb.At(i); b != 0 && !g.ValidBlock(b) {
			return i, true
		}
	}
	return 0, false
}
