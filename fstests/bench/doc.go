// Command bench measures iomapfs beside fuse2fs and the kernel's ext2 in one run, on images in memory, and prints a table.
//
// Each workload runs on a fresh filesystem on each system in turn, several times; the table shows the middle of the runs.
// Rates are operations or MiB a second; the last lines show what the daemons cost.
package main
