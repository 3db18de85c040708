// Package check looks for damage in a FAT filesystem, in pure Go. It reads through an io.ReaderAt and never writes; what to do
// about a finding is for fsck.fat.
//
//	rep, err := check.Check(ctx, f, size, check.Options{})
//	for _, p := range rep.Problems { fmt.Println(p) } // /DCIM/A.JPG: size is 9000 bytes, its chain has 4096 [size]
//
// # Passes
//
//	boot         boot sector, its copy, FSInfo, the first entries of the FAT
//	FAT          each entry; the copies against the first
//	directories  from the root: slots, names, starts; each chain is followed once and its clusters marked in use
//	lost         clusters in use that no name leads to
//
// # Bounds
//
// In memory are a bit for each cluster, and for the directory at hand its names. A chain ends at the first cluster that is in use
// already, so the time is bounded by the size of the medium. A check ends after Options.MaxProblems findings.
//
// # Against fsck.fat
//
// The judge is fsck.fat -n (4.2): what it passes is clean here. On purpose they differ in this: free counts of FSInfo, the dirty bit
// and a boot sector that differs from its copy are a Report.Dirty or a finding of their own code, which a user may take lightly;
// clusters marked defect are no finding.
package check
