// Package bufhead is the legacy layer: file I/O one block at a time, through buffer heads and a filesystem's get_block.
//
// A buffer head describes one filesystem block of a folio: where the block lies on the device and in what state its bytes
// are. The buffer heads of a folio hang on its private slot. They serve two users: the folios of a device (Device), which
// cache metadata for Bread and GetBlk, and the folios of a file, whose buffers also cache the file's block map.
//
// The file operations (ReadFolio, Readahead, Write, WritePages, Direct, …) ask the filesystem one question, GetBlock: where
// is block n of this file, and please allocate it if I am going to write. They are the counterpart of the iomap library
// and never use it.
//
// Truth about dirtiness lies in the buffers; the folio's dirty flag says that writeback must look. Setting goes buffers
// first, then folio; clearing folio first, then buffers.
//
// Locks: the folio lock guards which buffers a folio has and, for file folios, their mapping. A buffer's own lock is held
// over its I/O. Both come inside the inode and invalidate locks and outside the filesystem's transaction and map locks,
// which GetBlock takes.
//
// Sources: Linux Documentation/filesystems/buffer.rst, Documentation/filesystems/vfs.rst, and the behaviour of the buffer
// layer as of 6.11.
package bufhead
