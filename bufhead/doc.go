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
// A folio read or written in one piece takes one bio with its neighbours (mpage); one whose blocks are torn, or that has buffers when
// it is read, takes one for each buffer. That, a call of get_block for each block, and about a hundred bytes for each buffer (Stats)
// are what iomap saves.
//
// What differs from the kernel, on purpose:
//
//   - a hole's length is believed, where get_block gives one: FIEMAP, seeking, zeroing and readahead skip it at once;
//   - SEEK_DATA and SEEK_HOLE know holes. The kernel's answer for such filesystems was that all is data;
//   - writeback asks for unwritten blocks as for delayed ones, so that a filesystem may use both without a writepage of its own;
//   - a buffer of metadata whose write failed takes the folio's uptodate flag with it, so that a read does fail or shows the medium; it
//     keeps both when it was made dirty again meanwhile. One of file data keeps both always: a store to a part of the block must
//     not be completed from the medium;
//   - what lies behind the end of the file is zeroed when a block is read, and when a direct write makes the file longer;
//   - direct I/O that is not aligned to the device answers vfs.ErrNotBlock, and a write that finds no space for all is short;
//   - there is no small cache of recent buffers before the page cache, no priority hints, and no folio without buffer heads in
//     between (nobh).
//
// Sources: Linux Documentation/filesystems/buffer.rst, Documentation/filesystems/vfs.rst, and the behaviour of the buffer
// layer as of 6.11.
package bufhead
