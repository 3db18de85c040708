package ext2

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/invariant"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// Ordered metadata writeback.
//
// Operations change buffers in memory inside a transaction (begin, end). The buffers they change belong to the running
// epoch, which keeps a reference on each; the buffer cache itself never writes them. A commit closes the epoch: it
// holds all transactions off for as long as it takes to copy the changed buffers, and then writes the copies in phases,
// with a barrier between each:
//
//	A  bitmaps; blocks that nothing on the medium points to yet (a new block of a directory that is already on the
//	   medium goes out empty here)
//	B  existing indirect blocks; inode tables: changes, and deaths, children before their directories
//	C  directory blocks
//	D  inode tables: births, directories before their children; group descriptors; the superblock
//
// So at any moment of a crash, each pointer on the medium leads to something initialised, each inode with links has a
// name, and what was freed in an epoch is only handed out again after the pointer to it is gone from the medium.
// e2fsck -p repairs every such state without asking. It refuses the other order, a live inode without a name; that is
// why names precede births and deaths precede the removal of names, although the inode then is named before it is there:
// a name of a dead inode is harmless.
//
// Between two blocks of phase C only one order matters: a name that a live inode gained is written before the block
// that lost its other name. See order.capture.

// kind says what a buffer holds, and so in which phase it is written.
type kind uint8

const (
	kindBitmap kind = iota // block or inode bitmap
	kindNew                // nothing on the medium points to it yet
	kindXattr              // existing extended attribute block
	kindMap                // existing indirect block
	kindDir                // existing directory block
	kindGroup              // group descriptors and superblock
)

// tracked is a buffer changed in an epoch.
type tracked struct {
	bh   *bufhead.BufferHead // referenced
	kind kind
	dir  *inode // kindNew: the directory it is a block of, or nil
	init []byte // kindNew of a directory: what phase A writes when the directory is on the medium
}

// image is a copy of a block to be written.
type image struct {
	block uint64
	data  []byte
}

type run struct {
	first disk.FSBlock
	n     uint32
}

// epoch collects what changed since the last commit began.
type epoch struct {
	seq uint64

	mu       sync.Mutex // guards the rest. Leaf
	bufs     map[*bufhead.BufferHead]*tracked
	captures []image // directory blocks to be written first in phase C, in this order
	freed    []run
	whole    bool // no order of phases is safe: see whole.go
}

// changed is an inode whose encoding is out of date. It holds a reference of the inode and of the buffer.
type changed struct {
	ip  *inode
	bh  *bufhead.BufferHead // of the inode table
	off int                 // of the inode in it, bytes
}

type committer struct {
	// lock is held shared by each transaction and exclusively while a commit copies: the transaction reservation of the
	// lock order. Taken after inode and folio locks; map locks, group locks and buffers come after it.
	lock invariant.RWMutex[invariant.Transaction]
	ep   *epoch // replaced under lock held exclusively

	// mu serialises commits. Outside lock.
	mu       invariant.Mutex[invariant.Commit]
	begun    atomic.Uint64 // commits begun
	finished uint64        // commits finished; guarded by mu
	durable  atomic.Uint64 // the last commit that finished well
	err      error         // of the last; guarded by mu

	inodesMu invariant.Mutex[invariant.Leaf] // guards inodes and the transitions of order.dirty
	inodes   []changed

	freedBlocks atomic.Int64 // blocks freed but not yet reusable
	tracked     atomic.Int64 // buffers and inodes in the running epoch, for the background committer
	kicked      chan struct{}
	highWater   int64 // of tracked: kick; at twice this, begin waits for a commit

	// prepare stores the counters in descriptor and superblock buffers; called with lock held exclusively.
	prepare func()
	barrier bool
}

const (
	commitHighWater = 4096
	// capturesMax bounds the copies held for phase C.
	capturesMax = 1024
)

func (fs *fsys) initCommit(prepare func(), barrier bool) {
	c := &fs.commit
	c.prepare, c.barrier = prepare, barrier
	c.kicked = make(chan struct{}, 1)
	c.highWater = commitHighWater
	c.ep = newEpoch(1)
	// All that is tracked is pinned in the cache, so a small cache wants early commits.
	if bs := int64(fs.geo.BlockSize); fs.sb.Cache.Limit()/bs/8 < c.highWater {
		c.highWater = max(64, fs.sb.Cache.Limit()/bs/8)
	}
}

