package minix

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/porting/minix/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// extent is the resolver's answer: n blocks of the file that lie together on the device, or a hole of that length.
type extent struct {
	first disk.Zone // 0: a hole
	n     uint64    // blocks, at least 1
	isNew bool      // allocated by this call
	seq   uint64    // inode.mapSeq when it was so

	promised bool // a hole on the device, but with data in the cache: zones are promised
}

// resolve says where block fb of the file lies, and how many of the following, up to limit, lie behind it. It allocates nothing.
// errno.FBIG past the largest file.
func (ip *inode) resolve(ctx context.Context, fb, limit uint64) (extent, error) {
	ip.mapMu.RLock()
	defer ip.mapMu.RUnlock()
	e, _, err := ip.walk(ctx, fb, limit)
	if err == nil && e.first == 0 {
		n, gap := ip.isPromised(fb, e.n)
		e.n, e.promised = max(n, gap), n > 0
	}
	e.seq = ip.mapSeq.Load()
	return e, err
}

// walk is resolve under mapMu. level says at which step of the path a hole was found.
func (ip *inode) walk(ctx context.Context, fb, limit uint64) (e extent, level int, err error) {
	s := &ip.fs.super
	path, ok := s.PathOf(fb)
	if !ok {
		return e, 0, fmt.Errorf("inode %d: block %d: %w", ip.Ino(), fb, errno.FBIG)
	}
	last := path.Depth - 1
	if last == 0 {
		return ip.run(func(i uint32) disk.Zone { return disk.Zone(ip.zone[i]) }, path.Index[0], disk.NDirect, limit, 0)
	}
	z := disk.Zone(ip.zone[path.Index[0]])
	for level = 1; ; level++ {
		if z == 0 {
			// Nothing hangs below: the hole reaches to the end of the missing subtree.
			span, in := uint64(1), uint64(0)
			for l := level; l <= last; l++ {
				span, in = span*s.PtrsPerZone(), in*s.PtrsPerZone()+uint64(path.Index[l])
			}
			return extent{n: min(limit, span-in)}, level - 1, nil
		}
		bh, err := ip.indirect(ctx, z)
		if err != nil {
			return e, 0, err
		}
		p := s.Ptrs(bh.Data)
		if level == last {
			e, level, err = ip.run(p.At, path.Index[level], uint32(p.Len()), limit, level)
			bh.Put()
			return e, level, err
		}
		z = p.At(path.Index[level])
		bh.Put()
	}
}

// run collects zones that follow each other from number i on, or holes.
func (ip *inode) run(at func(uint32) disk.Zone, i, end uint32, limit uint64, level int) (extent, int, error) {
	e := extent{first: at(i), n: 1}
	for ; e.n < limit && i+uint32(e.n) < end; e.n++ {
		next := at(i + uint32(e.n))
		if e.first == 0 && next != 0 || e.first != 0 && next != e.first+disk.Zone(e.n) {
			break
		}
	}
	if s := &ip.fs.super; e.first != 0 && (!s.ValidZone(e.first) || !s.ValidZone(e.first+disk.Zone(e.n-1))) {
		return e, level, ip.fs.corrupt(ip.Ino(), "points to zones %d to %d, which no file can own", e.first, uint64(e.first)+e.n-1)
	}
	return e, level, nil
}

// indirect reads an indirect zone after checking that it may be one.
func (ip *inode) indirect(ctx context.Context, z disk.Zone) (*bufhead.BufferHead, error) {
	if !ip.fs.super.ValidZone(z) {
		return nil, ip.fs.corrupt(ip.Ino(), "points to indirect zone %d, which no file can own", z)
	}
	bh, err := ip.fs.bd.Bread(ctx, uint64(z))
	if err != nil {
		return nil, fmt.Errorf("indirect zone of inode %d: %w", ip.Ino(), err)
	}
	return bh, nil
}

// allocate is resolve that fills a hole at fb, with up to limit zones that lie together. Existing and new zones are never mixed
// in one answer. errno.NOSPC leaves the map as it was.
func (ip *inode) allocate(ctx context.Context, fb, limit uint64) (extent, error) {
	ip.mapMu.Lock()
	e, err := ip.allocateUnpromised(ctx, fb, limit)
	ip.mapMu.Unlock()
	ip.allocated(e)
	return e, err
}

// allocated does what is to be done after the lock for new zones.
func (ip *inode) allocated(e extent) {
	if e.isNew {
		ip.fs.bd.CleanAliases(uint64(e.first), e.n) // if they held metadata once, it is not written over them
		ip.Dirty(0)
	}
}

