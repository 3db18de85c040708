// Package codepage has the code pages that short names and volume labels may be written in: those of DOS that
// golang.org/x/text knows. A medium does not tell its code page; who formatted it knew.
//
// It is apart from the format (fs/fat/disk), which is the same in every code page and imports the standard library only.
package codepage

import (
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"

	"github.com/iomapfs/iomapfs/fs/fat/disk"
)

// Default is the code page of a mount that names none, as the kernel's.
const Default = 437

var single = map[int]*charmap.Charmap{
	437: charmap.CodePage437, 850: charmap.CodePage850, 852: charmap.CodePage852, 855: charmap.CodePage855,
	858: charmap.CodePage858, 860: charmap.CodePage860, 862: charmap.CodePage862, 863: charmap.CodePage863,
	865: charmap.CodePage865, 866: charmap.CodePage866, 874: charmap.Windows874,
	1250: charmap.Windows1250, 1251: charmap.Windows1251, 1252: charmap.Windows1252, 1253: charmap.Windows1253,
	1254: charmap.Windows1254, 1255: charmap.Windows1255, 1256: charmap.Windows1256, 1257: charmap.Windows1257, 1258: charmap.Windows1258,
}

var double = map[int]encoding.Encoding{
	932: japanese.ShiftJIS, 936: simplifiedchinese.GBK, 949: korean.EUCKR, 950: traditionalchinese.Big5,
}

// Find gives a code page by its number. The error names those there are.
func Find(number int) (disk.CodePage, error) {
	if m := single[number]; m != nil {
		return table{m}, nil
	}
	if e := double[number]; e != nil {
		return newPairs(e), nil
	}
	var known []int
	for n := range single {
		known = append(known, n)
	}
	for n := range double {
		known = append(known, n)
	}
	sort.Ints(known)
	return nil, fmt.Errorf("code page %d is not known; there are %s", number, strings.Trim(fmt.Sprint(known), "[]"))
}

// table is a code page of single bytes.
type table struct{ m *charmap.Charmap }

var _ disk.CodePage = table{}

// Encode implements disk.CodePage.
func (t table) Encode(r rune) (b [2]byte, n int) {
	if c, ok := t.m.EncodeRune(r); ok && r != 0 {
		return [2]byte{c}, 1
	}
	return b, 0
}

// Decode implements disk.CodePage.
func (t table) Decode(b []byte) (rune, int) { return t.m.DecodeByte(b[0]), 1 }

// pairs is a code page with characters of two bytes. Encoders and decoders of x/text keep state, so the table is made once.
type pairs struct {
	to   map[rune][2]byte // n is 1 when the second byte is 0
	from map[[2]byte]rune
}

var _ disk.CodePage = (*pairs)(nil)

func newPairs(e encoding.Encoding) *pairs {
	p := &pairs{to: map[rune][2]byte{}, from: map[[2]byte]rune{}}
	dec := e.NewDecoder()
	note := func(raw []byte) {
		out, err := dec.Bytes(raw)
		r, n := utf8.DecodeRune(out)
		if err != nil || n != len(out) || r == utf8.RuneError {
			return
		}
		key := [2]byte{raw[0]}
		if len(raw) > 1 {
			key[1] = raw[1]
		}
		p.from[key] = r
		if _, have := p.to[r]; !have {
			p.to[r] = key
		}
	}
	for a := 1; a < 256; a++ {
		note([]byte{byte(a)})
	}
	for a := 0x81; a < 0xFF; a++ {
		for b := 0x40; b < 0xFF; b++ {
			note([]byte{byte(a), byte(b)})
		}
	}
	return p
}

// Encode implements disk.CodePage.
func (p *pairs) Encode(r rune) (b [2]byte, n int) {
	b, ok := p.to[r]
	switch {
	case !ok:
		return b, 0
	case b[1] == 0:
		return b, 1
	}
	return b, 2
}

// Decode implements disk.CodePage.
func (p *pairs) Decode(b []byte) (rune, int) {
	if r, ok := p.from[[2]byte{b[0]}]; ok {
		return r, 1
	}
	if len(b) > 1 {
		if r, ok := p.from[[2]byte{b[0], b[1]}]; ok {
			return r, 2
		}
	}
	return utf8.RuneError, 1
}
