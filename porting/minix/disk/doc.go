// Package disk is the Minix on-disk format: the layout of superblock, inodes, directories and bitmaps, and nothing else: no I/O,
// no locks, no clock. Everything is little endian, as Linux on x86 writes it.
//
//	block 0    1            2 …          …            …             FirstZone …
//	┌────────┬────────────┬────────────┬────────────┬─────────────┬──────────────────────────────┐
//	│ boot   │ superblock │ inode map  │ zone map   │ inode table │ zones: data, directories,    │
//	│        │ (byte 1024)│ 1 bit each │ 1 bit each │             │ indirect zones               │
//	└────────┴────────────┴────────────┴────────────┴─────────────┴──────────────────────────────┘
//
// Three versions: V1 (16-bit zones, 32-byte inodes), V2 (32-bit zones, 64-byte inodes), V3 (V2 with 60-byte names, 32-bit inode
// numbers and blocks from 1 KiB to 4 KiB). V1 and V2 come with names of 14 or of 30 bytes. A zone is one block.
//
// Sources: Linux include/uapi/linux/minix_fs.h; the Minix filesystem of A. Tanenbaum, "Operating Systems: Design and
// Implementation", chapter 5.
package disk

import "fmt"

// Zone is a block of the device that belongs to a file. 0 means none.
type Zone uint32

// Ino is an inode number, from 1.
type Ino uint32

// RootIno is the root directory.
const RootIno Ino = 1

// SuperOffset is where the superblock lies, in bytes, whatever the block size.
const SuperOffset = 1024

// Bad is what is wrong with a structure: its caller knows where it lies.
type Bad struct{ Field, Why string }

// Error reads "field: why".
func (b *Bad) Error() string { return b.Field + ": " + b.Why }

func bad(field, format string, args ...any) error { return &Bad{field, fmt.Sprintf(format, args...)} }
