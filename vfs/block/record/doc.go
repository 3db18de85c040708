// Package record logs everything that is done to a device: each write with its bytes, each discard, write-zeroes and flush,
// in order of submission and of completion, with marks that the workload sets in between. From the log come the states in which a
// crash may leave the medium.
//
// The model of a crash: durable are the writes that completed before the begin of the last completed flush (a pre-flush counts as
// one), and completed FUA writes. Every other write submitted so far is there, absent, or torn at sectors of 512 bytes. What is
// there lies over each other in the order of submission. A write that failed may be there or not, for ever.
//
// Replay lays a prefix of the log over a file: what is left when writes reach the medium in order. States gives the others, too.
package record
