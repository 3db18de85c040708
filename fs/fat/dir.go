package fat

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// dirState is what an inode keeps of a directory.
type dirState struct {
	mu     sync.Mutex // serialises making the index. Inside Rw; buffers are read under it
	index  atomic.Pointer[dirIndex]
	dotdot atomic.Uint32 // what ".." names; 0: the root. Valid with the index
}

// name is an entry of a directory. Immutable once it is in an index.
type name struct {
	long  string // as it is shown
	short [11]byte
	first int32 // index of the first slot
	slot  int32 // of the entry
	dir   bool
	start disk.Cluster // of a directory
	at    int64        // byte address of the entry on the medium
}

// slots is how many the entry takes.
func (n *name) slots() int { return int(n.slot-n.first) + 1 }

// dirIndex is a directory in memory: its names in every spelling that finds them, and which slots are free. It is made when the
// directory is first searched, kept right by every change, and is the truth about names: the medium's buffers may still hold a name
// that a rename left behind.
//
// Readers hold the directory's Rw shared, changes hold it exclusively, but for what mu guards.
type dirIndex struct {
	names map[string]*name   // by folded long and short name
	short map[[11]byte]*name // by short name
	order []*name            // by slot of the entry; nil where there is none
	top   int                // slots from here on were never used: the first is, or follows, the mark of the end

	mu   sync.Mutex // guards the rest, which commits change too. Leaf
	used []uint16   // a bit for each slot, in groups of 16: 512 bytes, which reach the medium in one piece
	hint [17]int32  // by length: no group before this one has room for it
	// leaving counts names, folded, that a rename took away and that are on the medium still: they must not come again before a commit.
	leaving map[string]int
}

const groupSlots = 16

// slotAt gives the byte address on the medium of a slot of the directory.
func (ip *inode) slotAt(ctx context.Context, slot int) (int64, error) {
	g := ip.fs.geo
	fb := fileBlock(uint64(slot) * disk.DirentSize >> g.SectorBits)
	blk, err := ip.fs.tables.metaBlock(ctx, ip, fb)
	if err == nil && blk == 0 {
		err = ip.fs.corrupt("directory", ip.Ino(), 0, "slot %d lies behind its end", slot)
	}
	return int64(blk)<<g.SectorBits + int64(slot)*disk.DirentSize&int64(g.SectorSize-1), err
}

// slotsAt is slotAt for slots [from, to).
func (ip *inode) slotsAt(ctx context.Context, from, to int) ([]int64, error) {
	at := make([]int64, 0, to-from)
	for s := from; s < to; s++ {
		a, err := ip.slotAt(ctx, s)
		if err != nil {
			return nil, err
		}
		at = append(at, a)
	}
	return at, nil
}

// index gives the directory's index, reading it all when it is used for the first time. Hold Rw, shared is enough. Outside a
// transaction the first time.
func (ip *inode) index(ctx context.Context) (*dirIndex, error) {
	if x := ip.dir.index.Load(); x != nil {
		return x, nil
	}
	ip.dir.mu.Lock()
	defer ip.dir.mu.Unlock()
	if x := ip.dir.index.Load(); x != nil {
		return x, nil
	}
	x, err := ip.readDirectory(ctx)
	if err != nil {
		return nil, fmt.Errorf("directory %d: %w", ip.Ino(), err)
	}
	ip.dir.index.Store(x)
	return x, nil
}

// dirReadahead is how many sectors are read ahead when a directory is read through.
const dirReadahead = 64

