package check

import (
	"fmt"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
)

// counts is the last pass: bitmaps, and the counts in descriptors and superblock.
func (c *checker) counts() error {
	g := c.g
	buf := make([]byte, g.BlockSize)
	var freeBlocks, freeInodes uint64
	known := true
	for i := range c.groups {
		gr, p := disk.Group(i), &c.groups[i]
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if !p.known {
			known = false
			continue
		}
		if p.blocks == nil {
			p.blocks = make(disk.Bitmap, g.BlockSize)
		}
		inodes := p.inodes
		if inodes == nil {
			inodes = make(disk.Bitmap, g.BlockSize)
		}
		for ino := disk.Ino(1); ino < c.sb.FirstIno; ino++ { // in use whatever they hold
			if at, i := g.InodeIndex(ino); at == gr {
				inodes.Set(i)
			}
		}
		if err := c.block(buf, p.desc.BlockBitmap, "a block bitmap"); err != nil {
			return err
		}
		first := uint64(g.GroupFirst(gr))
		if err := c.compare(BlockBitmap, gr, "block", buf, p.blocks, g.GroupBlocks(gr), first); err != nil {
			return err
		}
		if err := c.block(buf, p.desc.InodeBitmap, "an inode bitmap"); err != nil {
			return err
		}
		if err := c.compare(InodeBitmap, gr, "inode", buf, inodes, g.InodesPerGroup, uint64(g.InoOf(gr, 0))); err != nil {
			return err
		}
		blocks, inos := p.blocks.CountZeros(g.GroupBlocks(gr)), inodes.CountZeros(g.InodesPerGroup)
		freeBlocks += uint64(blocks)
		freeInodes += uint64(inos)
		if d := p.desc; uint32(d.FreeBlocks) != blocks || uint32(d.FreeInodes) != inos || uint32(d.UsedDirs) != p.dirs {
			if err := c.group(GroupCounts, gr, "%d free blocks, %d free inodes, %d directories; want %d, %d, %d",
				d.FreeBlocks, d.FreeInodes, d.UsedDirs, blocks, inos, p.dirs); err != nil {
				return err
			}
		}
		c.progress(0.95 + 0.05*float64(i)/float64(len(c.groups)))
	}
	c.rep.Files = uint32(uint64(g.Inodes) - freeInodes)
	c.rep.UsedBlocks = uint32(uint64(g.Blocks) - freeBlocks)
	if known && (uint64(c.sb.FreeBlocks) != freeBlocks || uint64(c.sb.FreeInodes) != freeInodes) {
		return c.found(SuperCounts, 0, "superblock", "%d free blocks, %d free inodes; want %d, %d", c.sb.FreeBlocks, c.sb.FreeInodes, freeBlocks, freeInodes)
	}
	return nil
}

// compare compares a bitmap with what was found; n bits count, those behind have to be set. first is the number of bit 0.
func (c *checker) compare(code Code, gr disk.Group, what string, have, want disk.Bitmap, n uint32, first uint64) error {
	var lost, wrong uint32 // marked in use that is not, and the other way round
	firstLost, firstWrong := uint64(0), uint64(0)
	for i := uint32(0); i < n; i++ {
		if i&7 == 0 && i+8 <= n && have[i>>3] == want[i>>3] {
			i += 7
			continue
		}
		switch h, w := have.Test(i), want.Test(i); {
		case h && !w:
			if lost++; lost == 1 {
				firstLost = first + uint64(i)
			}
		case w && !h:
			if wrong++; wrong == 1 {
				firstWrong = first + uint64(i)
			}
		}
	}
	if wrong > 0 {
		if err := c.group(code, gr, "%d %ss in use are marked free, the first is %d", wrong, what, firstWrong); err != nil {
			return err
		}
	}
	if lost > 0 {
		if err := c.group(code, gr, "%d %ss are marked in use and are not, the first is %d", lost, what, firstLost); err != nil {
			return err
		}
	}
	if i, clear := have.NextZero(n, have.Len()); clear {
		return c.group(Padding, gr, "bit %d of the %s bitmap, behind its end at %d, is not set", i, what, n)
	}
	return nil
}

// Summary gives the line that ends a report.
func (r *Report) Summary() string {
	s := fmt.Sprintf("%d/%d files (%d directories), %d/%d blocks", r.Files, r.Inodes, r.Directories, r.UsedBlocks, r.Blocks)
	switch {
	case r.More:
		return fmt.Sprintf("%s; stopped after %d problems", s, len(r.Problems))
	case !r.Clean():
		return fmt.Sprintf("%s; %d problems", s, len(r.Problems))
	}
	return s + "; clean"
}
