package bufhead

import (
	"context"
	"sync"

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
	// EndIO runs when all I/O is over, before the cache is invalidated again; its error replaces success.
	EndIO func(ip *vfs.Inode, pos int64, n int, err error) error
}

// Direct (__blockdev_direct_IO) moves data between buf and the device, around the cache. k.Pos and len(buf) are multiples
// of the device's logical block size, else vfs.ErrNotBlock: the caller goes through the cache. The cache over the range
// is written back first, and for a write dropped before and after; if it cannot be dropped, vfs.ErrNotBlock.
// Hold ip.Rw: shared for reads and overwrites, exclusively for other writes.
//
// It gives the bytes moved: fewer than asked at EOF, or where a write met a hole. A device error hides the count.
// A write past the end raises the size. k.Pos moves on.
func Direct(ctx context.Context, k *vfs.Kiocb, buf []byte, write bool, gb GetBlock, o DirectOptions) (int, error) {
	ip := k.Inode
	dev := ip.SB().Dev
	pos, size := k.Pos, ip.Size()
	n := int64(len(buf))
	if mask := int64(dev.Limits().LogicalBlock) - 1; (pos|n)&mask != 0 {
		return 0, vfs.ErrNotBlock
	}
	if !write && pos >= size {
		return 0, nil
	}
	if err := ip.Pages.WriteAndWait(ctx, pos, pos+n); err != nil {
		return 0, err
	}
	if write && ip.Pages.Invalidate(ctx, pos, pos+n) != nil {
		return 0, vfs.ErrNotBlock
	}
	ip.DirectBegin()
	d := directs.Get().(*direct)
	d.ip, d.write, d.size, d.gb, d.o, d.dev = ip, write, size, gb, o, dev
	moved, err := d.run(ctx, buf, pos)
	if ioerr := d.finish(); ioerr != nil {
		err, moved = ioerr, 0
	}
	d.reset()
	if o.EndIO != nil {
		if e := o.EndIO(ip, pos, int(moved), err); e != nil && err == nil {
			err = e
		}
	}
	if write && moved > 0 {
		if end := pos + moved; end > ip.Size() {
			ip.SetSize(end)
			ip.Dirty(vfs.DirtySize)
		}
		if ip.Pages.Invalidate(ctx, pos, pos+moved) != nil {
			ip.Pages.SetError(errno.IO) // somebody made the cache dirty meanwhile: what he sees is not what is on the device
		}
	}
	ip.DirectEnd()
	if !write {
		moved = min(moved, max(size-pos, 0))
	}
	if err != nil {
		return 0, err
	}
	k.Pos += moved
	return int(moved), nil
}

// direct is one request (struct dio).
type direct struct {
	ip    *vfs.Inode
	dev   block.Device
	gb    GetBlock
	o     DirectOptions
	write bool
	size  int64

	last block.Bio // built, not yet submitted
	vec  [1][]byte
	end  int64 // file position after the last piece
	bh   BufferHead

	wg  sync.WaitGroup
	mu  sync.Mutex // guards err; leaf
	err error
}

var directs = sync.Pool{New: func() any { return new(direct) }}

func (d *direct) reset() {
	d.ip, d.dev, d.gb, d.o, d.err = nil, nil, nil, DirectOptions{}, nil
	d.last, d.vec[0] = block.Bio{}, nil
	directs.Put(d)
}

// run maps the range run by run and builds bios as large as the runs.
func (d *direct) run(ctx context.Context, buf []byte, pos int64) (int64, error) {
	ip, bits := d.ip, d.ip.BlockBits()
	bs := int64(1) << bits
	start := pos
	for len(buf) > 0 {
		off := pos & (bs - 1)
		create := d.write && !d.o.Overwrite && !(d.o.SkipHoles && pos < d.size)
		d.bh.state.Store(0)
		if err := ask(ctx, ip, uint64(pos)>>bits, &d.bh, (off+int64(len(buf))+bs-1)&^(bs-1), create, d.gb); err != nil {
			if pos > start && d.write {
				return pos - start, nil // what was mapped so far is written; the caller asks again for the rest
			}
			return pos - start, err
		}
		n := min(int64(max(d.bh.Size, 1<<bits))-off, int64(len(buf)))
		if !d.bh.Has(Mapped) || d.bh.Has(Unwritten) || d.bh.Has(Delay) {
			if d.write {
				return pos - start, nil
			}
			if pos >= (d.size+bs-1)&^(bs-1) {
				return pos - start, nil
			}
			clear(buf[:n])
		} else {
			addr := int64(d.bh.Block)<<bits + off
			if d.bh.Has(New) {
				d.bh.Dev.CleanAliases(d.bh.Block, uint64(off+n+bs-1)>>bits)
				// The rest of a block that the data does not cover must not show what was there before.
				if off > 0 {
					d.zeros(addr-off, off)
				}
				if tail := (off + n) & (bs - 1); tail > 0 {
					d.zeros(addr+n, bs-tail)
				}
			}
			d.add(addr, buf[:n], pos)
		}
		buf, pos = buf[n:], pos+n
	}
	return pos - start, nil
}

// add continues the bio being built, or begins another.
func (d *direct) add(addr int64, p []byte, pos int64) {
	follows := d.end == pos // in the file, and so in memory: a hole lies between pieces that do not
	d.end = pos + int64(len(p))
	if v := d.vec[0]; len(v) > 0 {
		if d.last.Off+int64(len(v)) == addr && follows {
			d.vec[0] = v[:len(v)+len(p)]
			return
		}
		d.submit(d.last.Off, v)
	}
	d.last.Off, d.vec[0] = addr, p
}

func (d *direct) op() block.Op {
	if d.write {
		return block.OpWrite
	}
	return block.OpRead
}

func (d *direct) submit(addr int64, p []byte) {
	d.wg.Add(1)
	biosSubmitted.Add(1)
	d.dev.Submit(&block.Bio{Op: d.op(), Flags: block.Sync, Off: addr, Vecs: [][]byte{p}, Done: d.done})
}

func (d *direct) zeros(addr, n int64) {
	d.wg.Add(1)
	biosSubmitted.Add(1)
	d.dev.Submit(&block.Bio{Op: block.OpWrite, Flags: block.Sync, Off: addr, Vecs: [][]byte{make([]byte, n)}, Done: d.done})
}

func (d *direct) done(b *block.Bio) {
	if b.Err != nil {
		d.mu.Lock()
		if d.err == nil {
			d.err = b.Err
		}
		d.mu.Unlock()
	}
	d.wg.Done()
}

// finish runs the last bio in this goroutine and waits for the others.
func (d *direct) finish() error {
	if v := d.vec[0]; len(v) > 0 {
		d.last.Op, d.last.Flags, d.last.Vecs, d.last.Done = d.op(), block.Sync, d.vec[:], nil
		biosSubmitted.Add(1)
		if err := block.SubmitWait(d.dev, &d.last); err != nil {
			d.mu.Lock()
			if d.err == nil {
				d.err = err
			}
			d.mu.Unlock()
		}
	}
	d.wg.Wait()
	return d.err
}
