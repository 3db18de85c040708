package disk

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
)

// Extended attributes stand in a block of their own (Inode.FileACL), which inodes with equal attributes may share, and in what
// is left of inodes of more than 128 bytes. Both hold a table of entries that grows up and values that grow down to meet it:
//
//	block:  header (32) | entry | entry | 0 0 0 0 |   free   | value | value
//	body:    magic (4)  | entry | entry | 0 0 0 0 |   free   | value | value
//
//	header  off  size  field                    entry  off  size  field
//	          0     4  magic 0xEA020000                  0     1  name length
//	          4     4  reference count                   1     1  name index: the name space
//	          8     4  blocks, 1                         2     2  offset of the value: from the start of the block;
//	         12     4  hash of all entries                         in a body from the first entry
//	         16    16  (zero)                            4     4  block of the value, 0
//	                                                     8     4  size of the value
//	                                                    12     4  hash of name and value; 0 in a body
//	                                                    16     n  rest of the name; padded to 4
//
// Values are padded to 4 bytes. Entries of a block are sorted by index, length of the name, name; the kernel's search relies
// on it. Source: the on-disk description in A. Gruenbacher's "Linux Extended Attributes and ACLs", ext4/attributes.rst.
const (
	XattrMagic  uint32 = 0xEA020000
	XattrRefMax uint32 = 1024 // most inodes that share a block

	xattrHeader     = 32
	xattrBodyHeader = 4
	xattrEntryHead  = 16
	xattrPad        = 4
)

// Name spaces: the index of a stored name. An ACL's stored name is empty.
const (
	XattrUser       uint8 = 1
	XattrACLAccess  uint8 = 2
	XattrACLDefault uint8 = 3
	XattrTrusted    uint8 = 4
	XattrSecurity   uint8 = 6
	XattrSystem     uint8 = 7
)

// Full names of the ACLs.
const (
	nameACLAccess  = "system.posix_acl_access"
	nameACLDefault = "system.posix_acl_default"
)

// XattrFullName gives the name that users see for a stored one; false for an index that this package does not know.
func XattrFullName(index uint8, name string) (string, bool) {
	switch index {
	case XattrUser:
		return "user." + name, true
	case XattrACLAccess:
		return nameACLAccess, name == ""
	case XattrACLDefault:
		return nameACLDefault, name == ""
	case XattrTrusted:
		return "trusted." + name, true
	case XattrSecurity:
		return "security." + name, true
	case XattrSystem:
		return "system." + name, true
	}
	return "", false
}

// SplitXattrName gives index and stored name of a full one. False for an unknown name space, an empty rest, or one of more than
// 255 bytes.
func SplitXattrName(full string) (index uint8, name string, ok bool) {
	switch full {
	case nameACLAccess:
		return XattrACLAccess, "", true
	case nameACLDefault:
		return XattrACLDefault, "", true
	}
	space, rest, found := strings.Cut(full, ".")
	if !found || rest == "" || len(rest) > NameMax {
		return 0, "", false
	}
	switch space {
	case "user":
		index = XattrUser
	case "trusted":
		index = XattrTrusted
	case "security":
		index = XattrSecurity
	case "system":
		index = XattrSystem
	default:
		return 0, "", false
	}
	return index, rest, true
}

// Xattr is one attribute: what a table is built of.
type Xattr struct {
	Index uint8
	Name  string // without the prefix of the name space; at most 255 bytes
	Value []byte
}

// CompareXattr orders attributes as a block holds them. Two with equal names compare as 0.
func CompareXattr(a, b Xattr) int { return compareXattrName(a.Index, a.Name, b.Index, b.Name) }

func compareXattrName(ai uint8, an string, bi uint8, bn string) int {
	if ai != bi {
		return int(ai) - int(bi)
	}
	if len(an) != len(bn) {
		return len(an) - len(bn)
	}
	return strings.Compare(an, bn)
}

// XattrEntry is one entry of a table; Name and Value are bytes of the block, good until it changes.
type XattrEntry struct {
	Index uint8
	Name  []byte
	Value []byte
	Hash  uint32
}

// Copy gives the attribute with bytes of its own.
func (e XattrEntry) Copy() Xattr { return Xattr{e.Index, string(e.Name), bytes.Clone(e.Value)} }

// WantHash gives what Hash should be: from name and value. Names with characters from 128 up have two: kernels before 6.2
// took characters as signed.
func (e XattrEntry) WantHash(signed bool) uint32 {
	h := uint32(0)
	for _, c := range e.Name {
		h = h<<5 ^ h>>27 ^ char(c, signed)
	}
	for v := e.Value; len(v) > 0; {
		var w [4]byte
		v = v[copy(w[:], v):]
		h = h<<16 ^ h>>16 ^ binary.LittleEndian.Uint32(w[:])
	}
	return h
}

// XattrTable is a checked view of the entries in a block or a body. The zero value has none.
type XattrTable struct {
	b     []byte // values are found by offset from its start
	first int    // offset of the first entry
}

