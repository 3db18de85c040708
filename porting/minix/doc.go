// Package minix is the Minix filesystem (V1, V2, V3) on buffer heads: the patient of the course, which ports it to iomap operation
// by operation. It is complete and read-write.
//
// Where to find what:
//
//	super.go     mount, statfs, sync, unmount        map.go       where block n of a file lies: the one resolver
//	inode.go     inodes in memory and in the table   truncate.go  making files longer and shorter
//	alloc.go     the two bitmaps                     rdwr.go      read(2) and write(2): locks, limits, cache or direct
//	dir.go       names in directories                namei.go     create, link, unlink, rename …
//	legacy.go    get_block, and the table of file operations on bufhead; legacy_dir.go what directories hold, on buffers
//	ported.go    which operations are ported          paths.go      … and so which table entry is live
//
// # Locks
//
// Outer first: vfs.Inode.Rw, Pages.InvalidateLock, folio; then inode.mapMu; then fsys.inodes.mu or fsys.zones.mu; then buffers.
//
// # What a crash leaves
//
// What Linux's minix leaves: metadata is written in no order of its own, fsck.minix mends it. fsync writes the file's data,
// its indirect zones and its inode.
//
// Sources: Linux fs/minix (behaviour), disk/ for the format.
package minix
