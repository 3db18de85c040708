package bufhead

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// WriteOptions are a filesystem's part in Write.
type WriteOptions struct {
	// Failed is told that a write past the end of the file failed, wholly or in part: the cache beyond size is to be dropped
	// and blocks there to be freed. ip.Rw is held exclusively.
	Failed func(ctx context.Context, ip *vfs.Inode, size int64)
	// Initialized, for files without holes, is the initialised size of the file: see ContWriteBegin. Failed must be set too;
	// after it the initialised size is no more than the size.
	Initialized *atomic.Int64
}

// failed puts the size back to what it was and has what lies beyond dropped.
func (opt *WriteOptions) failed(ctx context.Context, ip *vfs.Inode, size int64) {
	if opt == nil || opt.Failed == nil {
		return
	}
	if ip.Size() > size {
		ip.SetSize(size) // the gap could not be filled
		ip.Dirty(vfs.DirtySize)
	}
	opt.Failed(ctx, ip, size)
	if init := opt.Initialized; init != nil && init.Load() > size {
		init.Store(size)
	}
}

// initialized tells that a file without holes was written up to at.
func (opt *WriteOptions) initialized(at int64) {
	if opt != nil && opt.Initialized != nil {
		MoveInit(opt.Initialized, at)
	}
}

// begin is WriteBegin, or for a file without holes ContWriteBegin.
func (opt *WriteOptions) begin(ctx context.Context, ip *vfs.Inode, pos, n int64, gb GetBlock, uncached bool) (*pagecache.Folio, error) {
	if opt != nil && opt.Initialized != nil {
		return ContWriteBegin(ctx, ip, pos, n, gb, opt.Initialized)
	}
	return begin(ctx, ip, pos, n, gb, uncached)
}

// WriteBegin (block_write_begin) gives the folio over pos, locked and with a reference, ready to have up to n bytes of
// it overwritten from pos on: blocks allocated, and what the write does not cover read or zeroed.
// On error nothing is locked; blocks allocated on the way hold zeros and are dirty.
func WriteBegin(ctx context.Context, ip *vfs.Inode, pos, n int64, gb GetBlock) (*pagecache.Folio, error) {
	return begin(ctx, ip, pos, n, gb, false)
}

func begin(ctx context.Context, ip *vfs.Inode, pos, n int64, gb GetBlock, uncached bool) (*pagecache.Folio, error) {
	index := uint64(pos) >> pagecache.PageShift
	var fo *pagecache.Folio
	var err error
	if uncached {
		fo, err = ip.Pages.GrabUncached(ctx, index, n)
	} else {
		fo, err = ip.Pages.Grab(ctx, index, n)
	}
	if err != nil {
		return nil, err
	}
	fo.WaitStable()
	from := int(pos - fo.Pos())
	to := int(min(int64(fo.Len()), int64(from)+n))
	if err := PrepareWrite(ctx, ip, fo, from, to, gb); err != nil {
		fo.Unlock()
		fo.Put()
		return nil, err
	}
	return fo, nil
}

// PrepareWrite (__block_write_begin) makes bytes [from, to) of a locked folio of ip ready for a write: WriteEnd ends it. get_block
// is asked for each block that is not mapped. Errors: get_block's, and the device's where part of a block had to be read; blocks
// that were allocated before hold zeros and are dirty.
func PrepareWrite(ctx context.Context, ip *vfs.Inode, fo *pagecache.Folio, from, to int, gb GetBlock) error {
	bits := ip.BlockBits()
	bs := attach(fo, bits)
	first := uint64(fo.Pos()) >> bits
	uptodate := fo.Uptodate()
	for i := range bs.list {
		bh := &bs.list[i]
		a, b := i<<bits, (i+1)<<bits
		if b <= from || a >= to {
			if uptodate {
				bh.Set(Uptodate)
			}
			continue
		}
		err := bh.prepare(ctx, ip, first+uint64(i), uptodate, a < from || b > to, gb)
		if err != nil {
			zeroNew(ip, fo, bs, from, to)
			return err
		}
		if bh.Has(New) {
			// It stays New until the data is there: if the data does not come, what was here before must not show.
			clear(fo.Data()[a:max(a, from)])
			clear(fo.Data()[min(b, to):b])
		}
	}
	return nil
}

