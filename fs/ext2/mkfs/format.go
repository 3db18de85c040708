package mkfs

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
)

// Format makes a filesystem on w, a device of size bytes, and gives its superblock. What it does not need it leaves alone.
func Format(w io.WriterAt, size int64, o Options) (disk.Superblock, error) {
	o, err := o.complete(size)
	if err != nil {
		return disk.Superblock{}, err
	}
	sb, g, err := plan(size, &o)
	if err != nil {
		return disk.Superblock{}, err
	}
	bu := &Builder{
		o: &o, out: &output{w: w, bits: g.BlockBits, zeroed: o.Zeroed}, al: newAllocator(g), buf: make([]byte, max(1<<20, g.BlockSize)),
		dirs: map[string]*dirNode{}, shared: map[[32]byte]*attrBlock{}, files: map[disk.Ino]*fileNode{},
		types: sb.HasFileType(), index: sb.HasDirIndex(), extAttr: sb.Compat&disk.CompatExtAttr != 0,
	}
	bu.fm.bu = bu
	if err := bu.erase(); err != nil {
		return sb, err
	}
	if err := bu.begin(&sb); err != nil {
		return sb, fmt.Errorf("mkfs: %w", err)
	}
	if o.Fill != nil {
		if err := o.Fill(bu); err != nil {
			return sb, err
		}
		if bu.err != nil {
			return sb, bu.err
		}
	}
	if err := bu.finish(); err != nil {
		return sb, err
	}
	if err := bu.out.flush(); err != nil {
		return sb, err
	}
	return sb, bu.writeGroups(&sb)
}

