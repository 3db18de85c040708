package disk

import "math"

// GroupDescSize is the length of a group descriptor, in bytes.
const GroupDescSize = 32

// Geometry is what follows from a superblock: sizes, counts and places. It is made once, checked against the size of the
// device, and never changes afterwards: share it freely. All methods are pure and, for arguments in the ranges they name,
// cannot overflow.
type Geometry struct {
	BlockSize      uint32 // bytes
	BlockBits      uint8  // log2 of it
	Blocks         uint32 // all blocks of the device, from block 0; no block number reaches it
	FirstDataBlock FSBlock
	BlocksPerGroup uint32
	Groups         uint32
	Inodes         uint32 // all inodes; the highest inode number
	InodesPerGroup uint32
	FirstIno       Ino    // first inode for files
	InodeSize      uint32 // bytes
	InodesPerBlock uint32
	ITableBlocks   uint32 // blocks of one group's inode table
	DescPerBlock   uint32 // group descriptors in a block
	DescBlocks     uint32 // blocks of group descriptors
	ReservedGDT    uint32 // blocks kept after the descriptor table
	PtrsPerBlock   uint32 // block pointers in an indirect block
	PtrBits        uint8  // log2 of it
	LargeFile      bool   // files of 2 GiB and more are allowed by the superblock's features (or can be switched on)

	sparse, sparse2, metaBG bool
	firstMetaBG             uint32
	backups                 [2]Group
	maxFileBlocks           FileBlock
}

// NewGeometry derives the geometry and makes sure that all of it fits: in itself, in its integers, and into a device of
// deviceSize bytes. A negative deviceSize leaves the device out. Features are not judged here, see UnknownIncompat.
// Errors: *Bad with Struct "superblock".
func NewGeometry(sb *Superblock, deviceSize int64) (*Geometry, error) {
	const s = "superblock"
	if sb.LogBlockSize > MaxBlockBits-MinBlockBits {
		return nil, bad(s, "block size (log2 less 10)", uint64(sb.LogBlockSize), "0 to 6: blocks of 1 to 64 KiB")
	}
	g := &Geometry{
		BlockSize: MinBlockSize << sb.LogBlockSize, BlockBits: uint8(MinBlockBits + sb.LogBlockSize), Blocks: sb.Blocks,
		FirstDataBlock: FSBlock(sb.FirstDataBlock), BlocksPerGroup: sb.BlocksPerGroup, Inodes: sb.Inodes,
		InodesPerGroup: sb.InodesPerGroup, FirstIno: sb.FirstIno, InodeSize: uint32(sb.InodeSize),
		LargeFile: sb.Revision >= RevDynamic, sparse: sb.ROCompat&ROCompatSparseSuper != 0, sparse2: sb.Compat&CompatSparseSuper2 != 0,
		metaBG: sb.Incompat&IncompatMetaBG != 0, firstMetaBG: sb.FirstMetaBG, backups: sb.BackupGroups,
	}
	bits := g.BlockSize * 8
	want := uint32(0)
	if g.BlockSize == MinBlockSize {
		want = 1
	}
	switch {
	case sb.FirstDataBlock != want:
		return nil, bad(s, "first data block", uint64(sb.FirstDataBlock), "%d for blocks of %d bytes", want, g.BlockSize)
	case sb.LogFragSize != sb.LogBlockSize:
		return nil, bad(s, "fragment size (log2 less 10)", uint64(sb.LogFragSize), "%d, the block size: fragments are not in use", sb.LogBlockSize)
	case g.InodeSize < OldInodeSize || g.InodeSize > g.BlockSize || g.InodeSize&(g.InodeSize-1) != 0:
		return nil, bad(s, "inode size", uint64(g.InodeSize), "a power of two from %d to the block size", OldInodeSize)
	case sb.FirstIno < OldFirstIno:
		return nil, bad(s, "first inode", uint64(sb.FirstIno), "at least %d", OldFirstIno)
	case g.BlocksPerGroup == 0 || g.BlocksPerGroup > bits:
		return nil, bad(s, "blocks per group", uint64(g.BlocksPerGroup), "1 to %d, the bits of one block", bits)
	case g.Blocks <= want:
		return nil, bad(s, "block count", uint64(g.Blocks), "more than %d", want)
	case sb.DescSize != 0 && sb.DescSize != GroupDescSize && sb.Incompat&Incompat64Bit == 0 && sb.DescSize > uint16(min(g.BlockSize, math.MaxUint16)):
		return nil, bad(s, "descriptor size", uint64(sb.DescSize), "0 or %d", GroupDescSize)
	}
	if deviceSize >= 0 && uint64(g.Blocks)<<g.BlockBits > uint64(deviceSize) {
		return nil, bad(s, "block count", uint64(g.Blocks), "at most %d, what a device of %d bytes holds", uint64(deviceSize)>>g.BlockBits, deviceSize)
	}
	g.InodesPerBlock = g.BlockSize / g.InodeSize
	if g.InodesPerGroup < g.InodesPerBlock || g.InodesPerGroup > bits {
		return nil, bad(s, "inodes per group", uint64(g.InodesPerGroup), "%d to %d", g.InodesPerBlock, bits)
	}
	g.ITableBlocks = (g.InodesPerGroup + g.InodesPerBlock - 1) / g.InodesPerBlock
	g.Groups = (g.Blocks-want-1)/g.BlocksPerGroup + 1
	if uint64(g.Groups)*uint64(g.InodesPerGroup) != uint64(g.Inodes) {
		return nil, bad(s, "inode count", uint64(g.Inodes), "%d groups of %d inodes", g.Groups, g.InodesPerGroup)
	}
	if uint32(g.FirstIno) > g.Inodes+1 || g.Inodes < uint32(OldFirstIno)-1 {
		return nil, bad(s, "inode count", uint64(g.Inodes), "at least the %d reserved ones", g.FirstIno-1)
	}
	g.DescPerBlock = g.BlockSize / GroupDescSize
	g.DescBlocks = (g.Groups-1)/g.DescPerBlock + 1
	g.ReservedGDT = uint32(sb.ReservedGDTBlocks)
	if sb.Compat&CompatResizeInode == 0 {
		g.ReservedGDT = 0
	}
	if g.ReservedGDT > g.BlockSize/4 {
		return nil, bad(s, "reserved descriptor blocks", uint64(g.ReservedGDT), "at most %d", g.BlockSize/4)
	}
	if g.metaBG && g.firstMetaBG > g.DescBlocks {
		return nil, bad(s, "first META_BG descriptor block", uint64(g.firstMetaBG), "at most %d", g.DescBlocks)
	}
	if need := uint64(1+g.oldDescBlocks()) + 2 + uint64(g.ITableBlocks); need >= uint64(g.BlocksPerGroup) {
		return nil, bad(s, "blocks per group", uint64(g.BlocksPerGroup), "more than the %d blocks of metadata of a group", need)
	}
	if end := uint64(g.FirstDataBlock) + 1 + uint64(g.oldDescBlocks()); end > uint64(g.Blocks) {
		return nil, bad(s, "block count", uint64(g.Blocks), "at least %d for superblock and descriptors", end)
	}
	if sb.ReservedBlocks > sb.Blocks {
		return nil, bad(s, "reserved blocks", uint64(sb.ReservedBlocks), "at most the %d blocks", sb.Blocks)
	}
	g.PtrsPerBlock = g.BlockSize / 4
	g.PtrBits = g.BlockBits - 2
	g.maxFileBlocks = g.limitFile()
	return g, nil
}

