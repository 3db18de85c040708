// Package block is the block layer: devices, and the Bio, the only unit of I/O.
//
// A Device accepts a Bio by Submit, which never waits for the I/O itself, and calls the bio's Done when it
// is over, from any goroutine and possibly before Submit returns. Whoever wants to wait uses the helpers
// (SubmitWait, ReadAt, WriteAt, Flush), which let a device run the I/O in the caller's goroutine when it can.
//
// Order: two bios in flight at once have no order. A write is durable when a Flush submitted after its
// completion has completed, or when it carried FUA. PreFlush on a write makes everything that completed
// before it durable first.
//
// Locking: a device's queue lock is a leaf. Done is called without locks of the device held and must not block.
package block
