package minix

import (
	"context"

	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// iomapCache puts on iomap what goes through the page cache of regular files.
func (fs *fsys) iomapCache(t *tables) {
	t.folioOrder = pagecache.MaxOrder // iomap's state is two bits a block, whatever the folio's size
	t.pages = pagecache.Operations{
		// Your task: ReadFolio and Readahead on iomap, with readOps. And ReleaseFolio, InvalidateFolio, IsPartiallyUptodate: who
		// hangs something on a folio takes it off again.
		ReadFolio: func(_ context.Context, fo *pagecache.Folio) error {
			fo.Unlock()
			return errno.IO
		},
	}
}