// Verify checks what a mount relies on beyond NewGeometry: counts that cannot exceed others. The free counts of a filesystem
// that was not unmounted cleanly are not to be trusted, but they never may exceed the totals.
func (sb *Superblock) Verify(g *Geometry) error {
	switch {
	case sb.FreeBlocks > sb.Blocks:
		return bad("superblock", "free block count", uint64(sb.FreeBlocks), "at most %d", sb.Blocks)
	case sb.FreeInodes > g.Inodes:
		return bad("superblock", "free inode count", uint64(sb.FreeInodes), "at most %d", g.Inodes)
	case sb.Errors > maxErrorsDefined:
		return bad("superblock", "error behaviour", uint64(sb.Errors), "0 to %d", maxErrorsDefined)
	}
	return nil
}

// oldDescBlocks counts the descriptor blocks that lie in the table behind each superblock.
func (g *Geometry) oldDescBlocks() uint32 {
	if g.metaBG {
		return min(g.firstMetaBG, g.DescBlocks)
	}
	return g.DescBlocks
}

// BytesOf gives the byte address of block b.
func (g *Geometry) BytesOf(b FSBlock) int64 { return int64(b) << g.BlockBits }

// BlockAt gives the block of a file that holds the byte at pos, which is not negative: it rounds down.
func (g *Geometry) BlockAt(pos int64) FileBlock { return FileBlock(uint64(pos) >> g.BlockBits) }

// BlocksFor gives how many blocks length bytes need: it rounds up.
func (g *Geometry) BlocksFor(length uint64) uint64 {
	n := length >> g.BlockBits
	if length&uint64(g.BlockSize-1) != 0 {
		n++
	}
	return n
}

