package bufhead

import "github.com/iomapfs/iomapfs/vfs/pagecache"

// DirtyFolio (block_dirty_folio) marks a whole locked folio dirty: all its buffers, mapped or not, then the folio.
// For pagecache.Operations.DirtyFolio.
func DirtyFolio(as *pagecache.AddressSpace, fo *pagecache.Folio) bool {
	if bs := buffersOf(fo); bs != nil {
		for i := range bs.list {
			bs.list[i].Set(Dirty)
		}
	}
	return pagecache.DirtyFolio(as, fo)
}

// ReleaseFolio (try_to_free_buffers) drops the buffers of a clean, locked folio unless one is in use.
func ReleaseFolio(fo *pagecache.Folio) bool { return detach(fo) }

// InvalidateFolio (block_invalidate_folio) discards the buffers that lie wholly in [off, off+n) of a locked folio.
func InvalidateFolio(fo *pagecache.Folio, off, n int) {
	bs := buffersOf(fo)
	if bs == nil {
		return
	}
	at := 0
	for i := range bs.list {
		bh := &bs.list[i]
		if at >= off && at+bh.Size <= off+n {
			bh.Lock() // waits for its I/O
			bh.Clear(Dirty | Mapped | New | Req | Delay | Unwritten)
			bh.Dev = nil
			bh.Unlock()
		}
		at += bh.Size
	}
	if off == 0 && n == fo.Len() {
		detach(fo)
	}
}

// IsPartiallyUptodate (block_is_partially_uptodate) reports whether all buffers under [from, from+n) are valid.
func IsPartiallyUptodate(fo *pagecache.Folio, from, n int) bool {
	bs := buffersOf(fo)
	if bs == nil {
		return false
	}
	at := 0
	for i := range bs.list {
		bh := &bs.list[i]
		if at < from+n && at+bh.Size > from && !bh.Has(Uptodate) {
			return false
		}
		at += bh.Size
	}
	return true
}

// allUptodate marks the folio uptodate when every buffer is.
func (bs *buffers) allUptodate(fo *pagecache.Folio) {
	for i := range bs.list {
		if !bs.list[i].Has(Uptodate) {
			return
		}
	}
	fo.SetUptodate()
}
