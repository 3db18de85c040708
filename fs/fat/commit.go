package fat

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
)

// Ordered metadata writeback.
//
// Operations change buffers in memory inside a transaction (begin, end); the buffer cache itself never writes them. A commit holds
// all transactions off for as long as it takes to copy what changed, and then writes in this order, with a flush after each step
// that has something to write:
//
//	1  FAT: chains of clusters that nothing on the medium points to yet; and before it, once, the mark of a filesystem in use
//	   directories: slots that are to be free, and those behind the mark of the end that names are going to lie in, become free
//	   ones, after the new mark is there; so the names of step 3 may reach the medium in any order: none lies behind the mark, and none is there twice
//	2  FAT: links from the ends of existing files to such chains
//	3  directories: names that came or went, sizes, first clusters, times
//	4  directories: names that a rename left behind
//	5  FAT: ends of files that were cut
//	6  FAT: clusters that were freed; FSInfo. No flush: what may follow them flushes first
//	   then they may be handed out again
//
// So at any moment of a crash a name leads to a chain that is whole and its own; a size is never more than its chain; a file that
// is renamed has a name.
//
// A sector of the FAT holds entries of all kinds. The buffers of the FAT always hold what may be written at any moment: step 1. What
// is to be written in a later step lies over them in memory (table.over) and is stored in the buffers when its step has come. Of
// directories a commit writes copies, which steps 3 and 4 share, since a name made meanwhile may lead to what is not written yet.
//
// Data has been written before by whoever wants it durable; the first flush covers it.

// link is an entry of the FAT to be written in step 2.
type link struct{ c, next disk.Cluster }

// oldName are the slots of a name that a rename left behind. They are marked free in step 4. There are none when the name goes with
// step 3, but it too is on the medium until then.
type oldName struct {
	slots []int64 // byte addresses on the medium
	dir   *inode  // referenced
	name  *name
}

// epoch is what is to be written later than at once.
type epoch struct {
	seq   uint64
	links []link
	ends  map[int64]bool // byte addresses of slots that became the mark of the end of their directory
	opens map[int64]bool // byte addresses of slots of removed names, and of slots that lay behind the mark of the end of their directory
	// kept are those among them that held a name which a rename within 512 bytes takes away, together with putting the new one.
	kept  map[int64]bool
	old   []oldName
	cuts  []disk.Cluster
	freed []clusters
	puts  []*vfs.Inode // references to be dropped afterwards
}

func newEpoch(seq uint64) *epoch {
	return &epoch{seq: seq, ends: map[int64]bool{}, opens: map[int64]bool{}, kept: map[int64]bool{}}
}

// open notes slots that are to be free on the medium before any name is written.
func (ep *epoch) open(slots []int64) {
	for _, at := range slots {
		ep.opens[at] = true
	}
}

// keep notes slots whose name a rename takes away in the same write that puts the new one. A slot that is to be opened holds another
// name on the medium: one that was removed before this one came.
func (ep *epoch) keep(slots []int64) {
	for _, at := range slots {
		if !ep.opens[at] {
			ep.kept[at] = true
		}
	}
}

type clusters struct {
	first disk.Cluster
	n     uint32
}

type committer struct {
	// lock is held shared by each transaction and exclusively while a commit copies: the transaction of the lock order.
	lock sync.RWMutex

	// mu serialises commits. Outside lock.
	mu       sync.Mutex
	begun    atomic.Uint64 // commits begun
	finished uint64        // commits finished; guarded by mu
	durable  atomic.Uint64 // the last commit that finished well
	err      error         // of the last; guarded by mu

	listMu sync.Mutex // guards what follows. Leaf
	ep     *epoch
	dirs   map[uint64]*bufhead.BufferHead // sectors of directories that changed, referenced, by block
	inodes []*inode                       // whose entries are out of date, referenced

	boot   atomic.Bool  // the boot sector changed
	waits  atomic.Int64 // things to be written, for the background committer
	kicked chan struct{}
}

const (
	commitHighWater = 4096
	commitMostWater = 4 * commitHighWater
)

func (c *committer) init() {
	c.kicked = make(chan struct{}, 1)
	c.ep = newEpoch(1)
	c.dirs = make(map[uint64]*bufhead.BufferHead)
}

// runCommitter commits every interval and when kicked, until ctx ends.
func (fs *fsys) runCommitter(ctx context.Context, interval time.Duration) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-fs.commit.kicked:
		}
		if fs.commit.waits.Load() > 0 && !fs.sb.IsShutdown() {
			_ = fs.commitNow(context.Background()) // the error is kept in sb.Err and made the filesystem read-only
		}
	}
}