// prepare makes one buffer, block i of the file, ready for a write that covers all of it, or a part only. It leaves New set when
// the rest is to be zeroed.
func (bh *BufferHead) prepare(ctx context.Context, ip *vfs.Inode, i uint64, uptodate, part bool, gb GetBlock) error {
	bh.Clear(New)
	if !bh.Has(Mapped) {
		err := ask(ctx, ip, i, bh, int64(ip.BlockSize()), true, gb)
		bh.Size = ip.BlockSize()
		if err != nil {
			return err
		}
		if bh.Has(New) {
			bh.cleanAlias()
			if uptodate {
				bh.Clear(New)
				bh.markDirty(&ip.Pages)
			}
			return nil
		}
	}
	switch {
	case uptodate:
		bh.Set(Uptodate)
	case !part, bh.Has(Uptodate), bh.Has(Delay), bh.Has(Unwritten):
	case !bh.Has(Mapped):
		return fmt.Errorf("inode %d: a write to block %d was given no block: %w", ip.Ino(), i, errno.IO)
	default:
		return bh.read(ip, int64(i)<<ip.BlockBits())
	}
	return nil
}

// markDirty (mark_buffer_dirty) makes a buffer of a locked folio valid and dirty: in one step, which the end of an earlier write
// that failed cannot come between; then the folio.
func (bh *BufferHead) markDirty(as *pagecache.AddressSpace) {
	bh.Set(Uptodate | Dirty)
	pagecache.DirtyFolio(as, bh.fo)
}

// cleanAlias (clean_bdev_bh_alias) is CleanAliases for the block of a buffer that has one.
func (bh *BufferHead) cleanAlias() {
	if bh.Has(Mapped) && !bh.Has(Delay) {
		bh.Dev.CleanAliases(bh.Block, 1)
	}
}

// read fills a mapped buffer of a locked folio of ip. at is its place in the file.
func (bh *BufferHead) read(ip *vfs.Inode, at int64) error {
	bh.Lock()
	defer bh.Unlock()
	if bh.Has(Uptodate) {
		return nil
	}
	d := bh.Dev
	b := block.Bio{Op: block.OpRead, Flags: block.Sync, Off: int64(bh.Block) << d.bits, Vecs: [][]byte{bh.Data}}
	bh.Set(Req)
	account(&b, ip.SB().Trace, ip.Ino())
	if err := block.SubmitWait(d.dev, &b); err != nil {
		return fmt.Errorf("inode %d: block %d, at byte %d: %w", ip.Ino(), bh.Block, at, err)
	}
	if tail := max(ip.Size()-at, 0); tail < int64(len(bh.Data)) {
		clear(bh.Data[tail:]) // what lies past the end of the file is zeros, whatever the device holds there
	}
	bh.Set(Uptodate)
	return nil
}

// zeroNew (folio_zero_new_buffers) makes the New buffers of [from, to) valid as zeros and dirty: their blocks are
// allocated already and must not show what was there before.
func zeroNew(ip *vfs.Inode, fo *pagecache.Folio, bs *buffers, from, to int) {
	for i := range bs.list {
		bh := &bs.list[i]
		a, b := i*bh.Size, (i+1)*bh.Size
		if a >= to || b <= from || !bh.Has(New) {
			continue
		}
		if !fo.Uptodate() {
			clear(fo.Data()[max(a, from):min(b, to)])
		}
		bh.Clear(New)
		bh.markDirty(&ip.Pages)
	}
}

// WriteEnd (block_write_end) takes over copied of the n bytes that were to be written at pos into fo, marks them dirty and
// gives how many count: of a short copy none of what ended in a block that is not valid. The folio stays locked.
func WriteEnd(ip *vfs.Inode, fo *pagecache.Folio, pos, n, copied int64) int64 {
	bs := buffersOf(fo)
	from := int(pos - fo.Pos())
	if copied < n {
		// A block that is not valid and was to be stored whole: a read of it, which is to come, goes over what was copied there. What lies
		// in blocks that are valid, or new, counts: it is in sight.
		if i := (from + int(copied)) / bs.list[0].Size; !fo.Uptodate() && !bs.list[i].Has(Uptodate) && !bs.list[i].Has(New) {
			copied = max(int64(i*bs.list[0].Size-from), 0)
		}
		zeroNew(ip, fo, bs, from+int(copied), from+int(n))
	}
	to, partial := from+int(copied), false
	for i := range bs.list {
		bh := &bs.list[i]
		if a := i * bh.Size; a+bh.Size <= from || a >= to {
			partial = partial || !bh.Has(Uptodate)
		} else {
			bh.markDirty(&ip.Pages)
		}
		bh.Clear(New)
	}
	if !partial {
		fo.SetUptodate()
	}
	return copied
}

