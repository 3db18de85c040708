package all

import (
	"context"
	"fmt"
	"io"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// What the picture of an ext2 tells apart.
const (
	ext2Free = iota
	ext2Data
	ext2Dir
	ext2Indirect
	ext2Xattr
	ext2Head
	ext2Bitmap
	ext2Inodes
)

var ext2MapKinds = []string{"free", "data", "directories", "indirect blocks", "attributes", "superblocks and descriptors", "bitmaps", "inode tables"}

// ext2Mapper fills a picture: first from the bitmaps, then from the inodes in use.
type ext2Mapper struct {
	r     io.ReaderAt
	g     *disk.Geometry
	m     *Map
	steps int64 // blocks of maps read, not more than the device has
}

func ext2Map(ctx context.Context, dev block.Device, rows, columns int) (*Map, error) {
	sb, err := ext2Super(dev)
	if err != nil {
		return nil, err
	}
	g, err := disk.NewGeometry(sb, dev.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", dev.Name(), err, errno.UCLEAN)
	}
	m := newMap(ext2MapKinds, ext2Head, int64(g.Blocks)<<g.BlockBits, int64(g.BlocksPerGroup)<<g.BlockBits, g.BytesOf(g.FirstDataBlock), int64(g.BlockSize),
		int(g.Groups), rows, columns)
	mp := &ext2Mapper{r: ReaderAt(dev), g: g, m: m}
	for gr := range disk.Group(g.Groups) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := mp.group(gr); err != nil {
			return nil, fmt.Errorf("%s: group %d: %w", dev.Name(), gr, err)
		}
	}
	m.settle()
	return m, nil
}

func (mp *ext2Mapper) read(b disk.FSBlock) ([]byte, error) {
	if !mp.g.ValidBlock(b) {
		return nil, fmt.Errorf("block %d is outside the filesystem: %w", b, errno.UCLEAN)
	}
	buf := make([]byte, mp.g.BlockSize)
	_, err := mp.r.ReadAt(buf, mp.g.BytesOf(b))
	return buf, err
}

// take counts blocks that the bitmap has as data to be of another kind.
func (mp *ext2Mapper) take(kind int, b disk.FSBlock, n uint32) {
	if mp.g.ValidRange(b, n) {
		mp.m.add(kind, mp.g.BytesOf(b), int64(n), 1)
		mp.m.add(ext2Data, mp.g.BytesOf(b), int64(n), -1)
	}
}

func (mp *ext2Mapper) group(gr disk.Group) error {
	g := mp.g
	blk, off := g.DescAt(gr)
	table, err := mp.read(blk)
	if err != nil {
		return err
	}
	d, err := disk.DecodeGroupDesc(table[off:])
	if err == nil {
		err = d.Verify(g, gr)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", err, errno.UCLEAN)
	}
	bits, err := mp.read(d.BlockBitmap)
	if err != nil {
		return err
	}
	base, limit := g.GroupFirst(gr), g.GroupBlocks(gr)
	for at := uint32(0); at < limit; {
		kind := ext2Free
		end, ok := disk.Bitmap(bits).NextSet(at, limit)
		if ok && end == at {
			kind = ext2Data
			end, ok = disk.Bitmap(bits).NextZero(at, limit)
		}
		if !ok {
			end = limit
		}
		mp.m.add(kind, g.BytesOf(base+disk.FSBlock(at)), int64(end-at), 1)
		at = end
	}
	mp.take(ext2Head, base, g.GroupHead(gr))
	mp.take(ext2Bitmap, d.BlockBitmap, 1)
	mp.take(ext2Bitmap, d.InodeBitmap, 1)
	mp.take(ext2Inodes, d.InodeTable, g.ITableBlocks)
	return mp.inodes(gr, d)
}

// inodes looks at the inodes in use of a group.
func (mp *ext2Mapper) inodes(gr disk.Group, d disk.GroupDesc) error {
	bits, err := mp.read(d.InodeBitmap)
	if err != nil {
		return err
	}
	var table []byte
	var have disk.FSBlock
	for i, ok := disk.Bitmap(bits).NextSet(0, mp.g.InodesPerGroup); ok; i, ok = disk.Bitmap(bits).NextSet(i+1, mp.g.InodesPerGroup) {
		ino := mp.g.InoOf(gr, i)
		if ino < mp.g.FirstIno && ino != disk.RootIno {
			continue // the one for resizing maps blocks of the group heads
		}
		blk, off := mp.g.InodeAt(ino, d.InodeTable)
		if table == nil || blk != have {
			if table, err = mp.read(blk); err != nil {
				return err
			}
			have = blk
		}
		in, err := disk.DecodeInode(table[off : off+mp.g.InodeSize])
		if err != nil || !in.Live() {
			continue // damage is for check to tell
		}
		if in.FileACL != 0 {
			mp.take(ext2Xattr, in.FileACL, 1)
		}
		if !in.HasBlockMap(mp.g) {
			continue
		}
		for n, b := range in.Block {
			if err := mp.blocks(&in, disk.FSBlock(b), max(0, n-disk.NDirect+1)); err != nil {
				return err
			}
		}
	}
	return nil
}

// blocks counts block b of an inode, with height levels of pointers above the data.
func (mp *ext2Mapper) blocks(in *disk.Inode, b disk.FSBlock, height int) error {
	switch {
	case !mp.g.ValidBlock(b) || b == 0:
		return nil
	case height == 0:
		if in.IsDir() {
			mp.take(ext2Dir, b, 1)
		}
		return nil
	}
	mp.take(ext2Indirect, b, 1)
	if height == 1 && !in.IsDir() {
		return nil // below are data, which the bitmap has
	}
	if mp.steps++; mp.steps > int64(mp.g.Blocks) {
		return fmt.Errorf("block maps go in circles: %w", errno.UCLEAN)
	}
	buf, err := mp.read(b)
	if err != nil {
		return err
	}
	pb := disk.PtrBlock(buf)
	for i := range uint32(pb.Len()) {
		if err := mp.blocks(in, pb.At(i), height-1); err != nil {
			return err
		}
	}
	return nil
}
