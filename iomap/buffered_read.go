package iomap

import (
	"context"
	"fmt"
	"sync"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// ReadOps (struct iomap_read_ops) lets a filesystem read ranges of folios in its own way, or see what was read before anybody else does, so
// that it can transform them: decrypt, decompress, verify. The nil table reads from the mapping's device.
//
//	library puts reads together ──► SubmitRead ──► device ──► r.End: transform ──► r.Finish        (block filesystems)
//	library names ranges ──► ReadFolioRange … ──► Submit ──► whatever ──► FinishRead for each       (all others)
type ReadOps struct {
	// SubmitRead sends off r, one read of the device, by r.Submit, after setting r.End to what is to be done with the data; also for
	// what is read before a write to a part of it. What it cannot send off it ends by r.Finish. Nil: r.Submit.
	SubmitRead func(r *ReadIO)

	// ReadFolioRange begins to read bytes [off, off+n) of the folio, whole blocks, from the mapping in use. The folio is locked, and
	// stays so until FinishRead was called for all that was begun: by anybody, at any time, also before this returns. An
	// error means that nothing was begun. Nil: from the device.
	ReadFolioRange func(ctx context.Context, rc *ReadContext, it *Iter, fo *pagecache.Folio, off, n int) error
	// ReadRange reads bytes [off, off+n) of the locked folio and waits, before a write to a part of them. Goes with ReadFolioRange.
	ReadRange func(ctx context.Context, it *Iter, fo *pagecache.Folio, off, n int) error
	// Submit sends off what ReadFolioRange collected in rc. Nil: nothing is collected.
	Submit func(rc *ReadContext)
}

// ReadContext (struct iomap_read_folio_ctx) is one call of ReadFolio or Readahead, in which ReadFolioRange may collect.
type ReadContext struct {
	Inode   *vfs.Inode
	Wait    bool // somebody waits for it
	Private any  // of ReadOps
}

// FinishRead (iomap_finish_folio_read) says that the read of bytes [off, off+n) of a folio is over. The last one unlocks the folio,
// uptodate if all its blocks are. Any goroutine, in any order.
func FinishRead(fo *pagecache.Folio, off, n int, err error) {
	st := stateOf(fo)
	if st == nil {
		fo.EndRead(err == nil)
		return
	}
	st.mu.Lock()
	if err == nil {
		from, to := st.span(off, n)
		st.set(0, from, to)
	}
	st.reads -= n
	last, full := st.reads == 0, st.full()
	st.mu.Unlock()
	if last {
		fo.EndRead(full)
	}
}

// reader is a read of one or several folios under way.
type reader struct {
	ReadContext
	ro     *ReadOps
	fo     *pagecache.Folio // being filled; nil between folios
	begun  int              // bytes of fo handed out to be read
	shared bool             // fo's state counts its reads: the completion of the last one unlocks it
	io     *ReadIO          // being built
}

var readers = sync.Pool{New: func() any { return new(reader) }}

func newReader(ip *vfs.Inode, ro *ReadOps, wait bool) *reader {
	r := readers.Get().(*reader)
	r.Inode, r.ro, r.Wait = ip, ro, wait
	return r
}

func (r *reader) free() {
	*r = reader{}
	readers.Put(r)
}

// ReadFolio (iomap_read_folio) fills a locked folio, and unlocks it when that is done, maybe later. The folio is uptodate then, or a
// part of it could not be read. For pagecache.Operations.
//
// Errors: Begin's, and of a read that this goroutine did itself.
// Source: Documentation/filesystems/iomap/operations.rst, "Buffered Readahead and Reads".
func ReadFolio(ctx context.Context, fo *pagecache.Folio, ops *Ops, ro *ReadOps) error {
	ip := vfs.InodeOf(fo.AddressSpace())
	r := newReader(ip, ro, true)
	defer r.free()
	it := NewIter(ip, fo.Pos(), int64(fo.Len()), 0, ops)
	defer it.Close(ctx)
	r.start(fo)
	for it.Next(ctx) {
		it.Fail(r.mapping(ctx, it, nil))
	}
	err := it.Err()
	r.finish()
	r.submit(true)
	return err
}

// Readahead (iomap_readahead) fills the folios that rac hands out. What it cannot read stays not uptodate, and is met again by
// ReadFolio. For pagecache.Operations.
func Readahead(ctx context.Context, rac *pagecache.ReadaheadControl, ops *Ops, ro *ReadOps) {
	ip := vfs.InodeOf(rac.AS())
	r := newReader(ip, ro, rac.Wanted())
	defer r.free()
	it := NewIter(ip, rac.Pos(), rac.Len(), 0, ops)
	defer it.Close(ctx)
	for it.Next(ctx) {
		it.Fail(r.mapping(ctx, it, rac))
	}
	if r.fo != nil {
		r.finish()
	}
	r.submit(true)
}

// start takes a locked folio on.
func (r *reader) start(fo *pagecache.Folio) { r.fo, r.begun, r.shared = fo, 0, false }

// finish lets the folio go: the rest of its reads unlock it, or nobody does but this.
func (r *reader) finish() {
	fo := r.fo
	r.fo = nil
	switch {
	case r.shared:
		// The state counted the whole folio, so that no completion could end the read while more was to come.
		if rest := fo.Len() - r.begun; rest > 0 {
			endShared(fo, rest)
		}
	case r.begun == 0:
		fo.Unlock()
	}
}

// endShared takes bytes that were not read off the count of reads.
func endShared(fo *pagecache.Folio, n int) {
	st := stateOf(fo)
	st.mu.Lock()
	st.reads -= n
	last, full := st.reads == 0, st.full()
	st.mu.Unlock()
	if last {
		fo.EndRead(full)
	}
}

// mapping fills folios as far as the mapping in use serves.
func (r *reader) mapping(ctx context.Context, it *Iter, rac *pagecache.ReadaheadControl) error {
	for it.Usable() > 0 {
		if r.fo == nil {
			r.start(rac.Next())
		}
		if err := r.step(ctx, it); err != nil {
			return err
		}
		if it.Pos() >= r.fo.End() && rac != nil {
			r.finish()
		}
	}
	return nil
}

// step fills one range of the folio, or finds it valid, and advances over it.
func (r *reader) step(ctx context.Context, it *Iter) error {
	fo, src := r.fo, it.Source()
	if src.Type == Inline {
		return readInline(it, fo)
	}
	ip := it.Inode
	bits := ip.BlockBits()
	from := int(it.Pos() - fo.Pos())
	end := int(min(int64(from)+it.Usable(), int64(fo.Len())))
	off, n := readRange(fo, from, end, ip.Size(), bits)
	if n == 0 {
		it.Advance(int64(end - from))
		return nil
	}
	if needsZero(src, fo.Pos()+int64(off), ip.Size()) {
		if n < fo.Len() {
			ensureState(fo, bits)
		}
		clear(fo.Data()[off : off+n])
		setUptodate(fo, off, n)
	} else if err := r.read(ctx, it, src, off, n); err != nil {
		return err
	}
	it.Advance(int64(min(off+n, end) - from))
	return nil
}

// read begins to read blocks of the folio.
func (r *reader) read(ctx context.Context, it *Iter, src *Mapping, off, n int) error {
	fo := r.fo
	// A folio that is read in parts counts them: another part of it, the device's longest bio, the filesystem may make them.
	if !r.shared && (n < fo.Len() || r.ro != nil || src.Dev.Limits().MaxBio > 0) {
		if st := ensureState(fo, it.Inode.BlockBits()); st != nil {
			st.mu.Lock()
			st.reads += fo.Len()
			st.mu.Unlock()
			r.shared = true
		}
	}
	if r.ro != nil && r.ro.ReadFolioRange != nil {
		if err := r.ro.ReadFolioRange(ctx, &r.ReadContext, it, fo, off, n); err != nil {
			return err
		}
		r.begun += n
		return nil
	}
	r.begun += n
	for n > 0 {
		addr := src.AddrOf(fo.Pos() + int64(off))
		k := 0
		if r.io != nil {
			k = r.io.room(src.Dev, addr, n)
		}
		if k == 0 {
			r.submit(false)
			r.io = newReadIO(it.Inode, src.Dev, addr)
			k = r.io.room(src.Dev, addr, n)
		}
		r.io.add(fo, off, k)
		off, n = off+k, n-k
	}
	return nil
}

// submit sends off what was collected; last says that nothing comes behind it.
func (r *reader) submit(last bool) {
	if last && r.ro != nil && r.ro.Submit != nil {
		r.ro.Submit(&r.ReadContext)
	}
	if io := r.io; io != nil {
		r.io = nil
		io.wait = last && r.Wait
		io.send(r.ro)
	}
}

// readRange (iomap_adjust_read_range) gives the first range in [from, end) of a folio that has to be filled: blocks that are not
// valid, all before the end of the file or all behind it. n is 0 when all are valid. Hold the folio's lock.
func readRange(fo *pagecache.Folio, from, end int, size int64, bits uint8) (off, n int) {
	if fo.Uptodate() {
		return from, 0
	}
	bs := 1 << bits
	off, end = from&^(bs-1), (end+bs-1)&^(bs-1)
	if st := stateOf(fo); st != nil {
		st.mu.Lock()
		i := st.next(0, uint(off)>>bits, uint(end)>>bits, false)
		j := st.next(0, i, uint(end)>>bits, true)
		st.mu.Unlock()
		if i == j {
			return from, 0
		}
		off, end = int(i)<<bits, int(j)<<bits
	}
	// The block that holds the last byte is read; those behind it are zeroed.
	if behind := (size - fo.Pos() + int64(bs) - 1) &^ int64(bs-1); behind > int64(off) && behind < int64(end) {
		end = int(behind)
	}
	return off, end - off
}

// needsZero (iomap_block_needs_zeroing) reports whether a block is zeros rather than what is on the device.
func needsZero(src *Mapping, pos, size int64) bool {
	return src.Type != Mapped || src.Flags&FlagNew != 0 || pos >= size
}

// readInline fills the folio from the mapping's memory (iomap_read_inline_data): the file's last bytes, and zeros behind them.
func readInline(it *Iter, fo *pagecache.Folio) error {
	src, size := it.Source(), it.Inode.Size()
	off := int(src.Offset - fo.Pos())
	n := size - src.Offset
	if off < 0 || n < 0 || n > src.Length || n > int64(fo.Len()-off) {
		return fmt.Errorf("inode %d: %d bytes of inline data at %d, in %s: %w", it.Inode.Ino(), n, src.Offset, src, errno.IO)
	}
	if off > 0 {
		ensureState(fo, it.Inode.BlockBits())
	}
	if !IsPartiallyUptodate(fo, off, fo.Len()-off) && !fo.Uptodate() {
		data := fo.Data()[off:]
		clear(data[copy(data, src.InlineData[:n]):])
		setUptodate(fo, off, fo.Len()-off)
	}
	it.Advance(it.Usable())
	return nil
}
