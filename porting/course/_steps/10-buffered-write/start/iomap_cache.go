package minix

import (
	"context"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

var (
	bufferedOps = &iomap.Ops{Begin: bufferedBegin, End: bufferedEnd} // writes through the cache: promises space
	folioOps    = &iomap.FolioOps{Valid: mapValid}
	writeback   = &iomap.WritebackOps{MapBlocks: mapBlocks, DiscardFolio: discardFolio}
)

// bufferedBegin maps pos for a write through the cache. Where there is a hole it promises space, and chooses none.
func bufferedBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
	// Your task. As it stands it allocates, as the legacy path does.
	return writeBegin(ctx, vi, pos, length, flags, m, src)
}

// bufferedEnd gives promises back that were made for this write and not used.
func bufferedEnd(ctx context.Context, vi *vfs.Inode, pos, length, done int64, flags iomap.OpFlags, m *iomap.Mapping) error {
	if m.Flags&iomap.FlagSizeChanged != 0 {
		vi.Dirty(vfs.DirtySize)
	}
	// Your task: iomap.ReleaseDelalloc, with giveBack.
	return nil
}

// giveBack ends promises; it is an iomap.Punch.
func giveBack(vi *vfs.Inode, pos, length int64, _ *iomap.Mapping) {
	ip := inodeOf(vi)
	block, n := ip.span(pos, length)
	ip.mapMu.Lock()
	ip.unpromise(block, n)
	ip.mapSeq.Add(1)
	ip.mapMu.Unlock()
}

// discardFolio is told that a folio is not written from byte pos on, since mapBlocks failed there.
func discardFolio(fo *pagecache.Folio, pos int64) {
	giveBack(vfs.InodeOf(fo.AddressSpace()), pos, fo.End()-pos, nil)
}

// mapBlocks says where dirty bytes of a file go, and chooses zones for promised blocks.
func mapBlocks(ctx context.Context, wc *iomap.WritebackContext, pos, length int64) error {
	m := &wc.Map
	if m.Type == iomap.Mapped && pos >= m.Offset && pos < m.End() && mapValid(wc.Inode, m) {
		return nil
	}
	*m = iomap.Mapping{Addr: iomap.NullAddr}
	// Your task: where blocks are promised, redeem as many as are dirty.
	return readBegin(ctx, wc.Inode, pos, max(length, 1<<20), 0, m, nil)
}

// mapValid reports whether a mapping is still what the map says.
func mapValid(vi *vfs.Inode, m *iomap.Mapping) bool { return m.Cookie == inodeOf(vi).mapSeq.Load() }

// iomapCache puts on iomap what goes through the page cache of regular files.
func (fs *fsys) iomapCache(t *tables) {
	t.folioOrder = pagecache.MaxOrder // iomap's state is two bits a block, whatever the folio's size
	t.bufferedWrite = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
		return iomap.BufferedWrite(ctx, k, p, bufferedOps, nil, nil)
	}
	t.truncatePage = func(ctx context.Context, ip *vfs.Inode, pos int64) error {
		_, err := iomap.TruncatePage(ctx, ip, pos, readOps, nil)
		return err
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
