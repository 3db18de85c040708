//go:build !unix

package mem

import (
	"fmt"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// mapMemory takes the memory from the Go heap.
func mapMemory(n int64) ([]byte, error) {
	if n > 1<<36 {
		return nil, fmt.Errorf("more than 64 GiB on a host without sparse memory: %w", errno.NOMEM)
	}
	return make([]byte, n), nil
}

// unmapMemory leaves the memory to the collector.
func unmapMemory([]byte) {}

// dropMemory makes p zeros.
func dropMemory(p []byte) { clear(p) }
