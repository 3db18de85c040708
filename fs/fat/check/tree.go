package check

import (
	"fmt"

	"github.com/iomapfs/iomapfs/fs/fat/disk"
)

// dirToDo is a directory that was found and not looked at yet.
type dirToDo struct {
	path   string
	start  disk.Cluster // 0: the root directory of FAT12 and FAT16
	parent disk.Cluster // 0: the root
	chain  []disk.Cluster
}

// checkTree walks all directories from the root.
func (c *checker) checkTree() error {
	root := dirToDo{path: "/", start: c.g.RootCluster}
	if c.g.Width == disk.FAT32 {
		chain, err := c.chain("/", c.g.RootCluster)
		if err != nil {
			return err
		}
		root.chain = chain
	}
	todo := []dirToDo{root}
	for len(todo) > 0 {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		c.rep.Directories++
		more, err := c.directory(d)
		if err != nil {
			return err
		}
		todo = append(todo, more...)
		if c.o.Progress != nil {
			c.o.Progress(float64(c.seen) / float64(c.g.Clusters))
		}
	}
	return nil
}

// chain follows the chain of a file and marks its clusters in use, up to the first that must not be in it.
func (c *checker) chain(path string, start disk.Cluster) ([]disk.Cluster, error) {
	var list []disk.Cluster
	for n := start; ; {
		e, err := c.entry(n)
		if err != nil {
			return nil, err
		}
		switch {
		case e == disk.Free || e == disk.Defect:
			return list, c.found(ChainFree, path, "its chain leads to cluster %d, which is %s", n, map[bool]string{true: "free", false: "defect"}[e == disk.Free])
		case c.isUsed(n) && len(list) == 0:
			return list, c.found(SameStart, path, "its first cluster, %d, belongs to another file", n)
		case c.isUsed(n):
			return list, c.found(CrossLink, path, "its chain leads to cluster %d, which is in use already", n)
		}
		c.used[n/64] |= 1 << (n % 64)
		c.seen++
		list = append(list, n)
		if e.IsEnd() {
			return list, nil
		}
		next, ok := e.Next(c.g)
		if !ok {
			return list, nil // reported with the FAT
		}
		n = next
	}
}

