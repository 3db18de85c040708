package block

import "github.com/iomapfs/iomapfs/vfs/errno"

// Op is what a Bio asks of its device.
type Op uint8

// Operations.
const (
	OpRead        Op = iota // fill Vecs from Off on
	OpWrite                 // store Vecs from Off on
	OpFlush                 // make all completed writes durable; Vecs and Len unused
	OpDiscard               // forget [Off, Off+Len): contents undefined afterwards, space may be released
	OpWriteZeroes           // [Off, Off+Len) reads as zeros afterwards; space may be released unless NoUnmap
)

// String names the operation.
func (op Op) String() string {
	return [...]string{"read", "write", "flush", "discard", "write-zeroes"}[op]
}

// Flags modify a Bio.
type Flags uint16

// Flags.
const (
	Sync      Flags = 1 << iota // somebody waits for it
	FUA                         // durable when done (writes)
	PreFlush                    // flush before the write
	Polled                      // completion is polled for: run it at once if possible
	NoWait                      // answer errno.AGAIN rather than wait for a queue slot
	ReadAhead                   // speculative; may be dropped with errno.AGAIN under pressure
	Meta                        // filesystem metadata (for traces and fault rules)
	NoUnmap                     // write-zeroes must keep the space allocated
	Atomic                      // the write is stored whole or not at all; no longer than Limits.AtomicMax, a power of two, and aligned to its length
)

// Bio is one I/O on one contiguous range of a device, scattered over memory. The submitter owns the
// memory in Vecs and must leave it alone until Done; it owns the Bio again once Done is called.
//
// Off and the total length of Vecs (or Len) are multiples of the device's logical block size;
// each element of Vecs too. Memory alignment is the device's business (it bounces when it must).
type Bio struct {
	Op    Op
	Flags Flags
	Off   int64    // bytes from the start of the device
	Vecs  [][]byte // read, write
	Len   int64    // bytes; discard and write-zeroes only

	Done    func(*Bio) // called exactly once; nil only with SubmitWait
	Err     error      // set before Done; nil on success. On error the range's contents are undefined
	Private any        // the submitter's
}

// Bytes is the length of the range in bytes.
func (b *Bio) Bytes() int64 {
	if b.Op == OpDiscard || b.Op == OpWriteZeroes {
		return b.Len
	}
	var n int64
	for _, v := range b.Vecs {
		n += int64(len(v))
	}
	return n
}

// End completes the bio with err. Devices call it; nobody else does.
func (b *Bio) End(err error) {
	b.Err = err
	if b.Done != nil {
		b.Done(b)
	}
}

// Check verifies that the bio lies inside the device and is aligned to its logical block size.
// Errors: errno.INVAL for alignment, errno.IO for a range outside the device, errno.ROFS for a change
// of a read-only device.
func (b *Bio) Check(size int64, lim *Limits) error {
	if b.Op == OpFlush {
		return nil
	}
	if b.Op != OpRead && lim.ReadOnly {
		return &IOError{Op: b.Op, Off: b.Off, Err: errno.ROFS}
	}
	n, mask := b.Bytes(), int64(lim.LogicalBlock-1)
	switch {
	case b.Off < 0, n < 0, b.Off > size, n > size-b.Off:
		return &IOError{Op: b.Op, Off: b.Off, Len: n, Err: errno.IO, Why: "beyond the end of the device"}
	case b.Flags&Atomic != 0 && (b.Op != OpWrite || n == 0 || n > int64(lim.AtomicMax) || n&(n-1) != 0 || b.Off&(n-1) != 0):
		return &IOError{Op: b.Op, Off: b.Off, Len: n, Err: errno.INVAL, Why: "cannot be stored whole or not at all"}
	case (b.Off|n)&mask != 0:
		return &IOError{Op: b.Op, Off: b.Off, Len: n, Err: errno.INVAL, Why: "not aligned to the logical block size"}
	}
	return nil
}

// Fail makes the error of this bio on the named device: what, where, why, cause. A nil err gives nil, and an
// IOError that already names a device is passed on as it is.
func (b *Bio) Fail(dev, why string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*IOError); ok {
		if e.Dev != "" {
			return e
		}
		c := *e
		c.Dev = dev
		return &c
	}
	return &IOError{Dev: dev, Op: b.Op, Off: b.Off, Len: b.Bytes(), Err: err, Why: why}
}