// allocateUnpromised is allocate from what is promised to nobody. Under mapMu exclusively.
func (ip *inode) allocateUnpromised(ctx context.Context, fb, limit uint64) (extent, error) {
	e, _, err := ip.walk(ctx, fb, limit)
	if e.seq = ip.mapSeq.Load(); err != nil || e.first != 0 {
		return e, err
	}
	way := int64(ip.fs.super.Levels())
	got := ip.fs.claim(int64(min(limit, e.n))+way, 1+way)
	if got == 0 {
		return extent{}, fmt.Errorf("%s: no free zones: %w", ip.fs.sb.Dev.Name(), errno.NOSPC)
	}
	defer ip.fs.promised.Add(-got)
	return ip.allocateClaimed(ctx, fb, uint64(got-way))
}

// allocateClaimed is allocate of what was claimed or promised before. Under mapMu exclusively.
func (ip *inode) allocateClaimed(ctx context.Context, fb, limit uint64) (extent, error) {
	e, err := ip.allocateLocked(ctx, fb, limit)
	if e.isNew {
		ip.mapSeq.Add(1)
		ip.unpromise(fb, e.n)
	}
	e.seq = ip.mapSeq.Load()
	return e, err
}

func (ip *inode) allocateLocked(ctx context.Context, fb, limit uint64) (extent, error) {
	e, level, err := ip.walk(ctx, fb, limit)
	if err != nil || e.first != 0 {
		return e, err
	}
	fs, s := ip.fs, &ip.fs.super
	path, _ := s.PathOf(fb)
	last := path.Depth - 1
	end := uint64(disk.NDirect)
	if last > 0 {
		end = s.PtrsPerZone()
	}
	want := uint32(min(limit, e.n, end-uint64(path.Index[last])))

	// The branch: missing indirect zones first, then the data.
	goal := ip.goal(ctx, fb)
	var chain [4]disk.Zone
	made := 0
	undo := func() {
		for _, z := range chain[:made] {
			fs.freeZones(z, 1)
		}
	}
	for level+made < last {
		z, _, err := fs.newZones(goal, 1)
		if err != nil {
			undo()
			return extent{}, err
		}
		chain[made], goal = z, z+1
		made++
	}
	first, n, err := fs.newZones(goal, want)
	if err != nil {
		undo()
		return extent{}, err
	}
	fail := func(err error) (extent, error) {
		undo()
		fs.freeZones(first, n)
		return extent{}, err
	}
	// Where it will hang: found before anything changes.
	var at *bufhead.BufferHead
	if level > 0 {
		if at, err = ip.parentOf(ctx, &path, level); err != nil {
			return fail(err)
		}
		defer at.Put()
	}
	// Filled from the bottom up while nothing points to it …
	hang, count := first, n
	for k := made - 1; k >= 0; k-- {
		bh, err := fs.bd.GetZeroed(ctx, uint64(chain[k]))
		if err != nil {
			return fail(err)
		}
		fs.setPtrs(ip, bh, path.Index[level+1+k], hang, count)
		bh.Put()
		hang, count = chain[k], 1
	}
	// … and one store makes it part of the file.
	if at == nil {
		for i := range count {
			ip.zone[path.Index[0]+i] = uint32(hang) + i
		}
	} else {
		fs.setPtrs(ip, at, path.Index[level], hang, count)
	}
	ip.AddBlocks(int64(n+uint32(made)) * int64(s.BlockSize/512))
	return extent{first: first, n: uint64(n), isNew: true}, nil
}

// setPtrs stores count zone numbers from z on in an indirect zone.
func (fs *fsys) setPtrs(ip *inode, bh *bufhead.BufferHead, i uint32, z disk.Zone, count uint32) {
	bh.Lock()
	p := fs.super.Ptrs(bh.Data)
	for k := range count {
		p.Set(i+k, z+disk.Zone(k))
	}
	bh.Unlock()
	fs.bd.MarkDirtyInode(bh, ip.Inode)
}

// parentOf gives the indirect zone at a level of the path. All above it exist.
func (ip *inode) parentOf(ctx context.Context, path *disk.Path, level int) (*bufhead.BufferHead, error) {
	z := disk.Zone(ip.zone[path.Index[0]])
	for l := 1; ; l++ {
		bh, err := ip.indirect(ctx, z)
		if err != nil || l == level {
			return bh, err
		}
		z = ip.fs.super.Ptrs(bh.Data).At(path.Index[l])
		bh.Put()
	}
}

// goal is where the next zone of the file should lie: behind the one before it.
func (ip *inode) goal(ctx context.Context, fb uint64) disk.Zone {
	if fb > 0 {
		if e, _, err := ip.walk(ctx, fb-1, 1); err == nil && e.first != 0 {
			return e.first + 1
		}
	}
	return 0
}
