package faults

import (
	"sync/atomic"

	"github.com/iomapfs/iomapfs/vfs/block"
)

// counter counts the bios of one operation.
type counter struct {
	block.Device
	op block.Op
	n  atomic.Int64
}

func (c *counter) Submit(b *block.Bio) {
	if b.Op == c.op {
		c.n.Add(1)
	}
	c.Device.Submit(b)
}
