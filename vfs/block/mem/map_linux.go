package mem

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

const pageSize = 4096

// mapMemory reserves address space; the host fills it in page by page when it is written.
func mapMemory(n int64) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	if int64(int(n)) != n {
		return nil, fmt.Errorf("more than this host can address: %w", errno.NOMEM)
	}
	mem, err := unix.Mmap(-1, 0, int(n), unix.PROT_READ|unix.PROT_WRITE,
		unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("map: %v: %w", err, errno.NOMEM)
	}
	return mem, nil
}

func unmapMemory(mem []byte) {
	if mem != nil {
		// It can only fail for memory that was never mapped.
		_ = unix.Munmap(mem)
	}
}

// dropMemory makes p zeros and gives its whole pages back.
func dropMemory(p []byte) {
	head := min(int(-uintptr(unsafe.Pointer(unsafe.SliceData(p)))&(pageSize-1)), len(p))
	clear(p[:head])
	p = p[head:]
	whole := len(p) &^ (pageSize - 1)
	clear(p[whole:])
	if whole == 0 {
		return
	}
	if unix.Madvise(p[:whole], unix.MADV_DONTNEED) != nil {
		clear(p[:whole])
	}
}
