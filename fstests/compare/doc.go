// Package compare runs operations and workloads of a filesystem on the legacy and on the iomap path, and on the bridge between the
// two when asked, on equal copies of an image in memory. It proves that they did the same, and tells what each costs.
//
// The proof is made in a run of its own, before any that is timed:
//
//   - every byte, answer and error that the operation gave is equal on all paths;
//   - each path's tree, as the path itself shows it, is that which a reader finds in the image afterwards that shares no code with
//     any path: names, attributes, contents, and which ranges of each file are data;
//   - FIEMAP, SEEK_DATA and SEEK_HOLE agree with that map, and the bytes at the addresses that FIEMAP gives are the file's;
//   - the trees are equal, and so are the numbers of free blocks and inodes: the images are equal but for where things lie;
//   - the filesystem's checker finds nothing in the unmounted image.
//
// That run also counts calls and locks, and records the events for Options.Trace, so that counting costs no time in the others.
// The timed runs of the paths take turns, and who begins does too, so that what else the machine does meets all alike. Each figure is
// the median of its runs, with the quartiles and the extremes; before each run the same small piece of work is timed, which tells how
// much the machine itself wavers.
package compare
