// Package part shows a range of a device, such as a partition, as a device of its own.
//
//	p, err := part.New(disk, 1<<20, 64<<20, "disk.img@1")
//
// Nothing can reach outside the range: each bio is checked against it before it is passed on. What the device below can
// do (FUA, discard, direct memory, splice, holes) the range can do too. It owns the device below and closes it.
package part
