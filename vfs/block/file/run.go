package file

import (
	"errors"
	"fmt"

	"github.com/iomapfs/iomapfs/vfs/arena"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// errUnsupported is the host's answer to a call that this file cannot do; there is another way then.
var errUnsupported = errors.New("not supported here")

// perform does what the request asks and waits for it. The bios' own slices are not changed.
func (d *Device) perform(r *request) error {
	if r.flags&block.PreFlush != 0 && r.op != block.OpRead {
		if err := d.flush.wait(); err != nil {
			return fmt.Errorf("flush before it: %w", err)
		}
	}
	if r.off == r.end {
		return nil
	}
	fua := r.flags&block.FUA != 0
	switch r.op {
	case block.OpRead, block.OpWrite:
		r.bufs = r.bufs[:0]
		for _, b := range r.bios {
			for _, v := range b.Vecs {
				if len(v) > 0 {
					r.bufs = append(r.bufs, v)
				}
			}
		}
		write := r.op == block.OpWrite
		if d.direct {
			return d.directIO(r.bufs, r.off, r.end, write, fua)
		}
		return d.transfer(r.bufs, r.off, write, fua, false)
	case block.OpDiscard:
		return d.release(r.off, r.end-r.off)
	default:
		if err := d.zeroes(r.off, r.end-r.off, r.bios[0].Flags&block.NoUnmap == 0); err != nil || !fua {
			return err
		}
		return d.flush.wait()
	}
}

// transfer moves all of bufs from off on, however many system calls it takes. bufs is eaten. tail picks the buffered descriptor
// of a direct device.
func (d *Device) transfer(bufs [][]byte, off int64, write, fua, tail bool) error {
	for len(bufs) > 0 {
		part := bufs[:min(len(bufs), maxVecs)]
		var n int
		var err error
		switch {
		case tail:
			n, err = d.host.tailIO(part, off, write, fua)
		case write:
			n, err = d.host.writev(part, off, fua)
		default:
			n, err = d.host.readv(part, off, false)
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("nothing moved at byte %d of %s, which has become shorter since it was opened: %w", off, d.name, errno.IO)
		}
		off += int64(n)
		for n > 0 && n >= len(bufs[0]) {
			n -= len(bufs[0])
			bufs = bufs[1:]
		}
		if n > 0 {
			bufs[0] = bufs[0][n:]
		}
	}
	return nil
}

// release punches a hole, or discards on a block device.
func (d *Device) release(off, n int64) error {
	unlock := d.lockEdges(off, off+n)
	defer unlock()
	if err := d.host.discard(off, n); err != errUnsupported {
		return err
	}
	return errno.OPNOTSUPP
}

// zeroes makes the range zeros in the cheapest way that the host knows; at worst it writes them.
func (d *Device) zeroes(off, n int64, unmap bool) error {
	unlock := d.lockEdges(off, off+n)
	err := d.host.zero(off, n, unmap)
	unlock()
	if err != errUnsupported {
		return err
	}
	return d.writeZeroes(off, n)
}

// writeZeroes is the way that always works.
func (d *Device) writeZeroes(off, n int64) error {
	order, _ := arena.OrderFor(int(min(n, 64<<10)))
	z, err := arena.Alloc(order)
	if err != nil {
		return err
	}
	defer arena.Free(z)
	clear(z)
	var bufs [16][]byte
	for end := off + n; off < end; {
		i, at := 0, off
		for ; i < len(bufs) && at < end; i++ {
			bufs[i] = z[:min(int64(len(z)), end-at)]
			at += int64(len(bufs[i]))
		}
		if d.direct {
			err = d.directIO(bufs[:i], off, at, true, false)
		} else {
			err = d.transfer(bufs[:i], off, true, false, false)
		}
		if err != nil {
			return err
		}
		off = at
	}
	return nil
}
