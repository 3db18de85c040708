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

// bufferedBegin maps pos for a write through the cache. Where there is a hole it promises space, and chooses none: a zone that is in the
// map would be read by others before its data is in the cache.
func bufferedBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
	ip := inodeOf(vi)
	m.FolioOps = folioOps
	return ip.fs.retryFull(ctx, func() error {
		err := readBegin(ctx, vi, pos, length, flags, m, src)
		if err != nil || m.Type != iomap.Hole {
			return err // there, or promised before, to somebody else's data
		}
		bits := vi.BlockBits()
		block := uint64(m.Offset) >> bits
		ip.mapMu.Lock()
		defer ip.mapMu.Unlock()
		if !mapValid(vi, m) {
			return nil // found out when the folio is locked
		}
		n, err := ip.promise(block, uint64(m.Length)>>bits)
		if err != nil {
			return err
		}
		m.Type, m.Length, m.Flags = iomap.Delalloc, int64(n)<<bits, iomap.FlagNew
		return nil
	})
}

// bufferedEnd gives promises back that were made for this write and not used.
func bufferedEnd(ctx context.Context, vi *vfs.Inode, pos, _, done int64, flags iomap.OpFlags, m *iomap.Mapping) error {
	if m.Flags&iomap.FlagSizeChanged != 0 {
		vi.Dirty(vfs.DirtySize)
	}
	bs := int64(vi.BlockSize())
	start := (pos + done + bs - 1) &^ (bs - 1)
	if done == 0 {
		start = m.Offset
	}
	if m.Type != iomap.Delalloc || m.Flags&iomap.FlagNew == 0 || start >= m.End() {
		return nil
	}
	vi.Pages.InvalidateLock.Lock()
	defer vi.Pages.InvalidateLock.Unlock()
	return iomap.ReleaseDelalloc(ctx, vi, start, m.End(), flags, m, giveBack)
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

// mapBlocks says where dirty bytes of a file go, and chooses zones for promised blocks: for those that are dirty here and no more, since
// the others' data is not there yet.
func mapBlocks(ctx context.Context, wc *iomap.WritebackContext, pos, length int64) error {
	ip, m := inodeOf(wc.Inode), &wc.Map
	if m.Type == iomap.Mapped && pos >= m.Offset && pos < m.End() && mapValid(wc.Inode, m) {
		return nil
	}
	*m = iomap.Mapping{Addr: iomap.NullAddr}
	if err := readBegin(ctx, wc.Inode, pos, length, 0, m, nil); err != nil || m.Type != iomap.Delalloc {
		return err // a hole has no data to write any more: somebody cut it off
	}
	block, n := ip.span(pos, min(length, m.End()-pos))
	e, err := ip.redeem(ctx, block, n)
	if err != nil {
		return err
	}
	*m = iomap.Mapping{Addr: iomap.NullAddr}
	ip.fill(m, block, e)
	return nil
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
	t.pages = cachePages(readOps)
}

// cachePages is a page cache on iomap, read by a table of answers.
func cachePages(ops *iomap.Ops) pagecache.Operations {
	return pagecache.Operations{
		ReadFolio: func(ctx context.Context, fo *pagecache.Folio) error { return iomap.ReadFolio(ctx, fo, ops, nil) },
		Readahead: func(ctx context.Context, rac *pagecache.ReadaheadControl) { iomap.Readahead(ctx, rac, ops, nil) },
		WritePages: func(ctx context.Context, as *pagecache.AddressSpace, wbc *pagecache.WritebackControl) error {
			return iomap.WritePages(ctx, as, wbc, writeback)
		},
		DirtyFolio:          iomap.DirtyFolio,
		ReleaseFolio:        iomap.ReleaseFolio,
		InvalidateFolio:     iomap.InvalidateFolio,
		IsPartiallyUptodate: iomap.IsPartiallyUptodate,
	}
}
