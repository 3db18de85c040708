package minix

import (
	"context"
	"math"

	"github.com/iomapfs/iomapfs/porting/minix/disk"
	"github.com/iomapfs/iomapfs/vfs"
)

// setSize changes the length of a regular file. Hold Rw exclusively.
//
// Cutting: zeros behind the new end in its block, then the size, then the cache, then the blocks, so that nothing is written
// to a block that was given back.
func (ip *inode) setSize(ctx context.Context, size int64) error {
	old := ip.Size()
	ip.DirectWait()
	if size == old {
		return nil
	}
	// Growing brings the bytes behind the old end into sight; cutting, those behind the new one, later.
	if err := ip.fs.truncatePage(ctx, ip.Inode, min(old, size)); err != nil {
		return err
	}
	if size > old {
		ip.SetSize(size)
		ip.Pages.Extended(old, size)
		ip.Dirty(vfs.DirtySize)
		return nil
	}
	ip.Pages.InvalidateLock.Lock()
	defer ip.Pages.InvalidateLock.Unlock()
	return ip.cut(ctx, size)
}

// cut drops cache and blocks past size, which becomes the file's. Hold the invalidate lock exclusively.
func (ip *inode) cut(ctx context.Context, size int64) error {
	ip.SetSize(size)
	ip.Pages.Truncate(size)
	ip.Dirty(vfs.DirtySize)
	bs := int64(ip.fs.super.BlockSize)
	return ip.freeFrom(ctx, uint64((size+bs-1)/bs))
}

// cutFailed frees blocks past the end after a write that failed there. Rw held exclusively.
func (fs *fsys) cutFailed(ctx context.Context, vi *vfs.Inode, size int64) {
	vi.Pages.InvalidateLock.Lock()
	defer vi.Pages.InvalidateLock.Unlock()
	if err := inodeOf(vi).cut(ctx, size); err != nil {
		fs.sb.Log.Error("blocks behind the end of a file stay allocated", "err", err)
	}
}

// freeFrom frees the blocks of the file from index from on. The cache of the range is gone already.
func (ip *inode) freeFrom(ctx context.Context, from uint64) error {
	s := &ip.fs.super
	ip.mapMu.Lock()
	ip.unpromise(from, math.MaxUint64)
	ip.mapSeq.Add(1)
	defer ip.Dirty(0) // after the lock
	defer ip.mapMu.Unlock()
	for i := from; i < disk.NDirect; i++ {
		if z := disk.Zone(ip.zone[i]); z != 0 {
			ip.zone[i] = 0
			ip.freeZone(z)
		}
	}
	start, span := uint64(disk.NDirect), uint64(1)
	for level := 1; level <= s.Levels(); level++ {
		span *= s.PtrsPerZone()
		i := disk.NDirect + level - 1
		if z := disk.Zone(ip.zone[i]); z != 0 && from < start+span {
			gone, err := ip.freeTree(ctx, z, level, max(from, start)-start)
			if gone {
				ip.zone[i] = 0
			}
			if err != nil {
				return err
			}
		}
		start += span
	}
	return nil
}

// freeTree frees the blocks from index from on below indirect zone z, which is level levels above the data. gone says that z
// itself was freed, since nothing was left in it.
func (ip *inode) freeTree(ctx context.Context, z disk.Zone, level int, from uint64) (gone bool, err error) {
	fs, s := ip.fs, &ip.fs.super
	bh, err := ip.indirect(ctx, z)
	if err != nil {
		return false, err
	}
	below := uint64(1) // blocks behind each number
	for range level - 1 {
		below *= s.PtrsPerZone()
	}
	p, changed := s.Ptrs(bh.Data), false
	for i := uint32(from / below); i < uint32(p.Len()); i++ {
		q := p.At(i)
		if q == 0 {
			continue
		}
		sub := true
		if level > 1 {
			rest := uint64(0)
			if at := uint64(i) * below; from > at {
				rest = from - at
			}
			if sub, err = ip.freeTree(ctx, q, level-1, rest); err != nil {
				break
			}
		} else {
			ip.freeZone(q)
		}
		if sub {
			bh.Lock()
			p.Set(i, 0)
			bh.Unlock()
			changed = true
		}
	}
	if err == nil && p.Empty() {
		fs.bd.Forget(bh)
		ip.freeZone(z)
		return true, nil
	}
	if changed {
		fs.bd.MarkDirtyInode(bh, ip.Inode)
	}
	bh.Put()
	return false, err
}

// freeZone gives one zone of the file back.
func (ip *inode) freeZone(z disk.Zone) {
	if !ip.IsRegular() {
		// A block of a directory or symbolic link may wait in the buffer cache for being written.
		if bh, err := ip.fs.bd.GetBlk(context.Background(), uint64(z)); err == nil && ip.fs.super.ValidZone(z) {
			ip.fs.bd.Forget(bh)
		}
	}
	ip.fs.freeZones(z, 1)
	ip.AddBlocks(-int64(ip.fs.super.BlockSize / 512))
}
