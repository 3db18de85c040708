package iomap

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// DirectFlags modify Direct (IOMAP_DIO_…).
type DirectFlags uint8

// Flags.
const (
	DirectForceWait      DirectFlags = 1 << iota // wait even if the caller asked not to: writes past the end, and to parts of blocks
	DirectOverwriteOnly                          // errno.AGAIN unless the range lies inside the file and one written mapping serves it
	DirectFsBlockAligned                         // each bio begins and ends at blocks of the filesystem
	DirectAtomic                                 // untorn: stored whole or not at all, never through the cache
	DirectPartial                                // a fault of the caller's memory gives what was done before it, not errno.FAULT
)

// DirectResult tells EndIO what the request met.
type DirectResult uint8

// Bits of a DirectResult.
const (
	DirectUnwritten DirectResult = 1 << iota // wrote to unwritten space, which is now to be converted
	DirectCow                                // wrote to shared space's new place, which is now to be put in
)

// DirectOps (struct iomap_dio_ops) is a filesystem's part in direct I/O.
type DirectOps struct {
	// EndIO (end_io) runs once for each request that got as far as mapping, when all its I/O is over and before the cache is
	// invalidated again: size bytes from k.Pos on were transferred, err is the first error, or nil. It converts, puts in, and
	// then moves the end of the file. What it gives replaces err. It may wait.
	EndIO func(ctx context.Context, k *vfs.Kiocb, size int64, err error, r DirectResult) error
	// SubmitIO (submit_io) sends bio off instead of the device: pos is the file byte where it begins, the zeros before the data included.
	// It may replace Vecs, or Done by a function that transforms what was read and then calls the one that was there, with the
	// Private that was there.
	SubmitIO func(it *Iter, bio *block.Bio, pos int64)
}

// direct (struct iomap_dio) is one request.
//
//	mappings: bios in flight ──► finish ──► all are over: complete, in the caller's goroutine
//	                               └─ asynchronous, some are not: ErrQueued ──► the last of them: complete, k.Done
type direct struct {
	k     *vfs.Kiocb
	do    *DirectOps
	fl    DirectFlags
	write bool
	async bool
	buf   []byte
	pin   func(off, n int) int
	kept  bool  // the data is in the cache too: a write through it
	size  int64 // of the file when the request began
	moved int64 // bytes zeroed, copied or sent off
	extra int   // done before, counted in the result
	res   DirectResult

	needSync bool // the caller wants the data durable
	through  bool // … and FUA will see to it, so far

	last *directBio // held back: sent off by the caller's own goroutine when it waits anyway

	left atomic.Int32          // bios in flight, and one for the submitter
	wake chan struct{}         // one slot
	err  atomic.Pointer[error] // the first
	one  directBio             // the first bio, without having to look for memory
	used bool                  // one is, or was
}

var directs = sync.Pool{New: func() any { return &direct{wake: make(chan struct{}, 1)} }}

// Direct (iomap_dio_rw) reads or writes p at k.Pos around the cache, and moves k.Pos on. private is what Begin finds in Iter.Private;
// doneBefore is added to the result: what a request did before it was broken off.
//
// DirectAtomic wants a length that is a power of two, at a multiple of it, and is honoured by a device that can (FlagAtomicBio: one bio), or
// by a filesystem that writes elsewhere and lets EndIO put all of it in at once (FlagShared).
//
// Hold ip.Rw: shared for reads and for writes over what exists, exclusively for others. The cache of the range is written back before,
// and for a write dropped, before and after. With k.Done set, and no DirectForceWait, it may give vfs.ErrQueued: then k.Done is called
// with the result; otherwise it is not called. k.Synced says that a write is durable already.
//
// Errors: errno.INVAL for what is not aligned to the device's blocks; errno.AGAIN with k.NoWait and DirectOverwriteOnly; vfs.ErrNotBlock
// when the cache of the range cannot be dropped: nothing was done, take the buffered path. vfs.ErrNotBlock from Begin or End gives a
// short count, maybe 0, instead: the rest goes the buffered way. Another error hides the bytes that were transferred before it.
// Source: Documentation/filesystems/iomap/operations.rst, "Direct I/O".
func Direct(ctx context.Context, k *vfs.Kiocb, p []byte, write bool, ops *Ops, do *DirectOps, fl DirectFlags, private any, doneBefore int) (int, error) {
	return DirectMemory(ctx, k, Memory{Bytes: p}, write, ops, do, fl, private, doneBefore)
}

