package iomap

import (
	"context"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// Punch gives back what is reserved of bytes [pos, pos+length), and nothing else: no allocated block, nothing of another kind. It must
// not lock folios.
type Punch func(ip *vfs.Inode, pos, length int64, m *Mapping)

// ReleaseDelalloc (iomap_write_delalloc_release) gives back the reservations of [start, end), whole blocks, that no dirty data in the
// cache needs. For End, when a write did not use all of a Delalloc mapping with FlagNew.
//
//	            ┌ clean ┐      ┌ dirty ┐     end of file
//	start ──────┴───────┴──────┴───────┴──────────│────────── end
//	      └──── punched ──────┘ kept   └─ punched ────────────┘
//
// Hold ip.Rw exclusively and the invalidate lock exclusively: stores through mappings must not dirty folios meanwhile. Lock no folio.
// Source: Linux fs/iomap/buffered-io.c as of 6.12.
func ReleaseDelalloc(ctx context.Context, ip *vfs.Inode, start, end int64, _ OpFlags, m *Mapping, punch Punch) error {
	// What the cache holds behind the end of the file is never written.
	scan := min(ip.Size(), end)
	var batch [16]*pagecache.Folio
	kept := start // reservations before it are dealt with
	for index := uint64(start) >> pagecache.PageShift; int64(index)<<pagecache.PageShift < scan; {
		n := ip.Pages.Batch(index, uint64(scan+pagecache.PageSize-1)>>pagecache.PageShift, pagecache.TagAny, batch[:])
		if n == 0 {
			break
		}
		for _, fo := range batch[:n] {
			index = uint64(fo.End()) >> pagecache.PageShift
			fo.Lock()
			if fo.AddressSpace() == &ip.Pages && (fo.Dirty() || fo.Writeback()) {
				keepDirty(ip, fo, scan, &kept, m, punch)
			}
			fo.Unlock()
			fo.Put()
		}
	}
	if kept < end {
		punch(ip, kept, end-kept, m)
	}
	return ctx.Err()
}

// keepDirty punches from kept to the dirty blocks of a folio and between them, and moves kept behind the last of them.
func keepDirty(ip *vfs.Inode, fo *pagecache.Folio, scan int64, kept *int64, m *Mapping, punch Punch) {
	from := int(max(*kept-fo.Pos(), 0))
	bs := int64(ip.BlockSize())
	to := int(min(int64(fo.Len()), (scan-fo.Pos()+bs-1)&^(bs-1)))
	for from < to {
		at, n := nextDirty(fo, from, to)
		if n == 0 {
			return
		}
		if pos := fo.Pos() + int64(at); pos > *kept {
			punch(ip, *kept, pos-*kept, m)
		}
		from = at + n
		*kept = fo.Pos() + int64(from)
	}
}
