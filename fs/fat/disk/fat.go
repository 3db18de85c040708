package disk

import "encoding/binary"

// Entry is what the FAT says of a cluster: Free, another cluster, Defect, or the end of its chain. The values are those of
// FAT32; narrower entries are widened, so that End and Defect mean the same in all.
//
//	        FAT12         FAT16          FAT32 (low 28 bits; the high 4 are kept as found)
//	free    000           0000           0000000
//	next    002 … FEF     0002 … FFEF    0000002 … FFFFFEF
//	defect  FF7           FFF7           FFFFFF7
//	end     FF8 … FFF     FFF8 … FFFF    FFFFFF8 … FFFFFFF
type Entry uint32

// Values of an Entry.
const (
	Free   Entry = 0
	Defect Entry = 0x0FFFFFF7
	End    Entry = 0x0FFFFFFF
	minEnd Entry = 0x0FFFFFF8
	mask28       = 0x0FFFFFFF
)

// IsEnd reports whether the cluster is the last of its chain.
func (e Entry) IsEnd() bool { return e >= minEnd }

// Next gives the cluster that follows; ok is false when e names none that there is.
func (e Entry) Next(g *Geometry) (c Cluster, ok bool) {
	c = Cluster(e)
	return c, g.Valid(c)
}

// Bits of FAT[1], as of FAT16 and FAT32; FAT12 has none. Set means good.
const (
	clean16, noError16 = 0x8000, 0x4000
	clean32, noError32 = 0x08000000, 0x04000000
)

// FATView is a piece of a FAT: the bytes from byte off of it on. An entry of FAT12 may lie across the end of a sector, so a
// view for one has to hold both.
type FATView struct {
	G   *Geometry
	B   []byte
	Off uint32 // of B[0] in the FAT, bytes
}

// widen makes FAT12's and FAT16's special values those of FAT32.
func widen(v, first uint32) Entry {
	if v >= first {
		v |= mask28 &^ (first | 0xF)
	}
	return Entry(v)
}

// At gives the entry of c, whose bytes must lie in the view.
func (v FATView) At(c Cluster) Entry {
	off, half := v.G.EntryAt(c)
	p := v.B[off-v.Off:]
	switch v.G.Width {
	case FAT12:
		n := uint32(binary.LittleEndian.Uint16(p))
		if half {
			n >>= 4
		}
		return widen(n&0xFFF, 0xFF7)
	case FAT16:
		return widen(uint32(binary.LittleEndian.Uint16(p)), 0xFFF7)
	}
	return Entry(binary.LittleEndian.Uint32(p) & mask28)
}

// Set stores the entry of c.
func (v FATView) Set(c Cluster, e Entry) {
	off, half := v.G.EntryAt(c)
	p := v.B[off-v.Off:]
	switch v.G.Width {
	case FAT12:
		n := binary.LittleEndian.Uint16(p)
		if half {
			n = n&0x000F | uint16(e)<<4
		} else {
			n = n&0xF000 | uint16(e)&0xFFF
		}
		binary.LittleEndian.PutUint16(p, n)
	case FAT16:
		binary.LittleEndian.PutUint16(p, uint16(e))
	default:
		binary.LittleEndian.PutUint32(p, binary.LittleEndian.Uint32(p)&^mask28|uint32(e)&mask28)
	}
}

// State gives what FAT[1] says: not unmounted cleanly, errors of the medium were met. False both on FAT12.
func (v FATView) State() (dirty, errors bool) {
	switch v.G.Width {
	case FAT16:
		n := binary.LittleEndian.Uint16(v.B[2-v.Off:])
		return n&clean16 == 0, n&noError16 == 0
	case FAT32:
		n := binary.LittleEndian.Uint32(v.B[4-v.Off:])
		return n&clean32 == 0, n&noError32 == 0
	}
	return false, false
}

// SetDirty stores in FAT[1] whether the filesystem is in use.
func (v FATView) SetDirty(dirty bool) {
	switch v.G.Width {
	case FAT16:
		p := v.B[2-v.Off:]
		n := binary.LittleEndian.Uint16(p) | clean16
		if dirty {
			n &^= clean16
		}
		binary.LittleEndian.PutUint16(p, n)
	case FAT32:
		p := v.B[4-v.Off:]
		n := binary.LittleEndian.Uint32(p) | clean32
		if dirty {
			n &^= clean32
		}
		binary.LittleEndian.PutUint32(p, n)
	}
}

// Reserved gives the two first entries of a fresh FAT: the media byte, and a clean state.
func Reserved(media uint8) (zero, one Entry) { return End&^0xFF | Entry(media), End }
