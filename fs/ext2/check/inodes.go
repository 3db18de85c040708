package check

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
)

// inodes is the first pass over files: each inode by itself, its blocks and attributes.
func (c *checker) inodes() error {
	g := c.g
	ip := &inodePass{c: c, mw: mapWalk{c: c}, buf: make([]byte, g.BlockSize)}
	ip.judgeDtime = true
	for _, stamp := range []uint32{c.sb.WriteTime, c.sb.MountTime, c.sb.MkfsTime} {
		if stamp != 0 && stamp < g.Inodes {
			ip.judgeDtime = false
		}
	}
	chunk := max(1, 256<<10/g.BlockSize)
	table := make([]byte, chunk*g.BlockSize)
	for gr := range c.groups {
		p := &c.groups[gr]
		if !p.known {
			continue
		}
		for b := uint32(0); b < g.ITableBlocks; b += chunk {
			if err := c.ctx.Err(); err != nil {
				return err
			}
			n := min(chunk, g.ITableBlocks-b)
			if err := c.read(table[:n*g.BlockSize], g.BytesOf(p.desc.InodeTable+disk.FSBlock(b)), "an inode table"); err != nil {
				return err
			}
			for i := range n * g.InodesPerBlock {
				index := b*g.InodesPerBlock + i
				if index >= g.InodesPerGroup {
					break
				}
				if err := ip.inode(g.InoOf(disk.Group(gr), index), table[i*g.InodeSize:(i+1)*g.InodeSize]); err != nil {
					return err
				}
			}
		}
		c.progress(0.01 + 0.59*float64(gr+1)/float64(len(c.groups)))
	}
	return ip.attrCounts()
}

type inodePass struct {
	c   *checker
	mw  mapWalk
	buf []byte // one block

	judgeDtime bool // the clock of the filesystem is beyond inode numbers
}

// Offsets of fields that disk.Inode keeps as they are: they belong to features that ext2 does not have.
const (
	offFileACLHigh = 118
)

func (ip *inodePass) inode(ino disk.Ino, raw []byte) error {
	c := ip.c
	in, extraErr := disk.DecodeInode(raw)
	reserved := ino < c.sb.FirstIno && ino != disk.RootIno
	if in.Dtime != 0 && in.Dtime < c.g.Inodes && ip.judgeDtime && (reserved || in.Links == 0) {
		// The list of orphans of a journal is linked through this field, by inode numbers.
		if err := c.ino(InodeDtime, ino, "deletion time is %d: it looks like a link of a list of orphans", in.Dtime); err != nil {
			return err
		}
	}
	if ino == disk.ResizeIno && c.sb.Compat&disk.CompatResizeInode != 0 {
		ip.mark(ino, &in)
		if err := ip.foreign(ino, &in); err != nil {
			return err
		}
		return ip.resizeInode(&in)
	}
	if reserved {
		return ip.reserved(ino, &in, raw)
	}
	if in.Links == 0 {
		if in.Mode != 0 && in.Dtime == 0 {
			return c.ino(InodeDtime, ino, "deleted without a deletion time")
		}
		return nil
	}
	ip.mark(ino, &in)
	if in.Dtime != 0 {
		if err := c.ino(InodeDtime, ino, "in use with a deletion time"); err != nil {
			return err
		}
	}
	if disk.FileTypeOf(in.Mode) == disk.TypeUnknown {
		return c.ino(InodeMode, ino, "mode %#o has no file type", in.Mode)
	}
	if extraErr != nil {
		if err := c.ino(InodeExtra, ino, "%v", extraErr); err != nil {
			return err
		}
	}
	if err := ip.fields(ino, &in, raw); err != nil {
		return err
	}
	sectors, err := ip.attributes(ino, &in, raw)
	if err != nil {
		return err
	}
	switch in.Type() {
	case disk.ModeRegular, disk.ModeDir:
		return ip.contents(ino, &in, sectors)
	case disk.ModeSymlink:
		return ip.symlink(ino, &in, sectors)
	}
	return ip.special(ino, &in, sectors)
}

// Reserved inodes of features that ext2 does not have; ext4 may have put a boot loader into the last.
const (
	userQuotaIno  disk.Ino = 3
	groupQuotaIno disk.Ino = 4
	bootLoaderIno disk.Ino = 5
)