// readDirectory reads the directory through.
func (ip *inode) readDirectory(ctx context.Context) (*dirIndex, error) {
	fs, g := ip.fs, ip.fs.geo
	total := int(ip.Size() / disk.DirentSize)
	if total > disk.MaxDirEntries {
		return nil, fs.corrupt("directory", ip.Ino(), 0, "has %d slots, want at most %d", total, disk.MaxDirEntries)
	}
	x := &dirIndex{names: make(map[string]*name), short: make(map[[11]byte]*name), top: total}
	x.grow(total)
	var asm disk.Assembler
	per := int(g.SectorSize / disk.DirentSize)
	for slot := 0; slot < total && slot < x.top; slot += per {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		at, err := ip.slotAt(ctx, slot)
		if err != nil {
			return nil, err
		}
		blk := uint64(at) >> g.SectorBits
		if slot/per%dirReadahead == 0 {
			if e, err := ip.resolveDir(ctx, fileBlock(slot/per), dirReadahead); err == nil && e.first != 0 {
				fs.bd.Readahead(ctx, uint64(e.first), e.n)
			}
		}
		bh, err := fs.bd.Bread(ctx, blk)
		if err != nil {
			return nil, err
		}
		fs.begin() // a commit may be encoding into the sector
		for i := range per {
			if !x.take(ip, &asm, slot+i, bh.Data[i*disk.DirentSize:(i+1)*disk.DirentSize], at+int64(i)*disk.DirentSize) {
				break
			}
		}
		fs.end()
		bh.Put()
	}
	return x, nil
}

// take puts the next slot into the index; false at the mark of the end.
func (x *dirIndex) take(ip *inode, asm *disk.Assembler, slot int, p []byte, at int64) bool {
	kind := asm.Feed(slot, p, ip.fs.geo.Width)
	switch kind {
	case disk.SlotEnd:
		x.top = slot
		return false
	case disk.SlotFree:
		return true
	}
	x.used[slot/groupSlots] |= 1 << (slot % groupSlots)
	if kind != disk.SlotEntry {
		return true
	}
	e := &asm.Entry
	if disk.IsDots(e.Name) {
		if e.Name == disk.DotDot {
			ip.dir.dotdot.Store(uint32(e.Start))
		}
		return true
	}
	n := &name{short: e.Name, first: int32(asm.First), slot: int32(slot), dir: e.IsDir(), start: e.Start, at: at}
	units := asm.Long()
	if units == nil {
		units = ip.fs.shown(e.Name, e.Case)
	}
	var ok bool
	if n.long, ok = disk.ShowName(units); !ok {
		ip.fs.sb.Log.Warn("a name is left out that cannot be", "directory", ip.Ino(), "slot", slot)
		return true
	}
	x.insert(ip.fs, n)
	return true
}

// shown gives the characters of a short name as shortname= wants them shown.
func (fs *fsys) shown(short [11]byte, kase uint8) []uint16 {
	switch fs.opts.ShortName {
	case shortLower:
		kase = disk.CaseBase | disk.CaseExt
	case shortWin95:
		kase = 0
	}
	return disk.ShortUnits(short, kase, fs.opts.codePage)
}

// insert puts a name in. Of two that are the same the first stays.
func (x *dirIndex) insert(fs *fsys, n *name) {
	alias := disk.Fold(disk.Name(disk.ShortUnits(n.short, 0, fs.opts.codePage)))
	long := disk.Fold(n.long)
	if x.names[long] == nil {
		x.names[long] = n
	}
	if x.names[alias] == nil {
		x.names[alias] = n
	}
	if x.short[n.short] == nil {
		x.short[n.short] = n
	}
	x.order[n.slot] = n
}

// keys are the folded spellings that find a name.
func (n *name) keys(fs *fsys) [2]string {
	return [2]string{disk.Fold(n.long), disk.Fold(disk.Name(disk.ShortUnits(n.short, 0, fs.opts.codePage)))}
}

// leave notes that a name is on the medium though a rename took it away; left that a commit took it off.
func (x *dirIndex) leave(fs *fsys, n *name) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.leaving == nil {
		x.leaving = make(map[string]int)
	}
	for _, k := range n.keys(fs) {
		x.leaving[k]++
	}
}

func (x *dirIndex) left(fs *fsys, n *name) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, k := range n.keys(fs) {
		if x.leaving[k]--; x.leaving[k] <= 0 {
			delete(x.leaving, k)
		}
	}
}

