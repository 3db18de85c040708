package bufhead

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// Device is the page cache of a block device, seen as blocks of one size: where a filesystem's metadata is cached.
type Device struct {
	dev   block.Device
	pages pagecache.AddressSpace
	bits  uint8  // log2 of the block size
	count uint64 // blocks

	// Trace takes the events of the device's own bios; nil is off. Set before use.
	Trace trace.Sink

	assocMu sync.Mutex // guards associations and the lists of buffers. Leaf
}

// NewDevice makes the block cache of dev. blockSize is a power of two from 512 to 1 MiB.
func NewDevice(dev block.Device, c *pagecache.Cache, wb *pagecache.Writeback, blockSize int) (*Device, error) {
	if blockSize < 512 || blockSize > pagecache.PageSize<<pagecache.MaxOrder || blockSize&(blockSize-1) != 0 {
		return nil, fmt.Errorf("block size %d: %w", blockSize, errno.INVAL)
	}
	d := &Device{dev: dev, bits: log2(blockSize), count: uint64(dev.Size()) / uint64(blockSize)}
	d.pages.Init(c, wb, host{d}, &pagecache.Operations{
		ReadFolio:           d.readFolio,
		WritePages:          d.writePages,
		DirtyFolio:          DirtyFolio,
		ReleaseFolio:        ReleaseFolio,
		InvalidateFolio:     InvalidateFolio,
		IsPartiallyUptodate: IsPartiallyUptodate,
	})
	order := uint8(0)
	for pagecache.PageSize<<order < blockSize {
		order++
	}
	d.pages.SetOrders(order, order)
	d.pages.SetMeta()
	return d, nil
}

// host makes a Device the host of its pages.
type host struct{ d *Device }

func (h host) Size() int64      { return int64(h.d.count) << h.d.bits }
func (h host) BlockBits() uint8 { return h.d.bits }
func (h host) Ino() uint64      { return 0 }
func (h host) Pin() bool        { return true }
func (h host) Unpin()           {}

// Dev is the device underneath.
func (d *Device) Dev() block.Device { return d.dev }

// BlockSize in bytes.
func (d *Device) BlockSize() int { return 1 << d.bits }

// Blocks is how many whole blocks the device has.
func (d *Device) Blocks() uint64 { return d.count }

// GetBlk finds or makes the buffer of a block, with a reference. Its contents are valid only if Uptodate.
// Errors: errno.IO for a block beyond the device; errno.NOMEM.
func (d *Device) GetBlk(ctx context.Context, blk uint64) (*BufferHead, error) {
	if blk >= d.count {
		return nil, fmt.Errorf("%s: block %d is beyond the device, which has %d: %w", d.dev.Name(), blk, d.count, errno.IO)
	}
	pos := blk << d.bits
	fo, err := d.pages.Grab(ctx, pos>>pagecache.PageShift, 0)
	if err != nil {
		return nil, err
	}
	bh := &d.attach(fo).list[blk-uint64(fo.Pos())>>d.bits]
	bh.Get()
	fo.MarkAccessed()
	fo.Unlock()
	fo.Put()
	return bh, nil
}

// attach gives a locked folio of the device its buffers, each mapped to the block that it is.
func (d *Device) attach(fo *pagecache.Folio) *buffers {
	bs := attach(fo, d.bits)
	if bs.dev == d {
		return bs
	}
	bs.dev = d
	for i := range bs.list {
		bs.list[i].Map(d, uint64(fo.Pos())>>d.bits+uint64(i))
		bs.list[i].Set(Meta)
	}
	return bs
}

// Bread gives the buffer of a block with a reference, read and valid.
// Errors name the device and the block.
func (d *Device) Bread(ctx context.Context, blk uint64) (*BufferHead, error) {
	bh, err := d.GetBlk(ctx, blk)
	if err != nil {
		return nil, err
	}
	if bh.Has(Uptodate) {
		return bh, nil
	}
	bh.Lock()
	err = d.fill(bh)
	bh.Unlock()
	if err != nil {
		bh.Put()
		return nil, err
	}
	return bh, nil
}

