package bufhead

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/invariant"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// State is the set of state bits of a buffer head.
type State uint32

// State bits (enum bh_state_bits).
const (
	Uptodate        State = 1 << iota // the bytes are valid
	Dirty                             // the bytes must be written
	Locked                            // I/O or an exclusive change of state is in progress
	Req                               // has been submitted once
	Mapped                            // Dev and Block say where the block lies
	New                               // allocated by the last GetBlock: what is not written must be zeroed
	AsyncRead                         // read as part of its folio
	AsyncWrite                        // written as part of its folio
	Delay                             // space is reserved, not chosen
	Boundary                          // the next block needs a metadata read to be found
	WriteEIO                          // the last write failed
	Unwritten                         // allocated, contents undefined
	Meta                              // filesystem metadata
	Verified                          // the owner checked the contents since they were read
	DeferCompletion                   // GetBlock for direct I/O: completion will wait, and must not hold up the device
)

// BufferHead (struct buffer_head) is one block of a folio.
//
// A buffer of a folio lives as long as it is attached; Get keeps it attached. GetBlock fills Block, Size and the state
// bits Mapped, New, Delay, Unwritten and Boundary.
type BufferHead struct {
	Data  []byte  // the block's bytes in its folio; nil for a temporary one
	Block uint64  // on the device, in blocks of the filesystem's size; valid when Mapped
	Size  int     // bytes. Asked and answered by GetBlock; the block size for attached buffers
	Dev   *Device // valid when Mapped

	// Epoch is the mark of whoever keeps the buffer's contents in order: the number of the epoch it was changed in.
	Epoch atomic.Uint64

	holder invariant.Holder

	state atomic.Uint32
	refs  atomic.Int32
	fo    *pagecache.Folio

	assoc     *association // list of an inode's metadata; guarded by the device's assocMu
	assocNext *BufferHead
	assocPrev **BufferHead // what points here
}

// GetBlock (get_block_t) maps block iblock of ip. In: bh.Size is how many bytes the caller would like mapped: one block for the
// buffers of a folio, more for readahead, direct I/O and reports. bh's state bits are clear, or those of a folio's buffer that is
// not mapped, or delayed or unwritten. Out, without error:
//
//   - an existing block: Mapped, Dev, Block; Size is the contiguous bytes mapped, a multiple of the block, never more than asked;
//   - create false and a hole: not Mapped; Size is cut to the length of the hole. Operations that skip holes rely on it, where
//     the kernel's go on block by block;
//   - create true and a hole: allocated, Mapped and New; Size covers new blocks only, or existing ones only;
//   - Delay beside Mapped: space is promised and there is no block yet (Dev and Block mean nothing), with New if it was promised
//     now; Unwritten: the block must not be read. Unwritten and past the end of the file, a block answered with create is New. To
//     create false both are better answered unmapped. Writeback asks such blocks again with create, and wants a plain one;
//   - Boundary when the block after the run needs another metadata block to be found;
//   - Uptodate when it filled bh.Data by itself, which it can where that is not nil.
//
// With an error nothing is mapped. Calls for different blocks of one inode may run at once: writeback of a folio beside the write
// of another. Block 0 is never file data.
type GetBlock func(ctx context.Context, ip *vfs.Inode, iblock uint64, bh *BufferHead, create bool) error

// Has reports whether all bits of s are set.
func (bh *BufferHead) Has(s State) bool { return State(bh.state.Load())&s == s }

// Set sets bits and gives those that were set before.
func (bh *BufferHead) Set(s State) State { return State(bh.state.Or(uint32(s))) }

// Clear clears bits and gives those that were set before.
func (bh *BufferHead) Clear(s State) State { return State(bh.state.And(^uint32(s))) }

// readable reports whether there is a block whose bytes may be read: it is mapped, chosen and written.
func (bh *BufferHead) readable() bool {
	return State(bh.state.Load())&(Mapped|Delay|Unwritten) == Mapped
}

// Map records where the block lies (map_bh).
func (bh *BufferHead) Map(d *Device, block uint64) {
	bh.Dev, bh.Block = d, block
	bh.Set(Mapped)
}

// Get takes a reference: the buffer stays attached and its folio cached.
func (bh *BufferHead) Get() { bh.refs.Add(1) }

// Put (brelse) drops a reference.
func (bh *BufferHead) Put() {
	if bh != nil {
		bh.refs.Add(-1)
	}
}

// Folio is the folio the buffer is a block of.
func (bh *BufferHead) Folio() *pagecache.Folio { return bh.fo }

// lockWait is where goroutines wait for a buffer's lock: rare, so one for all.
var (
	lockWait    = func() *sync.Cond { return sync.NewCond(new(sync.Mutex)) }()
	lockWaiters atomic.Int32
)

