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
func (opt *WriteOptions) begin(ctx context.Context, ip *vfs.Inode, pos, n int64, gb GetBlock) (*pagecache.Folio, error) {
	if opt != nil && opt.Initialized != nil {
		return ContWriteBegin(ctx, ip, pos, n, gb, opt.Initialized)
	}
	return WriteBegin(ctx, ip, pos, n, gb)
}

// WriteBegin (block_write_begin) gives the folio over pos, locked and with a reference, ready to have up to n bytes of
// it overwritten from pos on: blocks allocated, and what the write does not cover read or zeroed.
// On error nothing is locked; blocks allocated on the way hold zeros and are dirty.
func WriteBegin(ctx context.Context, ip *vfs.Inode, pos, n int64, gb GetBlock) (*pagecache.Folio, error) {
	fo, err := ip.Pages.Grab(ctx, uint64(pos)>>pagecache.PageShift, n)
	if err != nil {
		return nil, err
	}
	from := int(pos - fo.Pos())
	to := int(min(int64(fo.Len()), int64(from)+n))
	if err := prepare(ctx, ip, fo, from, to, gb); err != nil {
		fo.Unlock()
		fo.Put()
		return nil, err
	}
	return fo, nil
}

// prepare makes [from, to) of a locked folio ready for a write (__block_write_begin_int).
func prepare(ctx context.Context, ip *vfs.Inode, fo *pagecache.Folio, from, to int, gb GetBlock) error {
	bits := ip.BlockBits()
	bs := attach(fo, bits)
	first := uint64(fo.Pos()) >> bits
	uptodate := fo.Uptodate()
	var run mapping // blocks that one call of get_block allocated for several buffers
	for i := from >> bits; i <= (to-1)>>bits; i++ {
		bh := &bs.list[i]
		a, b := i<<bits, (i+1)<<bits
		bh.Clear(New)
		if !bh.Has(Mapped) {
			if err := run.allocate(ctx, ip, first+uint64(i), bh, int64(to-a), gb); err != nil {
				zeroNew(ip, fo, bs, from, to)
				return err
			}
		}
		if bh.Has(New) {
			bh.Dev.CleanAliases(bh.Block, 1)
			if uptodate {
				bh.Clear(New)
				bh.Set(Uptodate)
				bh.Set(Dirty)
				continue
			}
			if a < from {
				clear(fo.Data()[a:from])
			}
			if b > to {
				clear(fo.Data()[to:b])
			}
			continue
		}
		switch {
		case uptodate:
			bh.Set(Uptodate)
		case bh.Has(Uptodate), bh.Has(Delay), bh.Has(Unwritten), a >= from && b <= to:
		default:
			if err := bh.read(fo.Pos()+int64(a), ip.Size()); err != nil {
				zeroNew(ip, fo, bs, from, to)
				return err
			}
		}
	}
	return nil
}

// allocate maps bh to file block i, asking get_block for the rest of the folio at once. A partial last block counts whole.
func (m *mapping) allocate(ctx context.Context, ip *vfs.Inode, i uint64, bh *BufferHead, want int64, gb GetBlock) error {
	bits := ip.BlockBits()
	if m.n == 0 || i < m.first || i >= m.first+m.n {
		m.n = 0
		m.bh.state.Store(0)
		want = (want + 1<<bits - 1) >> bits << bits
		if err := ask(ctx, ip, i, &m.bh, want, true, gb); err != nil {
			return err
		}
		m.first, m.n = i, max(1, uint64(m.bh.Size)>>bits)
	}
	bh.Dev, bh.Block = m.bh.Dev, m.bh.Block+i-m.first
	bh.Set(State(m.bh.state.Load()) & (Mapped | New | Delay | Unwritten))
	return nil
}

// read fills a mapped buffer of a locked folio. at is its place in the file, whose size is given.
func (bh *BufferHead) read(at, size int64) error {
	bh.Lock()
	defer bh.Unlock()
	if bh.Has(Uptodate) {
		return nil
	}
	off := int64(bh.Block) << bh.Dev.bits
	biosSubmitted.Add(1)
	bh.Set(Req)
	if err := block.ReadAt(bh.Dev.dev, bh.Data, off); err != nil {
		return err
	}
	if tail := max(size-at, 0); tail < int64(len(bh.Data)) {
		clear(bh.Data[tail:]) // what lies past the end of the file is zeros, whatever the device holds there
	}
	bh.Set(Uptodate)
	return nil
}

