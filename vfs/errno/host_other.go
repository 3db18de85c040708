//go:build !linux

package errno

import (
	"errors"
	"io/fs"
	"syscall"
)

// fromHost maps the host's number to Linux's by meaning, since the numbers differ.
func fromHost(s syscall.Errno) Errno {
	switch {
	case errors.Is(s, fs.ErrNotExist):
		return NOENT
	case errors.Is(s, fs.ErrExist):
		return EXIST
	case errors.Is(s, fs.ErrPermission):
		return PERM
	case s == syscall.ENOSPC:
		return NOSPC
	case s == syscall.EINVAL:
		return INVAL
	case s == syscall.ENOTDIR:
		return NOTDIR
	case s == syscall.EISDIR:
		return ISDIR
	case s == syscall.EROFS:
		return ROFS
	}
	return IO
}