func (fs *fsys) kick() {
	select {
	case fs.commit.kicked <- struct{}{}:
	default:
	}
}

// begin opens a transaction: changes of metadata made before end are committed together. Not recursive. It may wait for a commit
// when far too much is waiting to be written.
func (fs *fsys) begin() {
	c := &fs.commit
	if n := c.waits.Load(); n > commitHighWater {
		fs.kick()
		if n > commitMostWater {
			_ = fs.commitNow(context.Background()) // reported through sb.Err
		}
	}
	c.lock.RLock()
}

// end closes a transaction.
func (fs *fsys) end() { fs.commit.lock.RUnlock() }

// change runs f with the running epoch. Inside a transaction.
func (fs *fsys) change(f func(ep *epoch)) {
	c := &fs.commit
	c.listMu.Lock()
	f(c.ep)
	c.listMu.Unlock()
	c.waits.Add(1)
}

// dirtyDir notes that a sector of a directory changed. Inside a transaction.
func (fs *fsys) dirtyDir(bh *bufhead.BufferHead) {
	fs.change(func(*epoch) {
		if d := fs.commit.dirs; d[bh.Block] == nil {
			bh.Get()
			d[bh.Block] = bh
		}
	})
}

// link makes the chain that begins at next the continuation of the one that ends at c. Inside a transaction.
func (fs *fsys) link(c, next disk.Cluster) {
	fs.change(func(ep *epoch) {
		ep.links = append(ep.links, link{c, next})
		fs.table.lay(c, disk.Entry(next), ep.seq)
	})
}

// cutAt makes c the last cluster of its chain. Inside a transaction.
func (fs *fsys) cutAt(c disk.Cluster) {
	fs.change(func(ep *epoch) {
		ep.cuts = append(ep.cuts, c)
		fs.table.lay(c, disk.End, ep.seq)
	})
}

// deferFree frees clusters. They can be handed out again after the commit. Inside a transaction.
func (fs *fsys) deferFree(first disk.Cluster, n uint32) {
	if err := fs.alloc.prepareFree(first, n); err != nil {
		fs.fail(err) // they stay lost
		return
	}
	fs.alloc.pending.Add(int64(n))
	fs.change(func(ep *epoch) { ep.freed = append(ep.freed, clusters{first, n}) })
}

// dirtyInode notes that ip's attributes, size or start changed; they are encoded when the epoch is committed. Inside or outside a
// transaction.
func (fs *fsys) dirtyInode(ip *inode) {
	if ip.dirty.Load() || ip.slot.Load() == 0 || !fs.writable {
		return
	}
	c := &fs.commit
	c.listMu.Lock()
	defer c.listMu.Unlock()
	if ip.dirty.Load() {
		return
	}
	ip.Hold()
	c.inodes = append(c.inodes, ip)
	ip.dirty.Store(true)
	c.waits.Add(1)
}

// durable reports whether the inode's entry and chain are on the medium as they are.
func (ip *inode) durable() bool {
	return !ip.dirty.Load() && ip.commit.Load() <= ip.fs.commit.durable.Load()
}

// bundle is what a commit writes.
type bundle struct {
	ep     *epoch
	images map[uint64][]byte // copies of sectors of directories, by block
	bufs   map[uint64]*bufhead.BufferHead
	inodes []*inode
	boot   bool
}

// commitNow writes everything that changed before the call, in order, and makes it durable with all data written before. Call without
// a transaction; inode and folio locks may be held.
func (fs *fsys) commitNow(ctx context.Context) error {
	c := &fs.commit
	want := c.begun.Load() + 1
	c.mu.Lock()
	if c.finished >= want {
		defer c.mu.Unlock()
		return c.err
	}
	if err := ctx.Err(); err != nil {
		c.mu.Unlock()
		return err
	}
	if fs.broken.Load() {
		defer c.mu.Unlock()
		return c.err
	}
	n := c.begun.Add(1)
	b, err := fs.closeEpoch(context.WithoutCancel(ctx))
	if err == nil {
		err = b.write(context.WithoutCancel(ctx), fs)
	}
	if err != nil {
		err = fmt.Errorf("metadata writeback: %w", err)
		fs.sb.Err.Set(err)
		fs.broken.Store(true)
		fs.fail(err)
		fs.sb.Abort(err) // what the medium holds is not what memory holds: no more changes, whatever errors= says
	} else {
		c.durable.Store(n)
	}
	c.finished, c.err = n, err
	c.mu.Unlock()
	b.drop()
	return err
}

