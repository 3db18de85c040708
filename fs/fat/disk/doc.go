// Package disk is the on-disk format of FAT12, FAT16 and FAT32 with long names, and nothing else: constants, decode, encode,
// verify. It does no I/O, takes no locks, reads no clock and imports only the standard library.
//
// # The medium
//
//	| boot sector, FSInfo, backup … | FAT | FAT again … | root directory (FAT12, FAT16) | cluster 2 | cluster 3 | … |
//	  BootSector.Reserved sectors     BootSector.FATs      RootEntries slots               Geometry.DataStart
//
// The FAT has an Entry for each cluster: what comes behind it in its file. The files' beginnings, sizes, times and names are in
// directories, which are files of slots of 32 bytes: Dirent, with the parts of a long name before it (lfn.go). The root
// directory of FAT12 and FAT16 lies at a fixed place; all others are chains of clusters. There are no inodes, no owners, no holes.
//
// # Values and views
//
// BootSector, FSInfo and Dirent are values: DecodeX reads one, EncodeTo writes it over the old bytes, so that bytes that this
// package does not know survive. FATView is a view on a piece of a FAT; Assembler puts slots together. What NewGeometry accepts
// can be relied on; clusters from a FAT or an entry have to be checked by Geometry.Valid or Entry.Next before use.
//
// # Names
//
// A long name is UTF-16, up to 255 units; upwards it is UTF-8 (Units, Name). Names that differ in case only are the same name
// (Fold). A short name is 8 and 3 bytes in a CodePage that the medium does not tell; MakeShort makes one of a long name.
//
// Sources: Microsoft "FAT: General Overview of On-Disk Format", version 1.03 (2000), and "Long File Name Specification",
// version 0.5; the behaviour of Linux's vfat and of dosfstools 4.2, which judge in the tests.
package disk