func newEpoch(seq uint64) *epoch {
	return &epoch{seq: seq, bufs: make(map[*bufhead.BufferHead]*tracked)}
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
		if fs.dirtyMetadata() && !fs.sb.IsShutdown() {
			_ = fs.commitNow(context.Background()) // the error is kept in sb.Err and made the filesystem read-only
		}
	}
}

// kick asks the background committer to run soon.
func (fs *fsys) kick() {
	select {
	case fs.commit.kicked <- struct{}{}:
	default:
	}
}

// dirtyMetadata reports whether a commit has something to write.
func (fs *fsys) dirtyMetadata() bool {
	if fs.commit.tracked.Load() > 0 || fs.superDirty.Load() {
		return true
	}
	fs.groupsMu.Lock()
	defer fs.groupsMu.Unlock()
	return len(fs.groupsDirty) > 0
}

// begin opens a transaction: changes of metadata made before end are committed together. Not recursive. It may wait
// for a commit when far too much is waiting to be written.
func (fs *fsys) begin() {
	c := &fs.commit
	if n := c.tracked.Load(); n > c.highWater {
		fs.kick()
		if n > 4*c.highWater {
			_ = fs.commitNow(context.Background()) // reported through sb.Err
		}
	}
	c.lock.RLock()
}

// end closes a transaction.
func (fs *fsys) end() { fs.commit.lock.RUnlock() }

// dirtyBuffer notes that the contents of bh changed. Call inside a transaction. The first kind of an epoch stays.
func (fs *fsys) dirtyBuffer(bh *bufhead.BufferHead, k kind) { fs.track(bh, k, nil) }

// newDirBlock notes a fresh block of directory dir, whose contents now are valid without any name.
func (fs *fsys) newDirBlock(dir *inode, bh *bufhead.BufferHead) { fs.track(bh, kindNew, dir) }

func (fs *fsys) track(bh *bufhead.BufferHead, k kind, dir *inode) {
	ep := fs.commit.ep
	if bh.Epoch.Load() == ep.seq {
		return
	}
	ep.mu.Lock()
	if _, known := ep.bufs[bh]; !known {
		t := &tracked{bh: bh, kind: k, dir: dir}
		if dir != nil {
			t.init = slices.Clone(bh.Data)
		}
		bh.Get()
		ep.bufs[bh] = t
		fs.commit.tracked.Add(1)
		bh.Epoch.Store(ep.seq)
	}
	ep.mu.Unlock()
}

// forget drops a metadata block that is being freed: it will not be written, and leaves the cache. Call inside a
// transaction; consumes the caller's reference.
func (fs *fsys) forget(bh *bufhead.BufferHead) {
	ep := fs.commit.ep
	ep.mu.Lock()
	if _, ok := ep.bufs[bh]; ok {
		delete(ep.bufs, bh)
		bh.Epoch.Store(0)
		fs.commit.tracked.Add(-1)
		defer bh.Put()
	}
	ep.captures = slices.DeleteFunc(ep.captures, func(im image) bool { return im.block == bh.Block })
	ep.mu.Unlock()
	fs.bd.Forget(bh)
}

// dirtyInode notes that ip's attributes, size or map changed; they are encoded when the epoch is committed. May be
// called inside or outside a transaction.
func (fs *fsys) dirtyInode(ip *inode) {
	if ip.ord.dirty.Load() || ip.ord.ghost.Load() {
		return
	}
	ip.ord.mu.Lock()
	defer ip.ord.mu.Unlock()
	if ip.ord.dirty.Load() {
		return
	}
	bh, off, err := fs.inodeBuffer(context.Background(), ip.Ino())
	if err != nil {
		fs.fail(fmt.Errorf("inode %d: %w", ip.Ino(), err))
		return
	}
	ip.Hold()
	c := &fs.commit
	c.inodesMu.Lock()
	ip.ord.slot = len(c.inodes)
	c.inodes = append(c.inodes, changed{ip, bh, off})
	ip.ord.dirty.Store(true)
	c.inodesMu.Unlock()
	c.tracked.Add(1)
}

// cleanInode takes ip off the list of changed inodes without encoding it. The caller holds another reference.
func (fs *fsys) cleanInode(ip *inode) {
	c := &fs.commit
	c.inodesMu.Lock()
	if !ip.ord.dirty.Load() {
		c.inodesMu.Unlock()
		return
	}
	ch, last := c.inodes[ip.ord.slot], c.inodes[len(c.inodes)-1]
	c.inodes[ip.ord.slot], last.ip.ord.slot = last, ip.ord.slot
	c.inodes[len(c.inodes)-1] = changed{}
	c.inodes = c.inodes[:len(c.inodes)-1]
	ip.ord.dirty.Store(false)
	c.inodesMu.Unlock()
	c.tracked.Add(-1)
	ch.bh.Put()
	ip.Put()
}

