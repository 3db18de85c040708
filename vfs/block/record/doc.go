// Package record logs everything that is done to a device: each write with its bytes, each discard, write-zeroes and flush,
// in order of submission and of completion, with marks that the workload sets in between. Any prefix of the log can be laid
// over a copy of the device as it was before: the states that a crash may leave when writes reach the medium in order.
package record