// closeEpoch ends the epoch: it copies what changed, while transactions are held off. Hold committer.mu.
func (fs *fsys) closeEpoch(ctx context.Context) (*bundle, error) {
	c := &fs.commit
	c.lock.Lock()
	defer c.lock.Unlock()
	c.listMu.Lock()
	inodes := c.inodes
	c.inodes = nil
	c.listMu.Unlock()
	b := &bundle{inodes: inodes, images: map[uint64][]byte{}, boot: c.boot.Swap(false)}
	var failed error
	for _, ip := range inodes {
		ip.commit.Store(c.begun.Load())
		ip.dirty.Store(false)
		if err := ip.encode(ctx); err != nil && failed == nil {
			failed = err
		}
	}
	c.listMu.Lock()
	b.ep, b.bufs = c.ep, c.dirs
	c.ep, c.dirs = newEpoch(b.ep.seq+1), make(map[uint64]*bufhead.BufferHead)
	c.waits.Store(int64(len(c.inodes))) // attributes that changed meanwhile: they may do so without a transaction
	c.listMu.Unlock()
	for blk, bh := range b.bufs {
		b.images[blk] = slices.Clone(bh.Data)
	}
	return b, failed
}

// drop lets go of what the bundle held.
func (b *bundle) drop() {
	if b == nil || b.ep == nil {
		return
	}
	for _, bh := range b.bufs {
		bh.Put()
	}
	for _, ip := range b.inodes {
		ip.Put()
	}
	for _, o := range b.ep.old {
		o.dir.Put()
	}
	for _, ip := range b.ep.puts {
		ip.Put()
	}
}

// empty reports whether the bundle has nothing to write.
func (b *bundle) empty(fs *fsys) bool {
	fs.table.mu.Lock()
	n := len(fs.table.dirty)
	fs.table.mu.Unlock()
	ep := b.ep
	return n+len(b.images)+len(ep.links)+len(ep.old)+len(ep.cuts)+len(ep.freed) == 0 && !b.boot
}

// write writes the bundle. Hold committer.mu.
func (b *bundle) write(ctx context.Context, fs *fsys) error {
	if b.empty(fs) {
		return fs.flush()
	}
	ep, t := b.ep, &fs.table
	if err := fs.markInUse(ctx); err != nil {
		return err
	}
	if b.boot {
		if err := fs.writeBoot(); err != nil {
			return err
		}
	}
	if err := fs.openSlots(ep); err != nil { // 1
		return err
	}
	if err := fs.writeFAT(true); err != nil {
		return err
	}
	for _, l := range ep.links { // 2
		if err := t.settle(ctx, l.c, disk.Entry(l.next), ep.seq); err != nil {
			return err
		}
	}
	if len(ep.links) > 0 {
		if err := fs.writeFAT(true); err != nil {
			return err
		}
	}
	if len(b.images) > 0 { // 3
		if err := fs.writeSectors(b.images); err != nil {
			return err
		}
		if err := fs.flush(); err != nil {
			return err
		}
	}
	if len(ep.old) > 0 { // 4
		again, err := b.removeOld(ctx, fs)
		if err != nil {
			return err
		}
		if len(again) > 0 {
			if err := fs.writeSectors(again); err != nil {
				return err
			}
			if err := fs.flush(); err != nil {
				return err
			}
		}
	}
	for _, c := range ep.cuts { // 5
		if err := t.settle(ctx, c, disk.End, ep.seq); err != nil {
			return err
		}
	}
	if len(ep.cuts) > 0 {
		if err := fs.writeFAT(true); err != nil {
			return err
		}
	}
	return b.free(ctx, fs) // 6
}