// deferFree frees blocks that ip pointed to. They can be handed out again when the pointer is gone from the medium: at
// once for an inode that the medium does not know as live, else after the commit. Call inside a transaction.
func (fs *fsys) deferFree(ip *inode, first disk.FSBlock, n uint32) {
	if !ip.ord.live || ip.ord.dead.Load() {
		fs.clearBlocks(first, n) // no pointer on the medium
		return
	}
	ep := fs.commit.ep
	ep.mu.Lock()
	if k := len(ep.freed) - 1; k >= 0 && ep.freed[k].first+disk.FSBlock(ep.freed[k].n) == first {
		ep.freed[k].n += n
	} else {
		ep.freed = append(ep.freed, run{first, n})
	}
	ep.mu.Unlock()
	fs.commit.freedBlocks.Add(int64(n))
}

// pendingFree is the number of blocks that wait for a commit to become free.
func (fs *fsys) pendingFree() int64 { return fs.commit.freedBlocks.Load() }

// commitNow writes everything that changed before the call, in order, and makes it durable with all data written
// before. Call without a transaction; inode and folio locks may be held.
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
	p := fs.closeEpoch()
	err := p.write(fs)
	if err != nil {
		err = fmt.Errorf("metadata writeback: %w", err)
		fs.sb.Err.Set(err)
		fs.broken.Store(true)
		fs.fail(err)
		fs.sb.Abort(err) // what the medium holds is not what memory holds: no more changes, whatever errors= says
	} else {
		fs.release(p)
	}
	c.finished, c.err = n, err
	if err == nil {
		c.durable.Store(n)
	}
	c.mu.Unlock()
	p.drop()
	return err
}

// plan is a closed epoch: copies of what it changed, by phase.
type plan struct {
	phases [][]image
	bufs   []*bufhead.BufferHead // references to drop
	inodes []changed             // references to drop
	deaths []*inode
	freed  []run
	blocks int
	whole  bool // see whole.go
}

// closeEpoch holds off transactions, copies what changed and begins the next epoch.
func (fs *fsys) closeEpoch() *plan {
	c := &fs.commit
	c.lock.Lock()
	defer c.lock.Unlock()
	if c.prepare != nil {
		c.prepare()
	}
	ep := c.ep
	c.inodesMu.Lock()
	inodes := c.inodes
	c.inodes = nil
	for _, ch := range inodes {
		ch.ip.ord.dirty.Store(false) // before encoding: a later change puts it on the list again
	}
	c.inodesMu.Unlock()

	p := &plan{freed: ep.freed, inodes: inodes, whole: ep.whole}
	var a, b, dirs, last []image
	ordered := make([]*tracked, 0, len(ep.bufs))
	for _, t := range ep.bufs {
		ordered = append(ordered, t)
	}
	slices.SortFunc(ordered, func(x, y *tracked) int { return cmp.Compare(x.bh.Block, y.bh.Block) })
	for _, t := range ordered {
		p.bufs = append(p.bufs, t.bh)
		im := image{t.bh.Block, slices.Clone(t.bh.Data)}
		switch t.kind {
		case kindBitmap, kindXattr:
			a = append(a, im)
		case kindNew:
			if t.dir != nil && t.dir.ord.live {
				a = append(a, image{im.block, t.init})
				dirs = append(dirs, im)
			} else {
				a = append(a, im)
			}
		case kindMap:
			b = append(b, im)
		case kindDir:
			dirs = append(dirs, im)
		case kindGroup:
			last = append(last, im)
		}
	}
	in := sortInodes(inodes, ep.seq)
	p.add(a)
	for i, batch := range in.changes {
		images := encodeAll(batch)
		if i == 0 {
			images = append(b, images...)
		}
		p.add(images)
	}
	for i := range ep.captures {
		p.add(ep.captures[i : i+1]) // each durable before the next: a device may reorder what lies between two flushes
	}
	p.add(dirs)
	for i, batch := range in.births {
		images := encodeAll(batch)
		if i == len(in.births)-1 {
			images = append(images, last...)
			last = nil
		}
		p.add(images)
	}
	p.add(last)
	for _, batch := range in.births {
		for _, ch := range batch {
			ch.ip.ord.live = true
		}
	}
	p.deaths = in.deaths
	c.tracked.Add(-int64(len(ep.bufs) + len(inodes)))
	c.ep = newEpoch(ep.seq + 1)
	return p
}

