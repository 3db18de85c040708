package bufhead

import (
	"sync/atomic"
	"unsafe"
)

// Stats counts what the layer costs. The comparison with iomap shows it.
type Stats struct {
	BufferHeads   int64 // attached now
	BytesPerBlock int64 // memory of one buffer head
	GetBlockCalls int64
	Bios          int64
}

var live, getBlockCalls, biosSubmitted atomic.Int64

// ReadStats reads the counters of the process.
func ReadStats() Stats {
	return Stats{BufferHeads: live.Load(), BytesPerBlock: int64(unsafe.Sizeof(BufferHead{})), GetBlockCalls: getBlockCalls.Load(), Bios: biosSubmitted.Load()}
}
