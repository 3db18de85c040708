// Package faults holds the tests in which the device or its space gives out under a filesystem: the n-th read, write or flush fails,
// for every n, and what is left free shrinks block by block. Whatever fails, nothing panics or hangs, somebody is told, and what a
// sync acknowledged is there: on ext2 when the image was repaired by e2fsck -p, which has nothing to ask, on FAT as it is, and there
// is no damage but what a crash may leave.
package faults