// Write (generic_perform_write) writes src at k.Pos through the cache and moves k.Pos on. It raises the size under the
// folio lock and holds back while there is too much dirty memory. Hold ip.Rw exclusively. opt may be nil.
// It gives the bytes written, and an error only when there are none: get_block's, the device's where part of a block had to be read,
// ctx's, errno.AGAIN with k.NoWait.
func Write(ctx context.Context, k *vfs.Kiocb, src []byte, gb GetBlock, opt *WriteOptions) (int, error) {
	return perform(ctx, k, len(src), func(dst []byte, off int) int { return copy(dst, src[off:]) }, gb, opt)
}

// WriteFrom is Write of n bytes that fill stores: fill copies the bytes of the source from off on to dst and gives how many it
// could; fewer than len(dst) is a short copy, and nothing at all ends the write with errno.FAULT. What it gave once it gives again: a
// short copy may be tried a second time, and until then readers may see what counts only then. It runs with a folio locked, so it
// must not wait for anything that a folio's lock may hold up.
func WriteFrom(ctx context.Context, k *vfs.Kiocb, n int, fill func(dst []byte, off int) int, gb GetBlock, opt *WriteOptions) (int, error) {
	return perform(ctx, k, n, fill, gb, opt)
}

func perform(ctx context.Context, k *vfs.Kiocb, total int, fill func(dst []byte, off int) int, gb GetBlock, opt *WriteOptions) (int, error) {
	ip := k.Inode
	if k.NoWait {
		return 0, errno.AGAIN // get_block may always wait
	}
	done, limit := 0, math.MaxInt
	size := ip.Size() // that stands: what lies beyond after an error is dropped
	var err error
	for done < total {
		if err = ip.SB().WB.Balance(ctx, &ip.Pages); err != nil {
			break
		}
		want := int64(min(total-done, limit))
		var fo *pagecache.Folio
		if fo, err = opt.begin(ctx, ip, k.Pos, want, gb, k.DontCache); err != nil {
			if k.Pos+want > size {
				opt.failed(ctx, ip, size)
			}
			break
		}
		want = min(want, fo.End()-k.Pos)
		copied := fill(fo.Data()[k.Pos-fo.Pos():][:want], done)
		n := WriteEnd(ip, fo, k.Pos, want, int64(copied))
		old := ip.Size()
		if n > 0 && k.Pos+n > old {
			ip.SetSize(k.Pos + n) // under the folio's lock: writeback must not take it for one behind the end
		}
		fo.Unlock()
		fo.Put()
		if n > 0 {
			if old < k.Pos {
				ip.Pages.Extended(old, k.Pos)
			}
			opt.initialized(k.Pos + n)
			size = ip.Size()
		} else if copied == 0 {
			err = fmt.Errorf("nothing to be had of what is to be written: %w", errno.FAULT)
		}
		if n < want && k.Pos+want > size {
			opt.failed(ctx, ip, size) // a short copy left blocks behind the end
		}
		if err != nil {
			break
		}
		if limit = math.MaxInt; n == 0 {
			// The folio is not valid around what was copied. Once more with exactly what can be had: then what it does not
			// cover of its blocks is read first.
			limit = copied
		}
		k.Pos += n
		done += int(n)
	}
	if done > 0 {
		ip.Dirty(vfs.DirtySize)
		return done, nil
	}
	if err != nil {
		err = fmt.Errorf("write: inode %d at byte %d: %w", ip.Ino(), k.Pos, err)
	}
	return 0, err
}

// PageMkwrite (block_page_mkwrite) prepares a locked, uptodate folio for stores through a mapping: blocks up to the end of
// the file are allocated, and they and the folio are dirty. Errors: errno.FAULT when the folio left the cache or lies behind the end
// of the file (the fault is tried again); get_block's.
func PageMkwrite(ctx context.Context, ip *vfs.Inode, fo *pagecache.Folio, gb GetBlock) error {
	n := min(int64(fo.Len()), ip.Size()-fo.Pos())
	if fo.AddressSpace() != &ip.Pages || n <= 0 {
		return errno.FAULT
	}
	if err := PrepareWrite(ctx, ip, fo, 0, int(n), gb); err != nil {
		return err
	}
	WriteEnd(ip, fo, fo.Pos(), n, n)
	fo.WaitStable()
	return nil
}
