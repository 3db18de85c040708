package compare

import (
	"errors"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
)

// Restored in pieces of this size.
const piece = 64 << 10

// replica is a copy of an image in memory, made equal to the image again before each run. It lives through all of them, so that its
// memory has been touched before anything is timed. It counts the bios that move data of files.
type replica struct {
	*mem.Device
	image   block.Device
	touched []atomic.Uint64 // one bit a piece: differs from the image, maybe

	bios, bioBytes atomic.Int64
	record         func(b *block.Bio) // nil: no
}

var _ block.Waiter = (*replica)(nil)

// newReplica makes the copy. image stays the caller's, and is only read.
func newReplica(image block.Device) (*replica, error) {
	// A discard would give the memory back to the host, and the next run would pay for having it again.
	m, err := mem.New(image.Size(), mem.Options{NoDiscard: true, LogicalBlock: image.Limits().LogicalBlock})
	if err != nil {
		return nil, err
	}
	d := &replica{Device: m, image: image, touched: make([]atomic.Uint64, (image.Size()/piece+64)/64)}
	for off := int64(0); off < image.Size(); {
		start, end, err := block.NextData(image, off)
		if err != nil {
			return nil, errors.Join(err, m.Close())
		}
		d.touch(start, min(end, image.Size())-start)
		off = max(end, off+1)
	}
	return d, nil
}

// touch notes that [off, off+n) may differ from the image.
func (d *replica) touch(off, n int64) {
	if n <= 0 {
		return
	}
	for i := off / piece; i <= (off+n-1)/piece; i++ {
		if w, bit := &d.touched[i/64], uint64(1)<<(i%64); w.Load()&bit == 0 {
			w.Or(bit)
		}
	}
}

// restore makes the copy equal to the image again.
func (d *replica) restore() error {
	p := make([]byte, piece)
	for i := range d.touched {
		set := d.touched[i].Swap(0)
		for bit := range int64(64) {
			off := (int64(i)*64 + bit) * piece
			if set>>bit&1 == 0 || off >= d.Size() {
				continue
			}
			b := p[:min(piece, d.Size()-off)]
			if err := errors.Join(block.ReadAt(d.image, b, off), block.WriteAt(d.Device, b, off, 0)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *replica) count(b *block.Bio) {
	switch b.Op {
	case block.OpRead:
	case block.OpFlush:
		return
	default:
		d.touch(b.Off, max(b.Bytes(), b.Len))
	}
	if (b.Op == block.OpRead || b.Op == block.OpWrite) && b.Flags&block.Meta == 0 {
		d.bios.Add(1)
		d.bioBytes.Add(b.Bytes())
		if d.record != nil {
			d.record(b)
		}
	}
}

// Submit is Device's.
func (d *replica) Submit(b *block.Bio) { d.count(b); d.Device.Submit(b) }

// SubmitWait is Waiter's.
func (d *replica) SubmitWait(b *block.Bio) error { d.count(b); return d.Device.SubmitWait(b) }

// Close is the super block's, at unmount; the copy lives on.
func (d *replica) Close() error { return nil }