// ValidBlock reports whether b may hold anything: it is on the device and not before group 0.
func (g *Geometry) ValidBlock(b FSBlock) bool { return b >= g.FirstDataBlock && uint32(b) < g.Blocks }

// ValidRange reports whether the n blocks from b may hold anything; n may be any number.
func (g *Geometry) ValidRange(b FSBlock, n uint32) bool {
	return b >= g.FirstDataBlock && uint64(b)+uint64(n) <= uint64(g.Blocks)
}

// ValidIno reports whether ino is an inode of this filesystem.
func (g *Geometry) ValidIno(ino Ino) bool { return ino != 0 && uint32(ino) <= g.Inodes }

// FileIno reports whether ino may be named in a directory: the root or a file, not one of the other reserved inodes.
func (g *Geometry) FileIno(ino Ino) bool {
	return ino == RootIno || ino >= g.FirstIno && uint32(ino) <= g.Inodes
}

// GroupOf gives the group that block b, a valid one, belongs to.
func (g *Geometry) GroupOf(b FSBlock) Group {
	return Group((uint32(b) - uint32(g.FirstDataBlock)) / g.BlocksPerGroup)
}

// GroupIndex gives the group of b, a valid block, and the number of b's bit in the group's block bitmap.
func (g *Geometry) GroupIndex(b FSBlock) (Group, uint32) {
	n := uint32(b) - uint32(g.FirstDataBlock)
	return Group(n / g.BlocksPerGroup), n % g.BlocksPerGroup
}

// GroupFirst gives the first block of group gr, which is below Groups.
func (g *Geometry) GroupFirst(gr Group) FSBlock {
	return g.FirstDataBlock + FSBlock(uint32(gr)*g.BlocksPerGroup)
}

// GroupBlocks gives the number of blocks of group gr: BlocksPerGroup, or less in the last.
func (g *Geometry) GroupBlocks(gr Group) uint32 {
	if uint32(gr) == g.Groups-1 {
		return g.Blocks - uint32(g.GroupFirst(gr))
	}
	return g.BlocksPerGroup
}

// HasSuper reports whether group gr begins with a copy of the superblock: all groups without SPARSE_SUPER; with it groups 0, 1
// and the powers of 3, 5 and 7; with SPARSE_SUPER2 group 0 and the two that the superblock names.
func (g *Geometry) HasSuper(gr Group) bool { return holdsSuper(gr, g.sparse, g.sparse2, g.backups) }

// HasSuper is Geometry.HasSuper for a superblock whose geometry is not settled yet.
func (sb *Superblock) HasSuper(gr Group) bool {
	return holdsSuper(gr, sb.ROCompat&ROCompatSparseSuper != 0, sb.Compat&CompatSparseSuper2 != 0, sb.BackupGroups)
}

func holdsSuper(gr Group, sparse, sparse2 bool, backups [2]Group) bool {
	switch {
	case gr == 0:
		return true
	case sparse2:
		return gr == backups[0] || gr == backups[1]
	case gr == 1 || !sparse:
		return true
	case gr&1 == 0:
		return false
	}
	return isPower(gr, 3) || isPower(gr, 5) || isPower(gr, 7)
}

func isPower(n, base Group) bool {
	for n%base == 0 {
		n /= base
	}
	return n == 1
}

// DescAt gives where the primary descriptor of group gr is: block and offset in it, bytes.
func (g *Geometry) DescAt(gr Group) (FSBlock, uint32) {
	return g.DescBlock(uint32(gr) / g.DescPerBlock), uint32(gr) % g.DescPerBlock * GroupDescSize
}

// DescBlock gives where the primary copy of descriptor block i (below DescBlocks) is: behind the superblock of group 0, or
// with META_BG and i not below FirstMetaBG, in the first of the groups it describes, after a superblock if that has one.
func (g *Geometry) DescBlock(i uint32) FSBlock {
	if i < g.oldDescBlocks() {
		return g.FirstDataBlock + 1 + FSBlock(i)
	}
	return g.metaDescAt(Group(i * g.DescPerBlock))
}

// metaDescAt gives where a META_BG descriptor block is within group gr.
func (g *Geometry) metaDescAt(gr Group) FSBlock {
	b := g.GroupFirst(gr)
	if g.HasSuper(gr) {
		b++
	}
	return b
}

