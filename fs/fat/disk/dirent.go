package disk

import "encoding/binary"

// DirentSize is the length of a slot of a directory, in bytes.
const DirentSize = 32

// Attr are the attribute bits of an entry.
type Attr uint8

// Attributes.
const (
	AttrReadOnly Attr = 0x01
	AttrHidden   Attr = 0x02
	AttrSystem   Attr = 0x04
	AttrVolume   Attr = 0x08 // the volume label, in the root directory
	AttrDir      Attr = 0x10
	AttrArchive  Attr = 0x20 // changed since the last backup
	AttrLong     Attr = 0x0F // all of ReadOnly, Hidden, System, Volume: a part of a long name
	attrMask     Attr = 0x3F

	// AttrUser are those that a user may change.
	AttrUser = AttrReadOnly | AttrHidden | AttrSystem | AttrArchive
)

// Bits of Dirent.Case: the name is shown in lower case.
const (
	CaseBase uint8 = 0x08
	CaseExt  uint8 = 0x10
)

// Markers in the first byte of a slot.
const (
	markEnd     = 0x00 // free, and so are all that follow
	markDeleted = 0xE5 // free
	markE5      = 0x05 // stands for E5 as the first byte of a name
)

// Dirent is an entry with a short name: file, directory or volume label. Little endian, 32 bytes.
//
//	off  size  field
//	  0    11  Name        8 and 3 bytes, padded by blanks; the first byte 05 stands for E5
//	 11     1  Attr
//	 12     1  Case        CaseBase, CaseExt
//	 13     1  Created     10 ms: 0 to 199
//	 14     2              time, 2 s
//	 16     2              date
//	 18     2  Accessed    date only
//	 20     2  Start       high half; FAT32
//	 22     2  Written     time, 2 s
//	 24     2              date
//	 26     2  Start       low half: the first cluster; 0 for an empty file, and for ".." that means the root
//	 28     4  Size        bytes; 0 for directories
//
// Source: Microsoft "FAT: General Overview of On-Disk Format", "FAT Directory Structure".
type Dirent struct {
	Name     [11]byte
	Attr     Attr
	Case     uint8
	Created  Stamp
	Accessed Stamp
	Written  Stamp
	Start    Cluster
	Size     uint32
}

// DecodeDirent reads a slot that is neither free nor part of a long name. w decides whether the high half of Start counts.
func DecodeDirent(p []byte, w Width) Dirent {
	le := binary.LittleEndian
	d := Dirent{
		Attr: Attr(p[11]) & attrMask, Case: p[12],
		Created:  Stamp{Date: le.Uint16(p[16:]), Time: le.Uint16(p[14:]), Centi: p[13]},
		Accessed: Stamp{Date: le.Uint16(p[18:])},
		Written:  Stamp{Date: le.Uint16(p[24:]), Time: le.Uint16(p[22:])},
		Start:    Cluster(le.Uint16(p[26:])),
		Size:     le.Uint32(p[28:]),
	}
	copy(d.Name[:], p)
	if w == FAT32 {
		d.Start |= Cluster(le.Uint16(p[20:])) << 16
	}
	return d
}

// EncodeTo writes the entry over p.
func (d *Dirent) EncodeTo(p []byte, w Width) {
	le := binary.LittleEndian
	copy(p, d.Name[:])
	p[11], p[12], p[13] = byte(d.Attr), d.Case, d.Created.Centi
	le.PutUint16(p[14:], d.Created.Time)
	le.PutUint16(p[16:], d.Created.Date)
	le.PutUint16(p[18:], d.Accessed.Date)
	if w == FAT32 {
		le.PutUint16(p[20:], uint16(d.Start>>16))
	}
	le.PutUint16(p[22:], d.Written.Time)
	le.PutUint16(p[24:], d.Written.Date)
	le.PutUint16(p[26:], uint16(d.Start))
	le.PutUint32(p[28:], d.Size)
}

// IsDir reports whether the entry is of a directory.
func (d *Dirent) IsDir() bool { return d.Attr&(AttrDir|AttrVolume) == AttrDir }

// IsFree reports whether a slot is free; IsEnd whether all that follow are, too.
func IsFree(p []byte) bool { return p[0] == markEnd || p[0] == markDeleted }

// IsEnd reports whether a slot and all that follow were never used.
func IsEnd(p []byte) bool { return p[0] == markEnd }

// IsLong reports whether a slot that is in use holds part of a long name.
func IsLong(p []byte) bool { return Attr(p[11])&attrMask == AttrLong }

// Delete marks a slot as free.
func Delete(p []byte) { p[0] = markDeleted }

// Dot and DotDot are the short names of the first two entries of a directory that is not the root.
var (
	Dot    = [11]byte{'.', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '}
	DotDot = [11]byte{'.', '.', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '}
)

// IsDots reports whether a name is that of "." or "..".
func IsDots(name [11]byte) bool { return name == Dot || name == DotDot }

// Checksum of a short name, which the parts of its long name repeat.
func Checksum(name [11]byte) (sum uint8) {
	for _, c := range name {
		sum = sum<<7 | sum>>1
		sum += c
	}
	return sum
}
