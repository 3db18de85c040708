package file

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// canMap says that files can be mapped on this host.
const canMap = false

// errLocked says that somebody else holds the lock.
var errLocked = errors.New("locked")

// lockFile locks one byte far beyond any image: locks of this host forbid others to read what they cover.
func lockFile(f *os.File, readOnly bool) error {
	flags := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if !readOnly {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1 << 30})
	if err == windows.ERROR_LOCK_VIOLATION || err == windows.ERROR_IO_PENDING {
		return errLocked
	}
	return err
}

func (h *host) mapFile(size int64, write bool) ([]byte, error) { return nil, errno.OPNOTSUPP }

func unmapFile([]byte) {}

// syncFile makes what was stored in a mapping durable; m begins at a page of the host.
func syncFile([]byte) error { return errno.OPNOTSUPP }
