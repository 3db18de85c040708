package iomap

import (
	"context"
	"fmt"
	"sync"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// directBio is one bio of a request: the caller's memory, with zeros before and behind it where the rest of blocks is filled.
type directBio struct {
	bio  block.Bio
	dev  block.Device
	d    *direct
	vecs [][]byte
	room [3][]byte
}

var directBios = sync.Pool{New: func() any { return new(directBio) }}

func newDirectBio(d *direct, dev block.Device, addr int64) *directBio {
	b := &d.one
	if d.used {
		b = directBios.Get().(*directBio)
	}
	d.used = true
	b.d, b.dev, b.vecs = d, dev, b.room[:0]
	b.bio.Op, b.bio.Off, b.bio.Flags, b.bio.Done, b.bio.Private = block.OpRead, addr, block.Sync, directDone, b
	return b
}

func (b *directBio) add(p []byte) { b.vecs = append(b.vecs, p) }

func (b *directBio) bytes() (n int64) {
	for _, v := range b.vecs {
		n += int64(len(v))
	}
	return n
}

func directDone(bio *block.Bio) {
	bio.Private.(*directBio).over(bio.Err).bioOver()
}

// bioOver counts a bio that is over; with the last the request is.
func (d *direct) bioOver() {
	if d.left.Add(-1) > 0 {
		return
	}
	switch {
	case !d.async:
		d.wake <- struct{}{}
	case d.k.CallerComp && d.write && !d.failed() && d.pure():
		k := d.k
		k.Complete = func() (int, error) { return d.result(context.Background()) }
		k.Done(0, nil)
	case d.write || d.failed():
		// Completion of a write waits for the filesystem, for folios that may be read by bios behind this one, for a sync.
		go d.complete(context.Background())
	default:
		d.complete(context.Background())
	}
}

// over records how the bio went and gives it up.
func (b *directBio) over(err error) *direct {
	d := b.d
	if err != nil {
		d.fail(err)
	}
	*b = directBio{}
	if b != &d.one {
		directBios.Put(b)
	}
	return d
}

// finish ends submission: it waits for what is in flight, or leaves it to complete by itself.
func (d *direct) finish(ctx context.Context) (int, error) {
	d.through = d.through && d.moved == int64(len(d.buf))
	d.needSync = d.needSync && !d.through
	if b := d.last; b != nil {
		d.last = nil
		if d.async {
			b.dev.Submit(&b.bio)
		} else {
			err := block.SubmitWait(b.dev, &b.bio)
			b.over(err)
			d.left.Add(-1)
		}
	}
	if d.left.Add(-1) > 0 {
		if d.async {
			return 0, vfs.ErrQueued // d is not ours any more
		}
		<-d.wake
	}
	d.async = false
	return d.result(ctx)
}

// complete ends an asynchronous request.
func (d *direct) complete(ctx context.Context) {
	k, done := d.k, d.k.Done
	sync, datasync, write := d.needSync, !k.Sync && k.Inode.Flags()&vfs.FlagSync == 0, d.write
	n, err := d.result(ctx)
	if write && sync && err == nil && n > 0 && k.File != nil {
		if err = k.File.Fsync(ctx, datasync); err != nil {
			n = 0
		}
	}
	done(n, err)
}

// result (iomap_dio_complete) does what is to be done when all I/O is over, in this order: the filesystem converts and moves the
// end of the file; only then the cache of the range is dropped once more, since a read in between would have cached what was there
// before; then a waiting truncation may go on. It gives d up.
func (d *direct) result(ctx context.Context) (int, error) {
	k, ip := d.k, d.k.Inode
	pos, n := k.Pos, d.moved
	var err error
	if first := d.err.Load(); first != nil {
		err = *first
	}
	if d.do != nil && d.do.EndIO != nil {
		err = d.do.EndIO(ctx, k, n, err, d.res)
	}
	if err == nil && !d.write {
		n = max(min(n, d.size-pos), 0)
	}
	if err == nil && d.write && n > 0 && !d.kept && !ip.Pages.Empty() {
		if ierr := ip.Pages.Invalidate(ctx, pos, pos+n); ierr != nil {
			// The write stands; who reads the cache may see what was before it. Whoever syncs the file is told.
			ip.Pages.SetError(fmt.Errorf("inode %d: the cache of [%d,%d) outlived a direct write: %w", ip.Ino(), pos, pos+n, errno.IO))
		}
	}
	ip.DirectEnd()
	if t := ip.SB().Trace; t != nil {
		t.Emit(trace.Event{Kind: trace.DirectDone, Ino: ip.Ino(), Pos: pos, Len: int64(len(d.buf)), Got: n, Err: err})
	}
	k.Synced = d.write && d.through && err == nil
	extra := d.extra
	d.free()
	if err != nil {
		return 0, err
	}
	k.Pos += n
	return int(n) + extra, nil
}
