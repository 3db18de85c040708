package bufhead

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// DirectOptions are a filesystem's part in Direct.
type DirectOptions struct {
	// Overwrite maps with create false everywhere: a hole ends a write with a short count. Allows ip.Rw shared.
	Overwrite bool
	// SkipHoles maps with create false below the end of the file: filling a hole directly would show the block before its
	// data (DIO_SKIP_HOLES). Such a write ends with a short count and the caller goes on buffered.
	SkipHoles bool
	// EndIO (dio_iodone_t) runs when all I/O is over, before the cache is invalidated again: n bytes from pos on were moved, err
	// is the first error, or nil. Its error replaces success. Here a filesystem whose get_block answered Unwritten converts.
	EndIO func(ip *vfs.Inode, pos int64, n int, err error) error
}

// direct is one request (struct dio).
//
//	pieces ──► bios in flight ──► finish ──► all are over: result, in the caller's goroutine
//	                                └─ asynchronous, some are not: ErrQueued ──► the last of them: complete, k.Done
type direct struct {
	k     *vfs.Kiocb
	ip    *vfs.Inode
	dev   block.Device
	gb    GetBlock
	o     DirectOptions
	write bool
	async bool
	defr  bool  // get_block says that completion will wait
	size  int64 // of the file when the request began
	moved int64 // bytes zeroed or handed to bios

	last block.Bio // the piece held back, to see whether the next one continues it
	vec  [1][]byte // …
	end  int64     // file position after it
	bh   BufferHead

	left atomic.Int32  // bios in flight, and one for the submitter
	wake chan struct{} // one slot
	mu   sync.Mutex    // guards err; leaf
	err  error         // the first
}

var directs = sync.Pool{New: func() any { return &direct{wake: make(chan struct{}, 1)} }}

// Direct (__blockdev_direct_IO) moves data between buf and the device, around the cache. k.Pos and len(buf) are multiples
// of the device's logical block size, else vfs.ErrNotBlock: the caller goes through the cache. The cache over the range
// is written back first, and for a write dropped before and after; if it cannot be dropped, vfs.ErrNotBlock.
// Hold ip.Rw: shared for reads and overwrites, exclusively for other writes.
//
// It gives the bytes moved: fewer than asked at EOF, or where a write met a hole or the end of space. A device error hides the
// count. A write past the end raises the size. k.Pos moves on.
//
// With k.Done set it may give vfs.ErrQueued: then k.Done is called once with the result, after k.Pos moved on and what k and the inode
// want durable is; otherwise it is not called. Writes past the end, and requests that met an error or a hole to write to, are
// waited for. buf is the request's until then. errno.AGAIN with k.NoWait: get_block may always wait.
func Direct(ctx context.Context, k *vfs.Kiocb, buf []byte, write bool, gb GetBlock, o DirectOptions) (int, error) {
	ip := k.Inode
	dev := ip.SB().Dev
	pos, size := k.Pos, ip.Size()
	n := int64(len(buf))
	k.Synced = false
	mask := int64(max(dev.Limits().LogicalBlock, 1)) - 1
	switch {
	case (pos|n)&mask != 0:
		return 0, vfs.ErrNotBlock
	case n == 0, !write && pos >= size:
		return 0, nil
	case k.NoWait:
		return 0, errno.AGAIN
	case !write:
		n = min(n, (size+mask)&^mask-pos)
		buf = buf[:n]
	}
	if !ip.Pages.Empty() {
		if write && pos > size {
			ip.Pages.Extended(size, pos) // what a store through a mapping left behind the end
		}
		if err := ip.Pages.WriteAndWait(ctx, pos, pos+n); err != nil {
			return 0, err
		}
		if write && ip.Pages.Invalidate(ctx, pos, pos+n) != nil {
			return 0, vfs.ErrNotBlock
		}
	}
	ip.DirectBegin()
	d := directs.Get().(*direct)
	d.k, d.ip, d.write, d.size, d.gb, d.o, d.dev = k, ip, write, size, gb, o, dev
	d.left.Store(1)
	err := d.run(ctx, buf, pos)
	if err != nil {
		d.fail(err)
	}
	d.async = k.Done != nil && err == nil && (!write || d.moved == n && pos+n <= size)
	return d.finish(ctx)
}

