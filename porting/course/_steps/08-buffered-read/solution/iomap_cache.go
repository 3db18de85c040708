package minix

import (
	"context"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// iomapCache puts on iomap what goes through the page cache of regular files.
func (fs *fsys) iomapCache(t *tables) {
	t.folioOrder = pagecache.MaxOrder // iomap's state is two bits a block, whatever the folio's size
	t.pages = pagecache.Operations{
		ReadFolio:           func(ctx context.Context, fo *pagecache.Folio) error { return iomap.ReadFolio(ctx, fo, readOps, nil) },
		Readahead:           func(ctx context.Context, rac *pagecache.ReadaheadControl) { iomap.Readahead(ctx, rac, readOps, nil) },
		ReleaseFolio:        iomap.ReleaseFolio,
		InvalidateFolio:     iomap.InvalidateFolio,
		IsPartiallyUptodate: iomap.IsPartiallyUptodate,
	}
}