// isLeaving reports whether a spelling finds a name that is on the medium only.
func (x *dirIndex) isLeaving(spelling string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.leaving[disk.Fold(spelling)] > 0
}

// anyLeaving reports whether there is any such name.
func (x *dirIndex) anyLeaving() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.leaving) > 0
}

// remove takes a name out; its slots stay in use.
func (x *dirIndex) remove(fs *fsys, n *name) {
	for _, key := range n.keys(fs) {
		if x.names[key] == n {
			delete(x.names, key)
		}
	}
	if x.short[n.short] == n {
		delete(x.short, n.short)
	}
	x.order[n.slot] = nil
}

// grow makes room for total slots.
func (x *dirIndex) grow(total int) {
	x.mu.Lock()
	x.used = append(x.used, make([]uint16, (total+groupSlots-1)/groupSlots-len(x.used))...)
	x.mu.Unlock()
	x.order = append(x.order, make([]*name, total-len(x.order))...)
}

// find looks a name up in any spelling. Hold Rw, shared is enough. errno.NOENT.
func (ip *inode) find(ctx context.Context, spelling string) (*name, error) {
	x, err := ip.index(ctx)
	if err != nil {
		return nil, err
	}
	if n := x.names[disk.Fold(spelling)]; n != nil {
		return n, nil
	}
	return nil, errno.NOENT
}

// ino gives the number of what a name names.
func (ip *inode) ino(n *name) (uint64, error) {
	fs := ip.fs
	if !n.dir {
		return fs.numbers.file(n.at), nil
	}
	if !fs.geo.Valid(n.start) || n.start == fs.geo.RootCluster {
		return 0, fs.corrupt("directory", ip.Ino(), uint64(n.at), "the directory %q begins at cluster %d", n.long, n.start)
	}
	ino, ok := fs.numbers.dir(n.start, n.at)
	if !ok {
		return 0, fs.corrupt("directory", ip.Ino(), uint64(n.at), "the directory %q has another name elsewhere", n.long)
	}
	return ino, nil
}

// resolveDir is resolve for a directory, the fixed root included.
func (ip *inode) resolveDir(ctx context.Context, fb fileBlock, limit uint64) (extent, error) {
	if g := ip.fs.geo; ip.Ino() == rootIno && g.Width != disk.FAT32 {
		if uint64(fb) >= uint64(g.RootSectors) {
			return extent{n: limit}, nil
		}
		return extent{first: g.RootStart + disk.Sector(fb), n: min(limit, uint64(g.RootSectors)-uint64(fb))}, nil
	}
	return ip.resolve(ctx, fb, limit)
}

// editSlots calls f with each of n slots from first on, and notes that they change. Inside a transaction; buffers that are not in
// memory are read.
func (ip *inode) editSlots(ctx context.Context, first, n int, f func(i int, p []byte)) error {
	var bufs [2 + (disk.MaxLongSlots+1)/groupSlots]*bufhead.BufferHead
	var at [disk.MaxLongSlots + 2]int
	defer func() {
		for _, bh := range bufs {
			bh.Put()
		}
	}()
	// All buffers first, so that an error changes nothing.
	mask := int(ip.fs.geo.SectorSize - 1)
	have := -1
	for i := range n {
		a, err := ip.slotAt(ctx, first+i)
		if err != nil {
			return err
		}
		if blk := uint64(a) >> ip.fs.geo.SectorBits; have < 0 || bufs[have].Block != blk {
			bh, err := ip.fs.bd.Bread(ctx, blk)
			if err != nil {
				return err
			}
			have++
			bufs[have] = bh
		}
		at[i] = have<<16 | int(a)&mask
	}
	for i := range n {
		bh, off := bufs[at[i]>>16], at[i]&0xFFFF
		f(i, bh.Data[off:off+disk.DirentSize])
		ip.fs.dirtyDir(bh)
	}
	return nil
}
