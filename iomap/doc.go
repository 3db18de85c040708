// Package iomap is the Linux iomap library in user space: a filesystem says where ranges of its files are (Ops), and the library
// does the rest: reads and writes through the page cache, writeback, direct I/O, seeking, FIEMAP, bmap, swap files.
//
// # Two layers
//
// The lower one is the mapping and the iterator (mapping.go, ops.go, iter.go): Begin maps, the body works, End gives back.
// The upper one is an operation a file, each a loop over the iterator:
//
//	buffered_read  ReadFolio, Readahead                  direct     Direct; direct_complete its completion
//	write_begin, buffered_write  BufferedWrite           seek       Seek
//	zero           ZeroRange, TruncatePage, Unshare      fiemap     Fiemap
//	fault          PageMkwrite                           bmap       Bmap
//	delalloc       ReleaseDelalloc                       swap       SwapActivate
//	writeback      WritePages; ioend its completion
//
// # What it promises
//
// A mapping is used only within its range and its source's; every Begin that succeeded meets one End; a mapping that breaks the
// contract is an error that names filesystem, inode and mapping, never a wrong byte. State is two bits a block (folio_state.go).
//
// # What of the kernel's direct I/O is missing, on purpose
//
// User memory is a []byte, so it cannot fault: there is no IOMAP_DIO_PARTIAL, nothing is pinned or marked dirty after a read, and no
// bounce of user memory. doneBefore is kept for callers that go on after a short count. Completion by the caller
// (IOCB_DIO_CALLER_COMP) has no use where a goroutine costs little: asynchronous writes complete in one of their own, reads
// where the device ends them.
//
// # Locks
//
// Outer first: Inode.Rw, Pages.InvalidateLock, folio, then what the filesystem takes in Begin, End and MapBlocks, then the folio
// state's own lock, a leaf. Buffered writes call Begin with no folio locked, page faults and writeback with one. Completions
// take none of the first three.
//
// Sources: Linux Documentation/filesystems/iomap (design, operations, porting), base 6.11, with later behaviour where a
// declaration says so.
package iomap
