// Package fsx tortures one file: random reads and writes, through the cache, around it and through shared mappings, with
// truncations, punched holes, zeroed and copied ranges, fsyncs and reopenings between, all compared with a copy in memory.
//
// It finds what loses, moves or resurrects bytes: stale pages after a truncation, a hole that shows old data, the tail of
// the last page, a mapping and a read that disagree. The idea is that of the fsx of Apple and of xfstests.
//
// Run it in a process that does not serve the mount: a fault on a mapping cannot be answered by a process whose collector
// waits for the fault.
package fsx
