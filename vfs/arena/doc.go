// Package arena gives out page-aligned memory that the garbage collector never sees: folios of the page cache
// and bounce buffers of devices live in it.
//
// A block is 2^order pages of 4 KiB, order 0 to MaxOrder, aligned to a page. Its contents are undefined when it is
// given out. Blocks come from chunks of 4 MiB mapped from the host and divided by the buddy method: a free block whose
// neighbour of the same size is free joins it. In front of the buddy allocator stand shards, each a stack
// of free blocks per order, so that the common Alloc and Free take one uncontended lock and touch one cache line or two.
//
//	Alloc ──pop──▶ shard ──refill by the batch──▶ buddy ──▶ mmap a chunk
//	Free ──push──▶ shard ──spill by the batch───▶ buddy ──▶ free pages beyond the reserve go back by MADV_DONTNEED,
//	                                                        whole chunks by munmap
//
// Memory in use is never moved, and never given back behind its owner's back. On hosts without mmap the chunks
// are ordinary Go memory; everything else is the same.
//
// Locks: shard, then buddy; both are leaves, and no system call but mmap is made under them.
package arena

// Sizes of blocks.
const (
	PageShift = 12
	PageSize  = 1 << PageShift // bytes in a block of order 0
	MaxOrder  = 8
	MaxBlock  = PageSize << MaxOrder // bytes in the largest block: 1 MiB
)

// Default is the arena that Alloc and Free use.
var Default = New()

// Alloc gives a block of 2^order pages from the default arena. See Arena.Alloc.
func Alloc(order uint) ([]byte, error) { return Default.Alloc(order) }

// Free gives a block back to the default arena. See Arena.Free.
func Free(b []byte) { Default.Free(b) }

// Trim gives all free memory of the default arena back to the host. See Arena.Trim.
func Trim() { Default.Trim() }

// OrderFor is the smallest order whose block holds n bytes; ok is false when n is larger than MaxBlock.
func OrderFor(n int) (order uint, ok bool) {
	for size := PageSize; size < n; size <<= 1 {
		order++
	}
	return order, order <= MaxOrder
}
