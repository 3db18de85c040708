package mkfs

import (
	"fmt"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// group is one block group while it fills.
type group struct {
	desc   disk.GroupDesc
	meta   uint32      // blocks at its start that hold metadata
	blocks disk.Bitmap // nil while nothing but metadata is in use
	inodes disk.Bitmap // nil while no inode is in use
}

// run is a number of blocks in a row.
type run struct {
	first disk.FSBlock
	n     uint32
}

// allocator hands out blocks and inodes, from the start of the device up.
type allocator struct {
	g      *disk.Geometry
	groups []group
	next   disk.FSBlock // blocks are looked for from here on
	lowest disk.FSBlock // no block below is free but those before next

	freeBlocks, freeInodes uint64
	firstInode             disk.Group // groups before it have no free inode …
	pastInode              disk.Group // … nor have those from here on
}

func newAllocator(g *disk.Geometry) *allocator {
	al := &allocator{
		g: g, groups: make([]group, g.Groups), next: g.FirstDataBlock, lowest: g.FirstDataBlock, freeInodes: uint64(g.Inodes),
		pastInode: disk.Group(g.Groups),
	}
	for i := range al.groups {
		gr := disk.Group(i)
		at := g.GroupFirst(gr) + disk.FSBlock(g.GroupHead(gr))
		meta := g.GroupHead(gr) + 2 + g.ITableBlocks
		free := g.GroupBlocks(gr) - meta
		al.groups[i] = group{meta: meta, desc: disk.GroupDesc{
			BlockBitmap: at, InodeBitmap: at + 1, InodeTable: at + 2, FreeBlocks: uint16(free), FreeInodes: uint16(g.InodesPerGroup),
			Flags: disk.GroupInodesZeroed,
		}}
		al.freeBlocks += uint64(free)
	}
	return al
}

// blockBitmap gives a group's block bitmap, with its metadata and what lies behind its end in use.
func (al *allocator) blockBitmap(gr disk.Group) disk.Bitmap {
	p := &al.groups[gr]
	if p.blocks == nil {
		p.blocks = make(disk.Bitmap, al.g.BlockSize)
		p.blocks.SetRange(0, p.meta)
		p.blocks.SetRange(al.g.GroupBlocks(gr), p.blocks.Len())
	}
	return p.blocks
}

func (al *allocator) inodeBitmap(gr disk.Group) disk.Bitmap {
	p := &al.groups[gr]
	if p.inodes == nil {
		p.inodes = make(disk.Bitmap, al.g.BlockSize)
		p.inodes.SetRange(al.g.InodesPerGroup, p.inodes.Len())
	}
	return p.inodes
}

// alloc takes up to want blocks in a row, at least one.
func (al *allocator) alloc(want uint32) (run, error) {
	if al.freeBlocks == 0 {
		return run{}, fmt.Errorf("all %d blocks of %d bytes are in use, make the filesystem larger: %w", al.g.Blocks, al.g.BlockSize, errno.NOSPC)
	}
	if !al.g.ValidBlock(al.next) {
		al.next = al.lowest
	}
	gr, from := al.g.GroupIndex(al.next)
	for {
		if al.groups[gr].desc.FreeBlocks > 0 {
			bm, n := al.blockBitmap(gr), al.g.GroupBlocks(gr)
			if i, ok := bm.NextZero(from, n); ok {
				end, _ := bm.NextSet(i, min(n, i+want))
				bm.SetRange(i, end)
				al.groups[gr].desc.FreeBlocks -= uint16(end - i)
				al.freeBlocks -= uint64(end - i)
				al.next = al.g.GroupFirst(gr) + disk.FSBlock(end)
				return run{al.g.GroupFirst(gr) + disk.FSBlock(i), end - i}, nil
			}
		}
		// There are free blocks: at the latest from the lowest on one is found.
		if from = 0; uint32(gr) == al.g.Groups-1 {
			gr, from = al.g.GroupIndex(al.lowest)
		} else {
			gr++
		}
	}
}

// free gives blocks back.
func (al *allocator) free(r run) {
	gr, i := al.g.GroupIndex(r.first)
	n := al.blockBitmap(gr).ClearRange(i, i+r.n)
	al.groups[gr].desc.FreeBlocks += uint16(n)
	al.freeBlocks += uint64(n)
	al.lowest = min(al.lowest, r.first)
}

// allocInode takes an inode, of the group where the next block comes from if it has one left.
func (al *allocator) allocInode(dir bool) (disk.Ino, error) {
	if al.freeInodes == 0 {
		return 0, fmt.Errorf("all %d inodes are in use, ask for more or for a smaller inode ratio: %w", al.g.Inodes, errno.NOSPC)
	}
	gr := disk.Group(al.g.Groups)
	if al.g.ValidBlock(al.next) {
		gr = al.g.GroupOf(al.next)
	}
	for gr = max(gr, al.firstInode); gr < al.pastInode && al.groups[gr].desc.FreeInodes == 0; gr++ {
	}
	if gr >= al.pastInode { // none there: the first group that has one
		if al.g.ValidBlock(al.next) {
			al.pastInode = min(al.pastInode, max(al.g.GroupOf(al.next), al.firstInode))
		}
		for al.groups[al.firstInode].desc.FreeInodes == 0 {
			al.firstInode++
		}
		gr = al.firstInode
	}
	bm := al.inodeBitmap(gr)
	i, ok := bm.NextZero(0, al.g.InodesPerGroup)
	if !ok {
		return 0, fmt.Errorf("group %d counts free inodes but has none: %w", gr, errno.UCLEAN)
	}
	al.takeInode(gr, i, dir)
	return al.g.InoOf(gr, i), nil
}

func (al *allocator) takeInode(gr disk.Group, i uint32, dir bool) {
	al.inodeBitmap(gr).Set(i)
	p := &al.groups[gr].desc
	p.FreeInodes--
	al.freeInodes--
	if dir {
		p.UsedDirs++
	}
}

// freeInode gives an inode back that is no directory.
func (al *allocator) freeInode(ino disk.Ino) {
	gr, i := al.g.InodeIndex(ino)
	al.inodeBitmap(gr).Clear(i)
	al.groups[gr].desc.FreeInodes++
	al.freeInodes++
	al.firstInode = min(al.firstInode, gr)
	al.pastInode = max(al.pastInode, gr+1)
}

// inodeAt gives the byte address of an inode.
func (al *allocator) inodeAt(ino disk.Ino) int64 {
	b, off := al.g.InodeAt(ino, al.groups[al.g.InodeGroup(ino)].desc.InodeTable)
	return al.g.BytesOf(b) + int64(off)
}
