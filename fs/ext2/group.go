package ext2

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/invariant"
)

// group is a block group in memory.
type group struct {
	// mu guards the rest, and the contents of the group's two bitmaps. Inside inode.mapMu, outside buffers.
	mu      invariant.Mutex[invariant.AllocGroup]
	desc    disk.GroupDesc
	checked bool   // the bitmaps were verified
	bad     bool   // they are damaged: nothing is allocated here
	dirty   bool   // desc differs from its buffer
	inoHint uint32 // no inode below this index is free, unless the hint is reset
	windows []*reservation
}

// corrupt makes the error for damage found on the medium.
func (fs *fsys) corrupt(what string, ino uint64, addr uint64, format string, args ...any) error {
	return &errno.CorruptError{Dev: fs.sb.Dev.Name(), Struct: what, Ino: ino, Addr: addr, Why: fmt.Sprintf(format, args...)}
}

// loadGroups reads the descriptors.
func (fs *fsys) loadGroups(ctx context.Context) error {
	g := fs.geo
	fs.groups = make([]group, g.Groups)
	fs.descBH = make([]*bufhead.BufferHead, g.DescBlocks)
	fs.bd.Readahead(ctx, uint64(fs.descBlock(0)), uint64(g.DescBlocks))
	for i := range fs.descBH {
		bh, err := fs.bd.Bread(ctx, uint64(fs.descBlock(uint32(i))))
		if err != nil {
			return fmt.Errorf("group descriptors: %w", err)
		}
		fs.descBH[i] = bh
	}
	for i := range fs.groups {
		_, off := g.DescAt(disk.Group(i))
		d, err := disk.DecodeGroupDesc(fs.descBH[uint32(i)/g.DescPerBlock].Data[off:])
		if err == nil {
			err = d.Verify(g, disk.Group(i))
		}
		if err != nil {
			return fs.corrupt("group descriptor", 0, 0, "group %d: %v; run e2fsck -f %s", i, err, fs.sb.Dev.Name())
		}
		fs.groups[i].desc = d
		fs.freeBlocks.Add(int64(d.FreeBlocks))
		fs.freeInodes.Add(int64(d.FreeInodes))
		fs.usedDirs.Add(int64(d.UsedDirs))
	}
	return nil
}

// descBlock is where block i of the descriptors is read: the first copy, or with sb= the one that goes with that superblock.
func (fs *fsys) descBlock(i uint32) disk.FSBlock {
	g := fs.geo
	if n := fs.opts.SuperBlock; n != 0 {
		if at := disk.FSBlock(n << 10 >> g.BlockBits); g.ValidBlock(at) {
			if b, ok := g.BackupDesc(g.GroupOf(at), i); ok {
				return b
			}
		}
		if second := uint64(i)*uint64(g.DescPerBlock) + 1; second < uint64(g.Groups) { // META_BG
			if b, ok := g.BackupDesc(disk.Group(second), i); ok {
				return b
			}
		}
	}
	return g.DescBlock(i)
}

// groupChanged counts a change of a group's descriptor, encoded at the next commit. Hold gr.mu, inside a transaction.
func (fs *fsys) groupChanged(n disk.Group, blocks, inodes, dirs int) {
	gr := &fs.groups[n]
	gr.desc.FreeBlocks = uint16(int(gr.desc.FreeBlocks) + blocks)
	gr.desc.FreeInodes = uint16(int(gr.desc.FreeInodes) + inodes)
	gr.desc.UsedDirs = uint16(int(gr.desc.UsedDirs) + dirs)
	fs.freeBlocks.Add(int64(blocks))
	fs.freeInodes.Add(int64(inodes))
	fs.usedDirs.Add(int64(dirs))
	if !gr.dirty {
		gr.dirty = true
		fs.groupsMu.Lock()
		fs.groupsDirty = append(fs.groupsDirty, n)
		fs.groupsMu.Unlock()
	}
}

// encodeCounts stores the counters in the buffers of descriptors and superblock. For committer.prepare: transactions are
// held off.
func (fs *fsys) encodeCounts() {
	fs.groupsMu.Lock()
	list := fs.groupsDirty
	fs.groupsDirty = nil
	fs.groupsMu.Unlock()
	for _, n := range list {
		gr := &fs.groups[n]
		gr.mu.Lock()
		_, off := fs.geo.DescAt(n)
		bh := fs.descBH[uint32(n)/fs.geo.DescPerBlock]
		gr.desc.EncodeTo(bh.Data[off:])
		gr.dirty = false
		gr.mu.Unlock()
		fs.dirtyBuffer(bh, kindGroup)
	}
	if fs.superDirty.Swap(false) || len(list) > 0 {
		fs.superMu.Lock()
		fs.encodeSuperLocked()
		fs.superMu.Unlock()
		fs.dirtyBuffer(fs.superBH, kindGroup)
	}
}