// First gives the offset of the first entry. Walk the table by
//
//	for at := t.First(); !t.End(at); at = t.Next(at) { e := t.At(at) … }
func (t XattrTable) First() int { return t.first }

// End reports whether at is behind the last entry.
func (t XattrTable) End(at int) bool {
	return at+4 > len(t.b) || binary.LittleEndian.Uint32(t.b[at:]) == 0
}

// Next gives the offset of the entry after that at at.
func (t XattrTable) Next(at int) int { return at + xattrEntryLen(int(t.b[at])) }

// At gives the entry at at.
func (t XattrTable) At(at int) XattrEntry {
	le := binary.LittleEndian
	n := int(t.b[at])
	e := XattrEntry{Index: t.b[at+1], Name: t.b[at+xattrEntryHead:][:n:n], Hash: le.Uint32(t.b[at+12:])}
	if size := int(le.Uint32(t.b[at+8:])); size > 0 {
		off := int(le.Uint16(t.b[at+2:]))
		e.Value = t.b[off:][:size:size]
	}
	return e
}

// Find looks an attribute up.
func (t XattrTable) Find(index uint8, name string) (XattrEntry, bool) {
	for at := t.first; !t.End(at); at = t.Next(at) {
		if t.b[at+1] == index && int(t.b[at]) == len(name) {
			if e := t.At(at); string(e.Name) == name {
				return e, true
			}
		}
	}
	return XattrEntry{}, false
}

// Append adds copies of all attributes to list.
func (t XattrTable) Append(list []Xattr) []Xattr {
	for at := t.first; !t.End(at); at = t.Next(at) {
		list = append(list, t.At(at).Copy())
	}
	return list
}

func xattrEntryLen(nameLen int) int {
	return (xattrEntryHead + nameLen + xattrPad - 1) &^ (xattrPad - 1)
}
func xattrPadded(n int) int { return (n + xattrPad - 1) &^ (xattrPad - 1) }

// verify checks that entries and values lie inside and do not overlap.
func (t XattrTable) verify(s string) error {
	le := binary.LittleEndian
	at := t.first
	for ; ; at = t.Next(at) {
		if at+4 > len(t.b) {
			return badAt(s, at, "entries' end", uint64(at), "before the end of the table at %d", len(t.b))
		}
		if le.Uint32(t.b[at:]) == 0 {
			break
		}
		if at+xattrEntryLen(int(t.b[at])) > len(t.b)-4 {
			return badAt(s, at, "name length", uint64(t.b[at]), "one that ends in the table of %d bytes", len(t.b))
		}
	}
	low := at + 4 // no value may begin before this
	// One bit for each 4 bytes of the largest block.
	var used [MaxBlockSize / xattrPad / 64]uint64
	for at = t.first; !t.End(at); at = t.Next(at) {
		off, size := int(le.Uint16(t.b[at+2:])), uint64(le.Uint32(t.b[at+8:]))
		if blk := le.Uint32(t.b[at+4:]); blk != 0 {
			return badAt(s, at+4, "block of a value", uint64(blk), "0")
		}
		switch {
		case size == 0 && (off <= len(t.b) || t.first == 0):
			continue // no value: an inode's body may hold any offset then
		case size > uint64(len(t.b)):
			return badAt(s, at+8, "size of a value", size, "at most the table's %d bytes", len(t.b))
		case off < low || off%xattrPad != 0 || off+int(size) > len(t.b):
			return badAt(s, at+2, "offset of a value", uint64(off), "a multiple of 4 from %d to %d less the %d bytes of the value", low, len(t.b), size)
		}
		for c := off / xattrPad; c < xattrPadded(off+int(size))/xattrPad; c++ {
			m := uint64(1) << (c & 63)
			if used[c>>6]&m != 0 {
				return badAt(s, at+2, "offset of a value", uint64(off), "one that no other value overlaps")
			}
			used[c>>6] |= m
		}
	}
	return nil
}

// XattrBlock is a view of an attribute block.
type XattrBlock []byte

// AsXattrBlock checks an attribute block: magic number, counts, and that entries and values lie in it without overlap. Hashes
// are not judged: see XattrEntry.WantHash, WantHash.
// Errors: *Bad.
func AsXattrBlock(b []byte) (XattrBlock, error) {
	const s = "attribute block"
	if len(b) < MinBlockSize || len(b) > MaxBlockSize || len(b)%MinBlockSize != 0 {
		return nil, bad(s, "length", uint64(len(b)), "that of a block")
	}
	le := binary.LittleEndian
	xb := XattrBlock(b)
	switch {
	case le.Uint32(b) != XattrMagic:
		return nil, badAt(s, 0, "magic number", uint64(le.Uint32(b)), "%d (0xEA020000)", XattrMagic)
	case le.Uint32(b[8:]) != 1:
		return nil, badAt(s, 8, "block count", uint64(le.Uint32(b[8:])), "1")
	case xb.RefCount() == 0 || xb.RefCount() > XattrRefMax:
		return nil, badAt(s, 4, "reference count", uint64(xb.RefCount()), "1 to %d", XattrRefMax)
	}
	if err := xb.Table().verify(s); err != nil {
		return nil, err
	}
	return xb, nil
}

