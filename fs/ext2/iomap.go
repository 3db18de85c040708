package ext2

import (
	"context"
	"errors"
	"fmt"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/bufhead/bridge"
	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// The filesystem's answers, one table for each kind of operation.
var (
	readOps     = &iomap.Ops{Begin: readBegin}                       // reads, reports, zeroing
	bufferedOps = &iomap.Ops{Begin: bufferedBegin, End: bufferedEnd} // buffered write
	faultOps    = &iomap.Ops{Begin: bufferedBegin}                   // first store into a folio through a mapping
	overOps     = &iomap.Ops{Begin: overBegin}                       // direct write over what exists
	directOps   = &iomap.Ops{Begin: directBegin, End: directEnd}     // direct write
	fillOps     = &iomap.Ops{Begin: fillBegin, End: directEnd}       // direct write into holes
	bridgeOps   = &iomap.Ops{Begin: fillBegin}                       // buffer heads that allocate

	extending = &iomap.DirectOps{EndIO: extendEnd} // direct write that may move the end of the file
	writeback = &iomap.WritebackOps{MapBlocks: mapBlocks, DiscardFolio: discardFolio}
	folioOps  = &iomap.FolioOps{Valid: mapValid}
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
	m.Dev, m.Cookie, m.FolioOps = ip.fs.sb.Dev, ip.mapSeq.Load(), folioOps
	m.Type = iomap.Hole
	if e.first != 0 {
		m.Type, m.Addr, m.Flags = iomap.Mapped, uint64(ip.fs.geo.BytesOf(e.first)), iomap.FlagMerged
	}
	if e.isNew {
		m.Flags |= iomap.FlagNew
	}
	if !ip.mapDurable() {
		m.Flags |= iomap.FlagDirty
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

// mapValid is FolioOps.Valid.
func mapValid(vi *vfs.Inode, m *iomap.Mapping) bool { return m.Cookie == inodeOf(vi).mapSeq.Load() }

// bufferedBegin promises space for what is written over a hole: blocks are chosen at writeback, so that no reader ever finds a block
// before its data. What lies inside the file is there already, most of the time, and takes the map lock shared.
func bufferedBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
	if pos < vi.Size() {
		if err := readBegin(ctx, vi, pos, length, flags, m, src); err != nil || m.Type != iomap.Hole {
			return err
		}
	}
	ip := inodeOf(vi)
	err := ip.reserve(ctx, pos, length, m)
	if errors.Is(err, errno.NOSPC) && flags&iomap.OpFault == 0 && ip.fs.makeRoom(ctx) {
		err = ip.reserve(ctx, pos, length, m)
	}
	return err
}

// makeRoom turns promises, which ask for more than is needed, into blocks, and frees what waits for a commit. It reports whether that
// may have helped. No folio is locked.
func (fs *fsys) makeRoom(ctx context.Context) bool {
	if fs.promised.Load() > 0 {
		if fs.sb.WB.SyncAll(ctx) != nil {
			return false
		}
	} else if fs.pendingFree() == 0 && fs.commit.tracked.Load() == 0 {
		return false
	}
	return fs.commitNow(ctx) == nil
}

func (ip *inode) reserve(ctx context.Context, pos, length int64, m *iomap.Mapping) error {
	fb, n := ip.fs.span(pos, length)
	ip.mapMu.Lock()
	defer ip.mapMu.Unlock()
	e, level, err := ip.walk(ctx, fb, n)
	if err != nil {
		return err
	}
	if e.first != 0 {
		ip.fill(m, fb, e)
		return nil
	}
	ip.fillHole(m, fb, e)
	if m.Type == iomap.Delalloc {
		return nil // promised before, to somebody else's data
	}
	got, err := ip.promise(fb, uint64(m.Length)>>ip.fs.geo.BlockBits, level)
	if err != nil {
		return fmt.Errorf("write: inode %d at byte %d: %w", ip.Ino(), pos, err)
	}
	m.Type, m.Length, m.Flags = iomap.Delalloc, int64(got)<<ip.fs.geo.BlockBits, iomap.FlagNew
	return nil
}

// bufferedEnd gives promises back that were made for this write and not used.
func bufferedEnd(ctx context.Context, vi *vfs.Inode, pos, _, done int64, flags iomap.OpFlags, m *iomap.Mapping) error {
	if m.Flags&iomap.FlagSizeChanged != 0 {
		vi.Dirty(vfs.DirtySize)
	}
	if m.Type != iomap.Delalloc || m.Flags&iomap.FlagNew == 0 {
		return nil
	}
	bs := int64(vi.BlockSize())
	start := (pos + done + bs - 1) &^ (bs - 1)
	if done == 0 {
		start = pos &^ (bs - 1)
	}
	if start >= m.End() {
		return nil
	}
	vi.Pages.InvalidateLock.Lock()
	defer vi.Pages.InvalidateLock.Unlock()
	return iomap.ReleaseDelalloc(ctx, vi, start, m.End(), flags, m, func(vi *vfs.Inode, pos, length int64, _ *iomap.Mapping) {
		ip := inodeOf(vi)
		fb, n := ip.fs.span(pos, length)
		ip.mapMu.Lock()
		ip.keep(fb, n)
		ip.mapSeq.Add(1)
		ip.mapMu.Unlock()
	})
}

// mapBlocks chooses blocks for promised ones, as many as lie together, and maps what has blocks.
func mapBlocks(ctx context.Context, wc *iomap.WritebackContext, pos, length int64) error {
	ip, m := inodeOf(wc.Inode), &wc.Map
	if m.Type == iomap.Mapped && pos >= m.Offset && pos < m.End() && mapValid(wc.Inode, m) {
		return nil // a hole is asked for again: promises may have been made in it, which count as no change of the map
	}
	fs := ip.fs
	// More than asked: what follows will be asked next.
	fb, n := fs.span(pos, max(length, 8<<20))
	n = min(n, uint64(fs.geo.MaxFileBlocks()-fb))
	*m = iomap.Mapping{Addr: iomap.NullAddr}
	ip.mapMu.RLock()
	e, _, err := ip.walk(ctx, fb, n)
	promised := uint64(0)
	if err == nil && e.first == 0 {
		// No more than what is dirty here: a block that is chosen before its data is there would be read from the medium by
		// whoever completes the rest of it.
		_, dirty := fs.span(pos, length)
		promised, _ = ip.promised(fb, min(e.n, dirty))
	}
	if promised == 0 || err != nil {
		if err == nil {
			if e.first == 0 {
				ip.fillHole(m, fb, e)
			} else {
				ip.fill(m, fb, e)
			}
		}
		ip.mapMu.RUnlock()
		return err
	}
	ip.mapMu.RUnlock()
	// Promised space is there; but an indirect block that was to lead to it may have been freed since, and wait for a commit.
	return fs.retryFull(ctx, func() error {
		fs.begin()
		defer fs.end()
		ip.mapMu.Lock()
		defer ip.mapMu.Unlock()
		ip.spending = true
		e, err := ip.allocateLocked(ctx, fb, promised)
		ip.spending = false
		if err != nil {
			return err
		}
		if e.isNew {
			fs.bd.CleanAliases(uint64(e.first), e.n)
		}
		ip.fill(m, fb, e)
		return nil
	})
}

// discardFolio gives back what was promised to data that will not be written: mapBlocks failed.
func discardFolio(fo *pagecache.Folio, pos int64) {
	ip := inodeOf(vfs.InodeOf(fo.AddressSpace()))
	fb, n := ip.fs.span(pos, fo.End()-pos)
	ip.mapMu.Lock()
	ip.keep(fb, n)
	ip.mapSeq.Add(1)
	ip.mapMu.Unlock()
}

// overBegin maps what exists, for a direct write under the shared lock.
func overBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
	if err := readBegin(ctx, vi, pos, length, flags, m, src); err != nil {
		return err
	}
	if m.Type != iomap.Mapped {
		return vfs.ErrNotBlock
	}
	return nil
}

// directBegin allocates past the end of the file only: below it, a new block would be read before its data is there.
func directBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
	size := vi.Size()
	if pos&^int64(vi.BlockSize()-1) < size {
		err := overBegin(ctx, vi, pos, length, flags, m, src)
		if pos+length > size {
			m.Flags |= iomap.FlagDirty
		}
		return err
	}
	return fillBegin(ctx, vi, pos, length, flags, m, src)
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

// directEnd lets a direct write that got nowhere go through the cache, and frees what a short one allocated past the end.
func directEnd(ctx context.Context, vi *vfs.Inode, pos, length, done int64, _ iomap.OpFlags, m *iomap.Mapping) error {
	if done < length && m.Flags&iomap.FlagNew != 0 && pos+done >= vi.Size() {
		ip := inodeOf(vi)
		if err := ip.freeFrom(ctx, disk.FileBlock(ip.fs.geo.BlocksFor(uint64(max(vi.Size(), pos+done))))); err != nil {
			return err
		}
	}
	if done == 0 {
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
func (fs *fsys) iomapTable(t *tables) {
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
			if !fs.sb.ReadOnly() {
				if err := fs.commitNow(ctx); err != nil { // a map that is not on the medium is refused
					return err
				}
			}
			return iomap.SwapActivate(ctx, ip, n, add, readOps)
		}
	}
	if fs.on(vfs.OpDir, vfs.Iomap) {
		t.metaBlock = func(ctx context.Context, ip *inode, fb disk.FileBlock) (disk.FSBlock, error) {
			n, err := iomap.Bmap(ctx, ip.Inode, uint64(fb), readOps)
			return disk.FSBlock(n), err
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
		t.directWrite = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
			return iomap.Direct(ctx, k, p, true, directOps, extending, fs.mustWait(k, p), nil, 0)
		}
		t.directFill = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
			return iomap.Direct(ctx, k, p, true, fillOps, extending, iomap.DirectForceWait, nil, 0)
		}
	}
	if fs.on(vfs.OpBufferedRead, vfs.Iomap) {
		fs.iomapCache(t)
	}
}

// mustWait makes a direct write synchronous that moves the end of the file or shares a block with others.
func (fs *fsys) mustWait(k *vfs.Kiocb, p []byte) iomap.DirectFlags {
	bs := int64(fs.geo.BlockSize)
	if end := k.Pos + int64(len(p)); end > k.Inode.Size() || (k.Pos|end)&(bs-1) != 0 {
		return iomap.DirectForceWait
	}
	return 0
}

// iomapCache is what goes through the page cache: all of it or nothing.
func (fs *fsys) iomapCache(t *tables) {
	t.bufferedWrite = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
		return iomap.BufferedWrite(ctx, k, p, bufferedOps, nil, nil)
	}
	t.truncatePage = func(ctx context.Context, ip *vfs.Inode, pos int64) error {
		_, err := iomap.TruncatePage(ctx, ip, pos, readOps, nil)
		return err
	}
	t.zeroRange = func(ctx context.Context, ip *vfs.Inode, pos, end int64) error {
		_, err := iomap.ZeroRange(ctx, ip, pos, end-pos, readOps, nil)
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