// bitmap gives a verified bitmap of the group, referenced. blocks picks the block bitmap. Hold gr.mu.
func (fs *fsys) bitmap(ctx context.Context, n disk.Group, blocks bool) (*bufhead.BufferHead, disk.Bitmap, error) {
	gr := &fs.groups[n]
	if gr.bad {
		return nil, nil, fs.corrupt("bitmap", 0, 0, "group %d was found damaged; run e2fsck -f %s", n, fs.sb.Dev.Name())
	}
	at := gr.desc.InodeBitmap
	if blocks {
		at = gr.desc.BlockBitmap
	}
	bh, err := fs.bd.Bread(ctx, uint64(at))
	if err != nil {
		return nil, nil, fmt.Errorf("bitmap of group %d: %w", n, err)
	}
	if blocks && !gr.checked {
		if err := fs.checkBitmap(n, disk.Bitmap(bh.Data)); err != nil {
			gr.bad = true
			bh.Put()
			fs.fail(err)
			return nil, nil, err
		}
		gr.checked = true
		fs.recount(n, disk.Bitmap(bh.Data))
	}
	return bh, disk.Bitmap(bh.Data), nil
}

// recount makes the descriptor's count of free blocks agree with the bitmap, which is written before it: after a crash the
// count may be behind. Only bitmaps say what may be handed out. Hold gr.mu.
func (fs *fsys) recount(n disk.Group, bm disk.Bitmap) {
	gr := &fs.groups[n]
	free := bm.CountZeros(fs.geo.GroupBlocks(n))
	if uint32(gr.desc.FreeBlocks) == free {
		return
	}
	fs.sb.Log.Warn("free blocks were counted wrongly; run e2fsck -f", "image", fs.sb.Dev.Name(), "group", n, "counted", gr.desc.FreeBlocks, "free", free)
	fs.groupChanged(n, int(free)-int(gr.desc.FreeBlocks), 0, 0)
}

// checkBitmap makes sure that the group's own metadata is marked in use, so that it is never given out.
func (fs *fsys) checkBitmap(n disk.Group, bm disk.Bitmap) error {
	g, d := fs.geo, &fs.groups[n].desc
	first := g.GroupFirst(n)
	if free, ok := bm.NextZero(0, g.GroupHead(n)); ok {
		return fs.corrupt("block bitmap", 0, uint64(g.BytesOf(d.BlockBitmap)), "group %d: block %d of superblock and descriptors is marked free", n, first+disk.FSBlock(free))
	}
	for _, b := range [...]disk.FSBlock{d.BlockBitmap, d.InodeBitmap} {
		if !bm.Test(uint32(b - first)) {
			return fs.corrupt("block bitmap", 0, uint64(g.BytesOf(d.BlockBitmap)), "group %d: bitmap block %d is marked free", n, b)
		}
	}
	if free, ok := bm.NextZero(uint32(d.InodeTable-first), uint32(d.InodeTable-first)+g.ITableBlocks); ok {
		return fs.corrupt("block bitmap", 0, uint64(g.BytesOf(d.BlockBitmap)), "group %d: block %d of the inode table is marked free", n, first+disk.FSBlock(free))
	}
	return nil
}

// dataBlock reports whether b may hold file data or a file's metadata: on the device and not part of a group's own.
func (fs *fsys) dataBlock(b disk.FSBlock) bool { return fs.dataRun(b, 1) }

// dataRun reports the same of all the n blocks from b on. n is at least 1.
func (fs *fsys) dataRun(b disk.FSBlock, n uint64) bool {
	g := fs.geo
	if n > uint64(g.Blocks) || !g.ValidRange(b, uint32(n)) {
		return false
	}
	for n > 0 {
		gr, i := g.GroupIndex(b)
		k := min(n, uint64(g.GroupBlocks(gr)-i))
		end := b + disk.FSBlock(k)
		d := &fs.groups[gr].desc // its places do not change
		if i < g.GroupHead(gr) || d.BlockBitmap >= b && d.BlockBitmap < end || d.InodeBitmap >= b && d.InodeBitmap < end ||
			b < d.InodeTable+disk.FSBlock(g.ITableBlocks) && d.InodeTable < end {
			return false
		}
		b, n = end, n-k
	}
	return true
}
