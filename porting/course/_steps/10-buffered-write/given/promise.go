package minix

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/iomapfs/iomapfs/porting/minix/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// promises are the blocks of a file that have data in the cache and no zone yet: space is promised for them, so that writeback, which
// chooses the zones, never finds the filesystem full. A block is never both promised and in the map. Guarded by inode.mapMu.
//
// Held of the free space are the block, and for each indirect zone of the lowest level that leads to promised blocks the whole way of
// indirect zones to it. That may be more than will be taken, never less.
type promises struct {
	blocks map[uint64]struct{}
	below  map[uint64]int // promised blocks by the lowest indirect zone that leads to them; 0 is the inode itself
	held   int64          // zones
}

// wayTo numbers the lowest indirect zone that leads to a block, and gives how many zones the way to it has.
func (ip *inode) wayTo(fb uint64) (chunk uint64, zones int64) {
	path, ok := ip.fs.super.PathOf(fb)
	if !ok || path.Depth == 1 {
		return 0, 0
	}
	return 1 + (fb-disk.NDirect)/ip.fs.super.PtrsPerZone(), int64(path.Depth) - 1
}

// isPromised gives how many blocks from fb on, up to limit, are promised; if fb is not, n is 0 and gap how many are not. Under mapMu.
func (ip *inode) isPromised(fb, limit uint64) (n, gap uint64) {
	blocks := ip.prom.blocks
	has := func(b uint64) bool { _, ok := blocks[b]; return ok }
	for n < limit && has(fb+n) {
		n++
	}
	switch {
	case n > 0:
		return n, 0
	case limit > uint64(len(blocks)):
		gap = limit
		for b := range blocks {
			if b > fb {
				gap = min(gap, b-fb)
			}
		}
	default:
		for gap < limit && !has(fb+gap) {
			gap++
		}
	}
	return 0, gap
}

// promise promises up to n blocks from fb on, which are a hole and not promised yet, and gives how many there was room for.
// errno.NOSPC when there was none. Under mapMu exclusively.
func (ip *inode) promise(fb, n uint64) (done uint64, err error) {
	p := &ip.prom
	if p.blocks == nil {
		p.blocks, p.below = map[uint64]struct{}{}, map[uint64]int{}
	}
	for ; done < n; done++ {
		chunk, zones := ip.wayTo(fb + done)
		if p.below[chunk] > 0 {
			zones = 0 // promised already
		}
		if ip.fs.claim(1+zones, 1+zones) == 0 {
			break
		}
		p.blocks[fb+done] = struct{}{}
		p.below[chunk]++
		p.held += 1 + zones
	}
	if done == 0 {
		return 0, fmt.Errorf("%s: no free zones: %w", ip.fs.sb.Dev.Name(), errno.NOSPC)
	}
	return done, nil
}

// unpromise ends what promises there are for blocks [fb, fb+n): zones were chosen, or nobody wants them any more. Under mapMu exclusively.
func (ip *inode) unpromise(fb, n uint64) {
	p := &ip.prom
	end := fb + min(n, math.MaxUint64-fb)
	drop := func(b uint64) {
		if _, ok := p.blocks[b]; !ok {
			return
		}
		delete(p.blocks, b)
		chunk, zones := ip.wayTo(b)
		gone := int64(1)
		if p.below[chunk]--; p.below[chunk] == 0 {
			delete(p.below, chunk)
			gone += zones
		}
		p.held -= gone
		ip.fs.promised.Add(-gone)
	}
	if end-fb > uint64(len(p.blocks)) {
		for b := range p.blocks {
			if b >= fb && b < end {
				drop(b)
			}
		}
		return
	}
	for b := fb; b < end; b++ {
		drop(b)
	}
}

// redeem chooses zones for up to n promised blocks from fb on, as many as lie together.
func (ip *inode) redeem(ctx context.Context, fb, n uint64) (extent, error) {
	ip.mapMu.Lock()
	e, err := ip.allocateClaimed(ctx, fb, n)
	ip.mapMu.Unlock()
	ip.allocated(e)
	return e, err
}

// claim takes up to n free zones, at least atLeast or none, out of everybody else's reach, and gives how many. fs.promised gives them
// back.
func (fs *fsys) claim(n, atLeast int64) int64 {
	for {
		p := fs.promised.Load()
		got := min(n, fs.zones.free.Load()-p)
		if got < atLeast {
			return 0
		}
		if fs.promised.CompareAndSwap(p, p+got) {
			return got
		}
	}
}

// retryFull does f, and when there was no space once more after everything promised was turned into zones: promises ask for more than
// is needed in the end. No folio is locked.
func (fs *fsys) retryFull(ctx context.Context, f func() error) error {
	err := f()
	if errors.Is(err, errno.NOSPC) && fs.promised.Load() > 0 && fs.sb.WB.SyncAll(ctx) == nil {
		err = f()
	}
	return err
}