// fill reads a locked buffer unless it is valid. Errors name the device and the block.
func (d *Device) fill(bh *BufferHead) error {
	if bh.Has(Uptodate) {
		return nil
	}
	b := block.Bio{Op: block.OpRead, Flags: block.Meta | block.Sync, Off: int64(bh.Block) << d.bits, Vecs: [][]byte{bh.Data}}
	bh.Set(Req)
	account(&b, d.Trace, 0)
	if err := block.SubmitWait(d.dev, &b); err != nil {
		return fmt.Errorf("%s: block %d: %w", d.dev.Name(), bh.Block, err)
	}
	bh.Set(Uptodate)
	return nil
}

// GetZeroed gives the buffer of a block that is being put to use, filled with zeros and valid, without reading it.
func (d *Device) GetZeroed(ctx context.Context, blk uint64) (*BufferHead, error) {
	bh, err := d.GetBlk(ctx, blk)
	if err != nil {
		return nil, err
	}
	bh.Lock()
	clear(bh.Data)
	bh.Clear(Verified)
	bh.Set(Uptodate)
	bh.Unlock()
	return bh, nil
}

// Readahead starts reading n blocks from blk on that are not cached. Errors are met again by Bread.
func (d *Device) Readahead(ctx context.Context, blk, n uint64) {
	if blk >= d.count {
		return
	}
	n = min(n, d.count-blk, 256)
	for i := blk; i < blk+n; i++ {
		bh, err := d.GetBlk(ctx, i)
		if err != nil {
			return
		}
		if bh.Has(Uptodate) || !bh.TryLock() {
			bh.Put()
			continue
		}
		if bh.Has(Uptodate) {
			bh.Unlock()
			bh.Put()
			continue
		}
		bh.Disown() // the completion unlocks
		b := &block.Bio{Op: block.OpRead, Flags: block.ReadAhead | block.Meta, Off: int64(i) << d.bits, Vecs: [][]byte{bh.Data}}
		b.Done = func(b *block.Bio) {
			if b.Err == nil {
				bh.Set(Uptodate)
			}
			bh.Unlock()
			bh.Put()
		}
		send(d.dev, b, d.Trace, 0)
	}
}

// readFolio reads a whole folio of the device, for readers of the device itself.
func (d *Device) readFolio(_ context.Context, fo *pagecache.Folio) error {
	bs := d.attach(fo)
	var failed error
	for i := range bs.list {
		bh := &bs.list[i]
		bh.Lock()
		if bh.Block >= d.count {
			clear(bh.Data)
			bh.Set(Uptodate)
		} else if err := d.fill(bh); err != nil {
			failed = err
		}
		bh.Unlock()
	}
	fo.EndRead(failed == nil)
	return failed
}

// MarkDirty says that a buffer's bytes must be written (mark_buffer_dirty). It must be Uptodate. Buffers first, then the
// folio; the folio is told again when it lost its flag, so that a clean folio never hides a dirty buffer.
func (d *Device) MarkDirty(bh *BufferHead) {
	was := bh.Set(Dirty)
	if was&Dirty == 0 || !bh.fo.Dirty() {
		pagecache.DirtyFolio(&d.pages, bh.fo)
	}
}

// writePages writes the dirty buffers of the device's folios.
func (d *Device) writePages(ctx context.Context, as *pagecache.AddressSpace, wbc *pagecache.WritebackControl) error {
	fl := block.Meta
	if wbc.SyncAll {
		fl |= block.Sync
	}
	return as.WriteIter(ctx, wbc, func(fo *pagecache.Folio) error {
		writeBuffers(fo, d.attach(fo), d.bits, wbc.SyncAll, fl)
		return nil
	})
}

// SyncBuffer writes the buffer if it is dirty and waits (sync_dirty_buffer). Errors name the device and the block.
func (d *Device) SyncBuffer(_ context.Context, bh *BufferHead) error {
	bh.Lock()
	defer bh.Unlock()
	b := d.writeBio(bh)
	if b == nil {
		return nil
	}
	account(b, d.Trace, 0)
	if err := block.SubmitWait(d.dev, b); err != nil {
		bh.writeFailed(&d.pages, err)
		return fmt.Errorf("%s: block %d: %w", d.dev.Name(), bh.Block, err)
	}
	return nil
}

