package disk

import (
	"errors"
	"unicode"
	"unicode/utf8"
)

// Errors of names.
var (
	ErrName     = errors.New("name has characters that FAT does not store")
	ErrNameLong = errors.New("name is longer than 255 UTF-16 units")
)

// Forbidden reports whether a unit must not be in a long name.
func Forbidden(u uint16) bool {
	switch u {
	case '"', '*', '/', ':', '<', '>', '?', '\\', '|':
		return true
	}
	return u < 0x20
}

// Units makes the UTF-16 units of a long name from UTF-8. Trailing dots and blanks, which Windows does not keep, are taken off.
// A surrogate without its other half may be given as the three bytes that UTF-8 does not allow, as Name does.
// Errors: ErrName for an empty name, bytes that are not UTF-8 and forbidden characters; ErrNameLong.
func Units(name string) ([]uint16, error) {
	for len(name) > 0 && (name[len(name)-1] == '.' || name[len(name)-1] == ' ') {
		name = name[:len(name)-1]
	}
	if name == "" {
		return nil, ErrName
	}
	units := make([]uint16, 0, len(name))
	for i := 0; i < len(name); {
		r, n := utf8.DecodeRuneInString(name[i:])
		if r == utf8.RuneError && n <= 1 {
			if r, n = surrogate(name[i:]); n == 0 {
				return nil, ErrName
			}
		}
		i += n
		switch {
		case r >= 0x10000:
			units = append(units, uint16(0xD800+(r-0x10000)>>10), uint16(0xDC00+(r-0x10000)&0x3FF))
		case Forbidden(uint16(r)):
			return nil, ErrName
		default:
			units = append(units, uint16(r))
		}
		if len(units) > MaxUnits {
			return nil, ErrNameLong
		}
	}
	return units, nil
}

// surrogate reads the three bytes of a lone surrogate.
func surrogate(s string) (rune, int) {
	if len(s) < 3 || s[0] != 0xED || s[1] < 0xA0 || s[1] > 0xBF || s[2]&0xC0 != 0x80 {
		return 0, 0
	}
	return 0xD000 | rune(s[1]&0x3F)<<6 | rune(s[2]&0x3F), 3
}

// Name makes UTF-8 of units. A surrogate without its other half becomes three bytes, so that Units gives it back.
func Name(units []uint16) string {
	b := make([]byte, 0, len(units)+8)
	for i := 0; i < len(units); i++ {
		u := units[i]
		switch {
		case u < 0x80:
			b = append(b, byte(u))
		case u >= 0xD800 && u < 0xDC00 && i+1 < len(units) && units[i+1] >= 0xDC00 && units[i+1] < 0xE000:
			b = utf8.AppendRune(b, 0x10000+(rune(u)-0xD800)<<10+rune(units[i+1])-0xDC00)
			i++
		case u >= 0xD800 && u < 0xE000:
			b = append(b, 0xE0|byte(u>>12), 0x80|byte(u>>6)&0x3F|0x80, 0x80|byte(u)&0x3F)
		default:
			b = utf8.AppendRune(b, rune(u))
		}
	}
	return string(b)
}

// ShowName is Name for what is read from a medium: false when the name holds what no file system interface takes, a slash or
// a zero byte, or is "." or "..", or empty.
func ShowName(units []uint16) (string, bool) {
	for _, u := range units {
		if u == 0 || u == '/' {
			return "", false
		}
	}
	s := Name(units)
	return s, s != "" && s != "." && s != ".."
}

// Upper is the upper case of a unit as Windows compares names: one unit for one, surrogates as they are, and no letter of
// another script becomes one of ASCII.
func Upper(u uint16) uint16 {
	switch {
	case u >= 'a' && u <= 'z':
		return u - 'a' + 'A'
	case u < 0x80, u >= 0xD800 && u < 0xE000, u == 0xB5:
		return u
	}
	if r := unicode.ToUpper(rune(u)); r > 0x7F && r <= 0xFFFF {
		return uint16(r)
	}
	return u
}

// Fold makes of a name what is equal for names that are equal but for case, and for trailing dots and blanks.
func Fold(name string) string {
	ascii := true
	for i := range len(name) {
		if c := name[i]; c >= 0x80 {
			ascii = false
			break
		}
	}
	for len(name) > 0 && (name[len(name)-1] == '.' || name[len(name)-1] == ' ') {
		name = name[:len(name)-1]
	}
	b := make([]byte, 0, len(name)+8)
	if ascii {
		for i := range len(name) {
			c := name[i]
			if c >= 'a' && c <= 'z' {
				c -= 'a' - 'A'
			}
			b = append(b, c)
		}
		return string(b)
	}
	for i := 0; i < len(name); {
		r, n := utf8.DecodeRuneInString(name[i:])
		if r == utf8.RuneError && n <= 1 || r > 0xFFFF {
			b = append(b, name[i:i+n]...)
		} else {
			b = utf8.AppendRune(b, rune(Upper(uint16(r))))
		}
		i += n
	}
	return string(b)
}
