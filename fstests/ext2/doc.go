// Package ext2 holds the tests that hold ext2 against the model, e2fsck and the kernel.
package ext2
