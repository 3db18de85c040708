package file

import (
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Submit starts the bio. A read that the host can serve from its cache, and a polled bio, is done before it returns.
func (d *Device) Submit(b *block.Bio) {
	if !d.gate.Enter() {
		b.End(b.Fail(d.name, closed, errno.NODEV))
		return
	}
	if err := d.check(b); err != nil {
		d.end(b, err)
		return
	}
	switch {
	case b.Op == block.OpFlush:
		d.flush.add(b)
		return
	case b.Bytes() == 0 && b.Flags&block.PreFlush == 0:
		d.end(b, nil)
		return
	case b.Flags&block.Polled != 0:
		d.run(newRequest(b))
		return
	case b.Op == block.OpRead && d.facts.nowait && d.readCached(b):
		d.end(b, nil)
		return
	}
	q := &d.writes
	if b.Op == block.OpRead {
		q = &d.reads
	}
	if err := q.add(b); err != nil {
		d.end(b, b.Fail(d.name, "queue is full", err))
	}
}

// SubmitWait does the bio in the caller's goroutine, without calling Done.
func (d *Device) SubmitWait(b *block.Bio) error {
	if !d.gate.Enter() {
		b.Err = b.Fail(d.name, closed, errno.NODEV)
		return b.Err
	}
	defer d.gate.Exit()
	if b.Err = d.check(b); b.Err != nil {
		return b.Err
	}
	if b.Op == block.OpFlush {
		b.Err = b.Fail(d.name, "", d.flush.wait())
		return b.Err
	}
	r := newRequest(b)
	b.Err = b.Fail(d.name, "", d.perform(r))
	r.recycle()
	return b.Err
}

// check refuses what the device cannot do.
func (d *Device) check(b *block.Bio) error {
	if err := b.Check(d.size, &d.lim); err != nil {
		return b.Fail(d.name, "", err)
	}
	if b.Op > block.OpWriteZeroes {
		return b.Fail(d.name, "unknown operation", errno.INVAL)
	}
	if b.Op == block.OpDiscard && d.lim.DiscardGrain == 0 {
		return b.Fail(d.name, "", errno.OPNOTSUPP)
	}
	return nil
}

// end completes a bio that was counted in.
func (d *Device) end(b *block.Bio, err error) {
	b.End(err)
	d.gate.Exit()
}

// run performs a request and completes its bios. When a merged request fails, each of its bios is tried alone, so that the
// error reaches the one whose range is bad and no other.
func (d *Device) run(r *request) {
	err := d.perform(r)
	if err == nil || len(r.bios) == 1 {
		for _, b := range r.bios {
			d.end(b, b.Fail(d.name, "", err))
		}
		r.recycle()
		return
	}
	for _, b := range r.bios {
		one := newRequest(b)
		err := d.perform(one)
		one.recycle()
		d.end(b, b.Fail(d.name, "", err))
	}
	r.recycle()
}

// readCached moves what the host has in memory and never waits. It is false when anything was missing.
func (d *Device) readCached(b *block.Bio) bool {
	var got int
	var err error
	want := b.Bytes()
	if len(b.Vecs) > maxVecs {
		return false
	}
	got, err = d.host.readv(b.Vecs, b.Off, true)
	return err == nil && int64(got) == want
}
