package disk

import "bytes"

// Entry is one slot of a directory: the number of an inode, 0 for a free slot, and a name filled up with zeros.
//
//	V1, V2: 2 bytes of number, 14 or 30 of name         V3: 4 bytes of number, 60 of name
type Entry struct {
	B  []byte // DirEntrySize bytes
	v3 bool
}

// Entry views one slot.
func (s *Super) Entry(b []byte) Entry { return Entry{b[:s.DirEntrySize()], s.Version == 3} }

func (e Entry) nameAt() int {
	if e.v3 {
		return 4
	}
	return 2
}

// Ino is the inode, 0 for a free slot.
func (e Entry) Ino() Ino {
	if e.v3 {
		return Ino(le.Uint32(e.B))
	}
	return Ino(le.Uint16(e.B))
}

// SetIno stores the inode and leaves the name.
func (e Entry) SetIno(ino Ino) {
	if e.v3 {
		le.PutUint32(e.B, uint32(ino))
		return
	}
	le.PutUint16(e.B, uint16(ino))
}

// Name is the name, up to the first zero byte.
func (e Entry) Name() []byte {
	n := e.B[e.nameAt():]
	if i := bytes.IndexByte(n, 0); i >= 0 {
		n = n[:i]
	}
	return n
}

// Set stores both. The name must fit.
func (e Entry) Set(ino Ino, name string) {
	e.SetIno(ino)
	n := e.B[e.nameAt():]
	clear(n[copy(n, name):])
}
