package bufhead

import (
	"context"
	"fmt"
	"math"
	"sync"

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

	// Trace takes GetBlock and bio events; nil is off. Set before use.
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
	bs := attach(fo, d.bits)
	first := uint64(fo.Pos()) >> d.bits
	for i := range bs.list {
		if bh := &bs.list[i]; !bh.Has(Mapped) {
			bh.Map(d, first+uint64(i))
			bh.Set(Meta)
		}
	}
	bh := &bs.list[blk-first]
	bh.Get()
	fo.MarkAccessed()
	fo.Unlock()
	fo.Put()
	return bh, nil
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
	if !bh.Has(Uptodate) {
		err = block.ReadAt(d.dev, bh.Data, int64(blk)<<d.bits)
		biosSubmitted.Add(1)
		bh.Set(Req)
		if err == nil {
			bh.Set(Uptodate)
		}
	}
	bh.Unlock()
	if err != nil {
		bh.Put()
		return nil, fmt.Errorf("%s: block %d: %w", d.dev.Name(), blk, err)
	}
	return bh, nil
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
		b := &block.Bio{Op: block.OpRead, Flags: block.ReadAhead | block.Meta, Off: int64(i) << d.bits, Vecs: [][]byte{bh.Data}}
		b.Done = func(b *block.Bio) {
			if b.Err == nil {
				bh.Set(Uptodate)
			}
			bh.Unlock()
			bh.Put()
		}
		biosSubmitted.Add(1)
		d.dev.Submit(b)
	}
}

// readFolio reads a whole folio of the device, for readers of the device itself.
func (d *Device) readFolio(ctx context.Context, fo *pagecache.Folio) error {
	bs := attach(fo, d.bits)
	first := uint64(fo.Pos()) >> d.bits
	ok := true
	var failed error
	for i := range bs.list {
		bh := &bs.list[i]
		blk := first + uint64(i)
		bh.Lock()
		bh.Map(d, blk)
		if !bh.Has(Uptodate) {
			if blk >= d.count {
				clear(bh.Data)
				bh.Set(Uptodate)
			} else if err := block.ReadAt(d.dev, bh.Data, int64(blk)<<d.bits); err != nil {
				ok, failed = false, err
			} else {
				bh.Set(Uptodate)
			}
		}
		bh.Unlock()
	}
	fo.EndRead(ok)
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
	return as.WriteIter(ctx, wbc, func(fo *pagecache.Folio) error {
		return writeBuffers(fo, attach(fo, d.bits), d.bits, wbc.SyncAll)
	})
}

// SyncBuffer writes the buffer if it is dirty and waits (sync_dirty_buffer).
func (d *Device) SyncBuffer(ctx context.Context, bh *BufferHead) error {
	bh.Lock()
	if bh.Clear(Dirty)&Dirty == 0 {
		bh.Unlock()
		return nil
	}
	err := block.WriteAt(d.dev, bh.Data, int64(bh.Block)<<d.bits, block.Meta)
	d.wrote(bh, err)
	bh.Unlock()
	return err
}

// wrote records the end of a write of a locked buffer. A failed write leaves the buffer invalid.
func (d *Device) wrote(bh *BufferHead, err error) {
	biosSubmitted.Add(1)
	bh.Set(Req)
	if err == nil {
		bh.Clear(WriteEIO)
		return
	}
	bh.Set(WriteEIO)
	bh.Clear(Uptodate | Verified)
	d.pages.SetError(err)
	d.assocMu.Lock()
	if bh.assoc != nil {
		bh.assoc.pages.SetError(err)
	}
	d.assocMu.Unlock()
}

// Forget (bforget) drops a block that is being freed: not written any more, not valid. Consumes the reference.
func (d *Device) Forget(bh *BufferHead) {
	bh.Lock()
	bh.Clear(Dirty | WriteEIO | Uptodate | New | Verified)
	bh.Unlock()
	d.dissociate(bh)
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

// Sync writes all dirty buffers and waits for them.
func (d *Device) Sync(ctx context.Context) error {
	return d.pages.WriteAndWait(ctx, 0, math.MaxInt64)
}

// Close drops the cache. Nothing may be dirty or referenced.
func (d *Device) Close() { d.pages.Evict() }

// DropClean gives memory of clean blocks back (drop_caches).
func (d *Device) DropClean() { d.pages.DropClean(0, math.MaxInt64) }