func (p *plan) add(images []image) {
	if len(images) > 0 {
		p.phases = append(p.phases, images)
		p.blocks += len(images)
	}
}

// sorted are the changed inodes by the pass that writes them.
type sorted struct {
	changes [][]changed // [0]: changes, and deaths of what had no dying children; [n]: deaths of directories n levels up
	births  [][]changed // [n]: births n levels below something live
	deaths  []*inode
}

func sortInodes(inodes []changed, seq uint64) sorted {
	inodes = slices.Clone(inodes)
	slices.SortFunc(inodes, func(x, y changed) int { return cmp.Compare(x.ip.Ino(), y.ip.Ino()) })
	s := sorted{changes: make([][]changed, 1)}
	put := func(list *[][]changed, level int, ch changed) {
		for len(*list) <= level {
			*list = append(*list, nil)
		}
		(*list)[level] = append((*list)[level], ch)
	}
	for _, ch := range inodes {
		o := &ch.ip.ord
		switch nlink := ch.ip.Nlink(); {
		case !o.live && nlink == 0:
			// has no name on the medium and will have none unless it is linked: nothing to write
		case !o.live:
			put(&s.births, o.level, ch)
		case nlink == 0 && !o.dead.Load():
			level := 0
			if o.diedIn == seq {
				level = o.deathLevel
			}
			put(&s.changes, level, ch)
			s.deaths = append(s.deaths, ch.ip)
		default:
			put(&s.changes, 0, ch)
		}
	}
	return s
}

// encodeAll stores the inodes, which are in order of number, in their buffers and copies each buffer once.
func encodeAll(batch []changed) []image {
	var images []image
	for i, ch := range batch {
		ch.ip.encode(ch.bh.Data[ch.off:])
		if i+1 == len(batch) || batch[i+1].bh != ch.bh {
			images = append(images, image{ch.bh.Block, slices.Clone(ch.bh.Data)})
		}
	}
	return images
}

// write sends the phases out, each durable before the next begins.
func (p *plan) write(fs *fsys) error {
	if p.whole {
		if done, err := p.writeWhole(fs); done || err != nil {
			return err
		}
	}
	dev := fs.bd.Dev()
	barrier := fs.commit.barrier && dev.Limits().VolatileCache
	bs := int64(fs.geo.BlockSize)
	for i, images := range p.phases {
		if i > 0 && barrier {
			if err := block.Flush(dev); err != nil {
				return err
			}
		}
		if err := writeImages(dev, images, bs); err != nil {
			return err
		}
	}
	if t := fs.sb.Trace; t != nil {
		t.Emit(trace.Event{Kind: trace.Commit, Len: int64(p.blocks), Got: int64(len(p.phases))})
	}
	if !dev.Limits().VolatileCache {
		return nil
	}
	return block.Flush(dev)
}

// writeImages writes the images, neighbours in one bio, and waits. Images of one block are written in order.
func writeImages(dev block.Device, images []image, bs int64) error {
	var vecs [][]byte
	for i := 0; i < len(images); {
		vecs = vecs[:0]
		start := images[i].block
		for i < len(images) && images[i].block == start+uint64(len(vecs)) && len(vecs) < 256 {
			vecs = append(vecs, images[i].data)
			i++
		}
		b := &block.Bio{Op: block.OpWrite, Flags: block.Sync | block.Meta, Off: int64(start) * bs, Vecs: vecs}
		if err := block.SubmitWait(dev, b); err != nil {
			return err
		}
	}
	return nil
}

// release gives back what the epoch freed, now that nothing on the medium points to it.
func (fs *fsys) release(p *plan) {
	for _, ip := range p.deaths {
		ip.ord.dead.Store(true)
	}
	if len(p.freed) == 0 {
		return
	}
	fs.commit.lock.RLock()
	for _, r := range p.freed {
		fs.clearBlocks(r.first, r.n)
		fs.commit.freedBlocks.Add(-int64(r.n))
	}
	fs.commit.lock.RUnlock()
}

// drop releases the references of the epoch. Dead inodes are evicted here, outside every lock.
func (p *plan) drop() {
	for _, bh := range p.bufs {
		bh.Put()
	}
	for _, ch := range p.inodes {
		ch.bh.Put()
		ch.ip.Put()
	}
}