// Memory (struct iov_iter) is the caller's memory when using it may fail, as that of another process may.
type Memory struct {
	Bytes []byte
	// Pin (iov_iter_extract_pages) makes up to n bytes from off on usable until the request is over, and gives how many; 0: a fault.
	// Nil: all of it is.
	Pin func(off, n int) int
}

// DirectMemory is Direct with memory that may fault: errno.FAULT then hides the bytes moved before, unless DirectPartial is given. Then they
// are the result, and the caller makes the rest of the memory usable and calls again with them in doneBefore.
func DirectMemory(ctx context.Context, k *vfs.Kiocb, mem Memory, write bool, ops *Ops, do *DirectOps, fl DirectFlags, private any, doneBefore int) (int, error) {
	p := mem.Bytes
	if len(p) == 0 {
		return 0, nil
	}
	k.Synced, k.Complete = false, nil
	d := newDirect(k, p, write, do, fl)
	d.pin, d.extra = mem.Pin, doneBefore
	begun, err := d.prepare(ctx)
	if !begun {
		d.free()
		if err != nil {
			return 0, err
		}
		return doneBefore, nil
	}
	it := d.iterate(ops, private)
	defer it.Close(ctx)
	held := false
	if d.simple() {
		// The whole range in one written mapping: a bio and nothing else.
		if held = it.Next(ctx); held && d.fits(it) {
			return d.single(ctx, it)
		}
	}
	k.Inode.DirectBegin()
	d.left.Store(1)
	d.run(ctx, it, held)
	return d.finish(ctx)
}

// newDirect makes a request.
func newDirect(k *vfs.Kiocb, p []byte, write bool, do *DirectOps, fl DirectFlags) *direct {
	d := directs.Get().(*direct)
	d.k, d.do, d.fl, d.write, d.buf = k, do, fl, write, p
	d.size = k.Inode.Size()
	d.async = k.Done != nil && fl&DirectForceWait == 0
	return d
}

// simple reports whether the request may need no more than one bio.
func (d *direct) simple() bool {
	return !d.async && d.do == nil && d.pin == nil && !d.needSync && d.fl&^DirectForceWait == 0 && d.k.Pos+int64(len(d.buf)) <= d.size
}

// fits reports whether one bio serves all of a simple request.
func (d *direct) fits(it *Iter) bool {
	m, n := &it.Map, int64(len(d.buf))
	if m.Type != Mapped || it.Usable() < n || d.write && m.Flags&FlagNew != 0 {
		return false
	}
	lim := m.Dev.Limits()
	return (it.Pos()|n)&int64(max(lim.LogicalBlock, 1)-1) == 0 && (lim.MaxBio == 0 || n <= lim.MaxBio)
}

// single moves all of a simple request by one bio, in this goroutine.
func (d *direct) single(ctx context.Context, it *Iter) (int, error) {
	ip, n := it.Inode, int64(len(d.buf))
	ip.DirectBegin()
	b := newDirectBio(d, it.Map.Dev, it.Map.AddrOf(it.Pos()))
	b.add(d.buf)
	b.bio.Vecs = b.vecs
	if d.write {
		b.bio.Op = block.OpWrite
	}
	if t := ip.SB().Trace; t != nil {
		t.Emit(trace.Event{Kind: trace.BioSubmit, Ino: ip.Ino(), Pos: b.bio.Off, Len: n})
	}
	b.over(block.SubmitWait(b.dev, &b.bio))
	d.moved = n
	it.Advance(n)
	return d.result(ctx)
}