// StartWrite (write_dirty_buffer) begins to write the buffer if it is dirty, after a write that is under way: that may carry older
// contents. bh.Wait waits for it; then the buffer is not Uptodate if it failed.
func (d *Device) StartWrite(bh *BufferHead) {
	bh.Lock()
	b := d.writeBio(bh)
	if b == nil {
		bh.Unlock()
		return
	}
	bh.Get()
	bh.Disown() // the completion unlocks
	b.Done = func(b *block.Bio) {
		if b.Err != nil {
			bh.writeFailed(&d.pages, b.Err)
		}
		bh.Unlock()
		bh.Put()
	}
	send(d.dev, b, d.Trace, 0)
}

// writeBio takes the dirty bit of a locked buffer and gives the bio that writes it; nil when it is clean.
func (d *Device) writeBio(bh *BufferHead) *block.Bio {
	if bh.Clear(Dirty)&Dirty == 0 {
		return nil
	}
	bh.Set(Req)
	bh.Clear(WriteEIO)
	return &block.Bio{Op: block.OpWrite, Flags: block.Meta | block.Sync, Off: int64(bh.Block) << d.bits, Vecs: [][]byte{bh.Data}}
}

// pushOut (write_boundary_block) begins to write a block if it is cached and dirty.
func (d *Device) pushOut(blk uint64) {
	fo := d.pages.GetLocked(blk << d.bits >> pagecache.PageShift)
	if fo == nil {
		return
	}
	var bh *BufferHead
	if bs := buffersOf(fo); bs != nil {
		if bh = &bs.list[blk-uint64(fo.Pos())>>d.bits]; bh.Has(Dirty) {
			bh.Get()
		} else {
			bh = nil
		}
	}
	fo.Unlock()
	fo.Put()
	if bh != nil {
		d.StartWrite(bh)
		bh.Put()
	}
}

// Forget (bforget) drops a block that is being freed: not written any more, not valid. Consumes the reference.
func (d *Device) Forget(bh *BufferHead) {
	bh.Lock()
	bh.Clear(Dirty | WriteEIO | Uptodate | New | Verified)
	bh.Unlock()
	d.assocMu.Lock()
	bh.unlist()
	d.assocMu.Unlock()
	bh.Put()
}

// CleanAliases (clean_bdev_aliases) makes sure that no cached metadata of blocks [blk, blk+n) is written any more: they
// have become file data. Waits for writes in flight.
func (d *Device) CleanAliases(blk, n uint64) {
	start, end := blk<<d.bits>>pagecache.PageShift, ((blk+n)<<d.bits+pagecache.PageSize-1)>>pagecache.PageShift
	var batch [16]*pagecache.Folio
	for start < end {
		k := d.pages.Batch(start, end, pagecache.TagAny, batch[:])
		if k == 0 {
			return
		}
		for _, fo := range batch[:k] {
			start = fo.Index() + 1<<fo.Order()
			fo.Lock()
			if bs := buffersOf(fo); bs != nil && fo.AddressSpace() != nil {
				for i := range bs.list {
					bh := &bs.list[i]
					if at := uint64(fo.Pos())>>d.bits + uint64(i); at < blk || at >= blk+n {
						continue
					}
					bh.Lock()
					bh.Clear(Dirty | Req | Uptodate | Verified)
					bh.Unlock()
				}
				fo.ClearUptodate()
			}
			fo.Unlock()
			fo.Put()
		}
	}
}

// sinkOf gives where events of a folio's bios go, and whose they are.
func sinkOf(bs *buffers, as *pagecache.AddressSpace) (trace.Sink, uint64) {
	if bs.dev != nil {
		return bs.dev.Trace, 0
	}
	ip := vfs.InodeOf(as)
	return ip.SB().Trace, ip.Ino()
}

// Sync writes all dirty buffers and waits for them.
func (d *Device) Sync(ctx context.Context) error {
	return d.pages.WriteAndWait(ctx, 0, math.MaxInt64)
}

// Close drops the cache. Nothing may be dirty or referenced.
func (d *Device) Close() { d.pages.Evict() }

// DropClean gives memory of clean blocks back (drop_caches).
func (d *Device) DropClean() { d.pages.DropClean(0, math.MaxInt64) }
