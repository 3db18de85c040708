// Package fuse serves a vfs.SuperBlock to the kernel through FUSE. It is the only package of the repository that imports
// go-fuse, and it knows no filesystem by name.
//
// The kernel above has caches of its own: names, attributes and file data. We are the only writer of the image, so names
// and attributes may be kept for an hour, data over closes, and dirty data stays in the kernel until it is written back
// (writeback cache). O_DIRECT is seen in the flags of each open and takes the direct path.
//
// A node id is an inode number, with the root's swapped for 1. The table of nodes holds one reference of the inode for as
// long as the kernel remembers it.
//
// Permissions are the kernel's work (default_permissions), ACLs included (posix_acl); the umask is applied here, since a
// default ACL of the directory overrides it.
//
// Errors of the layers below become numbers here and nowhere else; one that has no number is EIO and is logged whole.
//
// Sources: fuse(4), Linux Documentation/filesystems/fuse, include/uapi/linux/fuse.h.
package fuse