// prepare makes the cache of the range agree with the device. begun is false when there is nothing more to do.
func (d *direct) prepare(ctx context.Context) (begun bool, err error) {
	ip, as := d.k.Inode, &d.k.Inode.Pages
	pos, end := d.k.Pos, d.k.Pos+int64(len(d.buf))
	if !d.write {
		if pos >= d.size {
			return false, nil
		}
		if d.k.NoWait && as.NeedsWriteback(pos, end) {
			return false, errno.AGAIN
		}
		err := as.WriteAndWait(ctx, pos, end)
		return err == nil, err
	}
	if d.fl&DirectOverwriteOnly != 0 && end > d.size {
		return false, errno.AGAIN
	}
	if n := end - pos; d.fl&DirectAtomic != 0 && (n&(n-1) != 0 || pos&(n-1) != 0) {
		return false, fmt.Errorf("inode %d: untorn write of %d bytes at %d: want a power of two, at a multiple of it: %w", ip.Ino(), n, pos, errno.INVAL)
	}
	d.wantSync()
	if as.Empty() {
		return true, nil
	}
	if d.k.NoWait && as.HasPages(pos, end) {
		return false, errno.AGAIN
	}
	err = as.WriteAndWait(ctx, pos, end)
	if err == nil {
		err = as.Invalidate(ctx, pos, end)
	}
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case d.fl&DirectAtomic != 0:
		return false, errno.AGAIN
	}
	ip.SB().Log.Debug("direct write takes the buffered path", "inode", ip.Ino(), "pos", pos, "err", err)
	return false, vfs.ErrNotBlock
}

// wantSync notes whether the data is to be durable, and hopes for FUA.
func (d *direct) wantSync() {
	d.needSync = d.k.DSync || d.k.Sync || d.async && d.k.Inode.Flags()&vfs.FlagSync != 0
	d.through = d.k.DSync && !d.k.Sync
}

// iterate gives the iterator over the request's range.
func (d *direct) iterate(ops *Ops, private any) *Iter {
	ip, n := d.k.Inode, int64(len(d.buf))
	flags := OpDirect
	if d.write {
		flags |= OpWrite
		if d.fl&DirectOverwriteOnly != 0 {
			flags |= OpOverwriteOnly
		}
		if d.fl&DirectAtomic != 0 {
			flags |= OpAtomic
		}
	} else {
		bs := int64(ip.BlockSize())
		n = min(n, (d.size+bs-1)&^(bs-1)-d.k.Pos) // beyond lies nothing
	}
	if d.k.NoWait {
		flags |= OpNoWait
	}
	it := NewIter(ip, d.k.Pos, n, flags, ops)
	it.Private = private
	return it
}

// run maps the range and sends bios off; held says that the first mapping is there already.
func (d *direct) run(ctx context.Context, it *Iter, held bool) {
	for held || it.Next(ctx) {
		held = false
		n, err := d.mapping(it)
		it.Advance(n)
		it.Fail(err)
		if d.failed() {
			it.Fail(errStop)
		}
	}
	d.ended(it)
}

// ended notes how the loop over mappings ended.
func (d *direct) ended(it *Iter) {
	if err := it.Err(); err != nil {
		d.async = false // an error, or a short count: at once
		partial := d.fl&DirectPartial != 0 && d.moved > 0 && errors.Is(err, errno.FAULT)
		if !errors.Is(err, vfs.ErrNotBlock) && err != errStop && !partial {
			d.fail(err)
		}
	}
}

// errStop ends the loop after an error that is kept elsewhere.
var errStop = errors.New("a bio failed")

// mapping does what the mapping in use serves.
func (d *direct) mapping(it *Iter) (int64, error) {
	m, pos, n := &it.Map, it.Pos(), it.Usable()
	part := d.buf[pos-d.k.Pos:][:n]
	if m.Type == Mapped || d.write && m.Type == Unwritten {
		return d.bios(it, part)
	}
	if k := d.pinned(pos, n); k < n {
		if n, part = k, part[:k]; n == 0 {
			return 0, errno.FAULT
		}
	}
	switch m.Type {
	case Unwritten:
		clear(part)
	case Hole:
		if d.write {
			return 0, fmt.Errorf("iomap: inode %d: a hole answers a direct write at %d: %w", it.Inode.Ino(), pos, errno.IO)
		}
		clear(part)
	case Inline:
		d.inline(it, part)
	default:
		return 0, fmt.Errorf("inode %d: %s at %d: written to through a mapping meanwhile: %w", it.Inode.Ino(), m, pos, errno.IO)
	}
	d.moved += n
	return n, nil
}

