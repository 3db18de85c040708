package check

import (
	"errors"
	"fmt"
	"slices"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
)

// attrUse counts the inodes that use an attribute block.
type attrUse struct {
	stored uint32 // reference count of the block
	found  uint32
	first  disk.Ino
	broken bool // cannot be read: reported once
}

// attributes checks the attributes of an inode, in its body and in its block, and gives what the block adds to i_blocks.
func (ip *inodePass) attributes(ino disk.Ino, in *disk.Inode, raw []byte) (sectors uint64, err error) {
	c := ip.c
	if body := in.IBody(raw); body != nil {
		t, err := disk.XattrBody(body)
		if err != nil {
			if err := c.ino(Xattr, ino, "%v", err); err != nil {
				return 0, err
			}
		} else if err := ip.table(ino, fmt.Sprintf("inode %d", ino), t, true); err != nil {
			return 0, err
		}
	}
	b := in.FileACL
	if b == 0 {
		return 0, nil
	}
	if !c.g.ValidBlock(b) || c.sb.Compat&disk.CompatExtAttr == 0 {
		return 0, c.ino(Xattr, ino, "attribute block %d: blocks are %d to %d, and feature ext_attr has to be set", b, c.g.FirstDataBlock, c.g.Blocks-1)
	}
	sectors = uint64(c.g.BlockSize / disk.SectorSize)
	if u := c.attrs[b]; u != nil {
		u.found++
		return sectors, nil
	}
	if !c.claim(b) {
		return sectors, c.ino(BlockClaimed, ino, "attribute block %d is in use already, %s", b, c.owner(b))
	}
	u := &attrUse{found: 1, first: ino}
	c.attrs[b] = u
	if err := c.block(ip.buf, b, "an attribute block"); err != nil {
		return 0, err
	}
	where := fmt.Sprintf("inode %d, attribute block %d", ino, b)
	xb := disk.XattrBlock(ip.buf)
	u.stored = xb.RefCount()
	if _, err := disk.AsXattrBlock(ip.buf); err != nil {
		var bad *disk.Bad
		u.broken = !errors.As(err, &bad) || bad.Field != "reference count" // that one is compared at the end
		if u.broken {
			return sectors, c.found(Xattr, ino, where, "%v", err)
		}
		return sectors, nil
	}
	return sectors, ip.table(ino, where, xb.Table(), false)
}

// table checks hashes. In an inode 0 stands for none.
func (ip *inodePass) table(ino disk.Ino, where string, t disk.XattrTable, inBody bool) error {
	for at := t.First(); !t.End(at); at = t.Next(at) {
		e := t.At(at)
		if !inBody && e.Index == 0 {
			if err := ip.c.found(Xattr, ino, where, "attribute %q has no name space", e.Name); err != nil {
				return err
			}
		}
		if inBody && e.Hash == 0 || e.Hash == e.WantHash(false) || e.Hash == e.WantHash(true) {
			continue
		}
		if err := ip.c.found(XattrHash, ino, where, "hash of attribute %d:%q is %#x, want %#x", e.Index, e.Name, e.Hash, e.WantHash(false)); err != nil {
			return err
		}
	}
	return nil
}

// attrCounts compares reference counts with the inodes found.
func (ip *inodePass) attrCounts() error {
	var blocks []disk.FSBlock
	for b, u := range ip.c.attrs {
		if !u.broken && u.stored != u.found {
			blocks = append(blocks, b)
		}
	}
	slices.Sort(blocks)
	for _, b := range blocks {
		u := ip.c.attrs[b]
		if err := ip.c.found(XattrRefCount, u.first, fmt.Sprintf("attribute block %d", b), "reference count is %d, and %d inodes use it", u.stored, u.found); err != nil {
			return err
		}
	}
	return nil
}
