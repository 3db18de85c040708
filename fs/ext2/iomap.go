package ext2

import (
	"context"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/bufhead/bridge"
	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
)

// The filesystem's answers, one table for each kind of operation.
var (
	readOps = &iomap.Ops{Begin: readBegin} // reads, reports
	fillOps = &iomap.Ops{Begin: fillBegin} // direct write into holes; buffer heads on the bridge
)

// span is the block that holds pos and the number of blocks that [pos, pos+length) touches.
func (fs *fsys) span(pos, length int64) (disk.FileBlock, uint64) {
	off := uint64(pos) & uint64(fs.geo.BlockSize-1)
	return fs.geo.BlockAt(pos), max(fs.geo.BlocksFor(off+uint64(length)), 1)
}

// fill makes a mapping of the resolver's answer for block fb. Under mapMu, which the cookie belongs to.
func (ip *inode) fill(m *iomap.Mapping, fb disk.FileBlock, e extent) {
	bits := ip.fs.geo.BlockBits
	m.Offset, m.Length = int64(fb)<<bits, int64(e.n)<<bits
	m.Dev, m.Cookie = ip.fs.sb.Dev, ip.mapSeq.Load()
	m.Type = iomap.Hole
	if e.first != 0 {
		m.Type, m.Addr, m.Flags = iomap.Mapped, uint64(ip.fs.geo.BytesOf(e.first)), iomap.FlagMerged
	}
	if e.isNew {
		m.Flags |= iomap.FlagNew
	}
}

// fillHole is fill for a hole, parts of which may be promised.
func (ip *inode) fillHole(m *iomap.Mapping, fb disk.FileBlock, e extent) {
	n, gap := ip.promised(fb, e.n)
	if e.n = max(n, gap); n > 0 {
		ip.fill(m, fb, e)
		m.Type = iomap.Delalloc
		return
	}
	ip.fill(m, fb, e)
}

// readBegin allocates nothing.
func readBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, _ iomap.OpFlags, m, _ *iomap.Mapping) error {
	ip := inodeOf(vi)
	fb, n := ip.fs.span(pos, length)
	if fb >= ip.fs.geo.MaxFileBlocks() {
		ip.fill(m, fb, extent{n: n})
		return nil
	}
	ip.mapMu.RLock()
	defer ip.mapMu.RUnlock()
	e, _, err := ip.walk(ctx, fb, n)
	if err != nil {
		return err
	}
	if e.first == 0 {
		ip.fillHole(m, fb, e)
	} else {
		ip.fill(m, fb, e)
	}
	return nil
}

// fillBegin allocates wherever there is a hole.
func fillBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, _ iomap.OpFlags, m, _ *iomap.Mapping) error {
	ip := inodeOf(vi)
	fs := ip.fs
	fb, n := fs.span(pos, length)
	return fs.retryFull(ctx, func() error {
		fs.begin()
		defer fs.end()
		ip.mapMu.Lock()
		defer ip.mapMu.Unlock()
		e, err := ip.allocateLocked(ctx, fb, n)
		if err != nil {
			return err
		}
		if e.isNew {
			fs.bd.CleanAliases(uint64(e.first), e.n)
		}
		ip.fill(m, fb, e)
		if e.isNew || pos+length > vi.Size() {
			m.Flags |= iomap.FlagDirty
		}
		return nil
	})
}

// bridged is get_block answered by the iomap begin.
func (fs *fsys) bridged(ctx context.Context, vi *vfs.Inode, iblock uint64, bh *bufhead.BufferHead, create bool) error {
	ops := readOps
	if create {
		ops = fillOps
	}
	return bridge.GetBlock(ctx, vi, iblock, bh, create, ops, fs.bd)
}

// iomapTable puts the iomap side of each operation that the paths name in the tables.
func (fs *fsys) iomapTable(t *tables) {
	if fs.on(vfs.OpFiemap, vfs.Iomap) {
		t.file.Fiemap = func(ctx context.Context, ip *vfs.Inode, info *vfs.FiemapInfo) error {
			return iomap.Fiemap(ctx, ip, info, readOps)
		}
	}
	if fs.on(vfs.OpSeek, vfs.Iomap) {
		t.fileFop.Seek = func(ctx context.Context, f *vfs.File, pos int64, whence int) (int64, error) {
			return iomap.Seek(ctx, f.Inode, pos, whence, readOps)
		}
	}
	if fs.on(vfs.OpBmap, vfs.Iomap) {
		t.file.Bmap = func(ctx context.Context, ip *vfs.Inode, blk uint64) (uint64, error) {
			return iomap.Bmap(ctx, ip, blk, readOps)
		}
	}
	if fs.on(vfs.OpSwap, vfs.Iomap) {
		t.file.SwapActivate = func(ctx context.Context, ip *vfs.Inode, n uint64, add func(vfs.SwapExtent) error) error {
			return iomap.SwapActivate(ctx, ip, n, add, readOps)
		}
	}
	if fs.on(vfs.OpDir, vfs.Iomap) {
		t.metaBlock = func(ctx context.Context, ip *inode, fb disk.FileBlock) (disk.FSBlock, error) {
			n, err := iomap.Bmap(ctx, ip.Inode, uint64(fb), readOps)
			return disk.FSBlock(n), err
		}
	}
}
