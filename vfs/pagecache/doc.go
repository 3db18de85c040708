// Package pagecache caches the pages of files: folios, the address space of each inode, one limit with reclaim, dirty
// throttling, background writeback and readahead. It knows neither devices nor filesystems; those are behind Operations,
// whose members are named as in the kernel's struct address_space_operations.
//
// A folio's life:
//
//	add (locked) → read ends: uptodate, unlocked → read, written: dirty → taken for writing: clean, writeback → clean
//	clean → reclaimed, invalidated or truncated: out of the address space, freed with the last reference
//
// Lock order: the inode lock, AddressSpace.InvalidateLock, folio locks in ascending order, then what the filesystem takes
// in its operations; AddressSpace.mu, Cache.mu and the shard locks are leaves, and nothing is called with one of them held.
// Writeback.mu comes just outside them. Locks have their ranks by package invariant.
//
//	truncate                              read, readahead                  writeback
//	  size set                              InvalidateLock shared            folio lock
//	  InvalidateLock exclusive              add folio: locked                dirty → writeback, unlock
//	  each folio: lock, wait writeback,     read it: EndRead unlocks         … EndWriteback
//	  drop or zero                          look at the size again, copy
//
// So after truncation no reader brings back what was dropped (it would need InvalidateLock), no reader gives out bytes
// past the new size, and no write of dropped pages is in flight when the blocks are freed.
//
// Memory: reclaim (Cache) keeps one limit. What it cannot take is bounded where it arises: dirty memory in Balance, where writers
// wait with the inode lock at most; reads in flight by smaller readahead windows; folios by the size of the cache.
//
// Contexts end the waits of readers and of writers held back, as fatal signals do in the kernel; they never end a wait for a lock that
// somebody who changes metadata needs.
//
// What it never does: wait for memory while a caller holds something the flusher needs (the limit is exceeded instead and
// the flusher woken), write a page on behalf of reclaim, or drop a dirty page that was not truncated.
//
// Sources: Linux Documentation/filesystems/vfs.rst (address space operations), Documentation/core-api/errseq.rst,
// Documentation/filesystems/locking.rst.
package pagecache
