package iomap

import (
	"math/bits"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/vfs/invariant"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// folioState (struct iomap_folio_state) is what is known of the blocks of one folio: two bits for each. It hangs on the folio's
// private slot, and is absent for a folio of one block; also for larger ones whose blocks are all alike:
//
//	no state, folio not uptodate   no block is                 no state, folio dirty   every block is
//
// A dirty block is uptodate. Reads pending imply the folio lock, writes pending imply writeback; with either the state stays.
type folioState struct {
	// mu guards reads and the uptodate bits, which completions of reads set without the folio's lock. Leaf: nothing is taken under
	// it, and nobody is called. Dirty bits are guarded by the folio's lock.
	mu    invariant.Mutex[invariant.Leaf]
	bits  []uint64 // uptodate bits, then, from word half on, dirty bits
	reads int      // bytes whose read is pending

	half   int  // immutable
	blocks uint // immutable
	shift  uint8

	writes atomic.Int64 // bytes whose write is pending, and one while writeback is handing them out

	small [2]uint64 // room for bits when 64 blocks are enough
}

// StateBytes is the memory that the library keeps beside a folio, in bytes: 0 without a state. Hold the folio's lock.
func StateBytes(fo *pagecache.Folio) int {
	st := stateOf(fo)
	if st == nil {
		return 0
	}
	n := 96 // the structure
	if st.half > 1 {
		n += 16 * st.half
	}
	return n
}

// stateOf gives a folio's state, nil without one. Hold the folio's lock, or be sure of a read or write pending.
func stateOf(fo *pagecache.Folio) *folioState {
	st, ok := fo.Private().(*folioState)
	if !ok && fo.Private() != nil {
		invariant.Check(false, "a cached folio holds the state of another layer: the paths of buffered operations were mixed")
	}
	return st
}

// ensureState gives a folio of several blocks a state that says what the folio's flags say; nil for a folio of one block. Hold the
// folio's lock.
func ensureState(fo *pagecache.Folio, blockBits uint8) *folioState {
	if st := stateOf(fo); st != nil {
		return st
	}
	n := uint(fo.Len()) >> blockBits
	if n <= 1 {
		return nil
	}
	st := &folioState{blocks: n, shift: blockBits, half: int(n+63) / 64}
	if st.half == 1 {
		st.bits = st.small[:]
	} else {
		st.bits = make([]uint64, 2*st.half)
	}
	if fo.Uptodate() {
		st.set(0, 0, n)
	}
	if fo.Dirty() {
		st.set(st.half, 0, n)
	}
	fo.SetPrivate(st)
	return st
}

// set sets the bits of blocks [from, to) in the half that begins at word base. Under what guards them, or before the state is published.
func (st *folioState) set(base int, from, to uint) {
	for i := from; i < to; {
		n := min(64-i%64, to-i)
		st.bits[base+int(i/64)] |= (^uint64(0) >> (64 - n)) << (i % 64)
		i += n
	}
}

// next gives the first block of [from, to) whose bit is want, or to.
func (st *folioState) next(base int, from, to uint, want bool) uint {
	for i := from; i < to; {
		w := st.bits[base+int(i/64)]
		if !want {
			w = ^w
		}
		if w >>= i % 64; w != 0 {
			return min(i+uint(bits.TrailingZeros64(w)), to)
		}
		i = i&^63 + 64
	}
	return to
}

// full reports whether every block is uptodate. Under mu.
func (st *folioState) full() bool { return st.next(0, 0, st.blocks, false) == st.blocks }

// span gives the blocks that bytes [off, off+n) touch.
func (st *folioState) span(off, n int) (from, to uint) {
	return uint(off) >> st.shift, (uint(off) + uint(n) + 1<<st.shift - 1) >> st.shift
}

// setUptodate marks the blocks of [off, off+n) valid, and with the last of them the folio, unless a read of it is pending: that
// will. Hold the folio's lock.
func setUptodate(fo *pagecache.Folio, off, n int) {
	if fo.Uptodate() {
		return // and so is every block
	}
	st := stateOf(fo)
	if st == nil {
		fo.SetUptodate()
		return
	}
	from, to := st.span(off, n)
	st.mu.Lock()
	st.set(0, from, to)
	full := st.reads == 0 && st.full()
	st.mu.Unlock()
	if full {
		fo.SetUptodate()
	}
}

// setDirty marks the blocks of [off, off+n) dirty, and the folio. Hold the folio's lock.
func setDirty(fo *pagecache.Folio, off, n int) {
	if st := stateOf(fo); st != nil {
		from, to := st.span(off, n)
		st.set(st.half, from, to)
	}
	pagecache.DirtyFolio(fo.AddressSpace(), fo)
}

// clearDirty marks every block clean. The folio's own flag was taken before. Hold the folio's lock.
func clearDirty(fo *pagecache.Folio) {
	if st := stateOf(fo); st != nil {
		clear(st.bits[st.half:])
	}
}

// nextDirty gives the first run of dirty bytes in [off, end), which begins and ends at blocks; n is 0 when there is none. Hold
// the folio's lock.
func nextDirty(fo *pagecache.Folio, off, end int) (at, n int) {
	st := stateOf(fo)
	if st == nil {
		return off, end - off
	}
	from, to := st.span(off, end-off)
	i := st.next(st.half, from, to, true)
	j := st.next(st.half, i, to, false)
	return int(i << st.shift), int((j - i) << st.shift)
}

// IsPartiallyUptodate (iomap_is_partially_uptodate) reports whether the blocks of [from, from+n) of a folio that is not uptodate are
// valid. For pagecache.Operations. Hold the folio's lock.
func IsPartiallyUptodate(fo *pagecache.Folio, from, n int) bool {
	st := stateOf(fo)
	if st == nil || n <= 0 {
		return false
	}
	n = min(n, fo.Len()-from)
	i, j := st.span(from, n)
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.next(0, i, j, false) == j
}

// DirtyFolio (iomap_dirty_folio) marks all of a folio dirty: a store through a mapping may be anywhere in it. For
// pagecache.Operations. Hold the folio's lock.
func DirtyFolio(as *pagecache.AddressSpace, fo *pagecache.Folio) bool {
	if st := ensureState(fo, as.Host().BlockBits()); st != nil {
		st.set(st.half, 0, st.blocks)
	}
	return pagecache.DirtyFolio(as, fo)
}

// ReleaseFolio (iomap_release_folio) drops the state of a clean folio. For pagecache.Operations. Hold the folio's lock.
func ReleaseFolio(fo *pagecache.Folio) bool {
	if fo.Dirty() || fo.Writeback() {
		return false
	}
	dropState(fo)
	return true
}

// InvalidateFolio (iomap_invalidate_folio) is told that bytes [off, off+n) are being dropped. With all of them the state goes; of a
// part the blocks wholly in it become clean, so that nothing is written any more to where they lay. For pagecache.Operations. Hold
// the folio's lock; it is not under writeback.
func InvalidateFolio(fo *pagecache.Folio, off, n int) {
	if off == 0 && n == fo.Len() {
		fo.CancelDirty()
		dropState(fo)
		return
	}
	if !fo.Dirty() {
		return
	}
	if st := ensureState(fo, fo.AddressSpace().Host().BlockBits()); st != nil {
		from, to := uint(off+1<<st.shift-1)>>st.shift, uint(off+n)>>st.shift
		for i := from; i < to; i++ {
			st.bits[st.half+int(i/64)] &^= 1 << (i % 64)
		}
	}
}

// dropState detaches the state of a folio.
func dropState(fo *pagecache.Folio) {
	st := stateOf(fo)
	if st == nil {
		return
	}
	if invariant.Enabled {
		st.mu.Lock()
		invariant.Check(st.reads == 0 && st.writes.Load() == 0, "state of folio %d dropped with %d bytes being read, %d written",
			fo.Index(), st.reads, st.writes.Load())
		invariant.Check(st.full() == fo.Uptodate() || !fo.Uptodate() && st.full(), "folio %d: its flag and its blocks disagree", fo.Index())
		st.mu.Unlock()
	}
	fo.SetPrivate(nil)
}