// inline copies from or to the mapping's memory.
func (d *direct) inline(it *Iter, p []byte) {
	m, ip, pos := &it.Map, it.Inode, it.Pos()
	if !d.write {
		n := copy(p, m.Inline(pos))
		clear(p[n:])
		return
	}
	d.through = false // End stores it
	if size := ip.Size(); pos > size {
		clear(m.InlineData[max(size-m.Offset, 0) : pos-m.Offset])
	}
	copy(m.InlineData[pos-m.Offset:], p)
	if end := pos + int64(len(p)); end > ip.Size() {
		ip.SetSize(end)
	}
	ip.Dirty(vfs.DirtySize)
}

// pinned gives how many of n bytes of the caller's memory, for file byte pos on, can be used.
func (d *direct) pinned(pos, n int64) int64 {
	if d.pin == nil {
		return n
	}
	return min(n, max(int64(d.pin(int(pos-d.k.Pos), int(n))), 0))
}

// zeros is what the rest of blocks is filled with: as long as the largest block.
var zeros [64 << 10]byte

// bios sends off what the mapping in use serves.
func (d *direct) bios(it *Iter, p []byte) (int64, error) {
	m, ip, pos, n := &it.Map, it.Inode, it.Pos(), int64(len(p))
	bs, lim := int64(ip.BlockSize()), m.Dev.Limits()
	align := int64(max(lim.LogicalBlock, 1))
	if d.fl&DirectFsBlockAligned != 0 {
		align = max(align, bs)
	}
	if (pos|n)&(align-1) != 0 {
		return 0, fmt.Errorf("inode %d: direct I/O of %d bytes at %d: not aligned to %d: %w", ip.Ino(), n, pos, align, errno.INVAL)
	}
	if bs > int64(len(zeros)) {
		return 0, fmt.Errorf("inode %d: direct I/O with blocks of %d bytes: %w", ip.Ino(), bs, errno.INVAL)
	}
	most := lim.MaxBio
	if most > 0 {
		most = max(most&^(align-1), align) // each bio begins and ends aligned
	}
	if d.fl&DirectAtomic != 0 {
		whole := m.Flags&FlagShared != 0 // written elsewhere, and put in at once
		if m.Flags&FlagAtomicBio != 0 {
			whole = n == int64(len(d.buf)) && n <= int64(lim.AtomicMax) && (most == 0 || n <= most)
		}
		if !whole {
			return 0, fmt.Errorf("inode %d: untorn write of %d bytes at %d: not one piece on the device: %w", ip.Ino(), len(d.buf), pos, errno.INVAL)
		}
	}
	zeroing := false
	if d.write {
		d.classify(m, lim)
		zeroing = m.Type == Unwritten || m.Flags&FlagNew != 0
	}
	sent, fault := int64(0), false
	for first := true; len(p) > 0; first = false {
		k := len(p)
		if most > 0 {
			k = int(min(int64(k), most))
		}
		if got := d.pinned(pos, int64(k)) &^ (align - 1); got < int64(k) {
			// The caller's memory faults. What was sent stays, and the rest of its last block is zeroed all the same.
			p, k, fault = p[:got], int(got), true
			if k == 0 {
				if sent > 0 {
					d.zeroTail(it, pos, zeroing)
				}
				break
			}
		}
		b := newDirectBio(d, m.Dev, m.AddrOf(pos))
		if off := pos & (bs - 1); first && zeroing && off > 0 {
			b.bio.Off -= off
			b.add(zeros[:off])
			if most > 0 && off+int64(k) > most {
				d.submit(it, b)
				b = newDirectBio(d, m.Dev, m.AddrOf(pos))
			}
		}
		b.add(p[:k])
		p, pos, sent = p[k:], pos+int64(k), sent+int64(k)
		// Past the end of the file the rest of the block is zeroed whatever it was: a mapping shows it, a longer file would.
		if off := pos & (bs - 1); len(p) == 0 && off > 0 && (zeroing || d.write && pos >= ip.Size()) {
			if most > 0 && b.bytes()+bs-off > most {
				d.submit(it, b)
				b = newDirectBio(d, m.Dev, m.AddrOf(pos))
			}
			b.add(zeros[:bs-off])
		}
		d.submit(it, b)
		if d.failed() {
			break // what was sent off counts, for EndIO and End
		}
	}
	d.moved += sent
	if fault {
		return sent, fmt.Errorf("inode %d: the memory of direct I/O at %d: %w", ip.Ino(), pos, errno.FAULT)
	}
	return sent, nil
}

