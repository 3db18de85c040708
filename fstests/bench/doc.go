// Command bench measures iomapfs beside others in one run, on images in memory, and prints tables: on ext2 beside fuse2fs and the
// kernel's driver, on FAT beside fusefat and mtools.
//
// Each workload runs on a fresh copy of the same image on each system in turn, for several rounds, so that what else the
// machine does meets all of them; the first table shows the middle of the rounds, and of the ratios of one round the middle
// and the spread. Rates are operations or MiB a second. The second table shows what an operation costs in time of the
// processor, of the daemon and of the caller, which a busy machine changes less; and the daemons' peak of memory. fuse2fs runs with the options that suit it best,
// with one thread and with several: the faster one of each round counts.
//
// FAT's files are fewer and smaller, for fusefat takes milliseconds for each. mtools mounts nothing, and neither does iomapfs cp:
// they take part in copying a tree in and out, whose source and destination lie in memory. What fusefat leaves is not judged.
//
//	bench -run 'create|unlink' -rounds 5      some workloads
//	bench -fs fat                             FAT
//	bench -rounds 3 -budget 5m                no further round that would end later
package main
