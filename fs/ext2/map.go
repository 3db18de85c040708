package ext2

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// extent is the resolver's answer: n file blocks that lie together on the device, or a hole of that length.
type extent struct {
	first    disk.FSBlock // 0: a hole
	n        uint64
	isNew    bool // allocated by this call
	boundary bool // the next block is found through another indirect block
}

// resolve says where block fb lies and how many of the following, up to limit, lie behind it; a hole is as long as missing
// pointers show without more reading. Takes mapMu shared.
func (ip *inode) resolve(ctx context.Context, fb disk.FileBlock, limit uint64) (extent, error) {
	ip.mapMu.RLock()
	defer ip.mapMu.RUnlock()
	e, _, err := ip.walk(ctx, fb, limit)
	return e, err
}

// walk is resolve under mapMu, and says at which level of the path a hole was found.
func (ip *inode) walk(ctx context.Context, fb disk.FileBlock, limit uint64) (extent, int, error) {
	g := ip.fs.geo
	path, ok := g.PathOf(fb)
	if !ok || fb >= g.MaxFileBlocks() {
		return extent{}, 0, fmt.Errorf("inode %d: block %d: %w", ip.Ino(), fb, errno.FBIG)
	}
	last := path.Depth - 1
	if last == 0 {
		i := path.Index[0]
		e := extent{first: disk.FSBlock(ip.data[i]), n: 1}
		for ; e.n < min(limit, uint64(path.Left)); e.n++ {
			next := disk.FSBlock(ip.data[i+uint32(e.n)])
			if e.first == 0 && next != 0 || e.first != 0 && next != e.first+disk.FSBlock(e.n) {
				break
			}
		}
		e.boundary = e.first != 0 && e.n == uint64(path.Left)
		return e, 0, ip.checkRun(e)
	}
	p := disk.FSBlock(ip.data[path.Index[0]])
	for level := 1; ; level++ {
		if p == 0 {
			// Nothing below: the hole spans the rest of the missing subtree.
			span, in := g.LevelSpan(last-level+1), uint64(0)
			for l := level; l <= last; l++ {
				in = in<<g.PtrBits | uint64(path.Index[l])
			}
			return extent{n: min(limit, span-in)}, level - 1, nil
		}
		bh, err := ip.indirect(ctx, p)
		if err != nil {
			return extent{}, 0, err
		}
		pb := disk.PtrBlock(bh.Data)
		if level == last {
			first, n := pb.Run(path.Index[level], uint32(min(limit, uint64(path.Left))))
			bh.Put()
			e := extent{first: first, n: uint64(n), boundary: first != 0 && n == path.Left}
			return e, level, ip.checkRun(e)
		}
		p = pb.At(path.Index[level])
		bh.Put()
	}
}

// indirect reads an indirect block after checking that it may be one.
func (ip *inode) indirect(ctx context.Context, p disk.FSBlock) (*bufhead.BufferHead, error) {
	if !ip.fs.dataBlock(p) {
		return nil, ip.fs.corrupt("block map", ip.Ino(), 0, "points to block %d, which holds no file", p)
	}
	bh, err := ip.fs.bd.Bread(ctx, uint64(p))
	if err != nil {
		return nil, fmt.Errorf("indirect block of inode %d: %w", ip.Ino(), err)
	}
	return bh, nil
}

// checkRun makes sure that a run lies where files do.
func (ip *inode) checkRun(e extent) error {
	fs := ip.fs
	if e.first == 0 || fs.dataRun(e.first, e.n) {
		return nil
	}
	return fs.corrupt("block map", ip.Ino(), 0, "points to blocks %d to %d, which hold no file", e.first, uint64(e.first)+e.n-1)
}

// allocate is resolve that fills a hole at fb, with up to limit contiguous blocks. Inside a transaction.
// Existing and new blocks are never mixed in one answer. errno.NOSPC leaves the map as it was.
func (ip *inode) allocate(ctx context.Context, fb disk.FileBlock, limit uint64) (extent, error) {
	ip.mapMu.Lock()
	defer ip.mapMu.Unlock()
	return ip.allocateLocked(ctx, fb, limit)
}

