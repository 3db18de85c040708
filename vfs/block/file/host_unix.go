//go:build unix && !linux

package file

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// canMap says that files can be mapped on this host.
const canMap = true

// errLocked says that somebody else holds the lock.
var errLocked = errors.New("locked")

// lockFile takes the lock without waiting.
func lockFile(f *os.File, readOnly bool) error {
	how := unix.LOCK_EX
	if readOnly {
		how = unix.LOCK_SH
	}
	for {
		switch err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err {
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			return errLocked
		default:
			return err
		}
	}
}

// mapFile maps the whole image.
func (h *host) mapFile(size int64, write bool) ([]byte, error) {
	if int64(int(size)) != size {
		return nil, errno.NOMEM
	}
	prot := unix.PROT_READ
	if write {
		prot |= unix.PROT_WRITE
	}
	m, err := unix.Mmap(int(h.f.Fd()), 0, int(size), prot, unix.MAP_SHARED)
	return m, number(err)
}

func unmapFile(m []byte) {
	// It can only fail for memory that was never mapped.
	_ = unix.Munmap(m)
}

// syncFile makes what was stored in a mapping durable; m begins at a page of the host.
func syncFile(m []byte) error { return unix.Msync(m, unix.MS_SYNC) }
