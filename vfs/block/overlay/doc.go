// Package overlay is a block device that keeps changes in memory, over a base that it only reads.
//
// Fork gives a second device with the same contents in constant time; from then on each goes its own way. Pages of 4 KiB that
// none of the two changed are shared, so thousands of states of one image cost what they differ by.
//
// The base must not change while overlays of it are in use. Overlays do not close it.
package overlay
