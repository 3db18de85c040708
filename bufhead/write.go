package bufhead

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// WriteOptions are a filesystem's part in Write.
type WriteOptions struct {
	// Failed is told that a write past the end of the file failed: blocks beyond size are to be freed.
	Failed func(ctx context.Context, ip *vfs.Inode, size int64)
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
// folio lock and holds back while there is too much dirty memory. Hold ip.Rw exclusively.
// It gives the bytes written, and an error only when there are none.
func Write(ctx context.Context, k *vfs.Kiocb, src []byte, gb GetBlock, opt *WriteOptions) (int, error) {
	ip := k.Inode
	done, sinceBalance := 0, 0
	var err error
	for done < len(src) {
		if sinceBalance >= balanceEvery || done == 0 {
			sinceBalance = 0
			if err = ip.SB().WB.Balance(ctx, &ip.Pages); err != nil {
				break
			}
		}
		var fo *pagecache.Folio
		want := int64(len(src) - done)
		if fo, err = WriteBegin(ctx, ip, k.Pos, want, gb); err != nil {
			if size := ip.Size(); k.Pos+want > size && opt != nil && opt.Failed != nil {
				opt.Failed(ctx, ip, size)
			}
			break
		}
		n := min(want, fo.End()-k.Pos)
		copy(fo.Data()[k.Pos-fo.Pos():], src[done:done+int(n)])
		n = WriteEnd(ip, fo, k.Pos, n, n)
		old := ip.Size()
		if k.Pos+n > old {
			ip.SetSize(k.Pos + n)
		}
		fo.Unlock()
		fo.Put()
		if old < k.Pos {
			ip.Pages.Extended(old, k.Pos)
		}
		k.Pos += n
		done += int(n)
		sinceBalance += int(n)
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
