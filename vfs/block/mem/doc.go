// Package mem is a block device in memory, for tests and scratch filesystems.
//
// It is sparse: space that was never written, or was discarded, costs nothing and reads as zeros. It is also
// a Mapper, so DAX paths can run on it. Bios are done in the caller's goroutine before Submit returns.
//
//	d, err := mem.New(64<<20, mem.Options{LogicalBlock: 512})
//
// The memory lies outside the Go heap on unix; elsewhere it is one slice of the Go heap. Overlapping bios in flight at once
// give some mixture of their contents, as on a disk.
package mem