// reserved checks an inode that no name leads to, and which is in use whatever it holds: bad blocks, the journal, a boot loader.
func (ip *inodePass) reserved(ino disk.Ino, in *disk.Inode, raw []byte) error {
	c := ip.c
	ip.mark(ino, in)
	switch {
	case ino == disk.BadBlocksIno:
		if in.Mode != 0 || uint16(in.UID) != 0 || uint16(in.GID) != 0 || in.Links != 0 || in.FileACL != 0 || in.Flags&disk.FlagExtents != 0 {
			return c.ino(InodeReserved, ino, "the inode of bad blocks has a mode, an owner, links or attributes")
		}
	case ino == userQuotaIno || ino == groupQuotaIno || ino == disk.JournalIno && c.sb.JournalIno != ino:
		if in.Links != 0 || in.Sectors != 0 || in.Block[0] != 0 {
			return c.ino(InodeReserved, ino, "the inode of quotas or of the journal is in use, and the superblock names neither")
		}
		return nil
	case ino == disk.JournalIno && !in.IsRegular():
		return c.ino(InodeReserved, ino, "the journal is no regular file")
	case ino == bootLoaderIno && in.IsDir() || ino != bootLoaderIno && ino != disk.JournalIno && in.Mode != 0:
		if err := c.ino(InodeReserved, ino, "mode of a reserved inode is %#o", in.Mode); err != nil {
			return err
		}
	}
	if err := ip.foreign(ino, in); err != nil {
		return err
	}
	sectors := uint64(0)
	if ino != disk.BadBlocksIno {
		var err error
		if sectors, err = ip.attributes(ino, in, raw); err != nil {
			return err
		}
	}
	ip.mw.count = 0
	if ino == disk.BadBlocksIno || in.HasBlockMap(c.g) {
		if err := ip.mw.walk(in, ino); err != nil {
			return err
		}
	}
	if ino == disk.BadBlocksIno {
		return nil
	}
	if size := uint64(in.DirACL)<<32 | in.Size; size > maxSize(c.g) {
		return c.ino(InodeSize, ino, "size of a reserved inode is %d, want at most %d", size, maxSize(c.g))
	}
	return ip.sectors(ino, in, ip.mw.count*uint64(c.g.BlockSize/disk.SectorSize)+sectors)
}

// mark notes an inode as in use.
func (ip *inodePass) mark(ino disk.Ino, in *disk.Inode) {
	p, i := ip.c.at(ino, true)
	p.inodes.Set(i)
	p.links[i] = in.Links
	p.types[i] = uint8(disk.FileTypeOf(in.Mode))
}

// foreign checks for flags that give an inode another meaning.
func (ip *inodePass) foreign(ino disk.Ino, in *disk.Inode) error {
	if f := in.Flags & (disk.FlagsForeign | disk.FlagVerity | disk.FlagCasefold); f != 0 {
		return ip.c.ino(InodeFields, ino, "flags %v are of features that ext2 does not have", f.Names())
	}
	if in.Flags&disk.FlagImagic != 0 && ip.c.sb.Compat&disk.CompatImagic == 0 {
		return ip.c.ino(InodeFields, ino, "has the flag imagic, and the filesystem has no feature imagic_inodes")
	}
	return nil
}

// fields checks what has to be zero on ext2.
func (ip *inodePass) fields(ino disk.Ino, in *disk.Inode, raw []byte) error {
	c := ip.c
	if err := ip.foreign(ino, in); err != nil {
		return err
	}
	switch {
	case in.Flags&disk.FlagIndex != 0 && !in.IsDir():
		return c.ino(InodeFields, ino, "is no directory and has the flag of an index")
	case in.Flags&disk.FlagIndex != 0 && !c.sb.HasDirIndex():
		return c.ino(InodeFields, ino, "has the flag of an index, and the filesystem has no feature dir_index")
	case in.FragAddr != 0:
		return c.ino(InodeFields, ino, "fragment address is %d, want 0", in.FragAddr)
	case in.SectorsHigh != 0:
		return c.ino(InodeFields, ino, "high half of the block count is %d, want 0", in.SectorsHigh)
	case binary.LittleEndian.Uint16(raw[offFileACLHigh:]) != 0:
		return c.ino(InodeFields, ino, "high half of the attribute block is %d, want 0", binary.LittleEndian.Uint16(raw[offFileACLHigh:]))
	case in.IsDir() && in.DirACL != 0:
		return c.ino(InodeFields, ino, "high half of a directory's size is %d, want 0", in.DirACL)
	}
	return nil
}

