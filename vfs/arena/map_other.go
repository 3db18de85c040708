//go:build !unix

package arena

import "unsafe"

// mapChunk takes a chunk from the Go heap.
func mapChunk() ([]byte, error) {
	raw := make([]byte, chunkSize+PageSize)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(raw))) & (PageSize - 1))
	return raw[skip : skip+chunkSize : skip+chunkSize], nil
}

// unmapChunk leaves the chunk to the collector.
func unmapChunk([]byte) {}

// releasePages has nothing to tell the host: the chunk is one object of the Go heap.
func releasePages([]byte) {}