// directory looks at the slots of one directory and gives its subdirectories.
func (c *checker) directory(d dirToDo) ([]dirToDo, error) {
	var (
		asm   disk.Assembler
		more  []dirToDo
		names = map[string]bool{}
		short = map[[11]byte]bool{}
		index int
		label bool
		ended bool
		after bool // reported
	)
	isRoot := d.path == "/"
	each := func(p []byte) error {
		for len(p) > 0 {
			slot := p[:disk.DirentSize]
			p = p[disk.DirentSize:]
			if ended {
				index++
				if disk.IsFree(slot) || after {
					continue
				}
				after = true
				if err := c.found(AfterEnd, d.path, "slot %d is in use, but lies behind the mark that ends the directory", index-1); err != nil {
					return err
				}
				continue
			}
			kind := asm.Feed(index, slot, c.g.Width)
			index++
			var err error
			switch kind {
			case disk.SlotEnd:
				ended = true
			case disk.SlotPart:
				if slot[26] != 0 || slot[27] != 0 {
					err = c.found(LongName, d.path, "slot %d is part of a long name, and names a cluster", index-1)
				}
			case disk.SlotVolume:
				if !isRoot || label {
					err = c.found(Label, d.path, "slot %d is a volume label, which belongs into the root directory, once", index-1)
				}
				label = true
			case disk.SlotEntry:
				var sub *dirToDo
				if sub, err = c.fileEntry(&d, &asm, names, short); sub != nil {
					more = append(more, *sub)
				}
			}
			if !isRoot && index <= 2 && err == nil && (kind != disk.SlotEntry || asm.Entry.Name != [...][11]byte{disk.Dot, disk.DotDot}[index-1]) {
				err = c.found(Dots, d.path, "slot %d is not %q", index-1, [...]string{".", ".."}[index-1])
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	buf := make([]byte, c.g.ClusterSize)
	if isRoot && c.g.Width != disk.FAT32 {
		buf = make([]byte, c.g.SectorSize)
		for i := range c.g.RootSectors {
			if err := c.read(buf, c.g.BytesOf(c.g.RootStart+disk.Sector(i)), "root directory"); err != nil {
				return nil, err
			}
			if err := each(buf); err != nil {
				return nil, err
			}
		}
	}
	for _, n := range d.chain {
		if err := c.read(buf, c.g.BytesOf(c.g.SectorOf(n)), "directory"); err != nil {
			return nil, err
		}
		if err := each(buf); err != nil {
			return nil, err
		}
		if index > disk.MaxDirEntries {
			return more, c.found(DirTooLong, d.path, "has more than %d slots", disk.MaxDirEntries)
		}
	}
	asm.Finish()
	if asm.Broken > 0 {
		return more, c.found(LongName, d.path, "%d parts of long names belong to no entry", asm.Broken)
	}
	return more, nil
}

// fileEntry looks at a file or directory of d; a directory is given back to be looked at.
func (c *checker) fileEntry(d *dirToDo, asm *disk.Assembler, names map[string]bool, short map[[11]byte]bool) (*dirToDo, error) {
	e := &asm.Entry
	if disk.IsDots(e.Name) {
		return nil, c.dots(d, asm)
	}
	units := asm.Long()
	if units == nil {
		units = disk.ShortUnits(e.Name, e.Case, c.o.CodePage)
	}
	name, ok := disk.ShowName(units)
	path := d.path + name
	if !ok {
		path = fmt.Sprintf("%s (slot %d)", d.path, asm.Index)
	}
	if !ok || !validShort(e.Name) || asm.Long() != nil && forbidden(units) {
		if err := c.found(Name, path, "the name cannot be"); err != nil {
			return nil, err
		}
	}
	if short[e.Name] || names[disk.Fold(name)] {
		if err := c.found(Duplicate, path, "the name is there twice"); err != nil {
			return nil, err
		}
	}
	short[e.Name], names[disk.Fold(name)] = true, true
	if e.IsDir() {
		if e.Size != 0 {
			if err := c.found(Size, path, "a directory has size %d, want 0", e.Size); err != nil {
				return nil, err
			}
		}
	} else {
		c.rep.Files++
	}
	if e.Start == 0 && !e.IsDir() {
		if e.Size != 0 {
			return nil, c.found(Size, path, "size is %d bytes, but there is no cluster", e.Size)
		}
		return nil, nil
	}
	if !c.g.Valid(e.Start) {
		return nil, c.found(Start, path, "the first cluster is %d, want 2 to %d", e.Start, c.g.Last())
	}
	chain, err := c.chain(path, e.Start)
	if err != nil {
		return nil, err
	}
	if e.IsDir() {
		if len(chain) == 0 {
			return nil, nil // reported; what is there belongs to another
		}
		return &dirToDo{path: path + "/", start: e.Start, parent: d.start, chain: chain}, nil
	}
	has := uint64(len(chain)) << c.g.ClusterBits
	switch {
	case len(chain) == 0: // reported
	case uint64(e.Size) > has:
		return nil, c.found(Size, path, "size is %d bytes, its chain has %d", e.Size, has)
	case has-uint64(e.Size) >= uint64(c.g.ClusterSize):
		return nil, c.found(LongChain, path, "size is %d bytes, its chain has %d", e.Size, has)
	}
	return nil, nil
}

// dots looks at "." and "..".
func (c *checker) dots(d *dirToDo, asm *disk.Assembler) error {
	e := &asm.Entry
	if d.path == "/" || asm.Index > 1 {
		return c.found(Dots, d.path, "slot %d must not be \".\" or \"..\"", asm.Index)
	}
	want := d.start
	if e.Name == disk.DotDot {
		want = d.parent
		if d.parent == c.g.RootCluster {
			want = 0
		}
	}
	if e.Start != want || !e.IsDir() {
		return c.found(Dots, d.path, "slot %d leads to cluster %d, want %d", asm.Index, e.Start, want)
	}
	return nil
}

// validShort reports whether a short name has only what it may have.
func validShort(name [11]byte) bool {
	if name[0] == ' ' {
		return false
	}
	for i, b := range name {
		switch {
		case b == 0x05 && i == 0:
		case b < 0x20:
			return false
		}
		switch b {
		case '"', '*', '+', ',', '.', '/', ':', ';', '<', '=', '>', '?', '[', '\\', ']', '|':
			return false
		}
	}
	return true
}

func forbidden(units []uint16) bool {
	for _, u := range units {
		if disk.Forbidden(u) {
			return true
		}
	}
	return false
}
