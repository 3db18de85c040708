package arena

import (
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/iomapfs/iomapfs/vfs/invariant"
)

// A chunk is what is mapped at once: 4 MiB, so four blocks of the highest order.
const (
	chunkSize  = 4 << 20
	chunkPages = chunkSize / PageSize
	chunkWords = chunkPages / 64
)

// reserveMin is how much free memory is kept resident before it goes back to the host; an eighth of the
// mapped memory is kept if that is more.
const reserveMin = 8 << 20

// releaseOrder is the smallest free block worth a system call of its own.
const releaseOrder = 4

// bitset has one bit a page of a chunk.
type bitset [chunkWords]uint64

// Methods work on aligned runs of n = 2^order bits from i on; a run of 64 or fewer lies in one word.
func (s *bitset) mask(i, n int) (w int, m uint64) { return i / 64, (1<<n - 1) << (i % 64) }

func (s *bitset) set(i, n int) {
	for ; n >= 64; i, n = i+64, n-64 {
		s[i/64] = ^uint64(0)
	}
	if n > 0 {
		w, m := s.mask(i, n)
		s[w] |= m
	}
}

func (s *bitset) clear(i, n int) {
	for ; n >= 64; i, n = i+64, n-64 {
		s[i/64] = 0
	}
	if n > 0 {
		w, m := s.mask(i, n)
		s[w] &^= m
	}
}

func (s *bitset) count(i, n int) (c int) {
	for ; n >= 64; i, n = i+64, n-64 {
		c += bits.OnesCount64(s[i/64])
	}
	if n > 0 {
		w, m := s.mask(i, n)
		c += bits.OnesCount64(s[w] & m)
	}
	return c
}

func (s *bitset) first() int {
	for w, v := range s {
		if v != 0 {
			return w*64 + bits.TrailingZeros64(v)
		}
	}
	return -1
}

// chunk is one mapping. All fields but mem and base are guarded by buddy.mu.
type chunk struct {
	mem  []byte  // immutable; chunkSize bytes, page aligned
	base uintptr // immutable; address of mem

	slot      int // place in buddy.slots
	freePages int
	free      [MaxOrder + 1]bitset // bit at the first page of each free block of the order
	nfree     [MaxOrder + 1]int    // bits set in free
	touched   bitset               // pages that the host may keep in memory
}

// buddy divides chunks. Its lock is held for a batch of blocks at a time.
type buddy struct {
	mu       sync.Mutex // leaf; guards what follows
	slots    []*chunk   // by slot; nil where a chunk was unmapped
	sorted   []*chunk   // by address
	have     [MaxOrder + 1][]uint64
	free     int64  // bytes in free blocks
	resident int64  // bytes of free that are touched
	released uint64 // bytes given back so far
	blocks   map[uintptr]int

	foreign atomic.Uint64
}

// block is the memory of 2^order pages from page on.
func (c *chunk) block(page int, order uint) []byte {
	lo, hi := page<<PageShift, page<<PageShift+PageSize<<order
	return c.mem[lo:hi:hi]
}

// put makes a block free without joining.
func (b *buddy) put(c *chunk, page int, order uint) {
	c.free[order].set(page, 1)
	c.nfree[order]++
	if c.nfree[order] == 1 {
		b.have[order][c.slot/64] |= 1 << (c.slot % 64)
	}
}

// pull takes a free block off the free bits.
func (b *buddy) pull(c *chunk, page int, order uint) {
	c.free[order].clear(page, 1)
	c.nfree[order]--
	if c.nfree[order] == 0 {
		b.have[order][c.slot/64] &^= 1 << (c.slot % 64)
	}
}

// find gives the chunk in the lowest slot that has a free block of at least the order; keeping to low slots
// lets the high ones become empty.
func (b *buddy) find(order uint) (*chunk, uint) {
	for o := order; o <= MaxOrder; o++ {
		for w, v := range b.have[o] {
			if v != 0 {
				return b.slots[w*64+bits.TrailingZeros64(v)], o
			}
		}
	}
	return nil, 0
}

