package file

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxVecs is the most pieces of memory one system call takes (IOV_MAX).
const maxVecs = 1024

// iovecs are the host's form of a scatter list, kept for the next call.
var iovecs = sync.Pool{New: func() any { return new([maxVecs]unix.Iovec) }}

// noDsync is set when the host has no pwritev2 with RWF_DSYNC.
var noDsync atomic.Bool

// readv reads into bufs, at most maxVecs of them, and may return short. nowait answers EAGAIN rather than wait for the medium.
func (h *host) readv(bufs [][]byte, off int64, nowait bool) (int, error) {
	if nowait {
		if h.noNowait.Load() {
			return 0, unix.EAGAIN
		}
		n, err := vectored(unix.SYS_PREADV2, h.f, bufs, off, unix.RWF_NOWAIT)
		if err == unix.EOPNOTSUPP || err == unix.ENOSYS || err == unix.EINVAL {
			h.noNowait.Store(true)
		}
		return n, err
	}
	n, err := vectored(unix.SYS_PREADV, h.f, bufs, off, 0)
	return n, number(err)
}

// writev writes bufs, at most maxVecs of them, and may return short. dsync makes them durable.
func (h *host) writev(bufs [][]byte, off int64, dsync bool) (int, error) {
	return writeFD(h.f, bufs, off, dsync)
}

// tailIO reads or writes by the buffered descriptor.
func (h *host) tailIO(bufs [][]byte, off int64, write, dsync bool) (int, error) {
	if write {
		return writeFD(h.tail, bufs, off, dsync)
	}
	n, err := vectored(unix.SYS_PREADV, h.tail, bufs, off, 0)
	return n, number(err)
}

func writeFD(fd int, bufs [][]byte, off int64, dsync bool) (int, error) {
	if dsync && !noDsync.Load() {
		n, err := vectored(unix.SYS_PWRITEV2, fd, bufs, off, unix.RWF_DSYNC)
		if err != unix.EOPNOTSUPP && err != unix.ENOSYS && err != unix.EINVAL {
			return n, number(err)
		}
		noDsync.Store(true)
	}
	n, err := vectored(unix.SYS_PWRITEV, fd, bufs, off, 0)
	if err == nil && dsync {
		err = retry(func() error { return unix.Fdatasync(fd) })
	}
	return n, number(err)
}

// vectored makes one of the four system calls p{read,write}v{,2}.
func vectored(call uintptr, fd int, bufs [][]byte, off int64, flags int) (int, error) {
	iov := iovecs.Get().(*[maxVecs]unix.Iovec)
	n := 0
	for _, b := range bufs {
		if len(b) > 0 {
			iov[n].Base = unsafe.SliceData(b)
			iov[n].SetLen(len(b))
			n++
		}
	}
	var got uintptr
	var e unix.Errno
	for {
		// The kernel puts the offset together from two halves; on 64 bits the first holds all of it.
		got, _, e = unix.Syscall6(call, uintptr(fd), uintptr(unsafe.Pointer(&iov[0])), uintptr(n),
			uintptr(off), uintptr(off>>32), uintptr(flags))
		if e != unix.EINTR {
			break
		}
	}
	runtime.KeepAlive(bufs)
	clear(iov[:n])
	iovecs.Put(iov)
	if e != 0 {
		return 0, e
	}
	return int(got), nil
}

// ioctlUint64 reads a 64-bit number by ioctl.
func ioctlUint64(fd int, req uint) (uint64, error) {
	var v uint64
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(req), uintptr(unsafe.Pointer(&v)))
	if e != 0 {
		return 0, e
	}
	return v, nil
}

// ioctlRange passes an offset and a length in bytes to an ioctl.
func ioctlRange(fd int, req uint, off, n int64) error {
	r := [2]uint64{uint64(off), uint64(n)}
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(req), uintptr(unsafe.Pointer(&r)))
		switch e {
		case 0:
			return nil
		case unix.EINTR:
			continue
		}
		return e
	}
}