// FormatFile makes a filesystem in a new, sparse file of size bytes. A file that is there already is not touched unless
// overwrite is set; then its contents are lost. The file is removed again when making the filesystem fails.
func FormatFile(path string, size int64, overwrite bool, o Options) (sb disk.Superblock, err error) {
	flags := os.O_RDWR | os.O_CREATE | os.O_EXCL
	if overwrite {
		flags = os.O_RDWR | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return sb, fmt.Errorf("mkfs: %w", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("mkfs: %w", cerr)
		}
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if err := f.Truncate(size); err != nil {
		return sb, fmt.Errorf("mkfs: %w", err)
	}
	o.Zeroed = true
	return Format(f, size, o)
}

// erase clears what an older filesystem left where it would be taken for ours or for another: the boot block with the primary
// superblock, all metadata of the groups, and the end of the device, where RAID superblocks are.
func (bu *Builder) erase() error {
	g := bu.al.g
	if err := bu.out.zero(0, max(4096, g.BytesOf(g.FirstDataBlock)), "the boot block"); err != nil {
		return err
	}
	for i := range bu.al.groups {
		first := g.GroupFirst(disk.Group(i))
		if err := bu.out.zero(g.BytesOf(first), int64(bu.al.groups[i].meta)<<g.BlockBits, "metadata"); err != nil {
			return err
		}
	}
	last := disk.Group(g.Groups - 1)
	data := g.BytesOf(g.GroupFirst(last) + disk.FSBlock(bu.al.groups[last].meta))
	end := int64(g.Blocks) << g.BlockBits
	from := max(data, end-64<<10)
	return bu.out.zero(from, end-from, "the end of the device")
}

// begin makes what each filesystem has: reserved inodes, root, lost+found, the inode that reserves descriptor blocks. The order
// is that of mke2fs.
func (bu *Builder) begin(sb *disk.Superblock) error {
	for ino := disk.Ino(1); ino < sb.FirstIno; ino++ {
		gr, i := bu.al.g.InodeIndex(ino)
		bu.al.takeInode(gr, i, ino == disk.RootIno)
	}
	root := bu.newDir("", disk.RootIno, disk.RootIno)
	root.in.Mode = disk.ModeDir | bu.o.RootMode
	root.in.UID, root.in.GID = bu.o.RootUID, bu.o.RootGID
	var err error
	if root.pre, err = bu.setAside(1); err != nil {
		return err
	}
	lf, err := bu.mkdir(lostFound)
	if err != nil {
		return err
	}
	lf.in.Mode = disk.ModeDir | 0o700
	if lf.pre, err = bu.setAside(lostFoundBlocks(bu.al.g.BlockSize)); err != nil {
		return err
	}
	// The inode of bad blocks has none, and only says when it was looked for them.
	now := disk.Time{Sec: bu.o.Time.Unix()}
	if err := bu.putReserved(disk.BadBlocksIno, &disk.Inode{Atime: now, Ctime: now, Mtime: now}); err != nil {
		return err
	}
	if sb.Compat&disk.CompatResizeInode != 0 {
		return bu.makeResizeInode()
	}
	return nil
}

// setAside takes n blocks.
func (bu *Builder) setAside(n uint32) ([]run, error) {
	var runs []run
	for n > 0 {
		r, err := bu.al.alloc(n)
		if err != nil {
			return nil, err
		}
		runs = append(runs, r)
		n -= r.n
	}
	return runs, nil
}

func (bu *Builder) putReserved(ino disk.Ino, in *disk.Inode) error {
	raw := make([]byte, bu.al.g.InodeSize)
	in.EncodeTo(raw)
	return bu.out.inode(bu.al.inodeAt(ino), raw)
}

// makeResizeInode makes the file that owns the blocks reserved behind the descriptor tables. Its double indirect block names
// those behind the primary table, at the index that each has as a descriptor block; each of them serves as an indirect block
// that names its own copies in the groups with backups.
func (bu *Builder) makeResizeInode() error {
	g := bu.al.g
	r, err := bu.al.alloc(1)
	if err != nil {
		return err
	}
	p := uint64(g.PtrsPerBlock)
	now := disk.Time{Sec: bu.o.Time.Unix()}
	in := disk.Inode{
		Mode: disk.ModeRegular | 0o600, Links: 1, Atime: now, Ctime: now, Mtime: now, Crtime: now,
		Size: (disk.NDirect + p + p*p) << g.BlockBits,
	}
	if bu.o.InodeSize > disk.OldInodeSize {
		in.ExtraSize = disk.MaxExtraSize
	}
	in.Block[disk.DIndBlock] = uint32(r.first)
	var backups []disk.Group
	for gr := disk.Group(1); uint32(gr) < g.Groups; gr++ {
		if g.HasSuper(gr) {
			backups = append(backups, gr)
		}
	}
	dind, ind := make(disk.PtrBlock, g.BlockSize), make(disk.PtrBlock, g.BlockSize)
	for i := range g.ReservedGDT {
		b := g.FirstDataBlock + 1 + disk.FSBlock(g.DescBlocks+i)
		dind.Set((g.DescBlocks+i)%g.PtrsPerBlock, b)
		for k, gr := range backups {
			ind.Set(uint32(k), b+g.GroupFirst(gr)-g.FirstDataBlock)
		}
		if err := bu.out.freshBlock(b, ind, "a reserved descriptor block"); err != nil {
			return err
		}
	}
	in.Sectors = (1 + g.ReservedGDT*uint32(1+len(backups))) << (g.BlockBits - 9)
	if err := bu.out.block(r.first, dind, "the resize inode"); err != nil {
		return err
	}
	return bu.putReserved(disk.ResizeIno, &in)
}

// writeGroups writes bitmaps, descriptors and superblocks, the primary one last.
func (bu *Builder) writeGroups(sb *disk.Superblock) error {
	g, al := bu.al.g, bu.al
	for i := range al.groups {
		p := &al.groups[i]
		if err := bu.out.block(p.desc.BlockBitmap, al.blockBitmap(disk.Group(i)), "a block bitmap"); err != nil {
			return err
		}
		if err := bu.out.freshBlock(p.desc.InodeBitmap, al.inodeBitmap(disk.Group(i)), "an inode bitmap"); err != nil {
			return err
		}
		p.blocks, p.inodes = nil, nil
	}
	sb.FreeBlocks, sb.FreeInodes = uint32(al.freeBlocks), uint32(al.freeInodes)
	if bu.large {
		sb.ROCompat |= disk.ROCompatLargeFile
	}
	table := make([]byte, g.DescBlocks<<g.BlockBits)
	for i, p := range al.groups {
		p.desc.EncodeTo(table[i*disk.GroupDescSize:])
	}
	for i := disk.Group(g.Groups - 1); ; i-- {
		first, n := uint32(0), g.DescBlocks
		if d, ok := g.MetaDesc(i); ok {
			first, n = d, 1
		} else if !g.HasSuper(i) {
			n = 0
		}
		for d := first; d < first+n; d++ {
			if b, ok := g.BackupDesc(i, d); ok {
				if err := bu.out.block(b, table[d<<g.BlockBits:(d+1)<<g.BlockBits], "group descriptors"); err != nil {
					return err
				}
			}
		}
		if i == 0 {
			break
		}
		if g.HasSuper(i) {
			// A backup never says that the filesystem is clean: who needs it has to check.
			if err := bu.writeSuper(*sb, g.BytesOf(g.GroupFirst(i)), 0, uint16(i)); err != nil {
				return err
			}
		}
	}
	sb.State = disk.StateValid
	return bu.writeSuper(*sb, disk.SuperOffset, disk.StateValid, 0)
}

func (bu *Builder) writeSuper(sb disk.Superblock, off int64, state, group uint16) error {
	sb.State, sb.GroupNumber = state, group
	var raw [disk.SuperSize]byte
	sb.EncodeTo(raw[:])
	return bu.out.writeAt(raw[:], off, "a superblock")
}