// contents checks blocks and size of a regular file or directory. sectors is what its attributes use.
func (ip *inodePass) contents(ino disk.Ino, in *disk.Inode, sectors uint64) error {
	c, mw := ip.c, &ip.mw
	if err := mw.walk(in, ino); err != nil {
		return err
	}
	blocks := uint64(0) // up to the last one that is there
	if mw.any {
		blocks = uint64(mw.last) + 1
	}
	if in.IsDir() {
		p := &c.groups[c.g.InodeGroup(ino)]
		p.dirs++
		c.rep.Directories++
		n := min(in.Size>>c.g.BlockBits, blocks)
		c.dirs = append(c.dirs, dirState{ino: ino, blocks: uint32(min(n, math.MaxUint32)), indexed: in.Flags&disk.FlagIndex != 0 && c.sb.HasDirIndex()})
		// Blocks that were allocated ahead may lie behind the size.
		ahead := uint64(0)
		if c.sb.Compat&disk.CompatDirPrealloc != 0 {
			ahead = uint64(c.sb.PreallocDirBlocks)
		}
		if size := in.Size >> c.g.BlockBits; in.Size&uint64(c.g.BlockSize-1) != 0 || size > blocks || size+ahead < blocks {
			if err := c.ino(InodeSize, ino, "size of the directory is %d, and its blocks reach to %d", in.Size, blocks<<c.g.BlockBits); err != nil {
				return err
			}
		}
	} else {
		if in.Size > math.MaxInt32 && c.sb.ROCompat&disk.ROCompatLargeFile == 0 {
			if err := c.ino(InodeSize, ino, "size is %d, and the filesystem has no feature large_file", in.Size); err != nil {
				return err
			}
		}
		if limit := maxSize(c.g); in.Size > limit || mw.any && in.Size < uint64(mw.last)<<c.g.BlockBits {
			if err := c.ino(InodeSize, ino, "size is %d, and the blocks reach to %d; no file is larger than %d", in.Size, blocks<<c.g.BlockBits, limit); err != nil {
				return err
			}
		}
	}
	return ip.sectors(ino, in, mw.count*uint64(c.g.BlockSize/disk.SectorSize)+sectors)
}

// maxSize is what three levels of indirection reach: i_blocks does not count holes.
func maxSize(g *disk.Geometry) uint64 {
	p := uint64(g.PtrsPerBlock)
	return (disk.NDirect + p + p*p + p*p*p) << g.BlockBits
}

func (ip *inodePass) sectors(ino disk.Ino, in *disk.Inode, want uint64) error {
	if uint64(in.Sectors) != want {
		return ip.c.ino(InodeBlocks, ino, "block count is %d, want %d (units of 512 bytes)", in.Sectors, want)
	}
	return nil
}

// symlink checks target and blocks of a symbolic link. Links of up to 59 bytes are in the inode.
func (ip *inodePass) symlink(ino disk.Ino, in *disk.Inode, sectors uint64) error {
	c := ip.c
	if in.DirACL != 0 {
		return c.ino(InodeSymlink, ino, "size is %d", uint64(in.DirACL)<<32|in.Size)
	}
	if in.Size > 0 && in.Size <= disk.FastSymlinkMax {
		if in.Flags&(disk.FlagImmutable|disk.FlagAppend) != 0 {
			return c.ino(InodeSymlink, ino, "a symbolic link in the inode has flags %v", in.Flags.Names())
		}
		if err := ip.sectors(ino, in, sectors); err != nil {
			return err
		}
		var b [4 * disk.NBlocks]byte
		for i, w := range in.Block {
			binary.LittleEndian.PutUint32(b[4*i:], w)
		}
		if n := slices.Index(b[:], 0); uint64(n) != in.Size {
			return c.ino(InodeSymlink, ino, "target has %d bytes, and the size is %d", n, in.Size)
		}
		return nil
	}
	if err := ip.mw.walk(in, ino); err != nil {
		return err
	}
	if err := ip.sectors(ino, in, ip.mw.count*uint64(c.g.BlockSize/disk.SectorSize)+sectors); err != nil {
		return err
	}
	b := disk.FSBlock(in.Block[0])
	if in.Size == 0 || in.Size >= uint64(c.g.BlockSize) || ip.mw.count != 1 || !c.g.ValidBlock(b) {
		return c.ino(InodeSymlink, ino, "size is %d in %d blocks, want one block that is not full", in.Size, ip.mw.count)
	}
	if err := c.block(ip.buf, b, "a symbolic link"); err != nil {
		return err
	}
	if n := slices.Index(ip.buf, 0); uint64(n) != in.Size {
		return c.ino(InodeSymlink, ino, "target has %d bytes, and the size is %d", n, in.Size)
	}
	return nil
}