// run maps the range run by run and builds bios as large as the runs.
func (d *direct) run(ctx context.Context, buf []byte, pos int64) error {
	ip, bits := d.ip, d.ip.BlockBits()
	bs := int64(1) << bits
	for len(buf) > 0 {
		off := pos & (bs - 1)
		create := d.write && !d.o.Overwrite && !(d.o.SkipHoles && pos < d.size)
		d.bh.state.Store(0)
		if err := ask(ctx, ip, uint64(pos)>>bits, &d.bh, (off+int64(len(buf))+bs-1)&^(bs-1), create, d.gb); err != nil {
			if d.moved > 0 && d.write {
				return nil // what was mapped so far is written; the caller asks again for the rest
			}
			return err
		}
		run := max(int64(d.bh.Size), bs) - off
		n := min(run, int64(len(buf)))
		switch {
		case d.bh.readable(), create && d.bh.Has(Mapped) && !d.bh.Has(Delay):
			d.piece(buf[:n], pos, off)
			if d.bh.Has(Boundary) && n == run {
				d.submit() // the next block needs metadata to be read first: let this go meanwhile
			}
		case d.write:
			return nil
		case pos >= (d.size+bs-1)&^(bs-1):
			return nil
		default:
			clear(buf[:n])
		}
		d.moved += n
		buf, pos = buf[n:], pos+n
	}
	return nil
}

// piece moves what lies together on the device: p at file byte pos, which is off bytes inside its block.
func (d *direct) piece(p []byte, pos, off int64) {
	bits := d.ip.BlockBits()
	bs, n := int64(1)<<bits, int64(len(p))
	addr := int64(d.bh.Block)<<bits + off
	fresh := d.bh.Has(New) || d.bh.Has(Unwritten)
	d.defr = d.defr || d.bh.Has(DeferCompletion)
	if d.bh.Has(New) {
		d.bh.Dev.CleanAliases(d.bh.Block, uint64(off+n+bs-1)>>bits)
	}
	// The rest of a block that the data does not cover must not show what was there before.
	if fresh && off > 0 {
		d.add(addr-off, make([]byte, off), -1)
	}
	d.add(addr, p, pos)
	if tail := (off + n) & (bs - 1); fresh && tail > 0 {
		d.add(addr+n, make([]byte, bs-tail), -1)
	}
}

// add continues the piece held back, or holds p back instead and submits that. pos is where p lies in the file, and so in memory; -1
// for zeros.
func (d *direct) add(addr int64, p []byte, pos int64) {
	most := d.dev.Limits().MaxBio
	if lb := int64(d.dev.Limits().LogicalBlock); lb > 1 {
		most &^= lb - 1
	}
	for len(p) > 0 {
		k := len(p)
		if most > 0 {
			k = int(min(int64(k), most))
		}
		v := d.vec[0]
		if len(v) > 0 && pos >= 0 && d.end == pos && d.last.Off+int64(len(v)) == addr && (most == 0 || int64(len(v)+k) <= most) {
			d.vec[0] = v[:len(v)+k]
		} else {
			d.submit()
			d.last.Off, d.vec[0] = addr, p[:k]
		}
		addr, p = addr+int64(k), p[k:]
		if d.end = -1; pos >= 0 {
			pos += int64(k)
			d.end = pos
		}
	}
}

// bio gives the bio of the piece held back; nil without.
func (d *direct) bio(b *block.Bio) *block.Bio {
	v := d.vec[0]
	if len(v) == 0 {
		return nil
	}
	vecs := d.vec[:]
	if b != &d.last {
		vecs, d.vec[0] = [][]byte{v}, nil
	}
	*b = block.Bio{Op: block.OpRead, Flags: block.Sync, Off: d.last.Off, Vecs: vecs, Done: directDone, Private: d}
	if d.write {
		b.Op = block.OpWrite
	} else if d.k.HiPri {
		b.Flags |= block.Polled
	}
	return b
}

