// Package disk is the on-disk format of ext2 and nothing else: constants, decode, encode, verify. It does no I/O, takes no
// locks, reads no clock and imports only the standard library.
//
// # The medium
//
// The device is an array of blocks of 1, 2, 4 … 64 KiB, cut into block groups of equal size (the last may be shorter).
//
//	block size 1024:   block 0 is unused (boot sector), group 0 begins at block 1
//	larger:            group 0 begins at block 0; the superblock is at byte 1024 of it
//
//	one group:  [superblock copy | descriptor table | reserved descriptor blocks] [block bitmap] [inode bitmap] [inode table] [data …]
//	             only in groups for which Geometry.HasSuper says so                where the group's GroupDesc says
//
// With META_BG the descriptor blocks from Superblock.FirstMetaBG on leave the table and sit in the groups they describe:
// see Geometry.DescBlock.
//
// # Values and views
//
// What is decoded once is a value: Superblock, GroupDesc, Inode. DecodeX reads one, EncodeTo writes it over the old bytes, so
// that fields this package does not know survive. What is walked or edited in place is a view, a named byte slice whose
// constructor checks once all that its accessors rely on: DirBlock, Bitmap, PtrBlock, IndexRoot, IndexNode, XattrBlock,
// XattrBody. The bytes of a view belong to the caller, who also holds the lock that guards them.
//
// Every number that comes from the medium is checked here before it may serve as index, size or loop bound. A failed check is
// a *Bad, which names structure, field, what was found and what may be there; the caller adds device, inode and place.
// Nothing here panics on any bytes of the documented length.
//
// # Numbers
//
// All numbers are little endian. Block numbers on the device are FSBlock, blocks of a file FileBlock, inode numbers Ino
// (counted from 1), block groups Group. A block number 0 in a map is a hole.
//
// # Example
//
//	sb, err := disk.DecodeSuperblock(raw[:])     // 1024 bytes read at disk.SuperOffset
//	if bits := sb.UnknownIncompat(); bits != 0 { … refuse: bits.String() names them }
//	g, err := disk.NewGeometry(&sb, deviceSize)
//	block, off := g.DescAt(g.InodeGroup(ino))    // where the group descriptor is
//	desc, err := disk.DecodeGroupDesc(table[off:])
//	err = desc.Verify(g, g.InodeGroup(ino))
//	block, off = g.InodeAt(ino, desc.InodeTable) // where the inode is
//	in, err := disk.DecodeInode(table[off : off+g.InodeSize])
//
// Sources: "The Second Extended Filesystem, Internal Layout" (D. Poirier, 2001–2019); Documentation/filesystems/ext2.rst and
// ext4/ (layout tables) of Linux 6.x; e2fsprogs 1.47 as the judge in the tests.
package disk
