package mkfs

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// lostFound is the directory where e2fsck puts what has lost its name. Its blocks are there before they are needed.
const lostFound = "lost+found"

// dirNode is a directory that is being filled.
type dirNode struct {
	path        string
	ino, parent disk.Ino
	in          disk.Inode // Links is kept up to date; size and blocks come when it is written
	xattrs      map[string][]byte
	entries     []dirEntry     // removed ones have ino 0
	index       map[string]int // of entries; made when there are some
	pre         []run          // blocks that are set aside for it, all of which it gets
	written     bool
}

type dirEntry struct {
	name string
	ino  disk.Ino
	ft   disk.FileType
}

// newDir begins a directory with the attributes of one that nobody described.
func (bu *Builder) newDir(p string, ino, parent disk.Ino) *dirNode {
	d := &dirNode{path: p, ino: ino, parent: parent, in: disk.Inode{Mode: disk.ModeDir | 0o755, Links: 2}}
	bu.setAttributes(&d.in, &Node{Mode: d.in.Mode})
	bu.dirs[p] = d
	bu.list = append(bu.list, d)
	return d
}

func (d *dirNode) find(name string) (dirEntry, bool) {
	i, ok := d.index[name]
	if !ok {
		return dirEntry{}, false
	}
	return d.entries[i], true
}

func (d *dirNode) put(name string, ino disk.Ino, ft disk.FileType) {
	if d.index == nil {
		d.index = map[string]int{}
	}
	d.index[name] = len(d.entries)
	d.entries = append(d.entries, dirEntry{name, ino, ft})
}

func (d *dirNode) remove(name string) {
	d.entries[d.index[name]] = dirEntry{}
	delete(d.index, name)
}

// writeDir writes the blocks of a directory, and forgets its names. Its inode follows when the link count is known: at the end.
func (bu *Builder) writeDir(d *dirNode) error {
	if d.written {
		return nil
	}
	d.written = true
	bu.fm.reset(&d.in, nil)
	bu.fm.pre = d.pre
	entries := d.entries
	if len(d.index) < len(entries) {
		entries = slices.DeleteFunc(entries, func(e dirEntry) bool { return e.ino == 0 })
	}
	d.entries, d.index = nil, nil
	if !bu.types {
		for i := range entries {
			entries[i].ft = disk.TypeUnknown
		}
	}
	least := uint32(1)
	for i, r := range d.pre {
		if i > 0 || r.n > 1 {
			least = max(least, 2)
		}
	}
	need := 12 + 12
	for _, e := range entries {
		need += disk.DirRecLen(len(e.name))
	}
	var blocks disk.FileBlock
	var err error
	var plan *indexPlan
	if least == 1 && need > int(bu.al.g.BlockSize) {
		plan = bu.planIndex(entries)
	}
	if plan != nil {
		d.in.Flags |= disk.FlagIndex
		blocks, err = bu.writeIndexed(d, plan)
	} else {
		blocks, err = bu.writeLinear(d, entries)
	}
	if err != nil {
		return err
	}
	d.in.Size = uint64(blocks) << bu.al.g.BlockBits
	return bu.fm.flush(0)
}

// writeLinear writes the entries in their order, and empty blocks until all that were set aside are in use.
func (bu *Builder) writeLinear(d *dirNode, entries []dirEntry) (disk.FileBlock, error) {
	db := disk.InitFirstDirBlock(bu.buf[:bu.al.g.BlockSize], d.ino, d.parent, bu.types)
	last := db.Next(0)
	fb := disk.FileBlock(0)
	for _, e := range entries {
		if db.Room(last) < disk.DirRecLen(len(e.name)) {
			if err := bu.fm.write(fb, db); err != nil {
				return 0, err
			}
			fb++
			disk.InitDirBlock(db)
			last = 0
		}
		last = db.Insert(last, e.name, e.ino, e.ft)
	}
	for {
		if err := bu.fm.write(fb, db); err != nil {
			return 0, err
		}
		fb++
		if len(bu.fm.pre) == 0 {
			return fb, nil
		}
		disk.InitDirBlock(db)
	}
}

// indexPlan says how the entries of a directory spread over the leaves of an index.
type indexPlan struct {
	entries []hashedEntry // by hash
	leaves  []int         // index of the first entry of each leaf
	nodes   int           // inner blocks below the root; 0 when the root has room for all leaves
}

type hashedEntry struct {
	dirEntry
	major, minor uint32
}

