// Package check looks for damage in an ext2 filesystem, in pure Go. It reads through an io.ReaderAt and never writes; what
// to do about a finding is for e2fsck.
//
//	rep, err := check.Check(ctx, f, size, check.Options{})
//	for _, p := range rep.Problems { fmt.Println(p) } // inode 12: block count is 8, want 10 (units of 512 bytes) [inode-blocks]
//
// # Passes
//
//	superblock   superblock, geometry, group descriptors; what they name is marked in use
//	inodes       each inode by itself: fields, times, size, block map, attributes; each block is marked in use once
//	directories  each directory block by block: records, names, types, ".", "..", duplicates, the index
//	connect      paths from the root to all directories, names for all inodes, link counts
//	counts       bitmaps and counts against what was found
//
// # Bounds
//
// In memory are, for groups that have something in use, one bit a block and one bit and five bytes an inode; a record of 20
// bytes for each directory; 8 bytes for each name of the directory at hand, nine for each of its blocks; a record for each
// attribute block. No block is followed as an indirect block twice: one that is in use already is reported and left, so the
// time is bounded by the size of the device, whatever it holds. A check ends after Options.MaxProblems findings.
//
// # Against e2fsck
//
// The judge is e2fsck -fn (1.47): what it passes as clean is clean here, and what it finds is found, if not always in the same
// words. TestMutationsAgainstE2fsck compares the two on random damage. On purpose they differ in this:
//
//   - Found here, not there: entries of the resize inode beyond the first quarter (e2fsck looks at those only); contents,
//     attributes and size of reserved inodes that nothing uses; the flag of ea_inode; two equal names in different blocks of a
//     directory; in an index, a name whose hash continues from the leaf before without the mark that says so. Free counts
//     of the superblock alone are a finding here; e2fsck prints them and still exits with 0.
//   - Found there, not here: contents of a journal; times of the superblock in the future; sizes of
//     RAID strides and the like; damage in backups of superblock and descriptors. Nor are backups used: where the primary
//     descriptors are damaged e2fsck goes on with a backup and may call the filesystem clean.
//   - After a block was found in use twice, or a directory block could not be read, the counts that follow from it may be
//     reported differently.
//   - Filesystems with features that are not of ext2 (ext4's among them) or with a journal to be replayed are not checked: that
//     is an error of the check, not a finding.
//   - A filesystem that was not unmounted cleanly is reported by Report.Dirty and is no finding in itself.
package check
