package fat

import (
	"context"
	"fmt"
	"math/bits"

	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Places for names. A name that fits into 512 bytes, long parts and entry, is put so that it lies in one such piece: it reaches the
// medium as a whole or not at all.

// run16 gives the first of n free bits in a row of a group, -1 without.
func run16(used uint16, n int) int {
	free := uint32(^used)
	for i := 1; i < n; i++ {
		free &= free >> 1
	}
	if free == 0 {
		return -1
	}
	at := bits.TrailingZeros32(free)
	if at+n > groupSlots {
		return -1
	}
	return at
}

// place finds n free slots in a row and marks them in use. ok is false when there are none.
func (x *dirIndex) place(n, total int) (first int, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if n <= groupSlots {
		for k := int(x.hint[n]); k < len(x.used); k++ {
			if at := run16(x.used[k], n); at >= 0 && k*groupSlots+at+n <= total {
				x.hint[n] = int32(k)
				first = k*groupSlots + at
				x.set(first, n)
				return first, true
			}
		}
		x.hint[n] = int32(len(x.used))
		return 0, false
	}
	return x.placeAnywhere(n, total)
}

// placeAnywhere is place that does not care for groups. Hold mu.
func (x *dirIndex) placeAnywhere(n, total int) (first int, ok bool) {
	have := 0
	for s := range total {
		if x.used[s/groupSlots]&(1<<(s%groupSlots)) != 0 {
			have = 0
			continue
		}
		if have++; have == n {
			first = s - n + 1
			x.set(first, n)
			return first, true
		}
	}
	return 0, false
}

func (x *dirIndex) set(first, n int) {
	for s := first; s < first+n; s++ {
		x.used[s/groupSlots] |= 1 << (s % groupSlots)
	}
}

// release makes slots free for new names.
func (x *dirIndex) release(first, n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for s := first; s < first+n; s++ {
		x.used[s/groupSlots] &^= 1 << (s % groupSlots)
	}
	k := int32(first / groupSlots)
	for i := range x.hint {
		x.hint[i] = min(x.hint[i], k)
	}
}

// reserve finds n slots for a new name, making the directory longer when there is no room. Rw held exclusively, outside a
// transaction. errno.NOSPC. What is not used is given back by dirIndex.release.
func (ip *inode) reserve(ctx context.Context, x *dirIndex, n int) (first int, err error) {
	for {
		total := int(ip.Size() / disk.DirentSize)
		if first, ok := x.place(n, total); ok {
			return first, nil
		}
		if err := ip.growDir(ctx, x); err != nil {
			x.mu.Lock()
			first, ok := x.placeAnywhere(n, total)
			x.mu.Unlock()
			if ok {
				return first, nil
			}
			return 0, err
		}
	}
}

// growDir adds a cluster to the directory.
func (ip *inode) growDir(ctx context.Context, x *dirIndex) error {
	fs, g := ip.fs, ip.fs.geo
	if ip.Ino() == rootIno && g.Width != disk.FAT32 {
		return fmt.Errorf("the root directory has %d slots, and cannot grow: %w", g.RootEntries, errno.NOSPC)
	}
	n := uint32(ip.Size() >> g.ClusterBits)
	if int64(n+1)<<g.ClusterBits > disk.MaxDirEntries*disk.DirentSize {
		return fmt.Errorf("directory %d: has the %d slots that a directory may have: %w", ip.Ino(), disk.MaxDirEntries, errno.NOSPC)
	}
	if err := fs.retry(ctx, func() error { return ip.extend(ctx, n+1, n+1) }); err != nil {
		return err
	}
	ip.SetSize(int64(n+1) << g.ClusterBits)
	x.grow(int(ip.Size() / disk.DirentSize))
	return nil
}

// initCluster writes a new cluster of a directory: zeros, after what is given. Nothing on the medium leads to it yet, so it may be
// written at once; the commit that links it flushes before.
func (fs *fsys) initCluster(c disk.Cluster, head []byte) error {
	g := fs.geo
	first := g.SectorOf(c)
	fs.bd.CleanAliases(uint64(first), uint64(g.PerCluster))
	p := make([]byte, g.ClusterSize)
	copy(p, head)
	return block.WriteAt(fs.sb.Dev, p, g.BytesOf(first), block.Meta)
}

// store writes a name with its entry into slots that were reserved. Inside a transaction, Rw held exclusively.
func (ip *inode) store(ctx context.Context, x *dirIndex, first int, long string, units []uint16, c disk.Choice, d disk.Dirent) (*name, error) {
	n := 0
	if c.Long {
		n = disk.LongSlots(len(units))
	}
	parts := make([]byte, n*disk.DirentSize)
	if n > 0 {
		disk.EncodeLong(parts, units, disk.Checksum(c.Short))
	}
	if err := ip.passEnd(ctx, x, first, n+1); err != nil {
		return nil, err
	}
	d.Name, d.Case = c.Short, c.Case
	err := ip.editSlots(ctx, first, n+1, func(i int, p []byte) {
		if i < n {
			copy(p, parts[i*disk.DirentSize:])
			return
		}
		clear(p)
		d.EncodeTo(p, ip.fs.geo.Width)
	})
	if err != nil {
		return nil, err
	}
	at, err := ip.slotAt(ctx, first+n)
	if err != nil {
		return nil, err
	}
	e := &name{long: long, short: c.Short, first: int32(first), slot: int32(first + n), dir: d.IsDir(), start: d.Start, at: at}
	x.insert(ip.fs, e)
	return e, nil
}

// passEnd moves the mark of the end behind slots that are about to be used: those passed over become free ones, and what follows is
// marked, whatever was there.
func (ip *inode) passEnd(ctx context.Context, x *dirIndex, first, n int) error {
	if first+n <= x.top {
		return nil
	}
	total := int(ip.Size() / disk.DirentSize)
	var ends []int64
	if end := first + n; end < total {
		if err := ip.editSlots(ctx, end, 1, func(_ int, p []byte) { clear(p) }); err != nil {
			return err
		}
		at, err := ip.slotAt(ctx, end)
		if err != nil {
			return err
		}
		ends = append(ends, at)
	}
	for s := x.top; s < first; s += groupSlots {
		err := ip.editSlots(ctx, s, min(groupSlots, first-s), func(_ int, p []byte) {
			if disk.IsEnd(p) || s >= x.top {
				clear(p)
				disk.Delete(p)
			}
		})
		if err != nil {
			return err
		}
	}
	opens, err := ip.slotsAt(ctx, x.top, first+n)
	if err != nil {
		return err
	}
	ip.fs.change(func(ep *epoch) {
		ep.open(opens)
		for _, at := range ends {
			ep.ends[at] = true
		}
	})
	x.top = first + n
	return nil
}

// unstore takes a name out of the directory at once: of what it named, nothing is left, or its new name lies in the same 512 bytes.
// Inside a transaction, Rw held exclusively.
func (ip *inode) unstore(ctx context.Context, x *dirIndex, n *name) error {
	if err := ip.editSlots(ctx, int(n.first), n.slots(), func(_ int, p []byte) { disk.Delete(p) }); err != nil {
		return err
	}
	x.remove(ip.fs, n)
	x.release(int(n.first), n.slots())
	return nil
}

// leave takes a name out of the index, and has the next commit take it off the medium after everything else in it: a rename put what
// it named elsewhere. Inside a transaction, Rw held exclusively.
func (ip *inode) leave(ctx context.Context, x *dirIndex, n *name) error {
	slots, err := ip.slotsAt(ctx, int(n.first), int(n.slot)+1)
	if err != nil {
		return err
	}
	x.remove(ip.fs, n)
	ip.leaving(x, n, slots)
	return nil
}

// leaving notes that a name is on the medium until the next commit, which marks slots free.
func (ip *inode) leaving(x *dirIndex, n *name, slots []int64) {
	ip.Hold()
	x.leave(ip.fs, n)
	ip.fs.change(func(ep *epoch) { ep.old = append(ep.old, oldName{dir: ip, name: n, slots: slots}) })
}
