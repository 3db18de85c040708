package disk

import "math/bits"

// Bitmap is a block of the inode or zone map: bit i is bit i%8 of byte i/8. A set bit is in use.
type Bitmap []byte

// Has reports bit i.
func (m Bitmap) Has(i uint32) bool { return m[i/8]>>(i%8)&1 != 0 }

// Set sets bit i.
func (m Bitmap) Set(i uint32) { m[i/8] |= 1 << (i % 8) }

// Clear clears bit i.
func (m Bitmap) Clear(i uint32) { m[i/8] &^= 1 << (i % 8) }

// Next gives the first clear bit in [from, to); false when all are set.
func (m Bitmap) Next(from, to uint32) (uint32, bool) {
	for i := from; i < to; i++ {
		if i%8 == 0 {
			for i+8 <= to && m[i/8] == 0xff {
				i += 8
			}
			if i >= to {
				break
			}
		}
		if !m.Has(i) {
			return i, true
		}
	}
	return 0, false
}

// Free counts clear bits in [0, n).
func (m Bitmap) Free(n uint32) (free uint32) {
	for i := uint32(0); i < n/8; i++ {
		free += 8 - uint32(bits.OnesCount8(m[i]))
	}
	for i := n &^ 7; i < n; i++ {
		if !m.Has(i) {
			free++
		}
	}
	return free
}
