package bufhead

import (
	"context"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// ask calls get_block, counted and traced. want is in bytes.
func ask(ctx context.Context, ip *vfs.Inode, iblock uint64, bh *BufferHead, want int64, create bool, gb GetBlock) error {
	getBlockCalls.Add(1)
	bh.Size = int(min(want, 1<<30))
	err := gb(ctx, ip, iblock, bh, create)
	if t := ip.SB().Trace; t != nil {
		e := trace.Event{Kind: trace.GetBlock, Ino: ip.Ino(), Pos: int64(iblock) << ip.BlockBits(), Len: want, Addr: ^uint64(0), Got: int64(bh.Size), Err: err}
		if bh.Has(Mapped) {
			e.Addr = bh.Block << ip.BlockBits()
		}
		t.Emit(e)
	}
	return err
}

// mapping is the last answer of get_block: a run of file blocks that lie together, or a hole.
type mapping struct {
	bh    BufferHead
	first uint64 // file block
	n     uint64 // blocks; 0 for none
}

// lookup gives the device block of file block i, mapped false for what reads as zeros, asking only when the last answer does not
// cover it. want is how many bytes from i on are of interest.
func (m *mapping) lookup(ctx context.Context, ip *vfs.Inode, i uint64, want int64, gb GetBlock) (blk uint64, mapped bool, err error) {
	if i < m.first || i >= m.first+m.n {
		m.n = 0
		m.bh.state.Store(0)
		if err := ask(ctx, ip, i, &m.bh, want, false, gb); err != nil {
			return 0, false, err
		}
		m.first, m.n = i, max(1, uint64(m.bh.Size)>>ip.BlockBits())
	}
	if !m.bh.readable() {
		return 0, false, nil
	}
	return m.bh.Block + i - m.first, true, nil
}

// reader reads folios of one file, neighbours in one bio (mpage).
type reader struct {
	ip *vfs.Inode
	gb GetBlock
	m  mapping
	c  *chain
	fl block.Flags // of the bios
}

// waited are the flags of a read for somebody who does nothing else meanwhile: the device does it in his goroutine.
const waited = block.Sync | block.Polled

// ReadFolio (mpage_read_folio) reads a locked folio and unlocks it. One bio when its blocks lie together, else one for each block.
// The error is get_block's; that of a device leaves the folio not uptodate.
func ReadFolio(ctx context.Context, fo *pagecache.Folio, gb GetBlock) error {
	r := reader{ip: vfs.InodeOf(fo.AddressSpace()), gb: gb, fl: waited}
	err := r.read(ctx, fo, int64(fo.Len()))
	r.c.submit()
	return err
}

// Readahead (mpage_readahead) reads the folios of rac: one bio for as many as lie together.
func Readahead(ctx context.Context, rac *pagecache.ReadaheadControl, gb GetBlock) {
	r := reader{ip: vfs.InodeOf(rac.AS()), gb: gb, fl: block.ReadAhead}
	if rac.Wanted() {
		r.fl = waited
	}
	for {
		want := rac.Len()
		fo := rac.Next()
		if fo == nil {
			break
		}
		_ = r.read(ctx, fo, want) // the folio is left not uptodate; whoever wants it asks again and gets the error
	}
	r.c.submit()
}

// read is do_mpage_readpage: accepts blocks that lie together, followed by nothing but holes.
func (r *reader) read(ctx context.Context, fo *pagecache.Folio, want int64) error {
	ip, bits := r.ip, r.ip.BlockBits()
	size := ip.Size()
	if buffersOf(fo) != nil || !fits(ip.SB().Dev, fo.Len()) {
		return r.full(ctx, fo, size)
	}
	first := uint64(fo.Pos()) >> bits
	n := uint64(fo.Len()) >> bits
	last := uint64(size+1<<bits-1) >> bits
	hole, start := n, uint64(0)
	var dev *Device
	for i := uint64(0); i < n; i++ {
		var blk uint64
		mapped := false
		if first+i < last {
			var err error
			if blk, mapped, err = r.m.lookup(ctx, ip, first+i, want-int64(i<<bits), r.gb); err != nil || r.m.bh.Has(Uptodate) {
				return r.full(ctx, fo, size)
			}
		}
		switch {
		case !mapped:
			hole = min(hole, i)
		case hole < n, i > 0 && (blk != start+i || r.m.bh.Dev != dev):
			return r.full(ctx, fo, size)
		case i == 0:
			start, dev = blk, r.m.bh.Dev
		}
	}
	clear(fo.Data()[hole<<bits:])
	if hole == 0 {
		fo.EndRead(true)
		return nil
	}
	if r.c != nil && r.c.size != size {
		r.c.submit() // grew meanwhile: the end lies elsewhere
		r.c = nil
	}
	r.c = r.c.add(ip, dev.dev, int64(start)<<bits, fo.Data()[:hole<<bits], fo, block.OpRead, r.fl)
	r.c.size = size
	if hole < n || r.m.bh.Has(Boundary) && first+n == r.m.first+r.m.n {
		r.c.submit() // the next block needs metadata to be read first: let this go meanwhile
		r.c = nil
	}
	return nil
}

// full is block_read_full_folio: one bio for each buffer that needs reading.
func (r *reader) full(ctx context.Context, fo *pagecache.Folio, size int64) error {
	r.c.submit()
	r.c = nil
	ip, bits := r.ip, r.ip.BlockBits()
	bs := attach(fo, bits)
	first := uint64(fo.Pos()) >> bits
	last := uint64(size+1<<bits-1) >> bits
	var failed error
	var todo []*BufferHead
	for i := range bs.list {
		bh := &bs.list[i]
		if bh.Has(Uptodate) {
			continue
		}
		if !bh.Has(Mapped) && first+uint64(i) < last {
			err := ask(ctx, ip, first+uint64(i), bh, int64(1)<<bits, false, r.gb)
			bh.Size = 1 << bits
			if err != nil {
				failed = err
				clear(bh.Data)
				continue
			}
			if bh.Has(Uptodate) {
				continue // get_block filled it
			}
		}
		if !bh.readable() {
			clear(bh.Data)
			bh.Set(Uptodate)
			continue
		}
		todo = append(todo, bh)
	}
	if len(todo) == 0 {
		ok := failed == nil
		for i := range bs.list {
			ok = ok && bs.list[i].Has(Uptodate)
		}
		fo.EndRead(ok)
		return failed
	}
	for _, bh := range todo {
		bh.Lock()
		bh.Disown() // endRead unlocks
		bh.Set(AsyncRead)
	}
	// Only now that all are marked: the first completion must not find itself to be the last.
	for _, bh := range todo {
		if bh.Has(Uptodate) {
			endRead(fo, bs, bh, size, nil)
			continue
		}
		bh.Set(Req)
		send(bh.Dev.dev, &block.Bio{
			Op: block.OpRead, Flags: r.fl &^ block.Polled, Off: int64(bh.Block) << bits, Vecs: [][]byte{bh.Data},
			Done: func(b *block.Bio) { endRead(fo, bs, bh, size, b.Err) },
		}, ip.SB().Trace, ip.Ino())
	}
	return failed
}

// endRead ends one buffer's part of a folio read; the last ends the folio's.
func endRead(fo *pagecache.Folio, bs *buffers, bh *BufferHead, size int64, err error) {
	bs.mu.Lock()
	if err == nil {
		bh.Set(Uptodate)
	} else {
		bh.Clear(Uptodate)
	}
	bh.Clear(AsyncRead)
	bh.Unlock()
	ok, done := true, true
	for i := range bs.list {
		b := &bs.list[i]
		ok = ok && b.Has(Uptodate)
		done = done && !b.Has(AsyncRead)
	}
	bs.mu.Unlock()
	if done {
		if tail := size - fo.Pos(); ok && tail >= 0 && tail < int64(fo.Len()) {
			clear(fo.Data()[tail:])
		}
		fo.EndRead(ok)
	}
}
