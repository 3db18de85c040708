package mem

import (
	"fmt"
	"math/bits"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/internal/inflight"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Options of a memory device. The zero value is right for most tests.
type Options struct {
	Name          string // for messages; default "mem"
	LogicalBlock  uint32 // bytes, a power of two up to 64 KiB; default 512
	PhysicalBlock uint32 // bytes; default max(4096, LogicalBlock)
	VolatileCache bool   // pretend that completed writes need a flush, so that the layers above send them
	FUA           bool   // pretend that FUA is cheaper than a flush
	AtomicMax     uint32 // pretend that writes up to so many bytes are stored whole or not at all; a power of two
	ReadOnly      bool   // refuse changes
	NoDiscard     bool   // refuse discards, as some disks do
	NoDirect      bool   // do not offer the memory itself (DAX)
}

// extent is the granularity at which the device remembers what was written.
const (
	extentShift = 16
	extentSize  = 1 << extentShift
)

// Device is a block device in memory.
type Device struct {
	size int64        // immutable
	lim  block.Limits // immutable
	name string       // immutable
	mem  []byte       // immutable until Close; size rounded up to extents
	gate inflight.Gate

	written []atomic.Uint64 // one bit an extent: it may hold something else than zeros
	direct  atomic.Bool     // DirectAccess was used: memory changes without passing here
}

var (
	_ block.Device = (*Device)(nil)
	_ block.Waiter = (*Device)(nil)
	_ block.Mapper = (*Device)(nil)
	_ block.Sparse = (*Device)(nil)
)

// New makes a device of size bytes, a multiple of the logical block size. It reads as zeros.
// Errors: errno.INVAL for sizes that make no device, errno.NOMEM when the host has no address space for it.
func New(size int64, opt Options) (*Device, error) {
	lbs := opt.LogicalBlock
	if lbs == 0 {
		lbs = 512
	}
	pbs := opt.PhysicalBlock
	if pbs == 0 {
		pbs = max(4096, lbs)
	}
	if bits.OnesCount32(lbs) != 1 || lbs > extentSize || bits.OnesCount32(pbs) != 1 || pbs < lbs {
		return nil, fmt.Errorf("memory device: blocks of %d bytes, physically %d: want powers of two: %w", lbs, pbs, errno.INVAL)
	}
	if size < 0 || size%int64(lbs) != 0 || size > 1<<46 {
		return nil, fmt.Errorf("memory device: size %d bytes, want a multiple of %d up to 64 TiB: %w", size, lbs, errno.INVAL)
	}
	d := &Device{size: size, name: opt.Name, lim: block.Limits{
		LogicalBlock: lbs, PhysicalBlock: pbs, DiscardGrain: lbs,
		FUA: opt.FUA, AtomicMax: opt.AtomicMax, VolatileCache: opt.VolatileCache, ReadOnly: opt.ReadOnly,
		DirectMemory: !opt.NoDirect, SupportsZeroes: true,
	}}
	if opt.NoDiscard {
		d.lim.DiscardGrain = 0
	}
	if d.name == "" {
		d.name = "mem"
	}
	extents := (size + extentSize - 1) >> extentShift
	mem, err := mapMemory(extents << extentShift)
	if err != nil {
		return nil, fmt.Errorf("memory device of %d bytes: %w", size, err)
	}
	d.mem = mem
	d.written = make([]atomic.Uint64, (extents+63)/64)
	return d, nil
}

// Size in bytes.
func (d *Device) Size() int64 { return d.size }

// Limits of the device.
func (d *Device) Limits() *block.Limits { return &d.lim }

// Name for messages.
func (d *Device) Name() string { return d.name }

// Close waits for bios in flight and gives the memory back; memory from DirectAccess must not be touched afterwards.
func (d *Device) Close() error {
	if d.gate.Close() {
		unmapMemory(d.mem)
	}
	return nil
}

// Submit does the bio and calls Done before it returns.
func (d *Device) Submit(b *block.Bio) {
	if !d.gate.Enter() {
		b.End(b.Fail(d.name, "device is closed", errno.NODEV))
		return
	}
	b.End(d.move(b))
	d.gate.Exit()
}

// SubmitWait does the bio without calling Done.
func (d *Device) SubmitWait(b *block.Bio) error {
	if !d.gate.Enter() {
		b.Err = b.Fail(d.name, "device is closed", errno.NODEV)
		return b.Err
	}
	b.Err = d.move(b)
	d.gate.Exit()
	return b.Err
}

// DirectAccess gives the memory of [off, off+n).
// Errors: errno.OPNOTSUPP with Options.NoDirect, errno.IO outside the device.
func (d *Device) DirectAccess(off, n int64) ([]byte, error) {
	if !d.lim.DirectMemory {
		return nil, fmt.Errorf("%s: no direct memory access: %w", d.name, errno.OPNOTSUPP)
	}
	if off < 0 || n < 0 || off > d.size || n > d.size-off {
		return nil, fmt.Errorf("%s: memory of %d bytes at %d is outside the device: %w", d.name, n, off, errno.IO)
	}
	if !d.gate.Enter() {
		return nil, fmt.Errorf("%s: closed: %w", d.name, errno.NODEV)
	}
	defer d.gate.Exit()
	d.direct.Store(true)
	d.mark(off, n)
	return d.mem[off : off+n : off+n], nil
}

// Allocated is how many bytes may hold something else than zeros, in units of 64 KiB.
func (d *Device) Allocated() int64 {
	var n int64
	for i := range d.written {
		n += int64(bits.OnesCount64(d.written[i].Load()))
	}
	return n << extentShift
}

// move runs one bio that was counted in.
func (d *Device) move(b *block.Bio) error {
	if err := b.Check(d.size, &d.lim); err != nil {
		return b.Fail(d.name, "", err)
	}
	off := b.Off
	switch b.Op {
	case block.OpRead:
		for _, v := range b.Vecs {
			d.read(v, off)
			off += int64(len(v))
		}
	case block.OpWrite:
		for _, v := range b.Vecs {
			copy(d.mem[off:], v)
			d.mark(off, int64(len(v)))
			off += int64(len(v))
		}
	case block.OpFlush:
	case block.OpDiscard:
		if d.lim.DiscardGrain == 0 {
			return b.Fail(d.name, "", errno.OPNOTSUPP)
		}
		d.zero(off, b.Len)
	case block.OpWriteZeroes:
		d.zero(off, b.Len)
	default:
		return b.Fail(d.name, "unknown operation", errno.INVAL)
	}
	return nil
}

// read copies out, without touching memory that was never written: touching would allocate it.
func (d *Device) read(p []byte, off int64) {
	for len(p) > 0 {
		n := min(int64(len(p)), extentSize-off&(extentSize-1))
		if d.isWritten(off >> extentShift) {
			copy(p[:n], d.mem[off:off+n])
		} else {
			clear(p[:n])
		}
		p, off = p[n:], off+n
	}
}

// zero makes [off, off+n) zeros and gives whole pages back to the host.
func (d *Device) zero(off, n int64) {
	for end := off + n; off < end; {
		step := min(end-off, extentSize-off&(extentSize-1))
		if x := off >> extentShift; d.isWritten(x) {
			dropMemory(d.mem[off : off+step])
			if step == extentSize && !d.direct.Load() {
				d.written[x/64].And(^(uint64(1) << (x % 64)))
				if d.direct.Load() {
					d.written[x/64].Or(1 << (x % 64)) // DirectAccess came in between; it stores direct before it marks
				}
			}
		} else if x%64 == 0 && d.written[x/64].Load() == 0 {
			step = min(end-off, 64*extentSize-off&(extentSize-1)) // 4 MiB without anything
		}
		off += step
	}
}

func (d *Device) isWritten(extent int64) bool {
	return d.written[extent/64].Load()&(1<<(extent%64)) != 0
}

// mark notes that [off, off+n) may hold something.
func (d *Device) mark(off, n int64) {
	if n == 0 {
		return
	}
	for x := off >> extentShift; x <= (off+n-1)>>extentShift; x++ {
		if !d.isWritten(x) {
			d.written[x/64].Or(1 << (x % 64))
		}
	}
}

// NextData finds the next extent that may hold something. See block.Sparse.
func (d *Device) NextData(off int64) (start, end int64, err error) {
	extents := (d.size + extentSize - 1) >> extentShift
	x := max(off, 0) >> extentShift
	for x < extents && !d.isWritten(x) {
		if x%64 == 0 && d.written[x/64].Load() == 0 {
			x += 64
		} else {
			x++
		}
	}
	if x >= extents {
		return d.size, d.size, nil
	}
	y := x
	for y < extents && d.isWritten(y) {
		y++
	}
	return max(off, x<<extentShift), min(y<<extentShift, d.size), nil
}
