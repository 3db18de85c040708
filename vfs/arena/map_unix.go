//go:build unix

package arena

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// mapChunk maps a chunk. The host gives it memory when it is first touched, in pages of 2 MiB where it can.
func mapChunk() ([]byte, error) {
	mem, err := unix.Mmap(-1, 0, chunkSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %v: %w", chunkSize, err, errno.NOMEM)
	}
	adviseHuge(mem)
	return mem, nil
}

// unmapChunk undoes mapChunk.
func unmapChunk(mem []byte) {
	// It can only fail for an argument that was never mapped, and then there is nothing to give back.
	_ = unix.Munmap(mem)
}

// releasePages tells the host that the contents are not needed. On Linux the memory is free at once.
func releasePages(b []byte) {
	// Advice: when it is refused the pages stay, which costs memory and nothing else.
	_ = unix.Madvise(b, unix.MADV_DONTNEED)
}