// planIndex gives nil when the directory cannot have an index: without the feature, or with more leaves than two levels reach.
func (bu *Builder) planIndex(entries []dirEntry) *indexPlan {
	if !bu.index {
		return nil
	}
	bs := int(bu.al.g.BlockSize)
	t := &indexPlan{entries: make([]hashedEntry, len(entries))}
	for i, e := range entries {
		major, minor, _ := disk.HashName(*bu.o.Hash, bu.o.HashSeed, []byte(e.name))
		t.entries[i] = hashedEntry{e, major, minor}
	}
	slices.SortFunc(t.entries, func(a, b hashedEntry) int {
		return cmp.Or(cmp.Compare(a.major, b.major), cmp.Compare(a.minor, b.minor), cmp.Compare(a.name, b.name))
	})
	// A fifth of each leaf stays free, so that names can be added without splitting leaves at once.
	used, limit := bs, bs-bs/5
	for i, e := range t.entries {
		n := disk.DirRecLen(len(e.name))
		if used+n > limit {
			t.leaves = append(t.leaves, i)
			used = 0
		}
		used += n
	}
	root, node := (bs-32)/8, (bs-8)/8
	if len(t.leaves) > root {
		if t.nodes = (len(t.leaves)-1)/node + 1; t.nodes > root {
			return nil
		}
	}
	return t
}

// hashOf gives the hash that leads to a leaf: the first name's, marked when names with that hash are in the leaf before too.
func (t *indexPlan) hashOf(leaf int) uint32 {
	i := t.leaves[leaf]
	h := t.entries[i].major
	if i > 0 && t.entries[i-1].major == h {
		h |= 1
	}
	return h
}

// writeIndexed writes root, inner blocks and leaves, in this order.
func (bu *Builder) writeIndexed(d *dirNode, t *indexPlan) (disk.FileBlock, error) {
	b := bu.buf[:bu.al.g.BlockSize]
	fb := disk.FileBlock(0)
	put := func() error {
		err := bu.fm.write(fb, b)
		fb++
		return err
	}
	firstLeaf := disk.FileBlock(1 + t.nodes)
	fill := func(ie disk.IndexEntries, n, step int, first disk.FileBlock, firstOf int) {
		ie.SetCount(n)
		for i := range n {
			ie.Set(i, t.hashOf(firstOf+i*step), first+disk.FileBlock(i))
		}
	}
	if t.nodes == 0 {
		root := disk.InitIndexRoot(b, d.ino, d.parent, bu.types, *bu.o.Hash, 0, firstLeaf)
		fill(root.Entries(), len(t.leaves), 1, firstLeaf, 0)
		if err := put(); err != nil {
			return 0, err
		}
	} else {
		// All nodes but the last get the same number of leaves.
		each := (len(t.leaves)-1)/t.nodes + 1
		t.nodes = (len(t.leaves)-1)/each + 1
		firstLeaf = disk.FileBlock(1 + t.nodes)
		root := disk.InitIndexRoot(b, d.ino, d.parent, bu.types, *bu.o.Hash, 1, 1)
		fill(root.Entries(), t.nodes, each, 1, 0)
		if err := put(); err != nil {
			return 0, err
		}
		for i := range t.nodes {
			from := i * each
			first := firstLeaf + disk.FileBlock(from)
			fill(disk.InitIndexNode(b, first).Entries(), min(each, len(t.leaves)-from), 1, first, from)
			if err := put(); err != nil {
				return 0, err
			}
		}
	}
	for leaf, from := range t.leaves {
		to := len(t.entries)
		if leaf+1 < len(t.leaves) {
			to = t.leaves[leaf+1]
		}
		db := disk.InitDirBlock(b)
		last := 0
		for _, e := range t.entries[from:to] {
			last = db.Insert(last, e.name, e.ino, e.ft)
		}
		if err := put(); err != nil {
			return 0, err
		}
	}
	return fb, nil
}

// finish writes what is left of the directories, and their inodes.
func (bu *Builder) finish() error {
	for _, d := range bu.list {
		if err := bu.writeDir(d); err != nil {
			return bu.fail(d.path, err)
		}
	}
	for _, d := range bu.list {
		if d.in.Links > disk.LinkMax {
			return bu.fail(d.path, fmt.Errorf("more than %d subdirectories: %w", disk.LinkMax-2, errno.MLINK))
		}
		if _, err := bu.writeInode(d.ino, &d.in, d.xattrs); err != nil {
			return bu.fail(d.path, err)
		}
	}
	return bu.finishAttrs()
}
