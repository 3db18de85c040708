// Package runner leads a reader through the course: it lays the files of a step over the Minix filesystem, runs the tests that the
// step must pass, and shows what changed.
//
// # How a step is stored
//
// A step is a folder of course/_steps, "03-swap-seek", with
//
//	README.md      what and why, the task, questions
//	hints.md       hints, one a section
//	start/         the files that the reader changes, with the places marked
//	solution/      the same files, done
//	step_test.go   what the step must pass; package minix
//	bugs.txt       the classic mistakes of the step, as replacements in the solution
//
// The filesystem of step n is porting/minix with the files of solution/ of steps 1 to n laid over it, by the toolchain's -overlay:
// nothing is copied, and a solution is its own difference. The reader's own files, in porting/mine, are laid over in their stead.
package runner
