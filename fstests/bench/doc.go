// Command bench measures iomapfs beside fuse2fs and the kernel's ext2 in one run, on images in memory, and prints a table.
//
// Each workload runs on a fresh filesystem on each system in turn, for several rounds, so that what else the machine does
// meets all of them; the table shows the middle of the rounds, and of the ratios of one round the middle and the spread.
// Rates are operations or MiB a second; the last lines show what the daemons cost.
package main
