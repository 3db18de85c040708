package disk

import "encoding/binary"

// DirRecord is one record of a directory block, each of its numbers read once and checked: what a reader uses that must not
// rely on a check made earlier, since bytes of a damaged medium may be shared with something else.
type DirRecord struct {
	Off  int // where it begins in the block, bytes
	Next int // where it ends: the offset of the next record, or the length of the block
	Ino  Ino // 0: not in use
	Type FileType
	Name []byte // bytes of the block, good until it changes; not empty when Ino is not 0
}

// Record reads the record at off. False when none can be there: off beyond the block, a length that is no multiple of 4, that
// is too short for the name or leaves the block, or a name in use that is empty.
func (db DirBlock) Record(off int) (r DirRecord, ok bool) {
	if off < 0 || off > len(db)-DirHeader-dirAlign {
		return r, false
	}
	h := db[off : off+DirHeader]
	word := binary.LittleEndian.Uint64(h)
	rec, name := int(word>>32&0xFFFF), int(word>>48&0xFF)
	if len(db) == MaxBlockSize && (rec == 0 || rec == 0xFFFF) {
		rec = MaxBlockSize
	}
	next := off + rec
	if rec < DirHeader+name || rec < DirHeader+dirAlign || rec%dirAlign != 0 || next > len(db) {
		return r, false
	}
	r = DirRecord{Off: off, Next: next, Ino: Ino(word), Type: FileType(word >> 56), Name: db[off+DirHeader : off+DirHeader+name : off+DirHeader+name]}
	return r, name != 0 || r.Ino == 0
}

// Room gives how many bytes of the record a new entry could have.
func (r DirRecord) Room() int {
	if r.Ino == 0 {
		return r.Next - r.Off
	}
	return r.Next - r.Off - DirRecLen(len(r.Name))
}

// Seek gives the first record that begins at or after off: where a listing goes on that stopped at off, whatever happened to
// the entries around it since. It is the length of the block when there is none. False when the chain is broken.
func (db DirBlock) Seek(off int) (int, bool) {
	at := 0
	for at < off && at < len(db) {
		r, ok := db.Record(at)
		if !ok {
			return 0, false
		}
		at = r.Next
	}
	return at, true
}

// Place finds the first record that has room for a name of nameLen bytes. left is the largest room that the block has after an
// Insert there. When nothing fits off is -1 and left the largest room as it is. False when the chain is broken.
func (db DirBlock) Place(nameLen int) (off, left int, ok bool) {
	found := -1
	need := DirRecLen(nameLen)
	for at := 0; at < len(db); {
		r, ok := db.Record(at)
		if !ok {
			return -1, 0, false
		}
		room := r.Room()
		if found < 0 && room >= need {
			found = at
			room -= need
		}
		left = max(left, room)
		at = r.Next
	}
	return found, left, true
}
