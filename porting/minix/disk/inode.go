package disk

// NDirect zones of a file are found from its inode alone; the others through one, two or (V2, V3) three levels of zones full
// of zone numbers.
const NDirect = 7

// NZones is how many zone numbers an inode has room for; V1 uses the first nine.
const NZones = 10

// Inode is an inode. Times are seconds since 1970; V1 keeps one for all three.
//
//	V1, 32 bytes             V2 and V3, 64 bytes
//	off size field           off size field
//	  0    2 Mode              0    2 Mode
//	  2    2 UID               2    2 Links
//	  4    4 Size              4    2 UID
//	  8    4 Mtime             6    2 GID
//	 12    1 GID               8    4 Size
//	 13    1 Links            12   12 Atime, Mtime, Ctime
//	 14   18 Zone[0…8]        24   40 Zone[0…9]
//
// Zone: 7 direct, one indirect, one double indirect, one triple indirect. A device keeps its number in Zone[0].
type Inode struct {
	Mode, Links         uint16
	UID, GID            uint16
	Size                uint32
	Atime, Mtime, Ctime uint32
	Zone                [NZones]uint32
}

// DecodeInode reads an inode of that version.
func DecodeInode(b []byte, version int) (in Inode) {
	if version == 1 {
		t := le.Uint32(b[8:])
		in = Inode{
			Mode: le.Uint16(b), UID: le.Uint16(b[2:]), Size: le.Uint32(b[4:]), Atime: t, Mtime: t, Ctime: t,
			GID: uint16(b[12]), Links: uint16(b[13]),
		}
		for i := range NZones - 1 {
			in.Zone[i] = uint32(le.Uint16(b[14+2*i:]))
		}
		return in
	}
	in = Inode{
		Mode: le.Uint16(b), Links: le.Uint16(b[2:]), UID: le.Uint16(b[4:]), GID: le.Uint16(b[6:]), Size: le.Uint32(b[8:]),
		Atime: le.Uint32(b[12:]), Mtime: le.Uint32(b[16:]), Ctime: le.Uint32(b[20:]),
	}
	for i := range NZones {
		in.Zone[i] = le.Uint32(b[24+4*i:])
	}
	return in
}

// EncodeTo stores the inode.
func (in *Inode) EncodeTo(b []byte, version int) {
	le.PutUint16(b, in.Mode)
	if version == 1 {
		le.PutUint16(b[2:], in.UID)
		le.PutUint32(b[4:], in.Size)
		le.PutUint32(b[8:], in.Mtime)
		b[12], b[13] = byte(in.GID), byte(in.Links)
		for i := range NZones - 1 {
			le.PutUint16(b[14+2*i:], uint16(in.Zone[i]))
		}
		return
	}
	le.PutUint16(b[2:], in.Links)
	le.PutUint16(b[4:], in.UID)
	le.PutUint16(b[6:], in.GID)
	le.PutUint32(b[8:], in.Size)
	le.PutUint32(b[12:], in.Atime)
	le.PutUint32(b[16:], in.Mtime)
	le.PutUint32(b[20:], in.Ctime)
	for i := range NZones {
		le.PutUint32(b[24+4*i:], in.Zone[i])
	}
}

// Levels is how many levels of indirect zones the version has.
func (s *Super) Levels() int {
	if s.Version == 1 {
		return 2
	}
	return 3
}

// PtrSize is the bytes of a zone number in an indirect zone.
func (s *Super) PtrSize() uint32 {
	if s.Version == 1 {
		return 2
	}
	return 4
}

// PtrsPerZone is how many zone numbers an indirect zone holds.
func (s *Super) PtrsPerZone() uint64 { return uint64(s.BlockSize / s.PtrSize()) }

// Path is the way to a block of a file: Index[0] into Inode.Zone, then into one indirect zone after the other.
type Path struct {
	Index [4]uint32
	Depth int // entries of Index in use: 1 for a direct zone
}

// PathOf gives the way to file block n; ok is false past the largest file.
func (s *Super) PathOf(n uint64) (p Path, ok bool) {
	if n < NDirect {
		return Path{Index: [4]uint32{uint32(n)}, Depth: 1}, true
	}
	n -= NDirect
	per, span := s.PtrsPerZone(), uint64(1)
	for level := 1; level <= s.Levels(); level++ {
		span *= per
		if n < span {
			p = Path{Depth: level + 1}
			p.Index[0] = uint32(NDirect + level - 1)
			for i := level; i >= 1; i-- {
				p.Index[i] = uint32(n % per)
				n /= per
			}
			return p, true
		}
		n -= span
	}
	return Path{}, false
}

// MaxBlocks is the number of blocks of the largest file that zone numbers can describe.
func (s *Super) MaxBlocks() uint64 {
	per, span, sum := s.PtrsPerZone(), uint64(1), uint64(NDirect)
	for range s.Levels() {
		span *= per
		sum += span
	}
	return sum
}

// Ptrs is an indirect zone.
type Ptrs struct {
	B    []byte
	Wide bool // 4 bytes a number, else 2
}

// Ptrs views a block as an indirect zone.
func (s *Super) Ptrs(b []byte) Ptrs { return Ptrs{b, s.Version != 1} }

// Len is how many zone numbers there are.
func (p Ptrs) Len() int {
	if p.Wide {
		return len(p.B) / 4
	}
	return len(p.B) / 2
}

// At gives zone number i.
func (p Ptrs) At(i uint32) Zone {
	if p.Wide {
		return Zone(le.Uint32(p.B[4*i:]))
	}
	return Zone(le.Uint16(p.B[2*i:]))
}

// Set stores zone number i.
func (p Ptrs) Set(i uint32, z Zone) {
	if p.Wide {
		le.PutUint32(p.B[4*i:], uint32(z))
		return
	}
	le.PutUint16(p.B[2*i:], uint16(z))
}

// Empty reports whether no zone is named.
func (p Ptrs) Empty() bool {
	for _, c := range p.B {
		if c != 0 {
			return false
		}
	}
	return true
}
