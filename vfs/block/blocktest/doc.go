// Package blocktest is the conformance test that every block device passes: random bios against a model
// of plain bytes, completion exactly once, many goroutines, edges and errors.
//
// Run prints its seed; BLOCKTEST_SEED repeats one.
package blocktest
