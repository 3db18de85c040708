// Package vfs is what Linux's virtual filesystem layer gives its filesystems, in user space: inodes, open files, names,
// attributes, extended attributes and ACLs, super blocks. Below it are block devices (vfs/block) and the page cache
// (vfs/pagecache), above it whatever serves a SuperBlock: FUSE (vfs/fuse), a command, a test.
//
// A filesystem offers a FileSystem value with Probe and Mount. Mount gives a SuperBlock whose tables of functions
// (SuperOperations, InodeOperations, FileOperations, pagecache.Operations) are the filesystem's; the methods of Inode, File
// and SuperBlock check, lock and call them. Nothing here knows a filesystem by name.
//
//	sb, err := ext2.Type.Mount(ctx, dev, &vfs.MountOptions{ReadOnly: true})
//	ip, err := sb.Walk(ctx, "/etc/passwd", true)   // a reference
//	f, err := ip.Open(ctx, vfs.ORdonly)            // another, until Close
//	n, err := f.ReadAt(ctx, buf, 0)
//	f.Close(); ip.Put(); err = sb.Unmount(ctx)
//
// There are no dentries: the kernel caches names above us, and a filesystem finds them by itself below.
//
// # Lock order
//
// Outer first. Each package comment repeats and extends its branch; ranks are checked under the invariants tag.
//
//	SuperBlock.freeze        shared by every change, exclusive while frozen
//	SuperBlock.RenameMu      a rename between directories
//	Inode.Rw                 contents, layout, entries; two directories: the ancestor first; two files: by number
//	AddressSpace.InvalidateLock
//	folio lock               ascending index
//	transaction reservation  of the filesystem
//	map lock                 of the filesystem
//	allocation group, buffer, folio of a device
//	flusher's list, then inode cache shard
//	folio state, cache shard, Inode.AttrMu, device queue    leaves: nothing is taken under them
//
// So no folio is locked under a map lock or inside a transaction, and nobody calls out (hook, trace, device) under a leaf.
// Direct I/O in flight is a count (Inode.DirectBegin), not a lock.
//
// # References
//
// Each lookup result, open File and flusher holds one reference of an Inode; the inode cache holds none. An inode without
// links is evicted when its last reference goes.
//
// # Errors
//
// Ordinary wrapped errors whose chain ends in an errno.Errno. Errors of writeback are kept and shown once to each open file
// at fsync.
package vfs
