// Package vfstest holds a small filesystem in memory, for tests of what lies above the VFS: the FUSE server, io/fs views.
//
// It keeps everything that a vfs.SuperBlock offers and nothing else: names, attributes, extended attributes with ACLs,
// sparse files, hard links, rename with exchange, unlinked open files, generation numbers, holes through SEEK_HOLE and
// FIEMAP. It has no pages in the cache and no device worth the name, so whatever a test sees comes from above.
//
// Locks: Inode.Rw guards names and contents, as the VFS has it; fs.mu, a leaf, the table of nodes.
//
//	sb, ram := vfstest.New(t, vfs.MountOptions{})
//	defer sb.Unmount(ctx)
//	ram.Hook = func(ctx context.Context, op string, ip *vfs.Inode) error { … } // before sb is used
package vfstest
