package file

import (
	"fmt"
	"math/bits"
	"os"
	"sync"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/internal/inflight"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Options of Open. The zero value opens for reading and writing, buffered and locked.
type Options struct {
	ReadOnly bool // open for reading only; works for files that the caller may not write
	Direct   bool // pass the host's cache by
	NoLock   bool // do not lock: the caller knows that nobody else changes the image

	// Share leaves the bytes to lock to LockRange, which must be called before anything is written: so several partitions of an
	// image file may be written at once. Elsewhere than on Linux, and on block devices, Open locks the whole all the same.
	Share bool

	// LogicalBlock is the block size in bytes that an image file shows: a power of two, 512 to 64 KiB; default 512.
	// A block device has its own.
	LogicalBlock uint32

	// Readers and Writers bound the goroutines at work on queued bios; default 16 and 2 buffered, 32 and 32 direct.
	// (The host lets one buffered writer into a file at a time, and a long queue merges better.)
	Readers, Writers int

	directAlign uint32 // tests: pretend that the host wants this alignment
}

// facts are what the host says about an opened file.
type facts struct {
	size       int64
	device     bool   // a block device, not a file
	logical    uint32 // bytes
	physical   uint32
	discard    uint32 // granularity; 0 for none
	zeroes     bool   // can make zeros without writing them
	fua        bool
	rotational bool
	nowait     bool   // reads may be tried without waiting
	memAlign   uint32 // direct: alignment of memory
	offAlign   uint32 // direct: alignment of offsets and lengths
}

// Device is an open image file or block device.
type Device struct {
	name   string       // immutable
	size   int64        // immutable
	lim    block.Limits // immutable
	host   *host        // immutable
	facts  facts        // immutable
	direct bool         // immutable
	edge   int64        // immutable; direct: first byte of an incomplete last unit of the host, or size
	gate   inflight.Gate

	ranges ranges // direct, with units larger than the logical block
	reads  queue
	writes queue
	flush  flusher

	mapMu  sync.Mutex // leaf but for mmap itself; guards mapped
	mapped []byte
}

var (
	_ block.Device  = (*Device)(nil)
	_ block.Waiter  = (*Device)(nil)
	_ block.Mapper  = (*Device)(nil)
	_ block.Backing = (*Device)(nil)
	_ block.Sparse  = (*Device)(nil)

	_ block.MemoryFlusher = (*Device)(nil)
)

// Open opens and locks an image file or block device.
// Errors: errno.BUSY when somebody else has it, errno.ACCES or errno.ROFS when it may not be written, errno.INVAL for what is
// neither file nor block device, errno.OPNOTSUPP when its file system has no direct I/O, and the host's own for the rest.
func Open(path string, opt Options) (*Device, error) {
	lbs := opt.LogicalBlock
	if lbs == 0 {
		lbs = 512
	}
	if bits.OnesCount32(lbs) != 1 || lbs < 512 || lbs > 64<<10 {
		return nil, fmt.Errorf("%s: logical block of %d bytes: want a power of two from 512 to 65536: %w", path, lbs, errno.INVAL)
	}
	h, f, err := openHost(path, &opt)
	if err != nil {
		return nil, err
	}
	if !f.device {
		f.logical = lbs
	}
	if opt.Direct && opt.directAlign != 0 {
		f.memAlign, f.offAlign = opt.directAlign, opt.directAlign
	}
	d := &Device{
		name: path, size: f.size &^ int64(f.logical-1), host: h, facts: f, direct: opt.Direct,
		lim: block.Limits{
			LogicalBlock: f.logical, PhysicalBlock: max(f.logical, f.physical), DiscardGrain: f.discard,
			FUA: f.fua, VolatileCache: true, ReadOnly: opt.ReadOnly, DirectMemory: !f.device && canMap && !opt.Direct,
			Rotational: f.rotational, SupportsZeroes: f.zeroes,
		},
	}
	if opt.ReadOnly {
		d.lim.DiscardGrain = 0
	}
	d.edge = d.size
	if d.direct {
		d.edge = d.size &^ int64(f.offAlign-1)
	}
	readers, writers := 16, 2
	if d.direct {
		readers, writers = 32, 32
	}
	if opt.Readers > 0 {
		readers = opt.Readers
	}
	if opt.Writers > 0 {
		writers = opt.Writers
	}
	d.reads.init(d, readers)
	d.writes.init(d, writers)
	d.flush.init(d)
	return d, nil
}

// LockRange locks n bytes from off on, for a device opened with Options.Share; once. Who wants to write the whole image is
// refused from Open on until LockRange's holder closes, and so is who wants to write these bytes, or to read them while the
// holder writes. With direct I/O the range grows to the host's units, since a part of one is written by writing all of it.
// Errors: errno.BUSY when somebody else has some of them.
func (d *Device) LockRange(off, n int64) error {
	whole := off == 0 && n >= d.size
	if unit := int64(d.facts.offAlign); d.direct && unit > 0 {
		end := (off + n + unit - 1) &^ (unit - 1)
		off &^= unit - 1
		n = end - off
	}
	return d.host.lockRange(d.name, off, n, whole, d.lim.ReadOnly)
}

// Size in bytes.
func (d *Device) Size() int64 { return d.size }

// Limits of the device.
func (d *Device) Limits() *block.Limits { return &d.lim }

// Name is the path given to Open.
func (d *Device) Name() string { return d.name }

// Close waits for bios in flight, and for the Done functions of those, and gives the lock up. It does not flush. It must not
// be called from a Done function.
func (d *Device) Close() error {
	if !d.gate.Close() {
		return nil
	}
	d.mapMu.Lock()
	if d.mapped != nil {
		unmapFile(d.mapped)
		d.mapped = nil
	}
	d.mapMu.Unlock()
	if err := d.host.close(); err != nil {
		return fmt.Errorf("%s: close: %w", d.name, err)
	}
	return nil
}

// BackingFile gives the host's descriptor, for splice. With direct I/O there is none: the descriptor would want alignment.
func (d *Device) BackingFile() (fd uintptr, base int64, ok bool) {
	if d.direct {
		return 0, 0, false
	}
	return d.host.fd(), 0, true
}

// DirectAccess maps the image (DAX). The memory can be written unless the device is read-only, when writing to it
// faults. Touching memory after somebody truncated the image faults too, and so does writing to a hole
// when the host's disk is full: see block.Touch.
// Errors: errno.OPNOTSUPP on block devices, with direct I/O, which the mapping would not agree with, and on hosts without mmap;
// errno.IO outside the device.
func (d *Device) DirectAccess(off, n int64) ([]byte, error) {
	if !d.lim.DirectMemory {
		return nil, fmt.Errorf("%s: cannot be reached as memory: %w", d.name, errno.OPNOTSUPP)
	}
	if off < 0 || n < 0 || off > d.size || n > d.size-off {
		return nil, fmt.Errorf("%s: memory of %d bytes at %d is outside the device: %w", d.name, n, off, errno.IO)
	}
	if !d.gate.Enter() {
		return nil, fmt.Errorf("%s: %s: %w", d.name, closed, errno.NODEV)
	}
	defer d.gate.Exit()
	if n == 0 {
		return nil, nil
	}
	d.mapMu.Lock()
	defer d.mapMu.Unlock()
	if d.mapped == nil {
		m, err := d.host.mapFile(d.size, !d.lim.ReadOnly)
		if err != nil {
			return nil, fmt.Errorf("%s: map %d bytes: %w", d.name, d.size, err)
		}
		d.mapped = m
	}
	return d.mapped[off : off+n : off+n], nil
}

// FlushMemory makes durable what was stored in the mapping. Whole pages of the host are written.
// Errors: errno.IO outside the device, and the host's.
func (d *Device) FlushMemory(off, n int64) error {
	mem, err := d.DirectAccess(0, d.size)
	if err == nil && (off < 0 || n < 0 || off > d.size || n > d.size-off) {
		err = fmt.Errorf("outside the device: %w", errno.IO)
	}
	if err == nil && n > 0 && d.gate.Enter() {
		page := int64(os.Getpagesize())
		err = number(syncFile(mem[off&^(page-1) : off+n]))
		d.gate.Exit()
	}
	if err != nil {
		return fmt.Errorf("%s: write back memory of %d bytes at %d: %w", d.name, n, off, err)
	}
	return nil
}

// NextData asks the host where the file has data. See block.Sparse.
func (d *Device) NextData(off int64) (start, end int64, err error) {
	if off >= d.size {
		return d.size, d.size, nil
	}
	if !d.gate.Enter() {
		return 0, 0, fmt.Errorf("%s: %s: %w", d.name, closed, errno.NODEV)
	}
	defer d.gate.Exit()
	start, end = off, d.size
	if !d.facts.device {
		if start, end, err = d.host.nextData(off); err != nil {
			return 0, 0, fmt.Errorf("%s: look for data after byte %d: %w", d.name, off, err)
		}
	}
	return min(start, d.size), min(end, d.size), nil
}

const closed = "device is closed"