// GroupHead counts the blocks at the start of group gr that hold its copies of superblock, descriptors and the blocks reserved
// for descriptors. They are in use whatever the bitmaps say. The count is not above the group's blocks.
func (g *Geometry) GroupHead(gr Group) uint32 {
	n := uint32(0)
	if g.HasSuper(gr) {
		n = 1 + g.oldDescBlocks() + g.ReservedGDT
		if g.metaBG && g.firstMetaBG == 0 {
			n = 1
		}
	}
	if _, ok := g.MetaDesc(gr); ok {
		n++
	}
	return min(n, g.GroupBlocks(gr))
}

// MetaDesc gives the index of the META_BG descriptor block of which group gr holds a copy, if it does: the first, second and
// last group of those that the block describes.
func (g *Geometry) MetaDesc(gr Group) (index uint32, ok bool) {
	if !g.metaBG {
		return 0, false
	}
	index = uint32(gr) / g.DescPerBlock
	if index < g.firstMetaBG {
		return 0, false
	}
	at := uint32(gr) % g.DescPerBlock
	return index, at == 0 || at == 1 || at == g.DescPerBlock-1
}

// BackupDesc gives where group gr's copy of descriptor block i is, if it has one.
func (g *Geometry) BackupDesc(gr Group, i uint32) (FSBlock, bool) {
	if i < g.oldDescBlocks() {
		if !g.HasSuper(gr) {
			return 0, false
		}
		return g.GroupFirst(gr) + 1 + FSBlock(i), true
	}
	if at, ok := g.MetaDesc(gr); ok && at == i {
		return g.metaDescAt(gr), true
	}
	return 0, false
}

// InodeGroup gives the group of inode ino, a valid one.
func (g *Geometry) InodeGroup(ino Ino) Group { return Group((uint32(ino) - 1) / g.InodesPerGroup) }

// InodeIndex gives the group of ino, a valid one, and the number of its bit in the group's inode bitmap.
func (g *Geometry) InodeIndex(ino Ino) (Group, uint32) {
	n := uint32(ino) - 1
	return Group(n / g.InodesPerGroup), n % g.InodesPerGroup
}

// InodeAt gives where inode ino, a valid one, is: block and offset in it in bytes. itable is InodeTable of its group's
// descriptor, verified.
func (g *Geometry) InodeAt(ino Ino, itable FSBlock) (FSBlock, uint32) {
	_, i := g.InodeIndex(ino)
	return itable + FSBlock(i/g.InodesPerBlock), i % g.InodesPerBlock * g.InodeSize
}

// InoOf gives the inode with bit i of group gr.
func (g *Geometry) InoOf(gr Group, i uint32) Ino { return Ino(uint32(gr)*g.InodesPerGroup + i + 1) }

// Overhead counts the blocks that never hold file data: before group 0, group heads, bitmaps and inode tables.
// It walks the groups.
func (g *Geometry) Overhead() uint32 {
	n := uint64(g.FirstDataBlock)
	for gr := range Group(g.Groups) {
		n += uint64(g.GroupHead(gr)) + 2 + uint64(g.ITableBlocks)
	}
	return uint32(min(n, uint64(g.Blocks)))
}

// MaxFileBlocks gives the number of blocks that a file may span: the least of what three levels of indirection reach, and
// what i_blocks, 32 bits in sectors of 512 bytes, can count together with the indirect blocks.
func (g *Geometry) MaxFileBlocks() FileBlock { return g.maxFileBlocks }

// MaxFileSize gives the largest size of a regular file, in bytes; without LargeFile it is 2 GiB less one.
func (g *Geometry) MaxFileSize() int64 {
	if !g.LargeFile {
		return math.MaxInt32
	}
	return int64(uint64(g.maxFileBlocks) << g.BlockBits)
}

func (g *Geometry) limitFile() FileBlock {
	p := uint64(g.PtrsPerBlock)
	reach := NDirect + p + p*p + p*p*p
	count := uint64(math.MaxUint32) >> (g.BlockBits - 9) // blocks that i_blocks can count
	if reach < count {
		// The indirect blocks count as well, yet where reach stays below count they are less than the difference: at 1 KiB
		// blocks reach is 16 million blocks of 2 billion.
		return FileBlock(reach)
	}
	// Room for the indirect blocks of a file of count blocks without holes.
	meta := uint64(0)
	rest := count - NDirect
	for level := 1; rest > 0; level++ {
		span := p
		for range level - 1 {
			span *= p
		}
		n := min(rest, span)
		for unit := p; ; unit *= p { // blocks below one indirect block: p, p², p³
			meta += (n + unit - 1) / unit
			if unit == span {
				break
			}
		}
		rest -= n
	}
	return FileBlock(count - meta)
}
