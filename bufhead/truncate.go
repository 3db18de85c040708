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

// ZeroRange makes [pos, end) read as zeros through the cache. Holes stay holes, unless the cache holds data for them; the size does
// not change. Hold ip.Rw and the invalidate lock exclusively. On error a prefix may have been zeroed.
func ZeroRange(ctx context.Context, ip *vfs.Inode, pos, end int64, gb GetBlock) error {
	bits := ip.BlockBits()
	bs := int64(1) << bits
	var m mapping
	// As in Seek: what was not dirty and then is not mapped is a hole.
	dirty := end // the first dirty byte at or behind pos; −1: look
	if ip.Pages.IsDirty() {
		dirty = -1
	}
	for pos < end {
		if err := ctx.Err(); err != nil {
			return err
		}
		if dirty < pos {
			dirty = dirtyData(&ip.Pages, pos, end, true)
			m.n = 0
		}
		if dirty > pos {
			_, mapped, err := m.lookup(ctx, ip, uint64(pos)>>bits, end-pos&^(bs-1), gb)
			if err != nil {
				return err
			}
			if !mapped {
				pos = min(int64(m.first+m.n)<<bits, dirty)
				continue
			}
		}
		stop := min((pos|(bs-1))+1, end)
		if err := zeroPart(ctx, ip, pos, stop, gb); err != nil {
			return err
		}
		pos = stop
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
	if !bh.Has(Mapped) && !bh.Has(Dirty) {
		err := ask(ctx, ip, uint64(pos)>>bits, bh, int64(1)<<bits, false, gb)
		bh.Size = 1 << bits
		if err != nil || !bh.Has(Mapped) {
			return err
		}
	}
	from, to := int(pos-fo.Pos()), int(end-fo.Pos())
	switch {
	case fo.Uptodate(), bh.Has(Uptodate):
	case !bh.readable():
		from, to = i<<bits, (i+1)<<bits // nothing of it was ever written
	case to-from < 1<<bits:
		if err := bh.read(ip, pos&^(int64(1)<<bits-1)); err != nil {
			return err
		}
	}
	clear(fo.Data()[from:to])
	bh.markDirty(&ip.Pages)
	bs.allUptodate(fo)
	return nil
}

// dirtyData gives the first byte of [pos, end) that is dirty in the cache, when want is true, or that is not; end when there is none.
// Hold ip.Rw.
func dirtyData(as *pagecache.AddressSpace, pos, end int64, want bool) int64 {
	var batch [16]*pagecache.Folio
	for pos < end {
		n := as.Batch(uint64(pos)>>pagecache.PageShift, uint64(end-1)>>pagecache.PageShift+1, pagecache.TagDirty, batch[:])
		if n == 0 {
			break
		}
		found := false
		for _, fo := range batch[:n] {
			if !found && pos < end {
				pos, found = dirtyBuffers(fo, pos, end, want)
			}
			fo.Put()
		}
		if found {
			return min(pos, end)
		}
	}
	if want {
		return end
	}
	return min(pos, end)
}

// dirtyBuffers is dirtyData in one folio, which lies at pos or behind. Not found: it gives the end of the folio.
func dirtyBuffers(fo *pagecache.Folio, pos, end int64, want bool) (int64, bool) {
	if fo.Pos() > pos {
		if !want {
			return pos, true
		}
		pos = fo.Pos()
	}
	fo.Lock()
	defer fo.Unlock()
	bs := buffersOf(fo)
	for pos < min(fo.End(), end) {
		dirty, next := fo.Dirty(), fo.End()
		if bs != nil {
			bh := &bs.list[(pos-fo.Pos())/int64(bs.list[0].Size)]
			dirty, next = bh.Has(Dirty), (pos/int64(bh.Size)+1)*int64(bh.Size)
		}
		if dirty == want {
			return pos, true
		}
		pos = next
	}
	return pos, false
}
