// Package fat holds the tests that hold FAT against the model, fsck.fat, mtools and the kernel's vfat.
package fat
