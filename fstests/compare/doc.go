// Package compare runs operations of a filesystem on the legacy and on the iomap path, on equal copies of an image in memory, and
// tells what each costs: time, processor time, memory allocated, questions asked of the filesystem, bios, bytes of state beside
// cached data. It proves that both paths gave the same bytes and left a filesystem that its checker accepts.
//
// Runs of the two paths take turns, so that what else the machine does meets both alike; figures are medians, with the spread.
package compare
