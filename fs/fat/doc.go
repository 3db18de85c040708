// Package fat is FAT12, FAT16 and FAT32 with long names, read-write, on images and devices made by anybody.
//
// The format lives in disk/, code pages in codepage/. This package is the filesystem in memory:
//
//	super.go options.go   mount, its words, statfs, label, trim
//	fat.go                entries of the FAT, through the buffer cache, with what is not to be written yet laid over them
//	alloc.go              free clusters: a bitmap in memory, made piece by piece when it is needed
//	chain.go              the runs of clusters of a file, found once: seeking is a binary search
//	map.go                the resolver: which run of blocks a piece of a file is
//	inode.go              numbers, attributes, the life of an inode
//	dir.go dirplace.go    an index of each directory in use, places for new names
//	namei.go rename.go    names
//	truncate.go file.go   size, space behind the end, fsync
//	commit.go             the order in which all of that reaches the medium
//
// All of that is shared by the two paths; legacy.go is file I/O through buffer heads, iomap.go on mappings, and both only
// translate what map.go resolves.
//
// # Files without holes
//
// Every cluster of a file is allocated, and every byte up to its end was written. A write past the end fills the gap with zeros
// first. What is known to be written is the inode's initialised size (inode.init, the kernel's mmu_private); the clusters behind it hold
// what was there before.
//
// # Inodes that are not there
//
// FAT has no inodes. A file's number is the place of its directory entry on the medium (in units of 32 bytes), a directory's is made
// of its first cluster, which never changes. A file that was renamed keeps its number while it is in memory, and so does one
// without a name that is still open; whoever gets the place then is numbered otherwise (numbers.go).
//
// # Promise
//
// After a crash at any write there are, at most, clusters without a name, wrong free counts, copies of the FAT that differ and the
// mark of a filesystem in use. No cluster is in two files, no chain leads into free clusters, no name leads to one, and what was
// fsynced is there. Exceptions, which no order of writes avoids: between the two writes of a rename to another sector both
// names are there; a name of more than 195 units lies in two sectors, and parts of it may be left without an entry; an entry of FAT12 may lie in
// two sectors of the FAT, and of one that is changed where a chain is made longer or cut the old half may be left with the new one.
// commit.go says how.
//
// # Locks
//
// Outer first: vfs.Inode.Rw, AddressSpace.InvalidateLock, folio locks, the transaction (fsys.begin), inode.mapMu, allocator.mu,
// table.mu, buffers; leaves are numbers.mu, dirIndex.mu, committer.listMu. vfs.Inode.AttrMu is a leaf too. An inode may be put
// (vfs.Inode.Put) only outside a transaction: eviction opens one.
//
// Sources: Microsoft "FAT: General Overview of On-Disk Format", version 1.03; Linux Documentation/filesystems/vfat.rst and the
// behaviour of its vfat as of 6.11.
package fat
