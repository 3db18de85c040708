//go:build linux

package transport

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The part of io_uring that FUSE needs. Numbers and layouts are the kernel's ABI (io_uring_setup(2), io_uring_enter(2)).
const (
	setupSubmitAll    = 1 << 7  // one bad entry does not stop the rest of a submission
	setupSQE128       = 1 << 10 // 128-byte submission entries: room for an 80-byte command
	setupSingleIssuer = 1 << 12 // one thread submits; the kernel holds us to it
	setupDeferTaskrun = 1 << 13 // completions are made only while that thread waits for them

	enterGetEvents = 1 << 0

	opUringCmd = 46

	offSQRing = 0
	offSQEs   = 0x10000000

	sqeSize = 128
	cqeSize = 16
	sqeCmd  = 48 // offset of the command area in an entry
)

// ringParams is struct io_uring_params, 120 bytes.
type ringParams struct {
	sqEntries, cqEntries, flags, sqThreadCPU, sqThreadIdle, features, wqFd uint32
	_                                                                      [3]uint32
	sqOff                                                                  struct {
		head, tail, mask, entries, flags, dropped, array, _ uint32
		_                                                   uint64
	}
	cqOff struct {
		head, tail, mask, entries, overflow, cqes, flags, _ uint32
		_                                                   uint64
	}
}

// uring is one io_uring instance. It belongs to the thread that made it: every method but the constructor's
// caller must be that same locked thread, as SINGLE_ISSUER demands.
type uring struct {
	fd      int
	ringMem []byte // submission and completion ring, one mapping
	sqeMem  []byte

	sqTail  *uint32
	sqMask  uint32
	pending uint32 // entries written since the last enter
	tail    uint32 // our copy of *sqTail

	cqHead, cqTail *uint32
	cqMask         uint32
	cqes           []byte
}

// newUring makes an instance for at most entries submissions in flight. The calling goroutine must have its thread locked.
func newUring(entries int) (*uring, error) {
	p := ringParams{flags: setupSubmitAll | setupSQE128 | setupSingleIssuer | setupDeferTaskrun}
	fd, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, uintptr(entries), uintptr(unsafe.Pointer(&p)), 0)
	if e != 0 {
		return nil, fmt.Errorf("io_uring_setup: %w", e)
	}
	r := &uring{fd: int(fd)}

	size := max(int(p.sqOff.array+p.sqEntries*4), int(p.cqOff.cqes+p.cqEntries*cqeSize))
	var err error
	if r.ringMem, err = unix.Mmap(r.fd, offSQRing, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		r.close()
		return nil, fmt.Errorf("io_uring: map rings: %w", err)
	}
	if r.sqeMem, err = unix.Mmap(r.fd, offSQEs, int(p.sqEntries)*sqeSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
		r.close()
		return nil, fmt.Errorf("io_uring: map entries: %w", err)
	}
	word := func(off uint32) *uint32 { return (*uint32)(unsafe.Pointer(&r.ringMem[off])) }
	r.sqTail, r.sqMask = word(p.sqOff.tail), *word(p.sqOff.mask)
	r.cqHead, r.cqTail, r.cqMask = word(p.cqOff.head), word(p.cqOff.tail), *word(p.cqOff.mask)
	r.cqes = r.ringMem[p.cqOff.cqes:][:p.cqEntries*cqeSize]
	// Slot i of the submission ring always names entry i.
	for i := range p.sqEntries {
		*word(p.sqOff.array + 4*i) = i
	}
	return r, nil
}

// close gives the instance back. Commands still waiting in it are cancelled by the kernel.
func (r *uring) close() {
	if r.sqeMem != nil {
		unix.Munmap(r.sqeMem) //nolint:errcheck // memory of our own mapping: it cannot fail
	}
	if r.ringMem != nil {
		unix.Munmap(r.ringMem) //nolint:errcheck // as above
	}
	unix.Close(r.fd) //nolint:errcheck // nothing to write back
}

// sqe returns the next submission entry, zeroed; enter submits it. There are as many slots as entries asked for,
// and each FUSE ring entry has at most one command on its way, so a slot is always free.
func (r *uring) sqe() []byte {
	i := (r.tail & r.sqMask) * sqeSize
	s := r.sqeMem[i : i+sqeSize : i+sqeSize]
	clear(s)
	r.tail++
	r.pending++
	return s
}

// enter submits what sqe handed out and waits until at least wait completions are there.
// A signal or a full completion queue ends it early without error.
func (r *uring) enter(wait int) error {
	atomic.StoreUint32(r.sqTail, r.tail)
	n, _, e := unix.Syscall6(unix.SYS_IO_URING_ENTER, uintptr(r.fd), uintptr(r.pending), uintptr(wait), enterGetEvents, 0, 0)
	if e != 0 {
		if e == unix.EINTR || e == unix.EAGAIN || e == unix.EBUSY {
			return nil
		}
		return fmt.Errorf("io_uring_enter: %w", e)
	}
	r.pending -= uint32(n)
	return nil
}

// peek gives the oldest completion without taking it off the queue.
func (r *uring) peek() (userData uint64, res int32, ok bool) {
	head := *r.cqHead // only we write it
	if head == atomic.LoadUint32(r.cqTail) {
		return 0, 0, false
	}
	c := r.cqes[(head&r.cqMask)*cqeSize:]
	return *(*uint64)(unsafe.Pointer(&c[0])), *(*int32)(unsafe.Pointer(&c[8])), true
}

// advance takes the oldest completion off the queue.
func (r *uring) advance() { atomic.StoreUint32(r.cqHead, *r.cqHead+1) }
