// Package ext2 is the second extended filesystem, read-write, on images and devices made by anybody's mkfs.
//
// The format lives in disk/. This package is the filesystem in memory: mount and options (super.go), inodes (inode.go),
// the block map (map.go), allocation (balloc.go, ialloc.go), names (dir.go, namei.go, rename.go), attributes (xattr.go),
// and the order in which metadata reaches the medium (commit.go, order.go, whole.go). All of that is shared by the two paths;
// legacy.go is the file I/O through buffer heads, and only translates what map.go resolves.
//
// Promise: after a crash at any write, e2fsck -p repairs the filesystem without asking, and what was fsynced is there. An
// epoch in which a directory moved, which no order of writes makes safe, is committed all or nothing (whole.go); on ext3
// mounted as ext2, on revision 0, and when no room is left for that, e2fsck may want to be asked about the directory.
//
// Locks, outer first: vfs.Inode.Rw, AddressSpace.InvalidateLock, folio locks, the transaction (fsys.begin), inode.mapMu,
// group.mu, buffers, and the leaves superMu, epoch.mu, inodesMu.
//
// Sources: "The Second Extended Filesystem" (Documentation/filesystems/ext2.rst and Dave Poirier's on-disk description),
// Documentation/filesystems/ext4 for the later fields of inode and superblock.
package ext2
