package ext2

import (
	"context"
	"errors"
	"slices"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// reservation is a window of blocks that one file will grow into: kept in memory only, so that files that are written at
// the same time do not interleave. Guarded by the inode's mapMu; next and end by the group's mu too, for those who look.
type reservation struct {
	next, end disk.FSBlock // what is left of it; empty when equal
	group     disk.Group
	size      uint32 // of the next window, in blocks
	held      bool   // on its group's list
}

// Window sizes in blocks.
const (
	windowMin = 8
	windowMax = 2048
	fewBlocks = 64 // fewer free ones in a row than that are left to those who want no more
)

// wish is where blocks should come from.
type wish struct {
	goal disk.FSBlock
	sure bool // goal follows from where other blocks of the file lie; else it is as good as any
	late bool // the block belongs before some that were allocated already: pieces of a file may arrive in any order
	room bool // goal leaves room for the indirect blocks before it
}

// allocBlocks takes up to want contiguous blocks, near the wish and from ip's window, and marks them in use. Inside a
// transaction, with ip.mapMu held exclusively. errno.NOSPC when there is none.
func (fs *fsys) allocBlocks(ctx context.Context, ip *inode, w wish, want uint32) (disk.FSBlock, uint32, error) {
	if !ip.spending {
		got := fs.claim(ip, int64(want), 1)
		if got == 0 {
			return 0, 0, errno.NOSPC
		}
		defer fs.promised.Add(-got) // taken by then, or not wanted
		want = uint32(got)
	}
	r, goal := &ip.resv, w.goal
	inside := r.held && goal >= r.next && goal < r.end
	if r.held && r.next < r.end && (inside || !w.sure) {
		from := r.next
		if inside {
			from = goal
		}
		if b, n, err := fs.fromWindow(ctx, r, from, want); n > 0 || err != nil {
			return b, n, err
		}
	}
	if w.late && w.sure {
		if n, err := fs.takeAt(ctx, ip, goal, want, false); n > 0 || err != nil {
			return goal, n, err
		}
	}
	if r.held {
		size := r.size
		fs.dropWindow(ip)
		r.size = size
	}
	if w.sure {
		if n, err := fs.takeAt(ctx, ip, goal, want, true); n > 0 || err != nil {
			return goal, n, err
		}
	}
	if !fs.dataBlock(goal) {
		goal = fs.geo.GroupFirst(fs.geo.InodeGroup(disk.Ino(ip.Ino())))
	}
	start, _ := fs.geo.GroupIndex(goal)
	// First with everybody's windows respected, then taking what is left.
	for _, respect := range []bool{true, false} {
		var first error
		for i := range fs.geo.Groups {
			n := disk.Group((uint32(start) + i) % fs.geo.Groups)
			from := uint32(0)
			if i == 0 {
				_, from = fs.geo.GroupIndex(goal)
			}
			b, k, err := fs.allocIn(ctx, ip, n, from, want, respect)
			if k > 0 {
				return b, k, nil
			}
			if err != nil && !errors.Is(err, errno.UCLEAN) && first == nil {
				first = err
			}
		}
		if first != nil {
			return 0, 0, first
		}
	}
	return 0, 0, errno.NOSPC
}

// along gives the block d data blocks behind b, or before it: the metadata at the heads of groups between do not count. 0 when
// that is outside the device.
func (fs *fsys) along(b disk.FSBlock, d int64) disk.FSBlock {
	g := fs.geo
	head := func(gr disk.Group) int64 { // blocks of metadata at the head of a group, as mke2fs lays them out
		first, table := g.GroupFirst(gr), fs.groups[gr].desc.InodeTable
		if table >= first && uint32(table-first) < g.GroupBlocks(gr)/2 {
			return int64(table-first) + int64(g.ITableBlocks)
		}
		return int64(g.GroupHead(gr))
	}
	if !g.ValidBlock(b) {
		return 0
	}
	gr, _ := g.GroupIndex(b)
	at := int64(b) + d
	for at >= int64(g.GroupFirst(gr))+int64(g.GroupBlocks(gr)) {
		if gr++; uint32(gr) >= g.Groups {
			return 0
		}
		at += head(gr)
	}
	for at < int64(g.GroupFirst(gr))+head(gr) {
		if gr == 0 || d > 0 {
			return 0
		}
		at -= head(gr)
		gr--
	}
	return disk.FSBlock(at)
}

// takeAt takes blocks from goal on, if that is free and in nobody's window. With lay the file has no window: one is laid behind
// them, and a few free blocks are not worth taking.
func (fs *fsys) takeAt(ctx context.Context, ip *inode, goal disk.FSBlock, want uint32, lay bool) (uint32, error) {
	if !fs.dataBlock(goal) {
		return 0, nil
	}
	g, at := fs.geo.GroupIndex(goal)
	gr := &fs.groups[g]
	gr.mu.Lock()
	defer gr.mu.Unlock()
	if gr.bad {
		return 0, nil
	}
	bh, bm, err := fs.bitmap(ctx, g, true)
	if err != nil {
		return 0, err
	}
	defer bh.Put()
	r, window := &ip.resv, uint32(0)
	if lay && fs.opts.Reserve && ip.IsRegular() {
		window = windowSize(r, want)
	}
	stop := min(at+max(want, window), fs.geo.GroupBlocks(g))
	if used, ok := bm.NextSet(at, stop); ok {
		stop = used
	}
	base := fs.geo.GroupFirst(g)
	for _, w := range gr.windows {
		if w == r || w.next >= w.end {
			continue
		}
		if lo, hi := uint32(w.next-base), uint32(w.end-base); at < hi && stop > lo {
			stop = max(lo, at)
		}
	}
	end := min(stop, at+want)
	if end <= at || lay && end-at < min(want, fewBlocks) {
		return 0, nil
	}
	bm.SetRange(at, end)
	fs.dirtyBuffer(bh, kindBitmap)
	fs.groupChanged(g, -int(end-at), 0, 0)
	if lay && stop > end {
		fs.layWindow(gr, r, g, base+disk.FSBlock(end), base+disk.FSBlock(stop))
	}
	return end - at, nil
}

// fromWindow takes blocks from the window, from on. What it leaves out before that stays in the window.
func (fs *fsys) fromWindow(ctx context.Context, r *reservation, from disk.FSBlock, want uint32) (disk.FSBlock, uint32, error) {
	gr := &fs.groups[r.group]
	gr.mu.Lock()
	defer gr.mu.Unlock()
	bh, bm, err := fs.bitmap(ctx, r.group, true)
	if err != nil {
		return 0, 0, err
	}
	defer bh.Put()
	base := fs.geo.GroupFirst(r.group)
	end := uint32(r.end - base)
	at, ok := bm.NextZero(uint32(from-base), end)
	if !ok {
		if from == r.next {
			r.next = r.end
		}
		return 0, 0, nil
	}
	stop, ok := bm.NextSet(at, min(end, at+want))
	if !ok {
		stop = min(end, at+want)
	}
	bm.SetRange(at, stop)
	fs.dirtyBuffer(bh, kindBitmap)
	fs.groupChanged(r.group, -int(stop-at), 0, 0)
	if from == r.next {
		r.next = base + disk.FSBlock(stop)
	}
	return base + disk.FSBlock(at), stop - at, nil
}

// allocIn looks for free blocks in one group, from index from on and then from its start, and lays a window behind what it
// takes.
func (fs *fsys) allocIn(ctx context.Context, ip *inode, n disk.Group, from, want uint32, respect bool) (disk.FSBlock, uint32, error) {
	gr := &fs.groups[n]
	gr.mu.Lock()
	defer gr.mu.Unlock()
	if gr.desc.FreeBlocks == 0 || gr.bad {
		return 0, 0, nil
	}
	bh, bm, err := fs.bitmap(ctx, n, true)
	if err != nil {
		return 0, 0, err
	}
	defer bh.Put()
	end := fs.geo.GroupBlocks(n)
	r := &ip.resv
	size := windowSize(r, want)
	if !fs.opts.Reserve || !ip.IsRegular() {
		size = want
	}
	at, k, ok := fs.findRun(gr, r, n, bm, from, end, size, respect)
	if !ok && from > 0 {
		at, k, ok = fs.findRun(gr, r, n, bm, 0, end, size, respect)
	}
	if !ok {
		return 0, 0, nil
	}
	take := min(want, k)
	bm.SetRange(at, at+take)
	fs.dirtyBuffer(bh, kindBitmap)
	fs.groupChanged(n, -int(take), 0, 0)
	first := fs.geo.GroupFirst(n) + disk.FSBlock(at)
	if size > want {
		fs.layWindow(gr, r, n, first+disk.FSBlock(take), first+disk.FSBlock(k))
	}
	return first, take, nil
}

// findRun looks for a run of size free blocks in [from, end), or else the longest one there, that no other window covers.
func (fs *fsys) findRun(gr *group, own *reservation, n disk.Group, bm disk.Bitmap, from, end, size uint32, respect bool) (at, k uint32, ok bool) {
	base := fs.geo.GroupFirst(n)
	for tries := 0; from < end && tries < 64; tries++ {
		a, m, found := bm.FindRun(from, end, size)
		if m == 0 {
			return at, k, ok
		}
		if !found {
			tries = 64 // this is the longest run there is
		}
		clash := false
		if respect {
			for _, w := range gr.windows {
				if w == own || w.next >= w.end {
					continue
				}
				lo, hi := uint32(w.next-base), uint32(w.end-base)
				if a < hi && a+m > lo {
					if lo > a {
						m = lo - a // what lies before the window
					} else {
						from, clash = hi, true
						break
					}
				}
			}
		}
		if clash {
			continue
		}
		if m > k {
			at, k, ok = a, m, true
		}
		if k >= size || m >= size || !respect {
			return at, k, ok
		}
		from = a + m + 1
	}
	return at, k, ok
}

// windowSize says how much to take and keep for who wants so much: of who writes much at once more is to be expected.
func windowSize(r *reservation, want uint32) uint32 {
	return min(max(want, r.size, windowMin, min(want/fewBlocks, 1)*4*want), windowMax)
}

// layWindow makes [next, end) of group n the file's window; it has none. The sizes double while a file keeps using them up.
// Hold gr.mu.
func (fs *fsys) layWindow(gr *group, r *reservation, n disk.Group, next, end disk.FSBlock) {
	gr.windows = append(gr.windows, r)
	*r = reservation{next: next, end: end, group: n, held: true, size: min(max(2*r.size, windowMin), windowMax)}
}

// dropWindow gives the window up: at the last close of a writer, at truncation, when the inode goes. Hold ip.mapMu
// exclusively or be the last user.
func (fs *fsys) dropWindow(ip *inode) {
	r := &ip.resv
	if !r.held {
		return
	}
	gr := &fs.groups[r.group]
	gr.mu.Lock()
	gr.windows = slices.DeleteFunc(gr.windows, func(w *reservation) bool { return w == r })
	gr.mu.Unlock()
	*r = reservation{}
}

// clearBlocks marks blocks free. Inside a transaction. Blocks that were free already, or lie outside, are damage: reported,
// and left alone.
func (fs *fsys) clearBlocks(first disk.FSBlock, n uint32) {
	ctx := context.Background()
	for n > 0 {
		if !fs.dataBlock(first) {
			fs.fail(fs.corrupt("block map", 0, 0, "frees block %d, which holds no file", first))
			first, n = first+1, n-1
			continue
		}
		g, i := fs.geo.GroupIndex(first)
		k := min(n, fs.geo.GroupBlocks(g)-i)
		fs.discardRun(first, k)
		gr := &fs.groups[g]
		gr.mu.Lock()
		bh, bm, err := fs.bitmap(ctx, g, true)
		if err != nil {
			gr.mu.Unlock()
			fs.fail(err)
		} else {
			cleared := bm.ClearRange(i, i+k)
			fs.dirtyBuffer(bh, kindBitmap)
			fs.groupChanged(g, int(cleared), 0, 0)
			gr.mu.Unlock()
			bh.Put()
			if cleared != k {
				fs.fail(fs.corrupt("block bitmap", 0, 0, "group %d: %d of %d blocks from %d were free already", g, k-cleared, k, first))
			}
		}
		first, n = first+disk.FSBlock(k), n-k
	}
}
