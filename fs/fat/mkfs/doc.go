// Package mkfs makes FAT12, FAT16 and FAT32 filesystems in pure Go, on anything that can be written at an offset, empty or
// filled from a directory.
//
//	f, err := os.Create("stick.img")
//	err = f.Truncate(64 << 20)
//	boot, err := mkfs.Format(f, 64<<20, mkfs.Options{Label: "STICK", Zeroed: true, Fill: mkfs.FromDir("tree", mkfs.DirOptions{})})
//
// Width, cluster size and alignment are those that mkfs.fat 4.2 chooses for the size: FAT32 from 512 MiB on, below that FAT12 or
// FAT16 with the smallest clusters of at least 2 KiB that fit. FATs, root directory and data begin at multiples of the cluster
// size on media of more than 4 MiB.
//
// The same input gives the same bytes: nothing is taken from the clock or a random source but what Options leaves open, which
// is Time and Serial. Files lie in one piece each, in the order of their names, directories before what is in them.
//
// The boot sector is written last: an image on which Format failed is no filesystem. The device is not synced and not closed.
//
// Errors: a parameter out of range and a name that FAT does not store unwrap to errno.INVAL, a tree that does not fit to
// errno.NOSPC, a file of 4 GiB and more to errno.FBIG; each names the path or the parameter.
//
// Source: Microsoft "FAT: General Overview of On-Disk Format", version 1.03; mkfs.fat(8).
package mkfs
