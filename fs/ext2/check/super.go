package check

import (
	"encoding/binary"
	"fmt"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// super reads superblock and descriptors, and marks the metadata in use.
func (c *checker) super() error {
	if c.size < disk.SuperOffset+disk.SuperSize {
		return fmt.Errorf("check: a device of %d bytes has no room for a superblock: %w", c.size, errno.INVAL)
	}
	var raw [disk.SuperSize]byte
	if err := c.read(raw[:], disk.SuperOffset, "the superblock"); err != nil {
		return err
	}
	sb, err := disk.DecodeSuperblock(raw[:])
	if err != nil {
		return fmt.Errorf("check: no ext2: %w: %w", err, errno.INVAL)
	}
	if sb.Incompat&disk.IncompatRecover != 0 {
		return fmt.Errorf("check: the journal has to be replayed first, by e2fsck -p or a mount as ext3 or ext4: %w", errno.OPNOTSUPP)
	}
	if i, r, m := sb.UnknownIncompat(), sb.UnknownROCompat(), sb.UnknownCompat(); i != 0 || r != 0 || m != 0 {
		return fmt.Errorf("check: features that are not of ext2: %v: %w", append(append(i.Names(), r.Names()...), m.Names()...), errno.OPNOTSUPP)
	}
	c.sb = sb
	c.rep.Dirty = !sb.Clean()
	g, err := disk.NewGeometry(&sb, c.size)
	if err == nil && sb.LogFragSize == sb.LogBlockSize && sb.FragsPerGroup != sb.BlocksPerGroup {
		err = fmt.Errorf("%d fragments in a group, want as many as blocks, %d", sb.FragsPerGroup, sb.BlocksPerGroup)
	}
	if err != nil {
		return c.found(Super, 0, "superblock", "%v", err)
	}
	c.g = g
	c.rep.Blocks, c.rep.Inodes = g.Blocks, g.Inodes
	if err := c.superFields(); err != nil {
		return err
	}
	return c.descriptors()
}

// superFields checks what the geometry does not depend on.
func (c *checker) superFields() error {
	sb := &c.sb
	bad := func(what string, args ...any) error { return c.found(Super, 0, "superblock", what, args...) }
	if err := sb.Verify(c.g); err != nil {
		if err := bad("%v", err); err != nil {
			return err
		}
	}
	if sb.ReservedBlocks > sb.Blocks/2 {
		if err := bad("%d blocks are reserved, at most half of %d may be", sb.ReservedBlocks, sb.Blocks); err != nil {
			return err
		}
	}
	if sb.Compat&disk.CompatResizeInode == 0 && sb.ReservedGDTBlocks != 0 {
		if err := bad("%d blocks are reserved for descriptors without the feature resize_inode", sb.ReservedGDTBlocks); err != nil {
			return err
		}
	}
	if room := int(c.g.InodeSize) - disk.OldInodeSize; int(sb.MinExtraIsize) > room || int(sb.WantExtraIsize) > room {
		return bad("inodes want %d and %d bytes of extra fields, there is room for %d", sb.MinExtraIsize, sb.WantExtraIsize, room)
	}
	return nil
}

// groupUninit are the flags of ext4 that declare the inode or block bitmap as not written yet.
const groupUninit = 1 | 2

// offUnusedInodes is where ext4 counts inodes at the end of a table that were never in use.
const offUnusedInodes = 28

// descriptors reads the group descriptors and claims what they name. Groups whose descriptor is not sound are left out of
// the following passes.
func (c *checker) descriptors() error {
	g := c.g
	c.groups = make([]groupState, g.Groups)
	buf := make([]byte, g.BlockSize)
	for d := range g.DescBlocks {
		b := g.DescBlock(d)
		if !g.ValidBlock(b) {
			return c.found(Super, 0, "superblock", "descriptor block %d would be at block %d", d, b)
		}
		if err := c.block(buf, b, "group descriptors"); err != nil {
			return err
		}
		for i := range g.DescPerBlock {
			gr := disk.Group(d*g.DescPerBlock + i)
			if uint32(gr) >= g.Groups {
				break
			}
			p := &c.groups[gr]
			var err error
			if p.desc, err = disk.DecodeGroupDesc(buf[i*disk.GroupDescSize:]); err == nil {
				err = p.desc.Verify(g, gr)
			}
			if unused := binary.LittleEndian.Uint16(buf[i*disk.GroupDescSize+offUnusedInodes:]); err == nil && (p.desc.Flags&groupUninit != 0 || unused != 0) {
				err = fmt.Errorf("flags are %#x, unused inodes %d: tables that are not initialised need a feature that ext2 does not have", p.desc.Flags, unused)
			}
			if err == nil {
				p.known = true
				continue
			}
			counts := p.desc
			counts.FreeBlocks, counts.FreeInodes, counts.UsedDirs = 0, 0, 0
			p.known = counts.Verify(g, gr) == nil // the places are sound, the counts are not
			if err := c.group(Descriptor, gr, "%v", err); err != nil {
				return err
			}
		}
	}
	for i := range c.groups {
		gr := disk.Group(i)
		p := &c.groups[i]
		first := g.GroupFirst(gr)
		for b := range g.GroupHead(gr) {
			c.claim(first + disk.FSBlock(b))
		}
		if !p.known {
			continue
		}
		c.claim(p.desc.BlockBitmap)
		c.claim(p.desc.InodeBitmap)
		for b := range g.ITableBlocks {
			c.claim(p.desc.InodeTable + disk.FSBlock(b))
		}
	}
	return nil
}
