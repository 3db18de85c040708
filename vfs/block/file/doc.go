// Package file is the block device over an image file or a real block device of the host.
//
//	d, err := file.Open("disk.img", file.Options{ReadOnly: true})
//
// Buffered by default: the host's cache serves, and a read that it can serve is done inside Submit. With Options.Direct
// the host's cache is passed by (O_DIRECT); memory, offsets and lengths that the host does not take as they are go through
// bounce buffers, and a write that covers only a part of the host's unit becomes read-modify-write.
//
// # Life of a bio
//
//	Submit ─ read, in the host's cache ────────────────────────────────▶ Done
//	       ─ read, write … ─▶ queue (neighbours merge) ─▶ worker ─ preadv/pwritev ─▶ Done
//	       ─ flush ─▶ flusher (all that wait share one fdatasync) ──────▶ Done
//	SubmitWait ─ the same system calls in the caller's goroutine
//
// Reads and writes have a queue each. Workers are goroutines started when there is work, a bounded number of them, and they
// end when their queue is empty: an idle device has none.
//
// # One image, one writer
//
// An image file is locked for as long as it is open, twice: by flock, exclusive for the writer of the whole and shared for
// all others; and by a lock of the bytes in use (F_OFD_SETLK), exclusive for a writer and shared for readers. So
//
//	whole, writing      beside nobody
//	whole, reading      beside other readers
//	bytes, writing      beside readers and writers of other bytes     (Options.Share, LockRange)
//	bytes, reading      beside readers, and writers of other bytes
//
// A block device is locked as a whole, and opened by a writer with O_EXCL too, so that what the kernel has mounted is refused.
// Options.NoLock leaves all this out.
//
// The size is taken when the image is opened, rounded down to whole logical blocks, and never changes; images are not extended.
//
// # Hosts
//
// Linux has everything. Elsewhere image files work with plain reads, writes and sync: no direct I/O, no discard, no block
// devices, and memory (DAX) only on unix.
//
// Locks: the queue, the flusher and the range lock are leaves.
package file
