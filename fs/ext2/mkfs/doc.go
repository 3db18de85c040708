// Package mkfs makes ext2 filesystems in pure Go, on anything that can be written at an offset, empty or filled from a directory,
// a tar archive or an io/fs.FS.
//
//	f, err := os.Create("disk.img")
//	err = f.Truncate(64 << 20)
//	sb, err := mkfs.Format(f, 64<<20, mkfs.Options{Label: "root", Zeroed: true, Fill: mkfs.FromDir("tree", mkfs.DirOptions{})})
//
// What is made is what mke2fs -t ext2 makes of the same parameters: the same block size for the size, inodes, groups, reserved
// descriptor blocks, free counts; an empty filesystem is the same byte for byte, given the same UUID, hash seed and time.
//
// # Reproducible
//
// The same input gives the same bytes: nothing is taken from the clock, the host or a random source but what Options leaves
// open, which is Time and UUID; a hash seed left open follows from the UUID. Options.ClampTimes bounds the times of files, as
// SOURCE_DATE_EPOCH wants it. Access and change times of a source directory are not copied, since reading changes them.
//
// # How it fills
//
// Contents are stored in the order in which they come, from the first free block up, so files lie in one piece, each indirect
// block right before the blocks it leads to. An inode comes from the group in which its data goes. Blocks of zeros become
// holes. A directory is written when it is complete; with DIR_INDEX and more than one block it gets an index. Equal sets of
// attributes share a block. In memory are the bitmaps of the groups in use and the names of directories that are not complete.
//
// The superblock is written last: an image on which Format failed is no filesystem. The device is not synced and not closed.
//
// # Errors
//
// A parameter out of range unwraps to errno.INVAL, a tree that does not fit to errno.NOSPC, a file that is too large to
// errno.FBIG; each names the path or the parameter and what to change. Errors of the writer and of sources are wrapped.
package mkfs
