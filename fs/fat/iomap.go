package fat

import (
	"context"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/bufhead/bridge"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// The filesystem's answers, one table for each kind of operation.
var (
	readOps     = &iomap.Ops{Begin: readBegin}                 // reads, reports, zeroing
	bufferedOps = &iomap.Ops{Begin: writeBegin, End: writeEnd} // buffered write
	faultOps    = &iomap.Ops{Begin: writeBegin}                // first store into a folio through a mapping
	overOps     = &iomap.Ops{Begin: overBegin}                 // direct write over what was written before
	fillOps     = &iomap.Ops{Begin: writeBegin, End: writeEnd} // direct write of whole blocks, up to the end and on
	bridgeOps   = &iomap.Ops{Begin: writeBegin}                // buffer heads that allocate
	extending   = &iomap.DirectOps{EndIO: extendEnd}           // direct write that may move the end of the file
	writeback   = &iomap.WritebackOps{MapBlocks: mapBlocks}
	folioOps    = &iomap.FolioOps{Valid: mapValid}
)

// span is the block that holds pos and the number of blocks that [pos, pos+length) touches.
func (fs *fsys) span(pos, length int64) (fileBlock, uint64) {
	off := pos & int64(fs.geo.SectorSize-1)
	return fs.blockAt(pos), max(fs.blocksFor(off+length), 1)
}

// answer makes a mapping of the resolver's answer for block fb. seq was read before it was asked.
func (ip *inode) answer(m *iomap.Mapping, fb fileBlock, e extent, seq uint64) {
	bits := ip.fs.geo.SectorBits
	m.Offset, m.Length = int64(fb)<<bits, int64(e.n)<<bits
	m.Dev, m.Cookie, m.FolioOps = ip.fs.sb.Dev, seq, folioOps
	m.Type = iomap.Hole
	if e.first != 0 {
		m.Type, m.Addr, m.Flags = iomap.Mapped, uint64(ip.fs.geo.BytesOf(e.first)), iomap.FlagMerged
	}
	if !ip.durable() {
		m.Flags |= iomap.FlagDirty
	}
}

// readBegin maps what was written. Behind that is a hole: whatever is allocated there holds what was there before.
func readBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, _ iomap.OpFlags, m, _ *iomap.Mapping) error {
	ip := inodeOf(vi)
	fb, n := ip.fs.span(pos, length)
	if ip.dir != nil {
		e, err := ip.resolveDir(ctx, fb, n)
		ip.answer(m, fb, e, 0)
		return err
	}
	seq, written := ip.mapSeq.Load(), ip.writtenBlocks()
	if uint64(fb) >= written {
		ip.answer(m, fb, extent{n: n}, seq)
		return nil
	}
	e, err := ip.resolve(ctx, fb, min(n, written-uint64(fb)))
	if err == nil && e.first == 0 {
		err = ip.missing(fb)
	}
	if err != nil {
		return err
	}
	ip.answer(m, fb, e, seq)
	return nil
}

// mapValid is FolioOps.Valid.
func mapValid(vi *vfs.Inode, m *iomap.Mapping) bool { return m.Cookie == inodeOf(vi).mapSeq.Load() }

// writeBegin maps what was written before, and then what was not, as new: allocating where the chain does not reach. It begins no
// farther than in the block at the end of the file.
func writeBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
	ip := inodeOf(vi)
	fb, n := ip.fs.span(pos, length)
	written := ip.writtenBlocks()
	if uint64(fb) < written {
		err := readBegin(ctx, vi, pos, length, flags, m, src)
		if pos+length > vi.Size() {
			m.Flags |= iomap.FlagDirty
		}
		return err
	}
	e, err := ip.allocate(ctx, fb, n)
	if err != nil {
		return err
	}
	ip.answer(m, fb, e, ip.mapSeq.Load())
	m.Flags |= iomap.FlagNew | iomap.FlagDirty
	return nil
}

// writeEnd frees what was allocated behind the end and not used.
func writeEnd(ctx context.Context, vi *vfs.Inode, pos, length, done int64, _ iomap.OpFlags, m *iomap.Mapping) error {
	ip := inodeOf(vi)
	if m.Flags&iomap.FlagSizeChanged != 0 {
		vi.Dirty(vfs.DirtySize)
	}
	if done < length && m.Flags&iomap.FlagNew != 0 {
		return ip.cutTo(ctx, ip.fs.geo.ClustersFor(max(vi.Size(), pos+done, ip.keep)))
	}
	return nil
}

