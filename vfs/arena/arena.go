package arena

import (
	"fmt"
	"math/bits"
	"runtime"
	"sync"
	"unsafe"

	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/invariant"
)

// Arena is an allocator of page-aligned blocks. All methods may be called by any goroutine at any time.
type Arena struct {
	shards []shard // immutable after New; a power of two of them
	buddy  buddy
}

// Each shard keeps at most this many bytes of free blocks of one order, and at least shardMin blocks.
const (
	shardBytes = 256 << 10
	shardMin   = 2
	shardMax   = shardBytes / PageSize
)

// shardCap is how many free blocks of an order a shard keeps.
func shardCap(order uint) int { return max(shardMin, shardBytes>>(PageShift+order)) }

// shard is a set of stacks of free blocks, one per order.
type shard struct {
	mu     sync.Mutex // leaf but for buddy.mu; guards the rest
	stacks [MaxOrder + 1][][]byte
	allocs uint64 // calls
	frees  uint64
	inUse  int64 // bytes handed out here less bytes given back here; may be negative alone
	refill uint64
	spill  uint64

	_ [64]byte // keep neighbours off this cache line
}

// New makes an empty arena. It takes no memory from the host before the first Alloc.
func New() *Arena {
	n := 1 << bits.Len(uint(min(runtime.GOMAXPROCS(0), 16)-1))
	a := &Arena{shards: make([]shard, n)}
	for i := range a.shards {
		for o := range a.shards[i].stacks {
			a.shards[i].stacks[o] = make([][]byte, 0, shardCap(uint(o)))
		}
	}
	return a
}

// lockShard picks a shard that suits the goroutine and locks it. Goroutines have their stacks in different places, so the
// address of a local variable spreads them well and keeps each on its shard.
func (a *Arena) lockShard() *shard {
	var here byte
	h := uint64(uintptr(unsafe.Pointer(&here))>>11) * 0x9e3779b97f4a7c15
	i := int(h>>48) & (len(a.shards) - 1)
	sh := &a.shards[i]
	if !sh.mu.TryLock() {
		sh = &a.shards[(i+1)&(len(a.shards)-1)]
		sh.mu.Lock()
	}
	return sh
}

// Alloc gives a block of 2^order pages: length and capacity are its size, contents are undefined. The caller owns
// it until Free. It does not wait for anything but short locks, and at times one mmap.
// Errors: errno.INVAL for an order above MaxOrder, errno.NOMEM when the host has no memory to map.
func (a *Arena) Alloc(order uint) ([]byte, error) {
	if order > MaxOrder {
		return nil, fmt.Errorf("arena: block of order %d, the largest is %d: %w", order, MaxOrder, errno.INVAL)
	}
	sh := a.lockShard()
	st := sh.stacks[order]
	if len(st) == 0 {
		var err error
		st, err = a.buddy.take(st, order, max(1, cap(st)/2))
		if len(st) == 0 {
			sh.mu.Unlock()
			return a.allocElsewhere(order, err)
		}
		sh.refill++
	}
	n := len(st) - 1
	b := st[n]
	st[n] = nil
	sh.stacks[order] = st[:n]
	sh.allocs++
	sh.inUse += int64(len(b))
	sh.mu.Unlock()
	if invariant.Enabled {
		a.buddy.noteAlloc(b)
	}
	return b, nil
}

// allocElsewhere is the last try before an error: blocks kept by shards may join to what is wanted.
func (a *Arena) allocElsewhere(order uint, cause error) ([]byte, error) {
	a.drain()
	got, err := a.buddy.take(nil, order, 1)
	if len(got) == 0 {
		if err == nil {
			err = cause
		}
		return nil, fmt.Errorf("arena: %d bytes: %w", PageSize<<order, err)
	}
	sh := a.lockShard()
	sh.allocs++
	sh.inUse += int64(len(got[0]))
	sh.mu.Unlock()
	if invariant.Enabled {
		a.buddy.noteAlloc(got[0])
	}
	return got[0], nil
}

// Free gives back a block that Alloc gave; b may be a prefix of it (only its start and capacity count). Nothing may
// use the memory afterwards: it may be unmapped.
func (a *Arena) Free(b []byte) {
	size := cap(b)
	order := uint(bits.Len(uint(size)>>PageShift)) - 1
	if size < PageSize || order > MaxOrder || size != PageSize<<order {
		invariant.Check(false, "arena: free of %d bytes, which is not a block", size)
		a.buddy.foreign.Add(1)
		return
	}
	b = b[:size]
	if invariant.Enabled {
		a.buddy.noteFree(b)
	}
	sh := a.lockShard()
	st := sh.stacks[order]
	spilled := false
	if len(st) == cap(st) {
		keep := cap(st) / 2
		a.buddy.give(st[keep:], order)
		clear(st[keep:])
		st = st[:keep]
		sh.spill++
		spilled = true
	}
	sh.stacks[order] = append(st, b)
	sh.frees++
	sh.inUse -= int64(size)
	sh.mu.Unlock()
	if spilled {
		a.buddy.shrink(false)
	}
}

// drain moves the free blocks of all shards to the buddy allocator.
func (a *Arena) drain() {
	for i := range a.shards {
		sh := &a.shards[i]
		sh.mu.Lock()
		for o, st := range sh.stacks {
			if len(st) > 0 {
				a.buddy.give(st, uint(o))
				clear(st)
				sh.stacks[o] = st[:0]
			}
		}
		sh.mu.Unlock()
	}
}

// Trim gives all free memory back to the host. Worth calling when a cache has been emptied or has been idle.
func (a *Arena) Trim() {
	a.drain()
	a.buddy.shrink(true)
}

// Stats is where an arena's memory is. Bytes, unless said otherwise.
type Stats struct {
	InUse    int64  // handed out
	Cached   int64  // free, in shards
	Free     int64  // free, in the buddy allocator
	Resident int64  // the part of Free that the host still keeps in memory for us
	Mapped   int64  // InUse + Cached + Free: address space taken
	Allocs   uint64 // calls that succeeded
	Frees    uint64
	Refills  uint64 // calls that went past the shard
	Spills   uint64
	Released uint64 // bytes given back to the host so far
	Foreign  uint64 // calls of Free with memory that was never ours: faults of the caller
}

// Stats counts up the shards; the numbers fit each other only when nothing else runs.
func (a *Arena) Stats() Stats {
	var s Stats
	for i := range a.shards {
		sh := &a.shards[i]
		sh.mu.Lock()
		s.InUse += sh.inUse
		s.Allocs += sh.allocs
		s.Frees += sh.frees
		s.Refills += sh.refill
		s.Spills += sh.spill
		for o, st := range sh.stacks {
			s.Cached += int64(len(st)) * (PageSize << o)
		}
		sh.mu.Unlock()
	}
	a.buddy.stats(&s)
	return s
}
