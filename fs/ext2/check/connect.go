package check

import (
	"github.com/iomapfs/iomapfs/fs/ext2/disk"
)

// connect is the third pass: paths from the root to every directory, names for every inode.
func (c *checker) connect() error {
	const (
		unknown = iota
		onPath  // being followed upwards just now
		reached
		lost
	)
	state := make([]uint8, len(c.dirs))
	var path []int
	for i := range c.dirs {
		path = path[:0]
		end := uint8(unknown)
		for at := i; ; {
			if state[at] == reached || state[at] == lost {
				end = state[at]
				break
			}
			if state[at] == onPath { // a ring
				end = lost
				break
			}
			state[at] = onPath
			path = append(path, at)
			d := &c.dirs[at]
			if d.ino == disk.RootIno {
				end = reached
				break
			}
			up, ok := c.findDir(d.parent)
			if d.parent == 0 || !ok {
				end = lost
				break
			}
			at = up
		}
		for _, at := range path {
			state[at] = end
		}
	}
	for i := range c.dirs {
		d := &c.dirs[i]
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if state[i] == lost {
			if err := c.ino(Unconnected, d.ino, "no path leads from the root to this directory"); err != nil {
				return err
			}
			continue
		}
		want := d.parent
		if d.ino == disk.RootIno {
			want = disk.RootIno
		}
		if d.dotdot != 0 && d.dotdot != want {
			if err := c.ino(Parent, d.ino, "\"..\" is inode %d, and inode %d names the directory", d.dotdot, want); err != nil {
				return err
			}
		}
	}
	return c.linkCounts()
}

// linkCounts compares the links of each inode with the names found.
func (c *checker) linkCounts() error {
	for gr := range c.groups {
		p := &c.groups[gr]
		if p.inodes == nil {
			continue
		}
		if err := c.ctx.Err(); err != nil {
			return err
		}
		for i, links := range p.links {
			ino := c.g.InoOf(disk.Group(gr), uint32(i))
			if !p.inodes.Test(uint32(i)) || ino < c.sb.FirstIno && ino != disk.RootIno {
				continue
			}
			switch refs := p.refs[i]; {
			case refs == 0:
				if err := c.ino(Unconnected, ino, "is in use and has no name"); err != nil {
					return err
				}
			case refs != links:
				if err := c.ino(LinkCount, ino, "has %d links, and %d names were found", links, refs); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
