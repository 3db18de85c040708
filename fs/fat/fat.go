package fat

import (
	"context"
	"sync"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// table is the FAT as the mount sees it: the sectors of the active copy in the buffer cache, and over them what is decided and must
// not be written yet (commit.go).
//
// The buffers always hold what may be written at any moment; so they are written live, without a copy of each epoch.
type table struct {
	fs *fsys

	mu    sync.Mutex                     // guards the rest and the bytes of the buffers. Taken inside allocator.mu; buffers are read under it
	over  map[disk.Cluster]later         // entries as they are going to be
	dirty map[uint64]*bufhead.BufferHead // sectors to be written to all copies, referenced, by block
	last  *bufhead.BufferHead            // read last, referenced: the next entry is mostly in it
}

// later is an entry that is to be written by an epoch.
type later struct {
	e   disk.Entry
	seq uint64 // of the epoch
}

func (t *table) init(fs *fsys) {
	t.fs = fs
	t.over, t.dirty = make(map[disk.Cluster]later), make(map[uint64]*bufhead.BufferHead)
}

// access reads the entry of c in the buffers, and stores e over it when that is not nil. It gives the block of the last sector that
// the entry lies in. Hold mu.
func (t *table) access(ctx context.Context, c disk.Cluster, e *disk.Entry) (disk.Entry, uint64, error) {
	g := t.fs.geo
	off, _ := g.EntryAt(c)
	first := uint64(g.FATStart(g.Active))
	blk, in := first+uint64(off>>g.SectorBits), off&(g.SectorSize-1)
	bh := t.last
	if bh == nil || bh.Block != blk {
		var err error
		if bh, err = t.fs.bd.Bread(ctx, blk); err != nil {
			return 0, 0, err
		}
		t.last.Put()
		t.last = bh
	}
	if in+1 < g.SectorSize || g.Width != disk.FAT12 {
		v := disk.FATView{G: g, B: bh.Data[in:], Off: off}
		old := v.At(c)
		if e != nil {
			v.Set(c, *e)
			t.note(bh)
		}
		return old, blk, nil
	}
	// An entry of FAT12 across the end of a sector.
	next, err := t.fs.bd.Bread(ctx, blk+1)
	if err != nil {
		return 0, 0, err
	}
	defer next.Put()
	both := [2]byte{bh.Data[in], next.Data[0]}
	v := disk.FATView{G: g, B: both[:], Off: off}
	old := v.At(c)
	if e != nil {
		v.Set(c, *e)
		bh.Data[in], next.Data[0] = both[0], both[1]
		t.note(bh)
		t.note(next)
	}
	return old, blk + 1, nil
}

// note puts a sector on the list of those to be written. Hold mu.
func (t *table) note(bh *bufhead.BufferHead) {
	if t.dirty[bh.Block] == nil {
		bh.Get()
		t.dirty[bh.Block] = bh
	}
}

// set stores entries in the buffers: f is called for i from 0 to n-1. Inside a transaction, or while commits are serialised.
func (t *table) set(ctx context.Context, n int, f func(i int) (disk.Cluster, disk.Entry)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range n {
		c, e := f(i)
		if _, _, err := t.access(ctx, c, &e); err != nil {
			return err
		}
	}
	return nil
}

// fill makes clusters [first, first+n) a chain of their own. Nothing points to it yet.
func (t *table) fill(ctx context.Context, first disk.Cluster, n uint32) error {
	return t.set(ctx, int(n), func(i int) (disk.Cluster, disk.Entry) {
		c := first + disk.Cluster(i)
		if uint32(i) == n-1 {
			return c, disk.End
		}
		return c, disk.Entry(c + 1)
	})
}

// lay puts an entry over what the buffers hold.
func (t *table) lay(c disk.Cluster, e disk.Entry, seq uint64) {
	t.mu.Lock()
	t.over[c] = later{e, seq}
	t.mu.Unlock()
}

// laid reports whether an entry waits for being written.
func (t *table) laid(c disk.Cluster) (disk.Entry, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l, ok := t.over[c]
	return l.e, ok
}

// settle stores an entry that an epoch laid over, unless that was forgotten meanwhile.
func (t *table) settle(ctx context.Context, c disk.Cluster, e disk.Entry, seq uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, _, err := t.access(ctx, c, &e); err != nil {
		return err
	}
	if l, ok := t.over[c]; ok && l.seq == seq && l.e == e {
		delete(t.over, c)
	}
	return nil
}

// walk follows the chain from c on: step is called with each cluster and ends the walk by false. last is the last cluster of the
// chain, 0 when step ended the walk. A chain that leads out of the filesystem, into a free cluster or round in circles is damage.
func (t *table) walk(ctx context.Context, ino uint64, c disk.Cluster, step func(c disk.Cluster) bool) (last disk.Cluster, err error) {
	g := t.fs.geo
	t.mu.Lock()
	defer t.mu.Unlock()
	mark, since, limit := c, uint32(0), uint32(64) // a cluster of the chain, met again when it goes in circles
	for {
		if !g.Valid(c) {
			return 0, t.fs.corrupt("FAT", ino, 0, "leads to cluster %d, want 2 to %d", c, g.Last())
		}
		if !step(c) {
			return 0, nil
		}
		var e disk.Entry
		if l, ok := t.over[c]; ok {
			e = l.e
		} else if e, _, err = t.access(ctx, c, nil); err != nil {
			return 0, err
		}
		switch {
		case e.IsEnd():
			return c, nil
		case e == disk.Free || e == disk.Defect:
			return 0, t.fs.corrupt("FAT", ino, 0, "cluster %d of the file is marked %s", c, map[bool]string{true: "free", false: "defect"}[e == disk.Free])
		}
		c = disk.Cluster(e)
		if c == mark {
			return 0, t.fs.corrupt("FAT", ino, 0, "the chain leads round in circles at cluster %d", c)
		}
		if since++; since == limit {
			mark, since, limit = c, 0, limit*2
			if err := ctx.Err(); err != nil {
				return 0, err
			}
		}
	}
}

// corrupt makes the error of damage found.
func (fs *fsys) corrupt(what string, ino, addr uint64, format string, args ...any) error {
	return &errno.CorruptError{Dev: fs.sb.Dev.Name(), Struct: what, Ino: ino, Addr: addr, Why: sprintf(format, args...)}
}
