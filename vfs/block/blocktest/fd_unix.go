//go:build unix

package blocktest

import (
	"io"
	"unsafe"

	"golang.org/x/sys/unix"
)

// readFD reads n bytes at off from a descriptor that somebody else owns, into memory aligned for O_DIRECT.
func readFD(fd uintptr, n, off int64) ([]byte, error) {
	// A descriptor with O_DIRECT wants everything aligned: read the aligned surroundings.
	lo, hi := off&^4095, (off+n+4095)&^4095
	raw := make([]byte, hi-lo+4096)
	p := raw[int(-uintptr(unsafe.Pointer(unsafe.SliceData(raw)))&4095):]
	got, err := unix.Pread(int(fd), p[:hi-lo], lo)
	if err != nil {
		return nil, err
	}
	if int64(got) < off-lo+n {
		return nil, io.ErrUnexpectedEOF
	}
	return p[off-lo : off-lo+n], nil
}