// openSlots marks the slots of epoch.opens free on the medium, where the rest of their sectors stays as it is. Among them is the old
// mark of the end; so the new one must be there before: behind the mark may be anything.
func (fs *fsys) openSlots(ep *epoch) error {
	read, images := map[uint64][]byte{}, map[uint64][]byte{} // all sectors, those that change
	bits := fs.geo.SectorBits
	slot := func(at int64) (blk uint64, p []byte, err error) {
		blk = uint64(at) >> bits
		if read[blk] == nil {
			read[blk] = make([]byte, 1<<bits)
			err = block.ReadAt(fs.sb.Dev, read[blk], int64(blk)<<bits)
		}
		return blk, read[blk][at&(1<<bits-1):][:disk.DirentSize], err
	}
	for at := range ep.ends {
		if ep.opens[at] {
			continue // passed since
		}
		blk, p, err := slot(at)
		if err != nil {
			return err
		}
		if !disk.IsEnd(p) {
			clear(p)
			images[blk] = read[blk]
		}
	}
	if len(images) > 0 {
		if err := fs.writeSectors(images); err != nil {
			return err
		}
		if err := fs.flush(); err != nil {
			return err
		}
	}
	for at := range ep.opens {
		if ep.kept[at] {
			continue
		}
		blk, p, err := slot(at)
		if err != nil {
			return err
		}
		disk.Delete(p)
		images[blk] = read[blk]
	}
	return fs.writeSectors(images)
}

// removeOld marks the slots of old names free, in the buffers and in the copies that were written, and gives the copies to be
// written again.
func (b *bundle) removeOld(ctx context.Context, fs *fsys) (map[uint64][]byte, error) {
	again := map[uint64][]byte{}
	fs.commit.lock.Lock()
	defer fs.commit.lock.Unlock()
	bits := fs.geo.SectorBits
	for _, o := range b.ep.old {
		for _, at := range o.slots {
			blk, off := uint64(at)>>bits, int(at)&(1<<bits-1)
			bh, err := fs.bd.Bread(ctx, blk)
			if err != nil {
				return nil, err
			}
			if b.images[blk] == nil {
				// Changes made since belong to the next commit. The bytes of the medium, then: nothing of the sector was to be written.
				b.images[blk] = make([]byte, 1<<bits)
				if err := block.ReadAt(fs.sb.Dev, b.images[blk], at&^(1<<bits-1)); err != nil {
					bh.Put()
					return nil, err
				}
			}
			disk.Delete(b.images[blk][off:])
			disk.Delete(bh.Data[off:])
			again[blk] = b.images[blk]
			if b.bufs[blk] == nil {
				b.bufs[blk] = bh // kept in memory until the medium has it too
			} else {
				bh.Put()
			}
		}
		if x := o.dir.dir.index.Load(); x != nil {
			x.release(int(o.name.first), len(o.slots))
			x.left(fs, o.name)
		}
	}
	return again, nil
}

// free marks clusters free in the FAT, tells the device, and hands them out again.
func (b *bundle) free(ctx context.Context, fs *fsys) error {
	for _, r := range b.ep.freed {
		err := fs.table.set(ctx, int(r.n), func(i int) (disk.Cluster, disk.Entry) { return r.first + disk.Cluster(i), disk.Free })
		if err != nil {
			return err
		}
	}
	fs.table.forget(b.ep.freed)
	if err := fs.writeFAT(false); err != nil {
		return err
	}
	for _, r := range b.ep.freed {
		if n := int64(r.n) << fs.geo.ClusterBits; fs.opts.Discard && n >= discardMin {
			_ = block.Discard(fs.sb.Dev, fs.geo.BytesOf(fs.geo.SectorOf(r.first)), n) // advice: nothing is lost when it fails
		}
	}
	if c := fs.alloc.release(b.ep.freed); c != 0 {
		fs.fail(fs.corrupt("FAT", 0, 0, "cluster %d was in two files that were removed", c))
	}
	return fs.writeInfo(ctx)
}

// discardMin is the shortest run of freed clusters that the device is told about at once, bytes; FITRIM finds the others.
const discardMin = 64 << 10

// forget drops what lies over entries of freed clusters.
func (t *table) forget(freed []clusters) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.over) == 0 {
		return
	}
	for _, r := range freed {
		for c := r.first; c < r.first+disk.Cluster(r.n); c++ {
			delete(t.over, c)
		}
	}
}

func (fs *fsys) flush() error {
	if fs.opts.NoBarrier {
		return nil
	}
	return block.Flush(fs.sb.Dev)
}

// writeFAT writes the sectors of the FAT that changed, to all copies that are kept up; and flushes when barrier is set: also when
// there was nothing, since what was written otherwise must come first too.
func (fs *fsys) writeFAT(barrier bool) error {
	t, g := &fs.table, fs.geo
	t.mu.Lock()
	dirty := t.dirty
	t.dirty = make(map[uint64]*bufhead.BufferHead)
	images := make(map[uint64][]byte, len(dirty))
	for blk, bh := range dirty {
		images[blk] = slices.Clone(bh.Data)
	}
	t.mu.Unlock()
	defer func() {
		for _, bh := range dirty {
			bh.Put()
		}
	}()
	if len(images) > 0 {
		for k := range g.FATs {
			if !g.Mirror && k != g.Active {
				continue
			}
			shifted := make(map[uint64][]byte, len(images))
			for blk, p := range images {
				shifted[blk-uint64(g.FATStart(g.Active))+uint64(g.FATStart(k))] = p
			}
			if err := fs.writeSectors(shifted); err != nil {
				return err
			}
		}
	}
	if barrier {
		return fs.flush()
	}
	return nil
}

