package bufhead

import (
	"context"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// TruncatePage (block_truncate_page) zeroes from pos to the end of its block, so that nothing old comes into sight when
// the file grows again. A hole stays a hole. Hold ip.Rw exclusively.
func TruncatePage(ctx context.Context, ip *vfs.Inode, pos int64, gb GetBlock) error {
	bs := int64(1) << ip.BlockBits()
	if pos&(bs-1) == 0 {
		return nil
	}
	return zeroPart(ctx, ip, pos, (pos|(bs-1))+1, gb)
}

// ZeroRange makes [pos, end) read as zeros through the cache. Holes stay holes; the size does not change.
// Hold ip.Rw and the invalidate lock exclusively. On error a prefix may have been zeroed.
func ZeroRange(ctx context.Context, ip *vfs.Inode, pos, end int64, gb GetBlock) error {
	bs := int64(1) << ip.BlockBits()
	for pos < end {
		stop := min((pos|(bs-1))+1, end)
		var bh BufferHead
		if err := ask(ctx, ip, uint64(pos)>>ip.BlockBits(), &bh, end-pos, false, gb); err != nil {
			return err
		}
		if !bh.Has(Mapped) {
			pos = min(max(stop, pos&^(bs-1)+int64(bh.Size)), end)
			continue
		}
		if err := zeroPart(ctx, ip, pos, stop, gb); err != nil {
			return err
		}
		if pos = stop; pos&(balanceEvery-1) == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// zeroPart zeroes [pos, end), which lies in one block.
func zeroPart(ctx context.Context, ip *vfs.Inode, pos, end int64, gb GetBlock) error {
	bits := ip.BlockBits()
	fo, err := ip.Pages.Grab(ctx, uint64(pos)>>pagecache.PageShift, 0)
	if err != nil {
		return err
	}
	defer func() {
		fo.Unlock()
		fo.Put()
	}()
	fo.WaitWriteback()
	bs := attach(fo, bits)
	i := int(pos-fo.Pos()) >> bits
	bh := &bs.list[i]
	if !bh.Has(Mapped) {
		if err := ask(ctx, ip, uint64(pos)>>bits, bh, int64(1)<<bits, false, gb); err != nil {
			return err
		}
		bh.Size = 1 << bits
		if !bh.Has(Mapped) {
			return nil
		}
	}
	switch {
	case fo.Uptodate():
		bh.Set(Uptodate)
	case bh.Has(Uptodate), bh.Has(Delay), bh.Has(Unwritten):
	case end-pos == int64(1)<<bits:
	default:
		if err := bh.read(pos&^(int64(1)<<bits-1), ip.Size()); err != nil {
			return err
		}
	}
	clear(fo.Data()[pos-fo.Pos() : end-fo.Pos()])
	bh.Set(Uptodate)
	bh.Set(Dirty)
	bs.allUptodate(fo)
	pagecache.DirtyFolio(&ip.Pages, fo)
	return nil
}
