package ext2

import (
	"cmp"
	"context"
	"encoding/binary"
	"slices"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// Commits that are all or nothing.
//
// No order of single writes moves a directory to another parent safely: its name there, its name here and its ".." lie in
// three blocks, and e2fsck -p refuses every state between: a directory with two names, with none, or whose ".." is not where
// its name is. Nor can the count of users in a shared attribute block change in one write with its users. So an epoch with
// such a change goes out the way a journal does it, and e2fsck, which knows journals, finishes it after a crash:
//
//  1. The new contents of all blocks are written to free blocks as one transaction of a journal (the format of ext3), and
//     inode 8, the journal's by convention, is made to consist of these blocks.
//  2. The superblock is switched to "has a journal that must be replayed": one sector. From here on the epoch is there.
//  3. The blocks are written in place.
//  4. The superblock is switched back, and inode 8 is cleared. The free blocks are free again.
//
// After a crash before 2, e2fsck -p clears inode 8, which is in nobody's use. After one between 2 and 4 it replays the
// journal; the superblock and inode 8 are part of the transaction, so that what it leaves is an ext2 without a journal. The
// blocks are never marked in use on the medium, only in memory, so that nobody takes them meanwhile.
//
// It is not done on filesystems that have a journal of their own (ext3, mounted as ext2), nor on revision 0, which has no
// features, nor where no room for the transaction is left: there the order of phases is what is left.
//
// Source: Documentation/filesystems/ext4/journal.rst of the kernel.
const (
	journalMagic      = 0xC03B3998
	journalDescriptor = 1
	journalCommit     = 2
	journalSuper      = 4 // version 2 of the superblock

	tagEscaped  = 1 // the block began with the magic number, which is left out
	tagSameUUID = 2
	tagLast     = 8

	journalMin     = 1024 // blocks: e2fsck takes no shorter one
	journalTagSize = 8
	journalHead    = 12
)

// mustBeWhole marks the running epoch: its commit is all or nothing. Inside a transaction.
func (fs *fsys) mustBeWhole() {
	ep := fs.commit.ep
	ep.mu.Lock()
	ep.whole = true
	ep.mu.Unlock()
}

// canBeWhole reports whether the filesystem is of the kind that mustBeWhole serves.
func (fs *fsys) canBeWhole() bool {
	fs.superMu.Lock()
	defer fs.superMu.Unlock()
	return fs.super.Revision != disk.RevOld && fs.super.Compat&disk.CompatHasJournal == 0 && fs.super.JournalIno == 0 && fs.geo.FirstIno > disk.JournalIno
}

// final gives what each block of the plan holds in the end, in order of block.
func (p *plan) final() []image {
	at := map[uint64]int{}
	var list []image
	for _, images := range p.phases {
		for _, im := range images {
			if i, ok := at[im.block]; ok {
				list[i].data = im.data
			} else {
				at[im.block] = len(list)
				list = append(list, im)
			}
		}
	}
	slices.SortFunc(list, func(a, b image) int { return cmp.Compare(a.block, b.block) })
	return list
}

// wholeWrite is one such commit.
type wholeWrite struct {
	fs     *fsys
	images []image // what is to be in place in the end; the superblock and the table block of inode 8 among them
	super  int     // index of the superblock's
	table  int     // … of the inode table's
	slot   int     // byte offset of inode 8 in that
	area   []disk.FSBlock
	meta   []disk.FSBlock // indirect blocks of inode 8
}

// writeWhole writes the plan all or nothing. False without error: that cannot be done here, and nothing was written.
func (p *plan) writeWhole(fs *fsys) (bool, error) {
	if !fs.canBeWhole() {
		return false, nil
	}
	w := &wholeWrite{fs: fs, images: p.final()}
	ok, err := w.prepare()
	if !ok || err != nil {
		return false, err
	}
	defer w.free()
	if !w.allocate() {
		return false, nil
	}
	if err := w.run(); err != nil {
		return true, err
	}
	if t := fs.sb.Trace; t != nil {
		t.Emit(trace.Event{Kind: trace.Commit, Len: int64(len(w.images)), Got: 1})
	}
	return true, nil
}

// include makes sure that block b is among the images, as the medium has it when nothing changed it.
func (w *wholeWrite) include(b uint64) error {
	i, found := slices.BinarySearchFunc(w.images, b, func(im image, b uint64) int { return cmp.Compare(im.block, b) })
	if found {
		return nil
	}
	data, err := w.read(b)
	w.images = slices.Insert(w.images, i, image{b, data})
	return err
}

func (w *wholeWrite) read(b uint64) ([]byte, error) {
	data := make([]byte, w.fs.geo.BlockSize)
	return data, block.ReadAt(w.fs.bd.Dev(), data, int64(b)<<w.fs.geo.BlockBits)
}

func (w *wholeWrite) indexOf(b uint64) int {
	return slices.IndexFunc(w.images, func(im image) bool { return im.block == b })
}

// prepare completes the images. False when inode 8 is in use for something.
func (w *wholeWrite) prepare() (bool, error) {
	fs := w.fs
	super, _ := fs.superAt()
	table, slot := fs.geo.InodeAt(disk.JournalIno, fs.groups[0].desc.InodeTable)
	for _, b := range [...]uint64{super, uint64(table)} {
		if err := w.include(b); err != nil {
			return false, err
		}
	}
	w.super, w.table, w.slot = w.indexOf(super), w.indexOf(uint64(table)), int(slot)
	in, err := disk.DecodeInode(w.images[w.table].data[slot : slot+fs.geo.InodeSize])
	return err == nil && in.Links == 0 && in.Sectors == 0 && in.Size == 0 && in.Block == [disk.NBlocks]uint32{}, nil
}

// tagsPerBlock is how many blocks one descriptor describes; the first tag is followed by the UUID.
func (w *wholeWrite) tagsPerBlock() int {
	return (int(w.fs.geo.BlockSize) - journalHead - 16) / journalTagSize
}

// allocate takes free blocks for the journal: its superblock, descriptors, contents, commit, and a block that ends it; and
// the indirect blocks of inode 8, whose map is longer than that: it goes on with the first block again and again.
func (w *wholeWrite) allocate() bool {
	n := len(w.images)
	need := 1 + (n+w.tagsPerBlock()-1)/w.tagsPerBlock() + n + 2
	ptrs := int(w.fs.geo.PtrsPerBlock)
	meta := 1
	if total := max(need, journalMin); total > disk.NDirect+ptrs {
		if total > disk.NDirect+ptrs+ptrs*ptrs {
			return false
		}
		meta += 1 + (max(need-disk.NDirect-ptrs, 0)+ptrs-1)/ptrs + 1 // the double indirect one, leaves, and the leaf of repetitions
	}
	blocks := w.take(need + meta)
	if len(blocks) < need+meta {
		w.area = blocks // to be freed
		return false
	}
	w.area, w.meta = blocks[:need], blocks[need:]
	return true
}

// take marks up to n blocks in use, from the last group on down: far from where files grow.
func (w *wholeWrite) take(n int) []disk.FSBlock {
	fs := w.fs
	fs.commit.lock.RLock() // a transaction; begin might want a commit
	defer fs.commit.lock.RUnlock()
	var list []disk.FSBlock
	root := inodeOf(fs.sb.Root)
	for g := int(fs.geo.Groups) - 1; g >= 0 && len(list) < n; {
		first, k, err := fs.allocIn(context.Background(), root, disk.Group(g), 0, uint32(n-len(list)), true)
		if err != nil || k == 0 {
			g--
			continue
		}
		for i := range k {
			list = append(list, first+disk.FSBlock(i))
		}
	}
	return list
}

func (w *wholeWrite) free() {
	fs := w.fs
	fs.commit.lock.RLock()
	defer fs.commit.lock.RUnlock()
	all := append(slices.Clone(w.area), w.meta...)
	slices.Sort(all)
	for i := 0; i < len(all); {
		k := 1
		for i+k < len(all) && all[i+k] == all[i]+disk.FSBlock(k) {
			k++
		}
		fs.clearBlocks(all[i], uint32(k))
		i += k
	}
}

// run writes the four steps.
func (w *wholeWrite) run() error {
	fs, dev := w.fs, w.fs.bd.Dev()
	bs := int64(fs.geo.BlockSize)
	step := func(images []image) error {
		if err := writeImages(dev, images, bs); err != nil {
			return err
		}
		if fs.commit.barrier && dev.Limits().VolatileCache {
			return block.Flush(dev)
		}
		return nil
	}
	super, table := w.images[w.super], w.images[w.table]
	oldSuper, err := w.read(super.block)
	if err != nil {
		return err
	}
	oldTable, err := w.read(table.block)
	if err != nil {
		return err
	}
	inode := w.journalInode()
	withJournal := func(data []byte) image {
		data = slices.Clone(data)
		copy(data[w.slot:], inode)
		return image{table.block, data}
	}
	if err := step(append(w.journal(), withJournal(oldTable))); err != nil {
		return err
	}
	w.switchOn(oldSuper)
	if err := step([]image{{super.block, oldSuper}}); err != nil {
		return err
	}
	var inPlace []image
	for i, im := range w.images {
		switch i {
		case w.super:
		case w.table:
			inPlace = append(inPlace, withJournal(im.data))
		default:
			inPlace = append(inPlace, im)
		}
	}
	if err := step(inPlace); err != nil {
		return err
	}
	if err := step([]image{super}); err != nil {
		return err
	}
	if err := writeImages(dev, []image{table}, bs); err != nil {
		return err
	}
	if dev.Limits().VolatileCache {
		return block.Flush(dev)
	}
	return nil
}

// switchOn makes the superblock in b, the block that holds it, one with a journal that must be replayed. All that changes
// lies in its first sector.
func (w *wholeWrite) switchOn(b []byte) {
	_, off := w.fs.superAt()
	raw := b[off : off+disk.SuperSize]
	sb, err := disk.DecodeSuperblock(raw)
	if err != nil {
		return // what was mounted decodes; without the switch the steps are an ordinary write
	}
	sb.Compat |= disk.CompatHasJournal
	sb.Incompat |= disk.IncompatRecover
	sb.JournalIno = disk.JournalIno
	sb.EncodeTo(raw)
}

// journal gives the blocks of the journal and the indirect blocks of inode 8.
func (w *wholeWrite) journal() []image {
	be := binary.BigEndian
	bs := w.fs.geo.BlockSize
	var out []image
	next := 0
	put := func(data []byte) {
		out = append(out, image{uint64(w.area[next]), data})
		next++
	}
	fresh := func(kind uint32) []byte {
		b := make([]byte, bs)
		be.PutUint32(b, journalMagic)
		be.PutUint32(b[4:], kind)
		be.PutUint32(b[8:], 1) // sequence
		return b
	}
	sb := fresh(journalSuper)
	be.PutUint32(sb[8:], 0)
	be.PutUint32(sb[12:], bs)
	be.PutUint32(sb[16:], uint32(max(len(w.area), journalMin)))
	be.PutUint32(sb[20:], 1) // first block of the log
	be.PutUint32(sb[24:], 1) // sequence expected there
	be.PutUint32(sb[28:], 1) // where it starts: not empty
	copy(sb[48:], w.fs.super.UUID[:])
	be.PutUint32(sb[64:], 1) // users
	put(sb)
	for list := w.images; len(list) > 0; {
		part := list[:min(len(list), w.tagsPerBlock())]
		list = list[len(part):]
		desc := fresh(journalDescriptor)
		at := journalHead
		var contents [][]byte
		for i, im := range part {
			flags, data := uint16(0), im.data
			if i > 0 {
				flags |= tagSameUUID
			}
			if i == len(part)-1 {
				flags |= tagLast
			}
			if be.Uint32(data) == journalMagic {
				flags |= tagEscaped
				data = slices.Clone(data)
				clear(data[:4])
			}
			be.PutUint32(desc[at:], uint32(im.block))
			be.PutUint16(desc[at+6:], flags)
			at += journalTagSize
			if i == 0 {
				at += copy(desc[at:], w.fs.super.UUID[:])
			}
			contents = append(contents, data)
		}
		put(desc)
		for _, c := range contents {
			put(c)
		}
	}
	put(fresh(journalCommit))
	put(make([]byte, bs)) // no further transaction
	return append(out, w.mapBlocks(nil)...)
}

// mapBlocks gives the indirect blocks of inode 8, and fills its block map.
func (w *wholeWrite) mapBlocks(m *[disk.NBlocks]uint32) []image {
	g := w.fs.geo
	total, ptrs := max(len(w.area), journalMin), int(g.PtrsPerBlock)
	blockAt := func(i int) disk.FSBlock {
		if i < len(w.area) {
			return w.area[i]
		}
		return w.area[0] // beyond the end of the log: never read
	}
	var top [disk.NBlocks]uint32
	if m == nil {
		m = &top
	}
	for i := range disk.NDirect {
		m[i] = uint32(blockAt(i))
	}
	var out []image
	spare := w.meta
	leaf := func(from int) disk.FSBlock {
		b := spare[0]
		spare = spare[1:]
		pb := disk.PtrBlock(make([]byte, g.BlockSize))
		for i := range ptrs {
			if from+i < total {
				pb.Set(uint32(i), blockAt(from+i))
			}
		}
		out = append(out, image{uint64(b), pb})
		return b
	}
	from := disk.NDirect
	m[disk.NDirect] = uint32(leaf(from))
	if from += ptrs; from >= total {
		return out
	}
	double := disk.PtrBlock(make([]byte, g.BlockSize))
	m[disk.NDirect+1] = uint32(spare[0])
	out = append(out, image{uint64(spare[0]), double})
	spare = spare[1:]
	filler := disk.FSBlock(0)
	for i := uint32(0); from < total; i++ {
		switch {
		case from < len(w.area):
			double.Set(i, leaf(from))
		default:
			if filler == 0 {
				filler = leaf(from)
				// A leaf that ends early is filled up: pointers beyond the size do no harm before inode 8 is cleared.
				pb := disk.PtrBlock(out[len(out)-1].data)
				for k := range uint32(ptrs) {
					pb.Set(k, w.area[0])
				}
			}
			double.Set(i, filler)
		}
		from += ptrs
	}
	return out
}

// journalInode gives inode 8 as the journal's inode, encoded.
func (w *wholeWrite) journalInode() []byte {
	g := w.fs.geo
	total := max(len(w.area), journalMin)
	in := disk.Inode{
		Mode: disk.ModeRegular | 0o600, Links: 1, Size: uint64(total) << g.BlockBits,
		Sectors: uint32(len(w.area)+len(w.meta)) * (g.BlockSize / disk.SectorSize),
	}
	w.mapBlocks(&in.Block)
	raw := make([]byte, g.InodeSize)
	in.EncodeTo(raw)
	return raw
}