// mapBlocks is WritebackOps.MapBlocks: everything dirty is allocated.
func mapBlocks(ctx context.Context, wc *iomap.WritebackContext, pos, length int64) error {
	if m := &wc.Map; m.Type == iomap.Mapped && pos >= m.Offset && pos < m.End() && mapValid(wc.Inode, m) {
		return nil
	}
	wc.Map = iomap.Mapping{Addr: iomap.NullAddr}
	return readBegin(ctx, wc.Inode, pos, length, 0, &wc.Map, nil)
}

// overBegin maps what was written before, for a direct write under the shared lock.
func overBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
	if err := readBegin(ctx, vi, pos, length, flags, m, src); err != nil {
		return err
	}
	if m.Type != iomap.Mapped {
		return vfs.ErrNotBlock
	}
	return nil
}

// extendEnd moves the end of the file when a direct write past it is on the device.
func extendEnd(_ context.Context, k *vfs.Kiocb, size int64, err error, _ iomap.DirectResult) error {
	if end := k.Pos + size; err == nil && end > k.Inode.Size() {
		k.Inode.SetSize(end)
		k.Inode.Dirty(vfs.DirtySize)
	}
	return err
}

// bridged is get_block answered by the iomap begin.
func (fs *fsys) bridged(ctx context.Context, vi *vfs.Inode, iblock uint64, bh *bufhead.BufferHead, create bool) error {
	ops := readOps
	if create {
		ops = bridgeOps
	}
	return bridge.GetBlock(ctx, vi, iblock, bh, create, ops, fs.bd)
}

// iomapTable puts the iomap side of each operation that the paths name in the tables.
func (fs *fsys) iomapTable(t *operations) {
	if fs.on(vfs.OpFiemap, vfs.Iomap) {
		t.file.Fiemap = func(ctx context.Context, ip *vfs.Inode, info *vfs.FiemapInfo) error {
			info.Clip(ip.Size())
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
			if fs.writable {
				if err := fs.commitNow(ctx); err != nil { // a map that is not on the medium is refused
					return err
				}
			}
			return iomap.SwapActivate(ctx, ip, n, add, readOps)
		}
	}
	if fs.on(vfs.OpDir, vfs.Iomap) {
		t.metaBlock = func(ctx context.Context, ip *inode, fb fileBlock) (disk.Sector, error) {
			n, err := iomap.Bmap(ctx, ip.Inode, uint64(fb), readOps)
			return disk.Sector(n), err
		}
	}
	if fs.on(vfs.OpDirectRead, vfs.Iomap) {
		t.directRead = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
			return iomap.Direct(ctx, k, p, false, readOps, nil, 0, nil, 0)
		}
	}
	if fs.on(vfs.OpDirectWrite, vfs.Iomap) {
		t.directOver = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
			return iomap.Direct(ctx, k, p, true, overOps, nil, 0, nil, 0)
		}
		t.directFill = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
			return iomap.Direct(ctx, k, p, true, fillOps, extending, iomap.DirectForceWait, nil, 0)
		}
	}
	if fs.on(vfs.OpBufferedRead, vfs.Iomap) {
		fs.iomapCache(t)
	}
}

// iomapCache is what goes through the page cache: all of it or nothing.
func (fs *fsys) iomapCache(t *operations) {
	t.contExpand = nil
	t.bufferedWrite = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
		return iomap.BufferedWrite(ctx, k, p, bufferedOps, nil, nil)
	}
	t.truncatePage = func(ctx context.Context, ip *vfs.Inode, pos int64) error {
		_, err := iomap.TruncatePage(ctx, ip, pos, readOps, nil)
		return err
	}
	t.fileFop.PageMkwrite = func(ctx context.Context, ip *vfs.Inode, fo *pagecache.Folio) error {
		return iomap.PageMkwrite(ctx, ip, fo, faultOps)
	}
	t.pages = pagecache.Operations{
		ReadFolio: func(ctx context.Context, fo *pagecache.Folio) error { return iomap.ReadFolio(ctx, fo, readOps, nil) },
		Readahead: func(ctx context.Context, rac *pagecache.ReadaheadControl) { iomap.Readahead(ctx, rac, readOps, nil) },
		WritePages: func(ctx context.Context, as *pagecache.AddressSpace, wbc *pagecache.WritebackControl) error {
			return iomap.WritePages(ctx, as, wbc, writeback)
		},
		DirtyFolio:          iomap.DirtyFolio,
		ReleaseFolio:        iomap.ReleaseFolio,
		InvalidateFolio:     iomap.InvalidateFolio,
		IsPartiallyUptodate: iomap.IsPartiallyUptodate,
	}
}
