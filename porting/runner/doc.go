// Package runner leads a reader through the course: it lays the files of a step over the Minix filesystem, runs the tests that the
// step must pass, and shows what changed.
//
// # How a step is stored
//
// A step is a folder of course/_steps, "03-swap-seek", with
//
//	README.md      what and why, the task, questions
//	hints.md       hints, one a section
//	given/         files that come with the step, if any
//	start/         the files that the reader changes, with the places marked
//	solution/      the same files, done; NAME.go.gone is one that the step removes
//	step_test.go   what the step must pass; package minix
//	bugs.txt       the classic mistakes of the step, as replacements in the solution
//
// The filesystem of step n is porting/minix with the files of given/ and solution/ of steps 0 to n laid over it, by the toolchain's
// -overlay: a solution is its own difference.
//
// The reader works in porting/mine, which is a whole package, with the tests of the steps so far: go test and editors work there as
// anywhere. A check lays it over porting/minix in the same way, with the course's tests, so that a test changed by mistake counts
// for nothing.
package runner
