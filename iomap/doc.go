// Package iomap is the Linux iomap library in user space: a filesystem says where ranges of its files are (Ops), and the library
// does the rest: reads and writes through the page cache, writeback, direct I/O, files as memory, seeking, FIEMAP, bmap, swap files.
//
// # Two layers
//
// The lower one is the mapping and the iterator (mapping.go, ops.go, iter.go): Begin maps, the body works, End gives back.
// The upper one is an operation a file, each a loop over the iterator:
//
//	buffered_read  ReadFolio, Readahead                  direct     Direct, DirectMemory; direct_complete its completion
//	write_begin, buffered_write  BufferedWrite           dax        DaxRW, DaxZeroRange, DaxUnshare, DaxSame, DaxFault;
//	zero           ZeroRange, TruncatePage, Unshare                 dax_space what is dirty, and windows
//	batch          FillDirtyFolios                       seek       Seek
//	fault          PageMkwrite                           fiemap     Fiemap
//	delalloc       ReleaseDelalloc                       bmap       Bmap
//	writeback      WritePages; ioend its completion      swap       SwapActivate
//	writethrough   WriteThrough
//
// # Ways to take part
//
// A filesystem that keeps its data in another form on the device transforms it on the way: ReadOps.SubmitRead or ReadFolioRange for what is
// read, Ioend.Replace for what is written back, DirectOps.SubmitIO for direct I/O. One that writes elsewhere answers FlagShared, or
// FlagAnonWrite and chooses the place in WritebackOps.Submit. Untorn writes are the device's (FlagAtomicBio) or the filesystem's, by
// writing elsewhere and putting all of it in at once. FlagBoundary keeps ioends apart.
//
// # What it promises
//
// A mapping is used only within its range and its source's; every Begin that succeeded meets one End; a mapping that breaks the
// contract is an error that names filesystem, inode and mapping, never a wrong byte. State is two bits a block (folio_state.go).
//
// # What differs from the kernel, on purpose
//
// Memory of the caller is a []byte, which cannot fault: nothing is pinned, marked dirty after a read, or bounced. Memory that can is given to
// DirectMemory, with IOMAP_DIO_PARTIAL and done_before, and to BufferedWriteFrom. Asynchronous writes complete in a goroutine of
// their own, reads where the device ends them, and pure overwrites by their caller if he asks (Kiocb.CallerComp). A polled bio is done
// when Submit returns, so that nobody has to poll. DAX needs no page tables: a fault gives a window, which goes stale where the kernel
// would unmap a page, and blocks are freed when it is released; pages are not needed as large as blocks but for faults.
//
// # Locks
//
// Outer first: Inode.Rw, Pages.InvalidateLock, folio, then what the filesystem takes in Begin, End and MapBlocks, then the folio
// state's own lock, a leaf. Buffered writes call Begin with no folio locked, page faults and writeback with one. Completions
// take none of the first three.
//
// A fault of memory (DaxSpace) takes turns inside the invalidate lock.
//
// Sources: Linux Documentation/filesystems/iomap (design, operations, porting), base 6.11, with later behaviour where a
// declaration says so.
package iomap
