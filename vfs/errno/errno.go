// Package errno holds Linux error numbers as Go errors, the same on every host.
//
// Code below the FUSE edge returns ordinary wrapped errors whose chain ends in an Errno, and asks
// errors.Is(err, errno.NOSPC). The number is taken out once, at the edge, by From.
package errno

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// Errno is a Linux error number (asm-generic/errno.h). The zero value means no error and is never
// returned as an error.
type Errno int

// The numbers that this repository uses.
const (
	PERM      Errno = 1
	NOENT     Errno = 2
	INTR      Errno = 4
	IO        Errno = 5
	NXIO      Errno = 6
	BIG2      Errno = 7 // E2BIG
	BADF      Errno = 9
	AGAIN     Errno = 11
	NOMEM     Errno = 12
	ACCES     Errno = 13
	FAULT     Errno = 14
	NOTBLK    Errno = 15
	BUSY      Errno = 16
	EXIST     Errno = 17
	XDEV      Errno = 18
	NODEV     Errno = 19
	NOTDIR    Errno = 20
	ISDIR     Errno = 21
	INVAL     Errno = 22
	NOTTY     Errno = 25
	TXTBSY    Errno = 26
	FBIG      Errno = 27
	NOSPC     Errno = 28
	SPIPE     Errno = 29
	ROFS      Errno = 30
	MLINK     Errno = 31
	RANGE     Errno = 34
	NAMETOOL  Errno = 36 // ENAMETOOLONG
	NOSYS     Errno = 38
	NOTEMPTY  Errno = 39
	LOOP      Errno = 40
	NODATA    Errno = 61
	TIME      Errno = 62
	OVERFLOW  Errno = 75
	BADR      Errno = 53
	BADMSG    Errno = 74
	OPNOTSUPP Errno = 95
	STALE     Errno = 116
	UCLEAN    Errno = 117 // EUCLEAN, "structure needs cleaning": corrupt metadata
	DQUOT     Errno = 122
)

var text = map[Errno]string{
	PERM: "operation not permitted", NOENT: "no such file or directory", INTR: "interrupted", IO: "input/output error",
	NXIO: "no such device or address", BIG2: "argument list too long", BADF: "bad file descriptor", AGAIN: "try again",
	NOMEM: "out of memory", ACCES: "permission denied", FAULT: "bad address", NOTBLK: "block device required",
	BUSY: "device or resource busy", EXIST: "file exists", XDEV: "cross-device link", NODEV: "no such device",
	NOTDIR: "not a directory", ISDIR: "is a directory", INVAL: "invalid argument", NOTTY: "inappropriate ioctl",
	TXTBSY: "text file busy", FBIG: "file too large", NOSPC: "no space left on device", SPIPE: "illegal seek",
	ROFS: "read-only file system", MLINK: "too many links", RANGE: "result out of range", NAMETOOL: "file name too long",
	NOSYS: "function not implemented", NOTEMPTY: "directory not empty", LOOP: "too many levels of symbolic links",
	NODATA: "no such attribute", TIME: "timer expired", OVERFLOW: "value too large", BADR: "invalid request flags",
	BADMSG: "bad message", OPNOTSUPP: "operation not supported", STALE: "stale file handle",
	UCLEAN: "structure needs cleaning", DQUOT: "disk quota exceeded",
}

// Error gives the usual words for the number.
func (e Errno) Error() string {
	if s, ok := text[e]; ok {
		return s
	}
	return fmt.Sprintf("error %d", int(e))
}

// Is lets errors.Is match the standard library's fs errors.
func (e Errno) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e == NOENT
	case fs.ErrExist:
		return e == EXIST || e == NOTEMPTY
	case fs.ErrPermission:
		return e == PERM || e == ACCES
	case fs.ErrInvalid:
		return e == INVAL
	}
	return false
}

// From finds the number at the end of err's chain: an Errno, a host error number, a cancelled
// context (INTR) or one of io/fs's sentinels. Nil gives 0; an error without a number gives IO.
func From(err error) Errno {
	if err == nil {
		return 0
	}
	var e Errno
	if errors.As(err, &e) {
		return e
	}
	var s syscall.Errno
	if errors.As(err, &s) {
		return fromHost(s)
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return INTR
	case errors.Is(err, fs.ErrNotExist):
		return NOENT
	case errors.Is(err, fs.ErrExist):
		return EXIST
	case errors.Is(err, fs.ErrPermission):
		return PERM
	}
	return IO
}

// CorruptError says that a structure on the medium holds what it must not. It unwraps to UCLEAN.
type CorruptError struct {
	Dev    string // image or device
	Struct string // "group descriptor", "directory block" …
	Ino    uint64 // inode it belongs to, 0 if none
	Addr   uint64 // byte address on the device, 0 if unknown
	Why    string // the field, what it holds and what it may hold
}

// Error reads as a path from the device to the reason.
func (c *CorruptError) Error() string {
	s := c.Dev + ": " + c.Struct
	if c.Ino != 0 {
		s += fmt.Sprintf(" of inode %d", c.Ino)
	}
	if c.Addr != 0 {
		s += fmt.Sprintf(" at byte %d", c.Addr)
	}
	return s + ": " + c.Why + ": " + UCLEAN.Error()
}

// Unwrap gives UCLEAN.
func (c *CorruptError) Unwrap() error { return UCLEAN }
