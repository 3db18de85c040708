package check

import (
	"fmt"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
)

// mapWalk follows the block map of one inode and claims its blocks. A block that is in use already is reported and not
// followed, so that each indirect block of the device is followed at most once, whatever garbage it holds.
type mapWalk struct {
	c    *checker
	ino  disk.Ino
	bufs [3][]byte // one a level

	count    uint64         // blocks found, indirect ones included
	last     disk.FileBlock // the last block of data, when any is set
	any      bool
	badCount int // pointers that are no blocks
	dupCount int // blocks in use twice
	err      error

	firstBad, firstDup uint32
	firstOwner         string
}

// walk follows all 15 pointers of an inode.
func (mw *mapWalk) walk(in *disk.Inode, ino disk.Ino) error {
	*mw = mapWalk{c: mw.c, bufs: mw.bufs, ino: ino}
	g := mw.c.g
	for entry, b := range in.Block {
		height := max(entry-disk.NDirect+1, 0)
		mw.follow(disk.FSBlock(b), height, g.LevelStart(entry))
		if mw.err != nil {
			return mw.err
		}
	}
	if mw.badCount > 0 {
		if err := mw.c.ino(BlockRange, ino, "block %d (and %d more pointers) is not on the device: blocks are %d to %d",
			mw.firstBad, mw.badCount-1, g.FirstDataBlock, g.Blocks-1); err != nil {
			return err
		}
	}
	if mw.dupCount > 0 {
		return mw.c.ino(BlockClaimed, ino, "block %d (and %d more) is in use already, %s", mw.firstDup, mw.dupCount-1, mw.firstOwner)
	}
	return nil
}

// follow claims the block that a pointer leads to, and what is below it. height is 0 for a block of data.
func (mw *mapWalk) follow(b disk.FSBlock, height int, fb disk.FileBlock) {
	if b == 0 || mw.err != nil {
		return
	}
	c := mw.c
	if !c.g.ValidBlock(b) {
		if mw.badCount++; mw.badCount == 1 {
			mw.firstBad = uint32(b)
		}
		return
	}
	mw.count++
	if height == 0 {
		mw.last, mw.any = fb, true
	}
	if !c.claim(b) {
		if mw.dupCount++; mw.dupCount == 1 {
			mw.firstDup, mw.firstOwner = uint32(b), c.owner(b)
		}
		return
	}
	if height == 0 {
		return
	}
	if mw.err = c.ctx.Err(); mw.err != nil {
		return
	}
	if mw.bufs[height-1] == nil {
		mw.bufs[height-1] = make([]byte, c.g.BlockSize)
	}
	pb := disk.PtrBlock(mw.bufs[height-1])
	if mw.err = c.block(pb, b, "an indirect block"); mw.err != nil {
		return
	}
	span := c.g.LevelSpan(height - 1)
	for i := range uint32(pb.Len()) {
		if p := pb.At(i); p != 0 {
			mw.follow(p, height-1, fb+disk.FileBlock(uint64(i)*span))
		}
	}
}

// owner says what metadata a block belongs to.
func (c *checker) owner(b disk.FSBlock) string {
	gr, i := c.g.GroupIndex(b)
	p := &c.groups[gr]
	switch {
	case i < c.g.GroupHead(gr):
		return fmt.Sprintf("by superblock and descriptors of group %d", gr)
	case p.known && b == p.desc.BlockBitmap:
		return fmt.Sprintf("as block bitmap of group %d", gr)
	case p.known && b == p.desc.InodeBitmap:
		return fmt.Sprintf("as inode bitmap of group %d", gr)
	case p.known && b-p.desc.InodeTable < disk.FSBlock(c.g.ITableBlocks):
		return fmt.Sprintf("by the inode table of group %d", gr)
	case c.attrs[b] != nil:
		return "as an attribute block"
	}
	return "by this or another file"
}

// mapReader finds the blocks of a directory, with the last indirect block of each level at hand.
type mapReader struct {
	c    *checker
	in   *disk.Inode
	at   [3]disk.FSBlock
	bufs [3][]byte
}

// block gives the block of the device that holds block fb of the file; 0 for a hole and for what is no block.
func (mr *mapReader) block(fb disk.FileBlock) (disk.FSBlock, error) {
	g := mr.c.g
	path, ok := g.PathOf(fb)
	if !ok {
		return 0, nil
	}
	b := disk.FSBlock(mr.in.Block[path.Index[0]])
	for d := 1; d < path.Depth; d++ {
		if b == 0 || !g.ValidBlock(b) {
			return 0, nil
		}
		if mr.at[d-1] != b {
			if mr.bufs[d-1] == nil {
				mr.bufs[d-1] = make([]byte, g.BlockSize)
			}
			mr.at[d-1] = 0
			if err := mr.c.block(mr.bufs[d-1], b, "an indirect block"); err != nil {
				return 0, err
			}
			mr.at[d-1] = b
		}
		b = disk.PtrBlock(mr.bufs[d-1]).At(path.Index[d])
	}
	if b != 0 && !g.ValidBlock(b) {
		return 0, nil
	}
	return b, nil
}
