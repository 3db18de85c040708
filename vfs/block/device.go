package block

import "fmt"

// Limits says what a device can do. Sizes are bytes; powers of two.
type Limits struct {
	LogicalBlock   uint32 // smallest addressable unit: 1 for memory, 512 … 4096 for disks
	PhysicalBlock  uint32 // smallest unit written without read-modify-write
	DiscardGrain   uint32 // granularity of discard; 0 means no discard
	MaxBio         int64  // longest bio in bytes; 0 means no limit
	AtomicMax      uint32 // longest write that is stored whole or not at all, at a multiple of its length; 0: none is
	FUA            bool   // FUA writes cost less than write + flush
	VolatileCache  bool   // completed writes may be lost without a flush
	ReadOnly       bool   // every change answers errno.ROFS
	DirectMemory   bool   // the device implements Mapper (DAX)
	Rotational     bool
	SupportsZeroes bool // write-zeroes is done by the device without moving data
}

// Device is something that stores blocks. All methods but Close may be called at any time by any goroutine.
type Device interface {
	// Submit starts the bio and returns at once. Errors arrive in the bio.
	Submit(b *Bio)
	// Size in bytes. Does not change while open.
	Size() int64
	// Limits of the device; the caller must not change them.
	Limits() *Limits
	// Name for messages: the path of the image, with the partition if any.
	Name() string
	// Close waits for bios in flight and releases the device. It does not flush.
	Close() error
}

// Waiter is a Device that can run a bio in the caller's goroutine, which saves two switches.
// SubmitWait does not call Done; it returns the bio's error.
type Waiter interface {
	SubmitWait(b *Bio) error
}

// Backing is a Device whose bytes lie in a host file, for splice. Offsets of the device are offsets of the
// file plus base.
type Backing interface {
	// BackingFile gives the descriptor and the offset of the device's byte 0 in it. ok is false when the
	// file's contents must not be read behind the device's back (fault injection, overlays).
	BackingFile() (fd uintptr, base int64, ok bool)
}

// IOError is a failed bio: what, where, why.
type IOError struct {
	Dev string
	Op  Op
	Off int64 // bytes
	Len int64 // bytes
	Err error
	Why string
}

// Error reads "dev: read of 4096 bytes at 8192: why: error".
func (e *IOError) Error() string {
	s := fmt.Sprintf("%s of %d bytes at byte %d", e.Op, e.Len, e.Off)
	if e.Op == OpFlush {
		s = "flush"
	}
	if e.Dev != "" {
		s = e.Dev + ": " + s
	}
	if e.Why != "" {
		s += ": " + e.Why
	}
	return s + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *IOError) Unwrap() error { return e.Err }
