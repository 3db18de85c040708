package disk

import "unicode/utf8"

// CodePage is what the bytes of short names and labels mean. One byte below 0x80 is that of ASCII.
type CodePage interface {
	// Encode gives the bytes of a character, at most two; n is 0 when there are none.
	Encode(r rune) (b [2]byte, n int)
	// Decode reads the first character of b, which is not empty. Bytes that mean nothing give U+FFFD and 1.
	Decode(b []byte) (r rune, n int)
}

// ASCII is the code page that has nothing else.
var ASCII CodePage = ascii{}

type ascii struct{}

func (ascii) Encode(r rune) (b [2]byte, n int) {
	if r < 0x80 {
		return [2]byte{byte(r)}, 1
	}
	return b, 0
}

func (ascii) Decode(b []byte) (rune, int) {
	if b[0] < 0x80 {
		return rune(b[0]), 1
	}
	return utf8.RuneError, 1
}

// Short is a short name in the making.
type Short struct {
	Name [11]byte
	Case uint8 // CaseBase, CaseExt
	// Exact says that Name says it all: no long name is needed, if its case may be lost or kept in Case.
	Exact bool
	// Lower and Mixed say what letters there were: some in lower case; both cases in base or extension.
	Lower, Mixed bool
	base, ext    int // bytes of both
}

// shortOK reports whether an upper-case character may be in a short name as it is; replaced ones become an underscore.
func shortOK(r rune) (ok, skip bool) {
	switch r {
	case ' ', '.':
		return false, true
	case '[', ']', ';', ',', '+', '=', '"', '*', '/', ':', '<', '>', '?', '\\', '|':
		return false, false
	}
	return r >= 0x20, false
}

// MakeShort makes the short name of a long one, without a number: blanks and dots go, letters become capitals, what the code
// page does not have becomes an underscore, what is too long is cut.
func MakeShort(units []uint16, cp CodePage) Short {
	s := Short{Exact: true}
	for i := range s.Name {
		s.Name[i] = ' '
	}
	// The extension begins behind the last dot that has something else than dots and blanks before it and something behind.
	start := 0
	for start < len(units) && (units[start] == '.' || units[start] == ' ') {
		start++
	}
	dot := -1
	for i := len(units) - 2; i > start; i-- {
		if units[i] == '.' {
			dot = i
			break
		}
	}
	if start > 0 {
		s.Exact = false
	}
	base, ext := units[start:], []uint16(nil)
	if dot >= 0 {
		base, ext = units[start:dot], units[dot+1:]
	}
	var case1, case2 [2]bool // lower, upper
	s.base = s.fill(s.Name[:8], base, cp, &case1)
	s.ext = s.fill(s.Name[8:], ext, cp, &case2)
	if s.base == 0 {
		s.Name[0], s.base, s.Exact = '_', 1, false
	}
	if s.Name[0] == markDeleted {
		s.Name[0] = markE5
	}
	s.Lower = case1[0] || case2[0]
	s.Mixed = case1[0] && case1[1] || case2[0] && case2[1]
	if case1[0] {
		s.Case |= CaseBase
	}
	if case2[0] {
		s.Case |= CaseExt
	}
	return s
}

// fill puts characters into one part of the name and gives its length in bytes.
func (s *Short) fill(to []byte, units []uint16, cp CodePage, letters *[2]bool) int {
	n := 0
	for i := 0; i < len(units); i++ {
		u := units[i]
		up := Upper(u)
		ok, skip := shortOK(rune(up))
		if skip {
			s.Exact = false
			continue
		}
		b, k := [2]byte{'_'}, 1
		if u >= 0xD800 && u < 0xE000 {
			ok = false
			if u < 0xDC00 && i+1 < len(units) {
				i++ // a pair is one character
			}
		}
		if ok {
			if e, m := cp.Encode(rune(up)); m > 0 {
				b, k = e, m
			} else {
				ok = false
			}
		}
		if !ok {
			s.Exact = false
		} else if up != u {
			letters[0] = true
			if u >= 0x80 {
				s.Mixed = true // Case speaks of ASCII only: others read it by their own code page
			}
		} else if u >= 'A' && u <= 'Z' || u >= 0x80 {
			letters[1] = true
		}
		if n+k > len(to) {
			s.Exact = false
			break
		}
		copy(to[n:], b[:k])
		n += k
	}
	return n
}

// WithNumber gives the name with "~i" at the end of its base, which is cut to make room. i is from 1 to 9.
func (s *Short) WithNumber(i int, cp CodePage) [11]byte {
	name := s.Name
	at := s.cut(6, cp)
	name[at], name[at+1] = '~', byte('0'+i)
	for j := at + 2; j < 8; j++ {
		name[j] = ' '
	}
	return name
}

