package bufhead

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// Bmap (generic_block_bmap) gives the device block of a file block, 0 for a hole and what has no block yet.
func Bmap(ctx context.Context, ip *vfs.Inode, blk uint64, gb GetBlock) (uint64, error) {
	var bh BufferHead
	if err := ask(ctx, ip, blk, &bh, int64(1)<<ip.BlockBits(), false, gb); err != nil || !bh.readable() {
		return 0, err
	}
	return bh.Block, nil
}

// Fiemap (generic_block_fiemap) reports extents by asking for one run after the other. All carry ExtentMerged, since block
// pointers were glued. LAST stands on the last extent of the file, when the range reaches it. Holds ip.Rw.
func Fiemap(ctx context.Context, ip *vfs.Inode, info *vfs.FiemapInfo, gb GetBlock) error {
	if err := info.Prep(0, uint64(ip.SB().MaxBytes)); err != nil {
		return err
	}
	ip.Rw.RLock()
	defer ip.Rw.RUnlock()
	bits := ip.BlockBits()
	size := ip.Size()
	pos := int64(info.Start) >> bits << bits
	end := min(int64(info.Start+info.Len), size)
	var pending vfs.FiemapExtent
	have := false
	for pos < size {
		if err := ctx.Err(); err != nil {
			return err
		}
		var bh BufferHead
		if err := ask(ctx, ip, uint64(pos)>>bits, &bh, (size-pos+1<<bits-1)>>bits<<bits, false, gb); err != nil {
			return err
		}
		n := max(int64(bh.Size)>>bits<<bits, 1<<bits)
		if !bh.readable() {
			pos += n
			continue
		}
		if have {
			if full, err := info.Fill(pending); full || err != nil {
				return err
			}
			have = false
		}
		if pos >= end {
			return nil // another extent follows, beyond what was asked: the one reported last is not LAST
		}
		pending = vfs.FiemapExtent{Logical: uint64(pos), Physical: bh.Block << bits, Length: uint64(n), Flags: vfs.ExtentMerged}
		have = true
		pos += n
	}
	if have {
		pending.Flags |= vfs.ExtentLast
		_, err := info.Fill(pending)
		return err
	}
	return nil
}

// Seek answers SEEK_DATA and SEEK_HOLE by get_block: data is what is mapped, and what the cache holds dirty and has no block yet.
// pos lies inside the file. errno.NXIO when there is no more data. The kernel's block-mapped filesystems said that all is data.
func Seek(ctx context.Context, ip *vfs.Inode, pos int64, whence int, gb GetBlock) (int64, error) {
	ip.Rw.RLock()
	defer ip.Rw.RUnlock()
	bits := ip.BlockBits()
	size := ip.Size()
	if pos < 0 || pos >= size {
		return 0, errno.NXIO
	}
	// What is dirty is looked for before get_block is asked: writeback maps a block before it takes the dirty bit, so that what was
	// not dirty and then is not mapped is a hole.
	dirty := size // the first dirty byte at or behind at; −1: look
	if ip.Pages.IsDirty() {
		dirty = -1
	}
	for at := pos; at < size; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if dirty < at {
			dirty = dirtyData(&ip.Pages, at, size, true)
		}
		if dirty == at {
			if whence == vfs.SeekData {
				return at, nil
			}
			at = dirtyData(&ip.Pages, at, size, false)
			continue
		}
		var bh BufferHead
		base := at >> bits << bits
		if err := ask(ctx, ip, uint64(at)>>bits, &bh, (size-base+1<<bits-1)>>bits<<bits, false, gb); err != nil {
			return 0, err
		}
		mapped := bh.readable()
		if mapped == (whence == vfs.SeekData) {
			return at, nil
		}
		if at = base + max(int64(bh.Size)>>bits<<bits, 1<<bits); !mapped {
			at = min(at, dirty)
		}
	}
	if whence == vfs.SeekHole {
		return size, nil
	}
	return 0, errno.NXIO
}

// SwapActivate (generic_swapfile_activate) walks a swap file block by block and reports runs of whole, aligned pages.
// A hole makes the file unusable: errno.INVAL.
func SwapActivate(ctx context.Context, ip *vfs.Inode, maxPages uint64, add func(vfs.SwapExtent) error, gb GetBlock) error {
	bits := ip.BlockBits()
	perPage := uint64(1)
	if bits < pagecache.PageShift {
		perPage = 1 << (pagecache.PageShift - bits)
	}
	last := uint64(ip.Size()) >> pagecache.PageShift << pagecache.PageShift >> bits
	var found uint64
	for probe := uint64(0); probe+perPage <= last && found < maxPages; {
		if err := ctx.Err(); err != nil {
			return err
		}
		first, err := Bmap(ctx, ip, probe, gb)
		if err != nil {
			return err
		}
		run := uint64(1)
		for first != 0 && run < perPage {
			b, err := Bmap(ctx, ip, probe+run, gb)
			if err != nil {
				return err
			}
			if b == 0 {
				first = 0
			}
			if b != first+run {
				break
			}
			run++
		}
		if first == 0 {
			return fmt.Errorf("swap file: inode %d has a hole at byte %d: %w", ip.Ino(), probe<<bits, errno.INVAL)
		}
		if run < perPage || first<<bits&(pagecache.PageSize-1) != 0 {
			probe++ // not a page on the device: try from the next block on
			continue
		}
		pages := uint64(1)
		if bits > pagecache.PageShift {
			pages = min(1<<(bits-pagecache.PageShift), maxPages-found)
		}
		if err := add(vfs.SwapExtent{Page: found, Pages: pages, Addr: int64(first) << bits}); err != nil {
			return err
		}
		found += pages
		probe += perPage
	}
	if found == 0 {
		return fmt.Errorf("swap file: inode %d has no page that is aligned on the device: %w", ip.Ino(), errno.INVAL)
	}
	return nil
}
