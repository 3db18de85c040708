// Package images finds the filesystem in an image: the whole file or device, a partition of it by number, label or UUID, or
// a range of bytes.
//
//	disk.img                      the whole, or the only partition that holds a known filesystem
//	disk.img@2                    partition 2
//	disk.img@LABEL=x @UUID=x      the partition whose filesystem has that label or UUID
//	disk.img@offset=1M,size=64M   a range of bytes
//
// Partition tables (GPT, MBR with logical partitions) are read by go-diskfs; every number is checked against the device.
package images
