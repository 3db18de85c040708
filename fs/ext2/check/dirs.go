package check

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
)

// dirState is a directory: found in the first pass, filled by the second.
type dirState struct {
	ino     disk.Ino
	dotdot  disk.Ino // what ".." says; 0 when there is none
	parent  disk.Ino // the directory with a name for this one; 0 when there is none
	blocks  uint32   // to look at
	indexed bool
}

// findDir gives the place of a directory in dirs.
func (c *checker) findDir(ino disk.Ino) (int, bool) {
	return slices.BinarySearchFunc(c.dirs, ino, func(d dirState, ino disk.Ino) int { return cmp.Compare(d.ino, ino) })
}

// directories is the second pass: the names.
func (c *checker) directories() error {
	dp := &dirPass{c: c, seed: maphash.MakeSeed(), buf: make([]byte, c.g.BlockSize), raw: make([]byte, c.g.InodeSize)}
	if t, ok := c.inUse(disk.RootIno); !ok || t != disk.TypeDir {
		if err := c.ino(Root, disk.RootIno, "is no directory: there is no root"); err != nil {
			return err
		}
	}
	for i := range c.dirs {
		if err := dp.dir(&c.dirs[i]); err != nil {
			return err
		}
		if i%64 == 0 {
			c.progress(0.6 + 0.3*float64(i)/float64(len(c.dirs)))
		}
	}
	return nil
}

type dirPass struct {
	c      *checker
	mr     mapReader
	seed   maphash.Seed
	hashes []uint64 // of the names of one directory
	buf    []byte   // one block
	raw    []byte   // one inode
	index  indexCheck
}

// dir checks one directory.
func (dp *dirPass) dir(d *dirState) error {
	c := dp.c
	in, err := c.readInode(d.ino, dp.raw)
	if err != nil {
		return err
	}
	dp.mr = mapReader{c: c, in: &in, bufs: dp.mr.bufs}
	dp.hashes = dp.hashes[:0]
	if d.blocks == 0 {
		return c.ino(DirDots, d.ino, "is a directory without blocks")
	}
	dp.index.active = false
	if d.indexed {
		if err := dp.readIndex(d); err != nil {
			return err
		}
	}
	holes := 0
	for fb := range disk.FileBlock(d.blocks) {
		if fb%1024 == 0 {
			if err := c.ctx.Err(); err != nil {
				return err
			}
		}
		b, err := dp.mr.block(fb)
		if err != nil {
			return err
		}
		if b == 0 {
			if holes++; holes == 1 {
				if err := c.ino(DirHole, d.ino, "directory has no block %d", fb); err != nil {
					return err
				}
			}
			continue
		}
		if err := c.block(dp.buf, b, "a directory block"); err != nil {
			return err
		}
		if err := dp.dirBlock(d, fb, b); err != nil {
			return err
		}
	}
	if err := dp.indexDone(d); err != nil {
		return err
	}
	return dp.duplicates(d)
}

// dirBlock checks one block of a directory.
func (dp *dirPass) dirBlock(d *dirState, fb disk.FileBlock, b disk.FSBlock) error {
	c := dp.c
	where := func(off int) string {
		return fmt.Sprintf("inode %d, directory block %d at block %d, byte %d", d.ino, fb, b, off)
	}
	// Inode numbers are judged entry by entry, so that one of them does not hide the rest.
	db, err := disk.AsDirBlock(dp.buf, ^uint32(0))
	if err != nil {
		if err := c.found(DirBlock, d.ino, where(0), "%v", err); err != nil {
			return err
		}
		return nil
	}
	first := 0
	if fb == 0 {
		if first, err = dp.dots(d, db, where); err != nil {
			return err
		}
	}
	for off := first; off < len(db); off = db.Next(off) {
		if db.Ino(off) == 0 {
			continue
		}
		if err := dp.entry(d, db, off, where); err != nil {
			return err
		}
	}
	return dp.indexBlock(d, fb, db)
}

