package disk

import "encoding/binary"

// GroupInodesZeroed is a bit of GroupDesc.Flags: the inode table was written in full when the filesystem was made.
const GroupInodesZeroed uint16 = 4

// GroupDesc is one entry of the block group descriptor table. Little endian, 32 bytes.
//
//	off  size  field
//	  0     4  BlockBitmap   block of the block bitmap
//	  4     4  InodeBitmap   block of the inode bitmap
//	  8     4  InodeTable    first block of the inode table
//	 12     2  FreeBlocks    free blocks in the group
//	 14     2  FreeInodes    free inodes in the group
//	 16     2  UsedDirs      inodes in use that are directories
//	 18     2  Flags         kept; only means something with features that ext2 does not carry
//	 20    12  (kept as found)
//
// Source: "The Second Extended Filesystem", block group descriptor table.
type GroupDesc struct {
	BlockBitmap, InodeBitmap, InodeTable    FSBlock
	FreeBlocks, FreeInodes, UsedDirs, Flags uint16
}

// DecodeGroupDesc reads a descriptor from the first 32 bytes of b.
func DecodeGroupDesc(b []byte) (GroupDesc, error) {
	if len(b) < GroupDescSize {
		return GroupDesc{}, bad("group descriptor", "length", uint64(len(b)), "%d bytes", GroupDescSize)
	}
	le := binary.LittleEndian
	return GroupDesc{
		BlockBitmap: FSBlock(le.Uint32(b[0:])),
		InodeBitmap: FSBlock(le.Uint32(b[4:])),
		InodeTable:  FSBlock(le.Uint32(b[8:])),
		FreeBlocks:  le.Uint16(b[12:]),
		FreeInodes:  le.Uint16(b[14:]),
		UsedDirs:    le.Uint16(b[16:]),
		Flags:       le.Uint16(b[18:]),
	}, nil
}

// EncodeTo writes the descriptor over the first 20 bytes of b, which is at least that long.
func (d GroupDesc) EncodeTo(b []byte) {
	_ = b[19]
	le := binary.LittleEndian
	le.PutUint32(b[0:], uint32(d.BlockBitmap))
	le.PutUint32(b[4:], uint32(d.InodeBitmap))
	le.PutUint32(b[8:], uint32(d.InodeTable))
	le.PutUint16(b[12:], d.FreeBlocks)
	le.PutUint16(b[14:], d.FreeInodes)
	le.PutUint16(b[16:], d.UsedDirs)
	le.PutUint16(b[18:], d.Flags)
}

// Verify makes sure that the descriptor of group gr points into its group and counts no more than there is. The three places
// must not overlap each other nor the head of the group.
func (d GroupDesc) Verify(g *Geometry, gr Group) error {
	const s = "group descriptor"
	if uint32(gr) >= g.Groups {
		return bad(s, "group", uint64(gr), "below %d", g.Groups)
	}
	first, n := g.GroupFirst(gr), g.GroupBlocks(gr)
	last := first + FSBlock(n-1)
	low := first + FSBlock(g.GroupHead(gr))
	inside := func(b FSBlock) bool { return b >= low && b <= last }
	switch {
	case !inside(d.BlockBitmap):
		return bad(s, "block bitmap", uint64(d.BlockBitmap), "a block from %d to %d of group %d", low, last, gr)
	case !inside(d.InodeBitmap):
		return bad(s, "inode bitmap", uint64(d.InodeBitmap), "a block from %d to %d of group %d", low, last, gr)
	case !inside(d.InodeTable) || uint64(d.InodeTable)+uint64(g.ITableBlocks)-1 > uint64(last):
		return bad(s, "inode table", uint64(d.InodeTable), "the first of %d blocks from %d to %d of group %d", g.ITableBlocks, low, last, gr)
	case d.BlockBitmap == d.InodeBitmap:
		return bad(s, "inode bitmap", uint64(d.InodeBitmap), "another block than the block bitmap")
	case d.BlockBitmap-d.InodeTable < FSBlock(g.ITableBlocks):
		return bad(s, "block bitmap", uint64(d.BlockBitmap), "a block outside the inode table at %d", d.InodeTable)
	case d.InodeBitmap-d.InodeTable < FSBlock(g.ITableBlocks):
		return bad(s, "inode bitmap", uint64(d.InodeBitmap), "a block outside the inode table at %d", d.InodeTable)
	}
	return d.VerifyCounts(g, gr)
}

// VerifyCounts makes sure that the counts do not exceed the group.
func (d GroupDesc) VerifyCounts(g *Geometry, gr Group) error {
	const s = "group descriptor"
	switch {
	case uint32(d.FreeBlocks) > g.GroupBlocks(gr):
		return bad(s, "free blocks", uint64(d.FreeBlocks), "at most the %d of group %d", g.GroupBlocks(gr), gr)
	case uint32(d.FreeInodes) > g.InodesPerGroup:
		return bad(s, "free inodes", uint64(d.FreeInodes), "at most the %d of a group", g.InodesPerGroup)
	case uint32(d.UsedDirs) > g.InodesPerGroup:
		return bad(s, "directories", uint64(d.UsedDirs), "at most the %d inodes of a group", g.InodesPerGroup)
	}
	return nil
}