// Table gives the block's entries.
func (xb XattrBlock) Table() XattrTable { return XattrTable{b: xb, first: xattrHeader} }

// RefCount gives the number of inodes that use the block.
func (xb XattrBlock) RefCount() uint32 { return binary.LittleEndian.Uint32(xb[4:]) }

// SetRefCount changes the number of inodes that use the block.
func (xb XattrBlock) SetRefCount(n uint32) { binary.LittleEndian.PutUint32(xb[4:], n) }

// Hash gives the hash of all entries, as stored. Blocks of equal content have equal hashes; 0 means that the block must not be
// shared.
func (xb XattrBlock) Hash() uint32 { return binary.LittleEndian.Uint32(xb[12:]) }

// WantHash works the block's hash out from the hashes of the entries.
func (xb XattrBlock) WantHash() uint32 {
	h := uint32(0)
	t := xb.Table()
	for at := t.First(); !t.End(at); at = t.Next(at) {
		eh := binary.LittleEndian.Uint32(t.b[at+12:])
		if eh == 0 {
			return 0
		}
		h = h<<16 ^ h>>16 ^ eh
	}
	return h
}

// Equal reports whether two blocks hold the same attributes: they may become one. Reference counts are left out.
func (xb XattrBlock) Equal(other XattrBlock) bool {
	return len(xb) == len(other) && xb.Hash() == other.Hash() && bytes.Equal(xb[xattrHeader:], other[xattrHeader:])
}

// XattrSpace gives the bytes that the attributes need in a table, without the header: compare with XattrBlockRoom or
// XattrBodyRoom.
func XattrSpace(list []Xattr) int {
	n := 4
	for _, x := range list {
		n += xattrEntryLen(len(x.Name)) + xattrPadded(len(x.Value))
	}
	return n
}

// XattrBlockRoom gives the room for entries and values in a block of that size.
func XattrBlockRoom(blockSize uint32) int { return int(blockSize) - xattrHeader }

// XattrBodyRoom gives the room for entries and values in an inode's body (see Inode.IBody).
func XattrBodyRoom(body []byte) int { return max(len(body)-xattrBodyHeader, 0) }

// BuildXattrBlock fills b, one block, with the attributes, which it sorts in place first, and a reference count of 1. Equal
// lists give equal bytes. It reports false, and leaves b alone, when they do not fit; names must differ.
func BuildXattrBlock(b []byte, list []Xattr) (XattrBlock, bool) {
	if XattrSpace(list) > XattrBlockRoom(uint32(len(b))) {
		return nil, false
	}
	slices.SortStableFunc(list, CompareXattr)
	clear(b)
	le := binary.LittleEndian
	le.PutUint32(b[0:], XattrMagic)
	le.PutUint32(b[4:], 1)
	le.PutUint32(b[8:], 1)
	xb := XattrBlock(b)
	t := xb.Table()
	t.build(list)
	for at := t.first; !t.End(at); at = t.Next(at) {
		le.PutUint32(b[at+12:], t.At(at).WantHash(false))
	}
	le.PutUint32(b[12:], xb.WantHash())
	return xb, true
}

// XattrBody gives the attributes in body, the part of an inode that Inode.IBody gives; none when it has no magic number.
// Errors: *Bad.
func XattrBody(body []byte) (XattrTable, error) {
	if len(body) < xattrBodyHeader+4 || binary.LittleEndian.Uint32(body) != XattrMagic {
		return XattrTable{}, nil
	}
	if len(body) > MaxBlockSize {
		body = body[:MaxBlockSize]
	}
	t := XattrTable{b: body[xattrBodyHeader:]}
	if err := t.verify("attributes in the inode"); err != nil {
		return XattrTable{}, err
	}
	return t, nil
}

// BuildXattrBody fills an inode's body with the attributes, which it sorts in place first; with none it clears the body. It
// reports false, and leaves the body alone, when they do not fit.
func BuildXattrBody(body []byte, list []Xattr) bool {
	if len(list) == 0 {
		clear(body)
		return true
	}
	if XattrSpace(list) > XattrBodyRoom(body) {
		return false
	}
	slices.SortStableFunc(list, CompareXattr)
	clear(body)
	binary.LittleEndian.PutUint32(body, XattrMagic)
	XattrTable{b: body[xattrBodyHeader:]}.build(list)
	return true
}

// build writes entries from first up and values from the end down into a table of zeros.
func (t XattrTable) build(list []Xattr) {
	le := binary.LittleEndian
	at, end := t.first, len(t.b)
	for _, x := range list {
		e := t.b[at:]
		e[0], e[1] = byte(len(x.Name)), x.Index
		if len(x.Value) > 0 {
			end -= xattrPadded(len(x.Value))
			le.PutUint16(e[2:], uint16(end))
			copy(t.b[end:], x.Value)
		}
		le.PutUint32(e[8:], uint32(len(x.Value)))
		copy(e[xattrEntryHead:], x.Name)
		at = t.Next(at)
	}
}
