package arena

import (
	"bytes"
	"unsafe"

	"github.com/iomapfs/iomapfs/vfs/invariant"
)

// Where checks are compiled in, freed memory is filled with poison, so that who still reads it sees nonsense, and it is
// looked at when it is given out again, so that who wrote to it, or let a device write to it, is found.

const poison = 0xA5

var poisoned = bytes.Repeat([]byte{poison}, PageSize)

// noteAlloc and noteFree also catch blocks that are freed twice or were never given out.
func (b *buddy) noteAlloc(blk []byte) {
	addr := uintptr(unsafe.Pointer(unsafe.SliceData(blk)))
	for off := 0; off < len(blk); off += PageSize {
		page := blk[off : off+PageSize]
		if !bytes.Equal(page, poisoned) {
			// Never given out before, or given back to the host meanwhile.
			invariant.Check(len(bytes.TrimLeft(page, "\x00")) == 0, "arena: page %#x was written after it was freed", addr+uintptr(off))
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.blocks == nil {
		b.blocks = make(map[uintptr]int)
	}
	_, twice := b.blocks[addr]
	invariant.Check(!twice, "arena: block %#x given out twice", addr)
	b.blocks[addr] = len(blk)
}

func (b *buddy) noteFree(blk []byte) {
	addr := uintptr(unsafe.Pointer(unsafe.SliceData(blk)))
	b.mu.Lock()
	size, ok := b.blocks[addr]
	delete(b.blocks, addr)
	b.mu.Unlock()
	invariant.Check(ok && size == len(blk), "arena: free of block %#x of %d bytes, given out with %d", addr, len(blk), size)
	for off := 0; off < len(blk); off += PageSize {
		copy(blk[off:], poisoned)
	}
}
