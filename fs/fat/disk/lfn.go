package disk

import "encoding/binary"

// Long names, which lie in slots before the entry, the last part first.
//
//	off  size  part of a long name
//	  0     1  ordinal from 1; 0x40 marks the last part, which comes first
//	  1    10  5 UTF-16 units
//	 11     1  Attr: AttrLong
//	 12     1  0
//	 13     1  Checksum of the short name
//	 14    12  6 units
//	 26     2  0
//	 28     4  2 units
//
// A name that does not fill its last part ends with a unit 0000; FFFF follow.
//
// Source: Microsoft "FAT: General Overview of On-Disk Format", "FAT Long Directory Entries".

const (
	// MaxUnits is the length of the longest name, in UTF-16 units.
	MaxUnits = 255
	// unitsPerSlot is how many of them a slot holds.
	unitsPerSlot = 13
	// MaxLongSlots is how many slots the longest name takes.
	MaxLongSlots = (MaxUnits + unitsPerSlot - 1) / unitsPerSlot
	lastPart     = 0x40
)

// unitAt are the byte offsets of the units in a slot.
var unitAt = [unitsPerSlot]int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30}

// LongSlots is the number of slots that a name of n units takes besides its entry.
func LongSlots(n int) int { return (n + unitsPerSlot - 1) / unitsPerSlot }

// EncodeLong writes the parts of a name over p, LongSlots(len(units)) slots, in the order in which they lie in a directory.
func EncodeLong(p []byte, units []uint16, sum uint8) {
	n := LongSlots(len(units))
	for i := range n {
		s, ord := p[i*DirentSize:(i+1)*DirentSize], n-i
		clear(s)
		s[0], s[11], s[13] = byte(ord), byte(AttrLong), sum
		if i == 0 {
			s[0] |= lastPart
		}
		for j, at := range unitAt {
			k, u := (ord-1)*unitsPerSlot+j, uint16(0xFFFF)
			if k < len(units) {
				u = units[k]
			} else if k == len(units) {
				u = 0
			}
			binary.LittleEndian.PutUint16(s[at:], u)
		}
	}
}

// Slot says what Assembler.Feed found.
type Slot uint8

// Kinds of slots.
const (
	SlotEnd    Slot = iota // free, as all that follow
	SlotFree               // free
	SlotPart               // part of a long name
	SlotEntry              // a file or directory
	SlotVolume             // the volume label
)

// Assembler puts the slots of a directory together to entries with names. Feed it each slot in turn; the zero value is ready.
type Assembler struct {
	Entry Dirent // after SlotEntry, SlotVolume
	First int    // index of the first slot of the entry, its long name included
	Index int    // index of the slot of the entry
	// Broken counts parts of long names that belong to no entry.
	Broken int

	units [MaxLongSlots * unitsPerSlot]uint16
	n     int   // units of the name being read, 0 for none
	want  uint8 // ordinal of the next part; 0: all parts are there
	sum   uint8
	start int
	parts int
	long  int // units of the long name of Entry
}

// Feed takes the slot with the given index.
func (a *Assembler) Feed(index int, p []byte, w Width) Slot {
	a.long = 0
	switch {
	case IsEnd(p):
		a.drop()
		return SlotEnd
	case IsFree(p):
		a.drop()
		return SlotFree
	case IsLong(p):
		a.part(index, p)
		return SlotPart
	}
	a.Entry = DecodeDirent(p, w)
	a.First, a.Index = index, index
	if a.Entry.Attr&AttrVolume != 0 {
		a.drop()
		return SlotVolume
	}
	if a.n > 0 && a.want == 0 && a.sum == Checksum(a.Entry.Name) {
		a.First, a.long = a.start, a.n
		a.n, a.parts = 0, 0
	} else {
		a.drop()
	}
	return SlotEntry
}

// Finish is to be called at the end of a directory that has no SlotEnd.
func (a *Assembler) Finish() { a.drop() }

func (a *Assembler) drop() {
	a.Broken += a.parts
	a.n, a.parts, a.want = 0, 0, 0
}

func (a *Assembler) part(index int, p []byte) {
	ord := p[0] &^ lastPart
	if p[0]&lastPart != 0 {
		a.drop()
		if ord == 0 || int(ord) > MaxLongSlots {
			a.Broken++
			return
		}
		a.start, a.sum, a.want, a.n = index, p[13], ord, int(ord)*unitsPerSlot
	}
	if a.n == 0 || ord != a.want || a.want == 0 || p[13] != a.sum {
		a.drop()
		a.Broken++
		return
	}
	a.parts++
	base := int(ord-1) * unitsPerSlot
	for j, at := range unitAt {
		u := binary.LittleEndian.Uint16(p[at:])
		if u == 0 && p[0]&lastPart != 0 {
			a.n = base + j
			break
		}
		a.units[base+j] = u
	}
	if a.want--; a.n == 0 || a.n > MaxUnits {
		a.drop()
	}
}

// Long gives the units of the long name of Entry; nil when it has none. Valid until the next Feed.
func (a *Assembler) Long() []uint16 {
	if a.long == 0 {
		return nil
	}
	return a.units[:a.long]
}
