package block

import (
	"fmt"
	"runtime/debug"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Mapper is a Device whose contents can be reached as memory (DAX): image files by mmap, memory devices.
type Mapper interface {
	// DirectAccess gives the memory behind [off, off+n). It stays valid until Close. Writes through it are durable after a Flush,
	// and where the device is a MemoryFlusher also after FlushMemory. Memory of an image that somebody cut short faults, as does
	// a hole that the host has no space for: use it inside Touch.
	DirectAccess(off, n int64) ([]byte, error)
}

// MemoryFlusher is a Mapper that can make a part of its memory durable, without the rest.
type MemoryFlusher interface {
	// FlushMemory makes durable what was stored through DirectAccess in [off, off+n), msync(2).
	FlushMemory(off, n int64) error
}

// Touch runs f, which reads or writes memory of a Mapper. A fault of the memory ends f where it is and becomes an error; other panics of f
// go on.
//
// Errors: errno.IO for memory that is not there any more. What f did before stands.
func Touch(f func()) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		// Only faults at an address have one; a nil pointer of f's own has none.
		fault, ok := r.(interface {
			error
			Addr() uintptr
		})
		if !ok {
			panic(r)
		}
		err = fmt.Errorf("memory of the device is gone: was the image cut short, or is its disk full? (%v): %w", fault, errno.IO)
	}()
	f()
	return nil
}