// zeroNew (folio_zero_new_buffers) makes the New buffers of [from, to) valid as zeros and dirty: their blocks are
// allocated already and must not show what was there before.
func zeroNew(ip *vfs.Inode, fo *pagecache.Folio, bs *buffers, from, to int) {
	at := 0
	dirty := false
	for i := range bs.list {
		bh := &bs.list[i]
		if at < to && at+bh.Size > from && bh.Has(New) {
			if !fo.Uptodate() {
				clear(fo.Data()[max(at, from):min(at+bh.Size, to)])
				bh.Set(Uptodate)
			}
			bh.Clear(New)
			bh.Set(Dirty)
			dirty = true
		}
		at += bh.Size
	}
	if dirty {
		pagecache.DirtyFolio(&ip.Pages, fo)
	}
}

// WriteEnd (block_write_end) takes over copied of the n bytes that were to be written at pos into fo, marks them dirty and
// gives how many count: none when the copy was short and the folio is not uptodate. The folio stays locked.
func WriteEnd(ip *vfs.Inode, fo *pagecache.Folio, pos, n, copied int64) int64 {
	bs := buffersOf(fo)
	from := int(pos - fo.Pos())
	if copied < n {
		if !fo.Uptodate() {
			copied = 0
		}
		zeroNew(ip, fo, bs, from+int(copied), from+int(n))
	}
	if copied == 0 {
		return 0
	}
	to := from + int(copied)
	at, partial := 0, false
	for i := range bs.list {
		bh := &bs.list[i]
		if at+bh.Size <= from || at >= to {
			partial = partial || !bh.Has(Uptodate)
		} else {
			bh.Set(Uptodate)
			bh.Set(Dirty)
		}
		bh.Clear(New)
		at += bh.Size
	}
	if !partial {
		fo.SetUptodate()
	}
	pagecache.DirtyFolio(&ip.Pages, fo)
	return copied
}

// balanceEvery is how many bytes are written between two looks at the dirty limit.
const balanceEvery = 256 << 10

// Write (generic_perform_write) writes src at k.Pos through the cache and moves k.Pos on. It raises the size under the
// folio lock and holds back while there is too much dirty memory. Hold ip.Rw exclusively. opt may be nil.
// It gives the bytes written, and an error only when there are none.
func Write(ctx context.Context, k *vfs.Kiocb, src []byte, gb GetBlock, opt *WriteOptions) (int, error) {
	return perform(ctx, k, len(src), func(dst []byte, off int) int { return copy(dst, src[off:]) }, gb, opt)
}

// WriteFrom is Write of n bytes that fill stores: fill copies the bytes of the source from off on to dst and gives how many it
// could; fewer than len(dst) is a short copy, and nothing at all ends the write with errno.FAULT. It runs with a folio locked, so
// it must not wait for anything that a folio's lock may hold up.
func WriteFrom(ctx context.Context, k *vfs.Kiocb, n int, fill func(dst []byte, off int) int, gb GetBlock, opt *WriteOptions) (int, error) {
	return perform(ctx, k, n, fill, gb, opt)
}

func perform(ctx context.Context, k *vfs.Kiocb, total int, fill func(dst []byte, off int) int, gb GetBlock, opt *WriteOptions) (int, error) {
	ip := k.Inode
	done, since, limit := 0, balanceEvery, math.MaxInt
	size := ip.Size() // that stands: what lies beyond after an error is dropped
	var err error
	for done < total {
		if since >= balanceEvery {
			since = 0
			if err = ip.SB().WB.Balance(ctx, &ip.Pages); err != nil {
				break
			}
		}
		want := int64(min(total-done, limit))
		var fo *pagecache.Folio
		if fo, err = opt.begin(ctx, ip, k.Pos, want, gb); err != nil {
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
		since += int(n)
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
// the file are allocated and the folio is dirty.
func PageMkwrite(ctx context.Context, ip *vfs.Inode, fo *pagecache.Folio, gb GetBlock) error {
	n := min(int64(fo.Len()), ip.Size()-fo.Pos())
	if n <= 0 {
		return vfs.ErrNotBlock
	}
	if err := prepare(ctx, ip, fo, 0, int(n), gb); err != nil {
		return err
	}
	WriteEnd(ip, fo, fo.Pos(), n, n)
	return nil
}
