package disk

import (
	"encoding/binary"
	"math/bits"
)

// Bitmap is a view of a block or inode bitmap: bit i of the group is bit i%8 of byte i/8, set when in use. Bits beyond the
// group's blocks or inodes are set by mkfs and mean nothing. Indices are below 8*len; end bounds are clipped to that.
type Bitmap []byte

// Len gives the number of bits.
func (bm Bitmap) Len() uint32 { return uint32(len(bm)) * 8 }

// Test reports whether bit i is set.
func (bm Bitmap) Test(i uint32) bool { return bm[i>>3]&(1<<(i&7)) != 0 }

// Set sets bit i and reports whether it was clear.
func (bm Bitmap) Set(i uint32) bool {
	m := byte(1) << (i & 7)
	was := bm[i>>3]
	bm[i>>3] = was | m
	return was&m == 0
}

// Clear clears bit i and reports whether it was set.
func (bm Bitmap) Clear(i uint32) bool {
	m := byte(1) << (i & 7)
	was := bm[i>>3]
	bm[i>>3] = was &^ m
	return was&m != 0
}

// word gives 64 bits from i, a multiple of 64; what is beyond the map reads as fill.
func (bm Bitmap) word(i uint32, fill byte) uint64 {
	o := int(i >> 3)
	if o+8 <= len(bm) {
		return binary.LittleEndian.Uint64(bm[o:])
	}
	var tail [8]byte
	for k := range tail {
		tail[k] = fill
	}
	if o < len(bm) {
		copy(tail[:], bm[o:])
	}
	return binary.LittleEndian.Uint64(tail[:])
}

// next finds the first bit in [from, end) that is set in bm^flip.
func (bm Bitmap) next(from, end uint32, flip uint64) (uint32, bool) {
	end = min(end, bm.Len())
	if from >= end {
		return end, false
	}
	i := from &^ 63
	w := (bm.word(i, byte(flip)) ^ flip) &^ (1<<(from&63) - 1)
	for w == 0 {
		i += 64
		if i >= end {
			return end, false
		}
		w = bm.word(i, byte(flip)) ^ flip
	}
	i += uint32(bits.TrailingZeros64(w))
	if i >= end {
		return end, false
	}
	return i, true
}

// NextZero finds the first clear bit in [from, end). When there is none it gives end (clipped) and false.
func (bm Bitmap) NextZero(from, end uint32) (uint32, bool) { return bm.next(from, end, ^uint64(0)) }

// NextSet finds the first set bit in [from, end), likewise.
func (bm Bitmap) NextSet(from, end uint32) (uint32, bool) { return bm.next(from, end, 0) }

// FindRun finds the first n clear bits in a row within [from, end); n is at least 1. When there is no such run it gives the
// first longest one: start, its length (less than n, 0 when all bits are set) and false.
func (bm Bitmap) FindRun(from, end, n uint32) (start, length uint32, ok bool) {
	end = min(end, bm.Len())
	best, bestLen := end, uint32(0)
	for i := from; ; {
		s, found := bm.NextZero(i, end)
		if !found {
			return best, bestLen, false
		}
		stop := end
		if end-s > n {
			stop = s + n
		}
		e, _ := bm.NextSet(s, stop)
		if e-s >= n {
			return s, n, true
		}
		if e-s > bestLen {
			best, bestLen = s, e-s
		}
		i = e
	}
}

// CountZeros counts the clear bits in [0, end).
func (bm Bitmap) CountZeros(end uint32) uint32 {
	end = min(end, bm.Len())
	set := uint32(0)
	i := uint32(0)
	for ; i+64 <= end; i += 64 {
		set += uint32(bits.OnesCount64(bm.word(i, 0)))
	}
	if i < end {
		set += uint32(bits.OnesCount64(bm.word(i, 0) & (1<<(end-i) - 1)))
	}
	return end - set
}

// SetRange sets the bits of [from, end) and gives how many were clear.
func (bm Bitmap) SetRange(from, end uint32) uint32 { return bm.fill(from, end, true) }

// ClearRange clears the bits of [from, end) and gives how many were set.
func (bm Bitmap) ClearRange(from, end uint32) uint32 { return bm.fill(from, end, false) }

func (bm Bitmap) fill(from, end uint32, set bool) uint32 {
	end = min(end, bm.Len())
	changed := uint32(0)
	for from < end {
		if from&7 == 0 && end-from >= 8 {
			b := bm[from>>3]
			if set {
				changed += 8 - uint32(bits.OnesCount8(b))
				bm[from>>3] = 0xFF
			} else {
				changed += uint32(bits.OnesCount8(b))
				bm[from>>3] = 0
			}
			from += 8
			continue
		}
		if set && bm.Set(from) || !set && bm.Clear(from) {
			changed++
		}
		from++
	}
	return changed
}