// WithHash gives the name with four hexadecimal digits and "~i" at the end of at most two bytes of its base.
func (s *Short) WithHash(hash uint16, i int, cp CodePage) [11]byte {
	name := s.Name
	at := s.cut(2, cp)
	const hex = "0123456789ABCDEF"
	for j := range 4 {
		name[at+j] = hex[hash>>(12-4*j)&15]
	}
	name[at+4], name[at+5] = '~', byte('0'+i)
	for j := at + 6; j < 8; j++ {
		name[j] = ' '
	}
	return name
}

// cut gives the length of the longest beginning of the base of at most n bytes that does not end inside a character.
func (s *Short) cut(n int, cp CodePage) int {
	at := 0
	for at < s.base {
		_, k := cp.Decode(s.Name[at:s.base])
		if at+k > n {
			break
		}
		at += k
	}
	return at
}

// ShortUnits gives the characters of a short name as they are shown: base, dot, extension; lower where kase says so.
func ShortUnits(name [11]byte, kase uint8, cp CodePage) []uint16 {
	if name[0] == markE5 {
		name[0] = markDeleted
	}
	units := make([]uint16, 0, 12)
	part := func(b []byte, lower bool) {
		for len(b) > 0 && b[len(b)-1] == ' ' {
			b = b[:len(b)-1]
		}
		for len(b) > 0 {
			r, n := cp.Decode(b)
			if lower && r >= 'A' && r <= 'Z' {
				r += 'a' - 'A'
			}
			units, b = append(units, uint16(r)), b[n:]
		}
	}
	part(name[:8], kase&CaseBase != 0)
	n := len(units)
	units = append(units, '.')
	part(name[8:], kase&CaseExt != 0)
	if len(units) == n+1 {
		units = units[:n]
	}
	return units
}

// DecodeBytes makes UTF-8 of bytes in a code page, for labels.
func DecodeBytes(b []byte, cp CodePage) string {
	var s []byte
	for len(b) > 0 {
		r, n := cp.Decode(b)
		s, b = utf8.AppendRune(s, r), b[n:]
	}
	return string(s)
}

// EncodeLabel makes the label field of UTF-8. ok is false for more than 11 bytes, and for characters that a label cannot have:
// those of names, and what the code page does not have. Letters become capitals, as DOS wants them.
func EncodeLabel(label string, cp CodePage) (l [11]byte, ok bool) {
	var b []byte
	for _, r := range label {
		if r <= 0xFFFF {
			r = rune(Upper(uint16(r)))
		}
		if k, skip := shortOK(r); !k && !(skip && r == ' ') {
			return l, false
		}
		e, n := cp.Encode(r)
		if n == 0 {
			return l, false
		}
		b = append(b, e[:n]...)
	}
	if len(b) > len(l) {
		return l, false
	}
	l = PadLabel(b)
	if len(b) > 0 && l[0] == markDeleted {
		l[0] = markE5
	}
	return l, true
}

// Choice is how a name is stored.
type Choice struct {
	Short [11]byte
	Case  uint8
	Long  bool // a long name is stored too
}

// ChooseOptions say how names are stored. The zero value is Linux's default.
type ChooseOptions struct {
	KeepCase bool // names of 8.3 in one case are stored without a long name, by Dirent.Case (shortname=winnt)
	NoNumber bool // a short name without a number is taken where it is free (nonumtail)
}

// Choose makes the short name for a new name. taken reports whether a short name is in use in the directory. Numbers go from 1
// to 9; then two characters and a hash of the name are tried. ok is false when all of that is taken.
func Choose(units []uint16, cp CodePage, o ChooseOptions, taken func([11]byte) bool) (c Choice, ok bool) {
	s := MakeShort(units, cp)
	c = Choice{Short: s.Name, Long: true}
	if s.Exact && !taken(s.Name) {
		switch {
		case !s.Lower && !s.Mixed:
			c.Long = false
		case o.KeepCase && !s.Mixed:
			c.Case, c.Long = s.Case, false
		}
		return c, true
	}
	if o.NoNumber && !taken(s.Name) {
		return c, true
	}
	for i := 1; i <= 9; i++ {
		if c.Short = s.WithNumber(i, cp); !taken(c.Short) {
			return c, true
		}
	}
	h := uint32(2166136261)
	for _, u := range units {
		h = (h ^ uint32(u)) * 16777619
	}
	for i := range uint32(9 << 16) {
		n := h + i*40503 // steps through all 16-bit numbers
		if c.Short = s.WithHash(uint16(n), int(i>>16)+1, cp); !taken(c.Short) {
			return c, true
		}
	}
	return c, false
}
