package block

import (
	"sync"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// call is what a synchronous helper needs, kept for the next one so that waiting allocates nothing.
type call struct {
	bio  Bio
	vec  [1][]byte
	done chan struct{} // one slot: Done never blocks
}

var calls = sync.Pool{New: func() any { return &call{done: make(chan struct{}, 1)} }}

// callDone is the completion function of waits: Private holds the channel.
func callDone(b *Bio) { b.Private.(chan struct{}) <- struct{}{} }

// SubmitWait runs the bio and waits for it. Done and Private are replaced while it runs and left nil.
func SubmitWait(d Device, b *Bio) error {
	if w, ok := d.(Waiter); ok {
		return w.SubmitWait(b)
	}
	c := calls.Get().(*call)
	b.Done, b.Private = callDone, c.done
	d.Submit(b)
	<-c.done
	b.Done, b.Private = nil, nil
	calls.Put(c)
	return b.Err
}

// run fills in a bio from the pool and waits for it.
func run(d Device, op Op, flags Flags, p []byte, off, n int64) error {
	c := calls.Get().(*call)
	c.bio = Bio{Op: op, Flags: flags | Sync, Off: off, Len: n}
	if p != nil {
		c.vec[0] = p
		c.bio.Vecs = c.vec[:]
	}
	var err error
	if w, ok := d.(Waiter); ok {
		err = w.SubmitWait(&c.bio)
	} else {
		c.bio.Done, c.bio.Private = callDone, c.done
		d.Submit(&c.bio)
		<-c.done
		err = c.bio.Err
	}
	c.bio = Bio{}
	c.vec[0] = nil
	calls.Put(c)
	return err
}

// ReadAt fills p from the device's byte off on. Offset and length must be aligned to the logical block size.
func ReadAt(d Device, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	return run(d, OpRead, 0, p, off, 0)
}

// WriteAt stores p at the device's byte off, with flags (Sync is added).
func WriteAt(d Device, p []byte, off int64, flags Flags) error {
	if len(p) == 0 {
		return nil
	}
	return run(d, OpWrite, flags, p, off, 0)
}

// Flush makes every completed write durable.
func Flush(d Device) error { return run(d, OpFlush, 0, nil, 0, 0) }

// Discard tells the device that [off, off+n) holds nothing of value. A device without discard answers
// errno.OPNOTSUPP.
func Discard(d Device, off, n int64) error {
	if d.Limits().DiscardGrain == 0 {
		return &IOError{Dev: d.Name(), Op: OpDiscard, Off: off, Len: n, Err: errno.OPNOTSUPP}
	}
	return run(d, OpDiscard, 0, nil, off, n)
}

// WriteZeroes makes [off, off+n) read as zeros.
func WriteZeroes(d Device, off, n int64) error {
	return run(d, OpWriteZeroes, 0, nil, off, n)
}
