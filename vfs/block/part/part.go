package part

import (
	"fmt"
	"sync"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Device is a range of another device.
type Device struct {
	below  block.Device // immutable
	start  int64        // immutable; bytes
	size   int64        // immutable; bytes
	name   string       // immutable
	lim    block.Limits // immutable
	waiter block.Waiter // immutable; below as such, or nil
}

var (
	_ block.Device  = (*Device)(nil)
	_ block.Waiter  = (*Device)(nil)
	_ block.Mapper  = (*Device)(nil)
	_ block.Backing = (*Device)(nil)
	_ block.Sparse  = (*Device)(nil)

	_ block.MemoryFlusher = (*Device)(nil)
)

// New makes the device of [start, start+size) of below, which belongs to it from then on. Bytes.
// Errors: errno.INVAL for a range outside below or not aligned to its logical blocks; below stays the caller's.
func New(below block.Device, start, size int64, name string) (*Device, error) {
	lim := *below.Limits()
	lb := int64(lim.LogicalBlock)
	switch {
	case start < 0 || size <= 0 || start > below.Size() || size > below.Size()-start:
		return nil, fmt.Errorf("%s: bytes %d to %d are outside %s of %d bytes: %w", name, start, start+size, below.Name(), below.Size(), errno.INVAL)
	case start%lb != 0:
		return nil, fmt.Errorf("%s: begins at byte %d, not a multiple of the device's blocks of %d: %w", name, start, lb, errno.INVAL)
	}
	_, mapper := below.(block.Mapper)
	lim.DirectMemory = lim.DirectMemory && mapper
	// What is aligned in the range must be aligned below for a promise about larger blocks to hold.
	for lim.PhysicalBlock > lim.LogicalBlock && start%int64(lim.PhysicalBlock) != 0 {
		lim.PhysicalBlock /= 2
	}
	for lim.AtomicMax > 0 && start%int64(lim.AtomicMax) != 0 {
		lim.AtomicMax /= 2
	}
	d := &Device{below: below, start: start, size: size &^ (lb - 1), name: name, lim: lim}
	d.waiter, _ = below.(block.Waiter)
	if d.size == 0 {
		return nil, fmt.Errorf("%s: %d bytes are less than one block of %d: %w", name, size, lb, errno.INVAL)
	}
	return d, nil
}

// Size in bytes.
func (d *Device) Size() int64 { return d.size }

// Limits of the range: those of the device below.
func (d *Device) Limits() *block.Limits { return &d.lim }

// Name was given to New.
func (d *Device) Name() string { return d.name }

// Start is where the range begins in the device below, in bytes.
func (d *Device) Start() int64 { return d.start }

// Close closes the device below.
func (d *Device) Close() error { return d.below.Close() }

// child carries a bio to the device below and its outcome back.
type child struct {
	bio    block.Bio
	parent *block.Bio
	d      *Device
}

var children = sync.Pool{New: func() any { return new(child) }}

func (d *Device) child(b *block.Bio) *child {
	c := children.Get().(*child)
	c.parent, c.d = b, d
	c.bio = block.Bio{Op: b.Op, Flags: b.Flags, Off: b.Off, Vecs: b.Vecs, Len: b.Len}
	if b.Op != block.OpFlush {
		c.bio.Off += d.start
	}
	return c
}

func (c *child) free() {
	*c = child{}
	children.Put(c)
}

// moved makes an error of the device below speak of the range.
func (d *Device) moved(b *block.Bio, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*block.IOError); ok {
		return &block.IOError{Dev: d.name, Op: b.Op, Off: b.Off, Len: b.Bytes(), Err: e.Err, Why: e.Why}
	}
	return b.Fail(d.name, "", err)
}

// done is the completion of a child.
func done(b *block.Bio) {
	c := b.Private.(*child)
	parent, err := c.parent, c.d.moved(c.parent, b.Err)
	c.free()
	parent.End(err)
}

// Submit passes the bio on.
func (d *Device) Submit(b *block.Bio) {
	if err := b.Check(d.size, &d.lim); err != nil {
		b.End(b.Fail(d.name, "", err))
		return
	}
	c := d.child(b)
	c.bio.Done, c.bio.Private = done, c
	d.below.Submit(&c.bio)
}

// SubmitWait runs the bio in the caller's goroutine where the device below can.
func (d *Device) SubmitWait(b *block.Bio) error {
	if err := b.Check(d.size, &d.lim); err != nil {
		b.Err = b.Fail(d.name, "", err)
		return b.Err
	}
	c := d.child(b)
	var err error
	if d.waiter != nil {
		err = d.waiter.SubmitWait(&c.bio)
	} else {
		err = block.SubmitWait(d.below, &c.bio)
	}
	b.Err = d.moved(b, err)
	c.free()
	return b.Err
}

// DirectAccess gives the memory behind [off, off+n), where the device below has it.
func (d *Device) DirectAccess(off, n int64) ([]byte, error) {
	m, ok := d.below.(block.Mapper)
	switch {
	case !ok:
		return nil, fmt.Errorf("%s: no direct memory access: %w", d.name, errno.OPNOTSUPP)
	case off < 0 || n < 0 || off > d.size || n > d.size-off:
		return nil, fmt.Errorf("%s: memory of %d bytes at %d is outside the device: %w", d.name, n, off, errno.IO)
	}
	return m.DirectAccess(d.start+off, n)
}

// FlushMemory makes a part of the memory durable: all of the device's cache where the device below knows no parts.
func (d *Device) FlushMemory(off, n int64) error {
	if m, ok := d.below.(block.MemoryFlusher); ok {
		return m.FlushMemory(d.start+off, n)
	}
	return block.Flush(d.below)
}

// BackingFile gives the file of the device below, and where the range begins in it.
func (d *Device) BackingFile() (fd uintptr, base int64, ok bool) {
	if b, is := d.below.(block.Backing); is {
		fd, base, ok = b.BackingFile()
		return fd, base + d.start, ok
	}
	return 0, 0, false
}

// NextData asks the device below, and cuts its answer to the range.
func (d *Device) NextData(off int64) (start, end int64, err error) {
	if off >= d.size {
		return d.size, d.size, nil
	}
	start, end, err = block.NextData(d.below, d.start+off)
	start = min(max(start-d.start, off), d.size)
	return start, min(max(end-d.start, start), d.size), err
}