// zeroTail zeroes what follows file byte pos in its block, after data that ended there.
func (d *direct) zeroTail(it *Iter, pos int64, zeroing bool) {
	ip, m := it.Inode, &it.Map
	bs := int64(ip.BlockSize())
	if off := pos & (bs - 1); off > 0 && (zeroing || d.write && pos >= ip.Size()) {
		b := newDirectBio(d, m.Dev, m.AddrOf(pos))
		b.add(zeros[:bs-off])
		d.submit(it, b)
	}
}

// classify notes what writing to the mapping means for completion, and whether FUA may stand for a sync.
func (d *direct) classify(m *Mapping, lim *block.Limits) {
	if m.Type == Unwritten {
		d.res |= DirectUnwritten
	}
	if m.Flags&FlagShared != 0 {
		d.res |= DirectCow
	}
	if m.Type != Mapped || m.Flags&(FlagNew|FlagShared|FlagDirty) != 0 || lim.VolatileCache && !lim.FUA {
		d.through = false
	}
}

// submit sends off the bio held back, and holds b back.
func (d *direct) submit(it *Iter, b *directBio) {
	if d.write {
		b.bio.Op = block.OpWrite
		if d.through && b.dev.Limits().VolatileCache {
			b.bio.Flags |= block.FUA
		}
		if d.fl&DirectAtomic != 0 && it.Map.Flags&FlagAtomicBio != 0 {
			b.bio.Flags |= block.Atomic
		}
	}
	if d.k.HiPri && d.async && b.bytes() == int64(len(d.buf)) && d.pure() {
		b.bio.Flags |= block.Polled // one bio, and nothing to do after it
	}
	b.bio.Vecs = b.vecs
	d.left.Add(1)
	if t := it.Inode.SB().Trace; t != nil {
		t.Emit(trace.Event{Kind: trace.BioSubmit, Ino: it.Inode.Ino(), Pos: b.bio.Off, Len: b.bio.Bytes()})
	}
	if d.do != nil && d.do.SubmitIO != nil {
		d.do.SubmitIO(it, &b.bio, it.Map.Offset+b.bio.Off-int64(it.Map.Addr))
		return
	}
	if last := d.last; last != nil {
		last.dev.Submit(&last.bio)
	}
	d.last = b
}

// pure reports whether completion has nothing to do that may wait: a read, or a write over what exists that needs no sync.
func (d *direct) pure() bool {
	return !d.write || d.res == 0 && (!d.needSync || d.through) && d.k.Pos+int64(len(d.buf)) <= d.size
}

// fail keeps the first error.
func (d *direct) fail(err error) { d.err.CompareAndSwap(nil, &err) }

func (d *direct) failed() bool { return d.err.Load() != nil }

func (d *direct) free() {
	d.k, d.do, d.buf, d.pin, d.last = nil, nil, nil, nil, nil
	d.err.Store(nil)
	d.moved, d.extra, d.res, d.needSync, d.through, d.kept, d.used = 0, 0, 0, false, false, false, false
	directs.Put(d)
}
