// Package iomaptest is a filesystem for tests of iomap: files whose mappings the test chooses, over a device in memory. It has
// everything that mappings can have: holes, promised, unwritten, shared and inline space, a version of the map that changes under
// the library's feet, and answers that are cut at random places. What the library asked is recorded.
//
//	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10})
//	f := fs.File("mapped 4k; hole 8k; unwritten 4k; mapped 2k", 17<<10)
//	n, err := iomap.Seek(ctx, f.Inode, 0, vfs.SeekHole, f.Read)
package iomaptest