// take appends up to n blocks of the order to dst. It maps a chunk when it has nothing at all to give.
func (b *buddy) take(dst [][]byte, order uint, n int) ([][]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := 0; i < n; i++ {
		c, o := b.find(order)
		if c == nil {
			if i > 0 {
				break
			}
			if err := b.grow(); err != nil {
				return dst, err
			}
			c, o = b.find(order)
		}
		page := c.free[o].first()
		b.pull(c, page, o)
		for ; o > order; o-- {
			b.put(c, page+1<<(o-1), o-1)
		}
		pages := 1 << order
		c.freePages -= pages
		b.free -= int64(pages) << PageShift
		b.resident -= int64(c.touched.count(page, pages)) << PageShift
		c.touched.set(page, pages)
		dst = append(dst, c.block(page, order))
	}
	return dst, nil
}

// give takes blocks of one order back.
func (b *buddy) give(blocks [][]byte, order uint) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, blk := range blocks {
		c, page := b.locate(blk)
		if c == nil || page&(1<<order-1) != 0 {
			invariant.Check(false, "arena: free of memory that was not given out")
			b.foreign.Add(1)
			continue
		}
		pages := 1 << order
		b.free += int64(pages) << PageShift
		b.resident += int64(c.touched.count(page, pages)) << PageShift
		c.freePages += pages
		b.join(c, page, order)
	}
}

// join makes the block free, together with its free neighbours.
func (b *buddy) join(c *chunk, page int, order uint) {
	for order < MaxOrder {
		other := page ^ 1<<order
		if c.free[order].count(other, 1) == 0 {
			break
		}
		b.pull(c, other, order)
		page &= other
		order++
	}
	b.put(c, page, order)
}

// locate finds the chunk and page of a block, or nil.
func (b *buddy) locate(blk []byte) (*chunk, int) {
	addr := uintptr(unsafe.Pointer(unsafe.SliceData(blk)))
	i, found := slices.BinarySearchFunc(b.sorted, addr, func(c *chunk, a uintptr) int {
		switch {
		case c.base < a:
			return -1
		case c.base > a:
			return 1
		}
		return 0
	})
	if !found {
		i--
	}
	if i < 0 || addr-b.sorted[i].base > chunkSize-uintptr(len(blk)) || (addr-b.sorted[i].base)%PageSize != 0 {
		return nil, 0
	}
	return b.sorted[i], int((addr - b.sorted[i].base) >> PageShift)
}

// grow maps one more chunk.
func (b *buddy) grow() error {
	mem, err := mapChunk()
	if err != nil {
		return err
	}
	c := &chunk{mem: mem, base: uintptr(unsafe.Pointer(unsafe.SliceData(mem))), freePages: chunkPages}
	c.slot = slices.Index(b.slots, nil)
	if c.slot < 0 {
		c.slot = len(b.slots)
		b.slots = append(b.slots, nil)
		if c.slot%64 == 0 {
			for o := range b.have {
				b.have[o] = append(b.have[o], 0)
			}
		}
	}
	b.slots[c.slot] = c
	i, _ := slices.BinarySearchFunc(b.sorted, c.base, func(x *chunk, a uintptr) int {
		if x.base < a {
			return -1
		}
		return 1
	})
	b.sorted = slices.Insert(b.sorted, i, c)
	b.free += chunkSize
	for page := 0; page < chunkPages; page += 1 << MaxOrder {
		b.put(c, page, MaxOrder)
	}
	return nil
}

// stats adds this part of the numbers.
func (b *buddy) stats(s *Stats) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s.Free, s.Resident, s.Released = b.free, b.resident, b.released
	s.Mapped = int64(len(b.sorted)) * chunkSize
	s.Foreign = b.foreign.Load()
}
