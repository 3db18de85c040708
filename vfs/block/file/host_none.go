//go:build !unix && !windows

package file

import (
	"errors"
	"os"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// canMap says that files can be mapped on this host.
const canMap = false

// errLocked says that somebody else holds the lock.
var errLocked = errors.New("locked")

// lockFile: this host has no locks.
func lockFile(f *os.File, readOnly bool) error { return nil }

func (h *host) mapFile(size int64, write bool) ([]byte, error) { return nil, errno.OPNOTSUPP }

func unmapFile([]byte) {}

// syncFile makes what was stored in a mapping durable; m begins at a page of the host.
func syncFile([]byte) error { return errno.OPNOTSUPP }