// submit sends off the piece held back.
func (d *direct) submit() {
	if b := d.bio(new(block.Bio)); b != nil {
		d.left.Add(1)
		send(d.dev, b, d.ip.SB().Trace, d.ip.Ino())
	}
}

func (d *direct) fail(err error) {
	d.mu.Lock()
	if d.err == nil {
		d.err = err
	}
	d.mu.Unlock()
}

func directDone(b *block.Bio) {
	d := b.Private.(*direct)
	if b.Err != nil {
		d.fail(b.Err)
	}
	if d.left.Add(-1) > 0 {
		return
	}
	switch {
	case !d.async:
		d.wake <- struct{}{}
	case d.waits():
		go d.complete() // not in the device's goroutine: what is waited for may be behind this bio
	default:
		d.complete()
	}
}

// waits reports whether completion will wait for something: the filesystem, folios, the device's cache.
func (d *direct) waits() bool {
	return d.defr || d.o.EndIO != nil || d.write && (d.durable() || !d.ip.Pages.Empty())
}

// durable reports whether a write is to be made durable.
func (d *direct) durable() bool {
	return d.k.File != nil && (d.k.DSync || d.k.Sync || d.ip.Flags()&vfs.FlagSync != 0)
}

// finish ends submission: it waits for what is in flight, or leaves it to complete by itself.
func (d *direct) finish(ctx context.Context) (int, error) {
	if d.async {
		d.submit()
		if d.left.Add(-1) > 0 {
			return 0, vfs.ErrQueued // d is not ours any more
		}
		return d.result(ctx)
	}
	if b := d.bio(&d.last); b != nil {
		b.Done, b.Private = nil, nil
		account(b, d.ip.SB().Trace, d.ip.Ino())
		if err := block.SubmitWait(d.dev, b); err != nil { // in this goroutine
			d.fail(err)
		}
	}
	if d.left.Add(-1) > 0 {
		<-d.wake
	}
	return d.result(ctx)
}

// complete ends an asynchronous request.
func (d *direct) complete() {
	ctx := context.Background()
	k, sync := d.k, d.write && d.durable()
	datasync := !k.Sync && d.ip.Flags()&vfs.FlagSync == 0
	n, err := d.result(ctx)
	if sync && n > 0 {
		if err = k.File.Fsync(ctx, datasync); err != nil {
			n = 0
		}
	}
	k.Done(n, err)
}

// result (dio_complete) does what is to be done when all I/O is over, in this order: the filesystem converts; the size grows; the
// cache of the range is dropped once more, since a reader may have brought what was there before; then a waiting truncation may go
// on. It gives d up.
func (d *direct) result(ctx context.Context) (int, error) {
	k, ip, pos := d.k, d.ip, d.k.Pos
	n, err := d.moved, d.err
	if d.o.EndIO != nil {
		if e := d.o.EndIO(ip, pos, int(n), err); err == nil {
			err = e
		}
	}
	switch {
	case err != nil:
		n = 0 // what was moved is not known
	case !d.write:
		n = max(min(n, d.size-pos), 0)
	case n > 0:
		if pos+n > ip.Size() {
			ip.SetSize(pos + n)
			ip.Dirty(vfs.DirtySize)
		}
		if !ip.Pages.Empty() && ip.Pages.Invalidate(ctx, pos, pos+n) != nil {
			ip.Pages.SetError(errno.IO) // somebody made the cache dirty meanwhile: what he sees is not what is on the device
		}
	}
	k.Pos += n
	ip.DirectEnd()
	d.k, d.ip, d.dev, d.gb, d.o, d.err = nil, nil, nil, nil, DirectOptions{}, nil
	d.last, d.vec[0], d.moved, d.async, d.defr, d.end = block.Bio{}, nil, 0, false, false, 0
	directs.Put(d)
	return int(n), err
}