// dots checks "." and ".." and gives the offset behind them.
func (dp *dirPass) dots(d *dirState, db disk.DirBlock, where func(int) string) (int, error) {
	c := dp.c
	if string(db.Name(0)) != "." || db.Ino(0) != d.ino {
		return 0, c.found(DirDots, d.ino, where(0), "first entry is %q for inode %d, want \".\" for inode %d", db.Name(0), db.Ino(0), d.ino)
	}
	if err := dp.typed(d, db, 0, disk.TypeDir, where); err != nil {
		return 0, err
	}
	c.countName(d.ino)
	at := db.Next(0)
	if at != 12 || at >= len(db) || string(db.Name(at)) != ".." || db[9] != 0 {
		return at, c.found(DirDots, d.ino, where(at), "second entry is not \"..\", right behind \".\"")
	}
	d.dotdot = db.Ino(at)
	if db[at+10] != 0 {
		if err := c.found(DirDots, d.ino, where(at), "\"..\" is not followed by a zero"); err != nil {
			return 0, err
		}
	}
	if d.dotdot == 0 || !c.g.FileIno(d.dotdot) {
		return db.Next(at), c.found(DirDots, d.ino, where(at), "\"..\" leads to inode %d", d.dotdot)
	}
	c.countName(d.dotdot)
	return db.Next(at), dp.typed(d, db, at, disk.TypeDir, where)
}

// entry checks an entry in use that is neither "." nor ".." of the first block.
func (dp *dirPass) entry(d *dirState, db disk.DirBlock, off int, where func(int) string) error {
	c := dp.c
	ino, name := db.Ino(off), db.Name(off)
	if !disk.ValidName(string(name)) {
		if err := c.found(EntryName, d.ino, where(off), "name %q has a character that it must not have", name); err != nil {
			return err
		}
	}
	if disk.IsDots(name) {
		return c.found(DirDots, d.ino, where(off), "%q is there twice", name)
	}
	dp.hashes = append(dp.hashes, maphash.Bytes(dp.seed, name))
	if !c.g.FileIno(ino) || ino == disk.RootIno {
		return c.found(EntryInode, d.ino, where(off), "name %q leads to inode %d, which no name may lead to", name, ino)
	}
	t, used := c.inUse(ino)
	if !used {
		return c.found(EntryInode, d.ino, where(off), "name %q leads to inode %d, which is not in use", name, ino)
	}
	c.countName(ino)
	if t == disk.TypeDir {
		if i, ok := c.findDir(ino); ok {
			sub := &c.dirs[i]
			if sub.parent != 0 {
				return c.found(EntryDirectory, d.ino, where(off), "name %q is the second one of directory %d, which inode %d names too", name, ino, sub.parent)
			}
			sub.parent = d.ino
		}
	}
	return dp.typed(d, db, off, t, where)
}

// typed checks the type in an entry. 0 passes for one that is not known; an inode of unknown type was reported before.
func (dp *dirPass) typed(d *dirState, db disk.DirBlock, off int, t disk.FileType, where func(int) string) error {
	got, want := db.FileType(off), t
	if !dp.c.sb.HasFileType() {
		want = disk.TypeUnknown
	} else if got == disk.TypeUnknown || t == disk.TypeUnknown {
		return nil
	}
	if got != want {
		return dp.c.found(EntryType, d.ino, where(off), "type of %q is %d, want %d", db.Name(off), got, want)
	}
	return nil
}

// countName counts a name for an inode.
func (c *checker) countName(ino disk.Ino) {
	p, i := c.at(ino, true)
	if p.refs[i] < ^uint16(0) {
		p.refs[i]++
	}
}

// duplicates looks for a name that is there twice. Equal hashes come first; only then names are compared.
func (dp *dirPass) duplicates(d *dirState) error {
	slices.Sort(dp.hashes)
	twice := map[uint64]map[string]bool{}
	for i := 1; i < len(dp.hashes); i++ {
		if dp.hashes[i] == dp.hashes[i-1] {
			twice[dp.hashes[i]] = map[string]bool{}
		}
	}
	if len(twice) == 0 {
		return nil
	}
	for fb := range disk.FileBlock(d.blocks) {
		b, err := dp.mr.block(fb)
		if err != nil {
			return err
		}
		if b == 0 {
			continue
		}
		if err := dp.c.block(dp.buf, b, "a directory block"); err != nil {
			return err
		}
		db, err := disk.AsDirBlock(dp.buf, ^uint32(0))
		if err != nil {
			continue // reported before
		}
		for off := 0; off < len(db); off = db.Next(off) {
			if db.Ino(off) == 0 || disk.IsDots(db.Name(off)) {
				continue
			}
			names := twice[maphash.Bytes(dp.seed, db.Name(off))]
			if names == nil {
				continue
			}
			if names[string(db.Name(off))] {
				if err := dp.c.found(EntryDuplicate, d.ino, fmt.Sprintf("inode %d, directory block %d", d.ino, fb), "name %q is there twice", db.Name(off)); err != nil {
					return err
				}
			}
			names[string(db.Name(off))] = true
		}
	}
	return nil
}