// special checks a device node, fifo or socket.
func (ip *inodePass) special(ino disk.Ino, in *disk.Inode, sectors uint64) error {
	c := ip.c
	// Block may hold anything: older kernels left there what was in memory.
	if in.Size != 0 || in.DirACL != 0 {
		return c.ino(InodeDevice, ino, "a special file has a size of %d", uint64(in.DirACL)<<32|in.Size)
	}
	if in.Flags&(disk.FlagImmutable|disk.FlagAppend) != 0 {
		return c.ino(InodeDevice, ino, "a special file has flags %v", in.Flags.Names())
	}
	return ip.sectors(ino, in, sectors)
}

// resizeInode checks the file of reserved descriptor blocks: each of them is an indirect block that names its copies in the
// groups with backups.
func (ip *inodePass) resizeInode(in *disk.Inode) error {
	c, g := ip.c, ip.c.g
	wrong := func(what string, args ...any) error { return c.ino(ResizeInode, disk.ResizeIno, what, args...) }
	dind := disk.FSBlock(in.Block[disk.DIndBlock])
	for i, b := range in.Block {
		if i != disk.DIndBlock && b != 0 {
			return wrong("pointer %d is %d, want 0", i, b)
		}
	}
	if !in.IsRegular() || in.Links == 0 || !g.ValidBlock(dind) || in.Size > maxSize(g) || in.FileACL != 0 {
		return wrong("is no regular file of %d bytes at most with a double indirect block and no attributes", maxSize(g))
	}
	if !c.claim(dind) {
		return wrong("its double indirect block %d is in use already, %s", dind, c.owner(dind))
	}
	var backups []disk.Group
	for gr := disk.Group(1); uint32(gr) < g.Groups; gr++ {
		if g.HasSuper(gr) {
			backups = append(backups, gr)
		}
	}
	if uint64(len(backups)) > uint64(g.PtrsPerBlock) {
		return wrong("there are %d groups with backups, and a block names %d", len(backups), g.PtrsPerBlock)
	}
	ptrs := make(disk.PtrBlock, g.BlockSize)
	if err := c.block(ptrs, dind, "the resize inode"); err != nil {
		return err
	}
	last := uint64(0) // the last block of the file, in units of its blocks
	for i := range g.ReservedGDT {
		at := (g.DescBlocks + i) % g.PtrsPerBlock
		b := g.FirstDataBlock + 1 + disk.FSBlock(g.DescBlocks+i)
		if ptrs.At(at) != b {
			return wrong("entry %d of its double indirect block is %d, want %d", at, ptrs.At(at), b)
		}
		ptrs.Set(at, 0)
		if !g.ValidBlock(b) {
			return wrong("reserved descriptor block %d is not on the device", b)
		}
		if err := c.block(ip.buf, b, "a reserved descriptor block"); err != nil {
			return err
		}
		ind := disk.PtrBlock(ip.buf)
		for k, gr := range backups {
			if want := b + g.GroupFirst(gr) - g.FirstDataBlock; ind.At(uint32(k)) != want {
				return wrong("copy %d of reserved descriptor block %d is %d, want %d", k, b, ind.At(uint32(k)), want)
			}
			ind.Set(uint32(k), 0)
			last = max(last, uint64(g.LevelStart(disk.DIndBlock))+uint64(at)*uint64(g.PtrsPerBlock)+uint64(k))
		}
		if !ind.Empty() {
			return wrong("reserved descriptor block %d names more than its %d copies", b, len(backups))
		}
	}
	if !ptrs.Empty() {
		return wrong("its double indirect block names more than the %d reserved blocks", g.ReservedGDT)
	}
	if in.Size < last<<g.BlockBits {
		return wrong("size is %d, and the blocks reach to %d", in.Size, (last+1)<<g.BlockBits)
	}
	return ip.sectors(disk.ResizeIno, in, (1+uint64(g.ReservedGDT)*uint64(1+len(backups)))*uint64(g.BlockSize/disk.SectorSize))
}
