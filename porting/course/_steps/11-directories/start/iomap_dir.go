package minix

import (
	"context"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
)

// metaOps read directories and symbolic links.
var metaOps = &iomap.Ops{Begin: metaBegin}

// metaBegin is readBegin for what may have no holes.
func metaBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
	// Your task: a hole before the end is damage: fs.corrupt. What is promised is no hole.
	return readBegin(ctx, vi, pos, length, flags, m, src)
}

// iomapDir puts what directories and symbolic links hold in the page cache.
func (fs *fsys) iomapDir(t *tables) {
	t.metaPages = cachePages(metaOps)
	// Your task: t.metaRead and t.metaWrite. What they must do stands in paths.go; what they did, in legacy_dir.go.
}
