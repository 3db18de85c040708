package minix

import (
	"context"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// writeback is the filesystem's part in writing dirty folios.
var writeback = &iomap.WritebackOps{MapBlocks: mapBlocks}

// mapBlocks says where dirty bytes of a file go.
func mapBlocks(ctx context.Context, wc *iomap.WritebackContext, pos, length int64) error {
	m := &wc.Map
	if m.Type == iomap.Mapped && pos >= m.Offset && pos < m.End() && mapValid(wc.Inode, m) {
		return nil
	}
	*m = iomap.Mapping{Addr: iomap.NullAddr}
	return readBegin(ctx, wc.Inode, pos, max(length, 1<<20), 0, m, nil) // what follows is asked next
}

// mapValid reports whether a mapping is still what the map says.
func mapValid(vi *vfs.Inode, m *iomap.Mapping) bool { return m.Cookie == inodeOf(vi).mapSeq.Load() }

// iomapCache puts on iomap what goes through the page cache of regular files.
func (fs *fsys) iomapCache(t *tables) {
	t.folioOrder = pagecache.MaxOrder // iomap's state is two bits a block, whatever the folio's size
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