// writeSectors writes sectors, those that lie together at once.
func (fs *fsys) writeSectors(images map[uint64][]byte) error {
	const most = 256 << 10
	blocks := slices.Sorted(maps.Keys(images))
	var buf []byte
	for i := 0; i < len(blocks); {
		start := blocks[i]
		buf = append(buf[:0], images[start]...)
		for i++; i < len(blocks) && blocks[i] == blocks[i-1]+1 && len(buf) < most; i++ {
			buf = append(buf, images[blocks[i]]...)
		}
		if err := block.WriteAt(fs.sb.Dev, buf, int64(start)<<fs.geo.SectorBits, block.Meta); err != nil {
			return err
		}
	}
	return nil
}

// writeInfo writes the hints of FSInfo, which nothing relies on.
func (fs *fsys) writeInfo(ctx context.Context) error {
	g := fs.geo
	if g.Info == 0 {
		return nil
	}
	bh, err := fs.bd.Bread(ctx, uint64(g.Info))
	if err != nil {
		return err
	}
	defer bh.Put()
	if _, err := disk.DecodeFSInfo(bh.Data); err != nil {
		return nil // there is none; it is not for us to make one
	}
	a := &fs.alloc
	a.mu.Lock()
	info := disk.FSInfo{Free: disk.Unknown, Next: uint32(a.next)}
	if a.hint || a.unread == 0 {
		info.Free = uint32(max(a.free.Load(), 0))
	}
	a.mu.Unlock()
	if !g.Valid(disk.Cluster(info.Next)) {
		info.Next = uint32(disk.FirstCluster)
	}
	info.EncodeTo(bh.Data)
	return block.WriteAt(fs.sb.Dev, bh.Data, g.BytesOf(g.Info), block.Meta)
}

// markInUse marks the filesystem as in use, before anything else is written.
func (fs *fsys) markInUse(ctx context.Context) error {
	if fs.marked {
		return nil
	}
	if err := fs.setMark(ctx, true); err != nil {
		return err
	}
	fs.marked = true
	return fs.flush()
}

// setMark writes the mark in boot sector and FAT.
func (fs *fsys) setMark(ctx context.Context, inUse bool) error {
	fs.bootMu.Lock()
	fs.boot.State &^= disk.StateDirty
	if inUse {
		fs.boot.State |= disk.StateDirty
	}
	fs.bootMu.Unlock()
	if err := fs.writeBoot(); err != nil {
		return err
	}
	t, g := &fs.table, fs.geo
	if g.Width == disk.FAT12 {
		return nil
	}
	t.mu.Lock()
	blk := uint64(g.FATStart(g.Active))
	bh, err := fs.bd.Bread(ctx, blk)
	if err == nil {
		disk.FATView{G: g, B: bh.Data}.SetDirty(inUse)
		t.note(bh)
		bh.Put()
	}
	t.mu.Unlock()
	if err != nil {
		return err
	}
	return fs.writeFAT(false)
}

// writeBoot writes the boot sector, and what must be the same in its copy.
func (fs *fsys) writeBoot() error {
	g := fs.geo
	sector := make([]byte, g.SectorSize)
	for _, at := range []disk.Sector{0, g.Backup} {
		if err := block.ReadAt(fs.sb.Dev, sector, g.BytesOf(at)); err != nil {
			return fmt.Errorf("boot sector: %w", err)
		}
		if binary.LittleEndian.Uint16(sector[510:]) == 0xAA55 {
			fs.bootMu.Lock()
			b := fs.boot
			fs.bootMu.Unlock()
			if at != 0 {
				b.State &^= disk.StateDirty // the copy is for repairs: it is never in use
			}
			b.EncodeTo(sector)
			if err := block.WriteAt(fs.sb.Dev, sector, g.BytesOf(at), block.Meta); err != nil {
				return fmt.Errorf("boot sector: %w", err)
			}
		}
		if g.Backup == 0 {
			break
		}
	}
	return nil
}
