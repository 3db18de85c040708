package iomap

import (
	"sync"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// FolioBatch is what zeroing must visit of an unwritten mapping: folios whose data waits to be written, or is being written.
type FolioBatch struct {
	Folios []*pagecache.Folio // ascending, each referenced; released by the library
}

// Release drops the references, and the batch.
func (b *FolioBatch) Release() {
	for _, fo := range b.Folios {
		fo.Put()
	}
	clear(b.Folios)
	b.Folios = b.Folios[:0]
	batches.Put(b)
}

var batches = sync.Pool{New: func() any { return &FolioBatch{Folios: make([]*pagecache.Folio, 0, 31)} }}

// FillDirtyFolios (iomap_fill_dirty_folios) makes m, which Begin answers to OpZero over unwritten space, visit the folios of [pos, end) that are
// dirty or being written, and nothing else of it: what is not cached there is zeros already, so that nothing has to be written back
// before. With more of them than a batch holds m ends behind the last. Call it under the lock that keeps the map as it is, after the rest of
// m is filled in.
func FillDirtyFolios(ip *vfs.Inode, m *Mapping, pos, end int64) {
	if m.Type != Unwritten || pos >= end {
		return
	}
	b := batches.Get().(*FolioBatch)
	var some [16]*pagecache.Folio
	index, stop := uint64(pos)>>pagecache.PageShift, uint64(end+pagecache.PageSize-1)>>pagecache.PageShift
	for index < stop {
		n := ip.Pages.Batch(index, stop, pagecache.TagAny, some[:])
		if n == 0 {
			break
		}
		for _, fo := range some[:n] {
			index = fo.Index() + 1<<fo.Order()
			switch {
			case !fo.Dirty() && !fo.Writeback() && !fo.Locked():
				fo.Put()
			case len(b.Folios) == cap(b.Folios):
				// Full: what lies behind the last is for the next mapping.
				fo.Put()
				if last := b.Folios[len(b.Folios)-1].End(); last < m.End() && last > pos {
					m.Length = last - m.Offset
				}
				stop = 0
			default:
				b.Folios = append(b.Folios, fo)
			}
		}
	}
	m.Batch = b
	m.Flags |= FlagFolioBatch
}