// allocateLocked is allocate under mapMu.
func (ip *inode) allocateLocked(ctx context.Context, fb disk.FileBlock, limit uint64) (extent, error) {
	e, level, err := ip.walk(ctx, fb, limit)
	if err != nil || e.first != 0 {
		return e, err
	}
	fs, g := ip.fs, ip.fs.geo
	path, _ := g.PathOf(fb)
	last := path.Depth - 1
	want := uint32(min(limit, e.n, uint64(path.Left)))
	if max := uint64(g.MaxFileBlocks() - fb); uint64(want) > max {
		want = uint32(max)
	}
	w := ip.goal(ctx, fb)
	// Indirect blocks from the one that is missing down, then the data.
	var chain [3]disk.FSBlock
	missing := last - level
	undo := func(k int) {
		for _, b := range chain[:k] {
			fs.clearBlocks(b, 1)
		}
	}
	above := w
	if w.room && missing > 0 {
		above.goal = fs.along(w.goal, -int64(path.Index[last])-int64(missing))
		above.sure, above.late = fs.dataBlock(above.goal), true
	}
	for k := range missing {
		b, _, err := fs.allocBlocks(ctx, ip, above, 1)
		if err != nil {
			undo(k)
			return extent{}, err
		}
		chain[k], above.goal, above.sure = b, b+1, true
	}
	if !w.room {
		w = above
	}
	first, n, err := fs.allocBlocks(ctx, ip, w, want)
	if err != nil {
		undo(missing)
		return extent{}, err
	}
	fail := func(err error) (extent, error) {
		undo(missing)
		fs.clearBlocks(first, n)
		return extent{}, err
	}
	if err := ip.zeroNew(first, n); err != nil {
		return fail(err)
	}
	// The place where the branch will hang: found before anything is changed.
	var at *bufhead.BufferHead
	if level > 0 {
		p := disk.FSBlock(ip.data[path.Index[0]])
		for l := 1; ; l++ {
			bh, err := ip.indirect(ctx, p)
			if err != nil {
				return fail(err)
			}
			if l == level {
				at = bh
				break
			}
			p = disk.PtrBlock(bh.Data).At(path.Index[l])
			bh.Put()
		}
		defer at.Put()
	}
	// The new branch, filled from the bottom while nothing points to it.
	hang, count := first, n
	for k := missing - 1; k >= 0; k-- {
		bh, err := fs.bd.GetZeroed(ctx, uint64(chain[k]))
		if err != nil {
			return fail(err)
		}
		pb := disk.PtrBlock(bh.Data)
		for i := range count {
			pb.Set(path.Index[level+1+k]+i, hang+disk.FSBlock(i))
		}
		fs.dirtyBuffer(bh, kindNew)
		bh.Put()
		hang, count = chain[k], 1
	}
	// One place makes it all part of the file.
	if at == nil {
		for i := range count {
			ip.data[path.Index[0]+i] = uint32(hang) + i
		}
	} else {
		pb := disk.PtrBlock(at.Data)
		for i := range count {
			pb.Set(path.Index[level]+i, hang+disk.FSBlock(i))
		}
		fs.dirtyBuffer(at, kindMap)
	}
	ip.AddBlocks((int64(n) + int64(missing)) * int64(g.BlockSize/disk.SectorSize))
	ip.keep(fb, uint64(n))
	if end := fb + disk.FileBlock(n); !w.late {
		ip.anchor.fb, ip.anchor.at = end, first+disk.FSBlock(n)
	}
	ip.mapSeq.Add(1)
	ip.mapChanged()
	fs.dirtyInode(ip)
	return extent{first: first, n: uint64(n), isNew: true, boundary: n == path.Left}, nil
}

// nearAnchor is how far from the last allocation, in blocks, the place of a block is told from it.
const nearAnchor = 32 * windowMax

// goal is where the next block of the file should lie: behind the one before it; or as far from where the file was last
// extended as it is in the file, since pieces of a file may arrive in another order than that of the file; or in the inode's
// group.
func (ip *inode) goal(ctx context.Context, fb disk.FileBlock) wish {
	w := wish{late: fb < ip.anchor.fb}
	g := ip.fs.geo
	// How many blocks lie before a block of the file, with the indirect blocks among the data.
	before := func(fb disk.FileBlock) int64 {
		n, ptrs := int64(fb), disk.FileBlock(g.PtrsPerBlock)
		if fb >= disk.NDirect {
			n += int64(fb-disk.NDirect)>>g.PtrBits + 1
		}
		if fb >= disk.NDirect+ptrs {
			n++
		}
		if fb >= disk.NDirect+ptrs+ptrs*ptrs {
			n += 2
		}
		return n
	}
	if fb > 0 {
		if e, _, err := ip.walk(ctx, fb-1, 1); err == nil && e.first != 0 {
			w.sure, w.room = true, ip.IsRegular()
			d := int64(1)
			if w.room {
				d = before(fb) - before(fb-1)
			}
			w.goal = ip.fs.along(e.first, d)
			return w
		}
	}
	if at := ip.anchor.at; at != 0 && ip.IsRegular() {
		if d := before(fb) - before(ip.anchor.fb); d > -nearAnchor && d < nearAnchor {
			if goal := ip.fs.along(at-1, d+1); ip.fs.dataBlock(goal) {
				w.goal, w.sure, w.room = goal, true, true
				return w
			}
		}
	}
	gr := g.InodeGroup(disk.Ino(ip.Ino()))
	// Files of one group start at different places in it, so that they do not collide at once.
	w.goal = g.GroupFirst(gr) + disk.FSBlock(uint32(ip.Ino()*2654435761)%16*(g.GroupBlocks(gr)/16))
	if near := before(fb); fb > 0 && near < nearAnchor && ip.IsRegular() && ip.fs.dataBlock(w.goal+disk.FSBlock(near)) {
		w.goal, w.room = w.goal+disk.FSBlock(near), true // what comes before will find its place
	}
	return w
}

// readBlock gives metadata block n of a directory or slow symbolic link, referenced; nil for a hole.
func (ip *inode) readBlock(ctx context.Context, n disk.FileBlock) (*bufhead.BufferHead, error) {
	first, err := ip.fs.tables.metaBlock(ctx, ip, n)
	if err != nil || first == 0 {
		return nil, err
	}
	bh, err := ip.fs.bd.Bread(ctx, uint64(first))
	if err != nil {
		return nil, fmt.Errorf("inode %d: block %d: %w", ip.Ino(), n, err)
	}
	return bh, nil
}

// appendBlock adds a zeroed metadata block at the end of a directory or symbolic link and raises its size. Inside a
// transaction; the caller fills it and tracks it.
func (ip *inode) appendBlock(ctx context.Context) (*bufhead.BufferHead, disk.FileBlock, error) {
	g := ip.fs.geo
	n := disk.FileBlock(g.BlocksFor(uint64(ip.Size())))
	e, err := ip.allocate(ctx, n, 1)
	if err != nil {
		return nil, 0, err
	}
	bh, err := ip.fs.bd.GetZeroed(ctx, uint64(e.first))
	if err != nil {
		return nil, 0, err
	}
	ip.SetSize(int64(n+1) << g.BlockBits)
	ip.fs.dirtyInode(ip)
	return bh, n, nil
}
