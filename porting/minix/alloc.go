package minix

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/porting/minix/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/invariant"
)

// bitmap is the inode map or the zone map, held in memory by its buffers. Bit 0 belongs to nothing and is always set.
type bitmap struct {
	bd   *bufhead.Device
	bits uint32 // bits that mean something; immutable

	mu    invariant.Mutex[invariant.AllocGroup] // guards the bits and rotor. Inside inode.mapMu, outside buffer locks
	bhs   []*bufhead.BufferHead
	rotor uint32 // where the search goes on

	free atomic.Int64
}

// load reads a map of n blocks from block first on.
func (m *bitmap) load(ctx context.Context, bd *bufhead.Device, first, n, bits uint32) error {
	m.bd, m.bits, m.rotor = bd, bits, 1
	per := uint32(bd.BlockSize()) * 8
	bd.Readahead(ctx, uint64(first), uint64(n))
	for i := range n {
		bh, err := bd.Bread(ctx, uint64(first+i))
		if err != nil {
			return fmt.Errorf("bitmap: %w", err)
		}
		m.bhs = append(m.bhs, bh)
		if i*per < bits {
			m.free.Add(int64(disk.Bitmap(bh.Data).Free(min(per, bits-i*per))))
		}
	}
	return nil
}

func (m *bitmap) release() {
	for _, bh := range m.bhs {
		bh.Put()
	}
	m.bhs = nil
}

// take sets the first clear bit from goal on, around the end if need be, and up to n−1 that follow it. 0 for goal: where the
// last search ended. got is 0 when all are set.
func (m *bitmap) take(goal, n uint32) (first, got uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if goal == 0 || goal >= m.bits {
		goal = m.rotor
	}
	first, ok := m.next(goal, m.bits)
	if !ok {
		if first, ok = m.next(1, goal); !ok {
			return 0, 0
		}
	}
	for got < n && first+got < m.bits && m.change(first+got, true) {
		got++
	}
	m.free.Add(-int64(got))
	m.rotor = first + got
	if m.rotor >= m.bits {
		m.rotor = 1
	}
	return first, got
}

// give clears n bits. It reports whether all were set: if not, the image is damaged.
func (m *bitmap) give(first, n uint32) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := true
	for i := range n {
		if m.change(first+i, false) {
			m.free.Add(1)
		} else {
			all = false
		}
	}
	return all
}

func (m *bitmap) next(from, to uint32) (uint32, bool) {
	per := uint32(m.bd.BlockSize()) * 8
	for base := from / per * per; base < to; base += per {
		bm := disk.Bitmap(m.bhs[base/per].Data)
		if i, ok := bm.Next(max(from, base)-base, min(to-base, per)); ok {
			return base + i, true
		}
	}
	return 0, false
}

// change sets or clears bit i, and reports false when it was so already.
func (m *bitmap) change(i uint32, set bool) bool {
	per := uint32(m.bd.BlockSize()) * 8
	bh := m.bhs[i/per]
	bm := disk.Bitmap(bh.Data)
	if bm.Has(i%per) == set {
		return false
	}
	bh.Lock()
	if set {
		bm.Set(i % per)
	} else {
		bm.Clear(i % per)
	}
	bh.Unlock()
	m.bd.MarkDirty(bh)
	return true
}

// newZones takes up to n zones that lie together, near goal.
func (fs *fsys) newZones(goal disk.Zone, n uint32) (disk.Zone, uint32, error) {
	var bit uint32
	if fs.super.ValidZone(goal) {
		bit = uint32(goal-fs.super.FirstZone) + 1
	}
	first, got := fs.zones.take(bit, n)
	if got == 0 {
		return 0, 0, fmt.Errorf("%s: no free zones: %w", fs.sb.Dev.Name(), errno.NOSPC)
	}
	return disk.Zone(first-1) + fs.super.FirstZone, got, nil
}

// freeZones gives zones back.
func (fs *fsys) freeZones(z disk.Zone, n uint32) {
	if !fs.super.ValidZone(z) || !fs.zones.give(uint32(z-fs.super.FirstZone)+1, n) {
		fs.sb.Log.Error("zones were free already: run fsck.minix", "device", fs.sb.Dev.Name(), "zone", z, "count", n)
	}
}
