package arena

// piece is a free block on its way to the host: nobody can allocate it meanwhile.
type piece struct {
	c     *chunk
	page  int
	order uint
}

// releaseBatch bounds how many free blocks are out of reach at once while they are given back.
const releaseBatch = 32

// reserve is how many resident free bytes are kept.
func (b *buddy) reserve() int64 {
	return max(reserveMin, int64(len(b.sorted))*chunkSize/8)
}

// shrink gives free memory beyond the reserve back to the host; all of it when all is true. System calls are made
// without the lock.
func (b *buddy) shrink(all bool) {
	for first := true; ; first = false {
		var pieces [releaseBatch]piece
		b.mu.Lock()
		if first && !all && b.resident <= b.reserve() {
			b.mu.Unlock()
			return
		}
		keep := b.reserve() / 2
		if all {
			keep = 0
		}
		n := b.pick(pieces[:], keep, all)
		whole := b.unlink(pieces[:n])
		b.mu.Unlock()

		for _, c := range whole {
			unmapChunk(c.mem)
		}
		if n == 0 {
			return
		}
		for _, p := range pieces[:n] {
			if p.c != nil {
				releasePages(p.c.block(p.page, p.order))
			}
		}
		b.mu.Lock()
		for _, p := range pieces[:n] {
			if p.c != nil {
				b.free += int64(PageSize) << p.order
				p.c.freePages += 1 << p.order
				b.join(p.c, p.page, p.order)
			}
		}
		b.mu.Unlock()
	}
}

// pick takes resident free blocks out, highest slots first, until the resident rest is at most keep.
func (b *buddy) pick(pieces []piece, keep int64, all bool) int {
	low := releaseOrder
	if all {
		low = 0
	}
	n := 0
	for order := MaxOrder; order >= low; order-- {
		pages := 1 << order
		for s := len(b.slots) - 1; s >= 0; s-- {
			c := b.slots[s]
			if c == nil || c.nfree[order] == 0 {
				continue
			}
			for page := 0; page < chunkPages; page += pages {
				if n == len(pieces) || b.resident <= keep {
					return n
				}
				if c.free[order].count(page, 1) == 0 {
					continue
				}
				if c.touched.count(page, pages) == 0 {
					continue
				}
				b.pull(c, page, uint(order))
				b.forget(c, page, pages)
				b.free -= int64(pages) << PageShift
				c.freePages -= pages
				pieces[n] = piece{c, page, uint(order)}
				n++
			}
		}
	}
	return n
}

// forget counts pages as no longer resident.
func (b *buddy) forget(c *chunk, page, pages int) {
	res := int64(c.touched.count(page, pages)) << PageShift
	b.resident -= res
	b.released += uint64(res)
	c.touched.clear(page, pages)
}

// unlink removes chunks without any block in use from the tables, all but one, and gives them for unmapping. Pieces that lie in
// such a chunk go with it.
func (b *buddy) unlink(pieces []piece) []*chunk {
	var whole []*chunk
	spare := 0
	for s := len(b.slots) - 1; s >= 0; s-- {
		c := b.slots[s]
		if c == nil {
			continue
		}
		taken := 0
		for _, p := range pieces {
			if p.c == c {
				taken += 1 << p.order
			}
		}
		if c.freePages+taken != chunkPages {
			continue
		}
		spare++
		if spare == 1 || (taken == 0 && c.touched.count(0, chunkPages) != 0) {
			continue // the spare, or resident memory within the reserve
		}
		for i := range pieces {
			if pieces[i].c == c {
				pieces[i].c = nil
			}
		}
		b.remove(c)
		whole = append(whole, c)
	}
	return whole
}

// remove takes an empty chunk out of the tables.
func (b *buddy) remove(c *chunk) {
	b.forget(c, 0, chunkPages)
	b.free -= int64(c.freePages) << PageShift
	for o := range c.free {
		b.have[o][c.slot/64] &^= 1 << (c.slot % 64)
	}
	b.slots[c.slot] = nil
	for i := range b.sorted {
		if b.sorted[i] == c {
			b.sorted = append(b.sorted[:i], b.sorted[i+1:]...)
			break
		}
	}
}