// Lock waits for the buffer's lock.
func (bh *BufferHead) Lock() {
	if invariant.Enabled {
		bh.holder.Wait(invariant.RankBuffer, 0, 0)
	}
	if bh.TryLock() {
		return
	}
	lockWait.L.Lock()
	lockWaiters.Add(1)
	for !bh.TryLock() {
		lockWait.Wait()
	}
	lockWaiters.Add(-1)
	lockWait.L.Unlock()
}

// TryLock takes the lock if it is free.
func (bh *BufferHead) TryLock() bool {
	ok := bh.Set(Locked)&Locked == 0
	if ok {
		invariant.Taken(invariant.RankBuffer)
	}
	if ok && invariant.Enabled {
		bh.holder.Took(invariant.RankBuffer, 0, 0)
	}
	return ok
}

// Disown says that the lock, which this goroutine took, is left to I/O in flight. The checks of lock order need to know.
func (bh *BufferHead) Disown() { bh.holder.Disown() }

// Unlock releases the lock; any goroutine.
func (bh *BufferHead) Unlock() {
	bh.holder.Released()
	bh.Clear(Locked)
	if lockWaiters.Load() > 0 {
		lockWait.L.Lock()
		lockWait.Broadcast()
		lockWait.L.Unlock()
	}
}

// Wait waits until no I/O is in progress.
func (bh *BufferHead) Wait() {
	if bh.Has(Locked) {
		bh.Lock()
		bh.Unlock() //lint:ignore SA2001 having had the lock is what was waited for
	}
}

// buffers is what hangs on a folio: its buffer heads in order, and the lock that makes their completions agree on which
// is the last.
type buffers struct {
	mu   invariant.Mutex[invariant.Leaf] // guards completion scans
	dev  *Device                         // whose cached blocks they are; nil for the buffers of a file
	list []BufferHead
}

var bufferPools [17]sync.Pool // by log2 of the number of buffers

// attach gives the folio's buffers, making them when there are none (create_empty_buffers): uptodate or dirty as the
// folio is. Folio locked.
func attach(fo *pagecache.Folio, bits uint8) *buffers {
	if bs := buffersOf(fo); bs != nil {
		return bs
	}
	n := fo.Len() >> bits
	pool := &bufferPools[log2(n)]
	bs, _ := pool.Get().(*buffers)
	if bs == nil {
		bs = &buffers{list: make([]BufferHead, n)}
	}
	var s State
	if fo.Uptodate() {
		s |= Uptodate
	}
	if fo.Dirty() {
		s |= Dirty
	}
	data := fo.Data()
	for i := range bs.list {
		bh := &bs.list[i]
		bh.Data, bh.Size, bh.fo = data[i<<bits:(i+1)<<bits:(i+1)<<bits], 1<<bits, fo
		bh.state.Store(uint32(s))
	}
	fo.SetPrivate(bs)
	live.Add(int64(n))
	return bs
}

// buffersOf gives the folio's buffers, nil without. It panics when the slot holds something of another layer: the two
// paths must never meet on a folio.
func buffersOf(fo *pagecache.Folio) *buffers {
	p := fo.Private()
	if p == nil {
		return nil
	}
	return p.(*buffers)
}

// detach takes the buffers off a locked folio, unless one is dirty, locked or referenced (try_to_free_buffers). The
// folio's dirty flag goes with them: with clean buffers it said nothing, and buffers attached later would all be dirty.
func detach(fo *pagecache.Folio) bool {
	bs := buffersOf(fo)
	if bs == nil {
		return true
	}
	if !bs.drop() {
		return false
	}
	if fo.Dirty() {
		fo.CancelDirty()
	}
	fo.SetPrivate(nil)
	live.Add(-int64(len(bs.list)))
	bufferPools[log2(len(bs.list))].Put(bs)
	return true
}

// drop (drop_buffers) makes buffers that nobody uses free: off the lists of inodes, empty.
func (bs *buffers) drop() bool {
	if d := bs.dev; d != nil {
		d.assocMu.Lock() // who finds a buffer through a list takes his reference under it
		defer d.assocMu.Unlock()
	}
	for i := range bs.list {
		if bh := &bs.list[i]; bh.Has(Dirty) || bh.Has(Locked) || bh.refs.Load() > 0 {
			return false
		}
	}
	for i := range bs.list {
		bh := &bs.list[i]
		bh.unlist()
		bh.Data, bh.Block, bh.Dev, bh.fo = nil, 0, nil, nil
		bh.Epoch.Store(0)
		bh.state.Store(0)
	}
	bs.dev = nil
	return true
}

func log2(n int) (b uint8) {
	for ; n > 1; n >>= 1 {
		b++
	}
	return b
}
