package disk

import "math/bits"

// HashVersion says how names are hashed in a directory's index.
type HashVersion uint8

// Hash versions. The index root and the superblock name the first three; the others follow from Superblock.Flags, see
// Superblock.HashVersionOf.
const (
	HashLegacy          HashVersion = 0
	HashHalfMD4         HashVersion = 1
	HashTEA             HashVersion = 2
	HashLegacyUnsigned  HashVersion = 3
	HashHalfMD4Unsigned HashVersion = 4
	HashTEAUnsigned     HashVersion = 5
)

// String gives the name that tune2fs uses.
func (v HashVersion) String() string {
	switch v {
	case HashLegacy, HashLegacyUnsigned:
		return "legacy"
	case HashHalfMD4, HashHalfMD4Unsigned:
		return "half_md4"
	case HashTEA, HashTEAUnsigned:
		return "tea"
	}
	return "unknown"
}

// HashSeed is Superblock.HashSeed: it starts the hashes off. All zeros means the seed of MD4.
type HashSeed [4]uint32

// HashEnd is the largest major hash, kept free to mean the end of a directory. No name hashes to it.
const HashEnd uint32 = 0xFFFFFFFE

// HashName hashes a name. major orders the index, its lowest bit is always 0; minor tells names of equal major apart. ok is
// false for an unknown version.
//
// The hashes: legacy is the "dx_hack" of the first htree patches; half_md4 is MD4 cut to three rounds of eight steps, over 32
// bytes of the name at a time; tea is the Tiny Encryption Algorithm as a Davies-Meyer chain over 16 bytes at a time. The signed
// versions read characters from 128 up as negative numbers, as the compilers of the first machines did.
// Source: D. Phillips, "A Directory Index for Ext2"; ext4/directory.rst of the kernel's documentation.
func HashName(v HashVersion, seed HashSeed, name []byte) (major, minor uint32, ok bool) {
	s := [4]uint32{0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476}
	if seed != (HashSeed{}) {
		s = seed
	}
	signed := v <= HashTEA
	switch v {
	case HashLegacy, HashLegacyUnsigned:
		major = hashLegacy(name, signed)
	case HashHalfMD4, HashHalfMD4Unsigned:
		var in [8]uint32
		for ; len(name) > 0; name = name[min(len(name), 32):] {
			packName(in[:], name, signed)
			halfMD4(&s, &in)
		}
		major, minor = s[1], s[2]
	case HashTEA, HashTEAUnsigned:
		var in [4]uint32
		for ; len(name) > 0; name = name[min(len(name), 16):] {
			packName(in[:], name, signed)
			tea(&s, &in)
		}
		major, minor = s[0], s[1]
	default:
		return 0, 0, false
	}
	major &^= 1
	if major == HashEnd {
		major = HashEnd - 2
	}
	return major, minor, true
}

// char reads one character of a name, sign-extended or not.
func char(c byte, signed bool) uint32 {
	if signed {
		return uint32(int32(int8(c)))
	}
	return uint32(c)
}

func hashLegacy(name []byte, signed bool) uint32 {
	h0, h1 := uint32(0x12A3FE2D), uint32(0x37ABE8F9)
	for _, c := range name {
		h := h1 + (h0 ^ char(c, signed)*7152373)
		if h&0x80000000 != 0 {
			h -= 0x7FFFFFFF
		}
		h1, h0 = h0, h
	}
	return h0 << 1
}

// packName fills dst with the first 4*len(dst) bytes of name, the first character of each word highest; what is missing is
// filled by the length of all that is left of the name, in each byte.
func packName(dst []uint32, name []byte, signed bool) {
	pad := uint32(len(name)) | uint32(len(name))<<8
	pad |= pad << 16
	name = name[:min(len(name), 4*len(dst))]
	for w := range dst {
		v := pad
		for range 4 {
			if len(name) == 0 {
				break
			}
			v = char(name[0], signed) + v<<8
			name = name[1:]
		}
		dst[w] = v
	}
}

func halfMD4(s *[4]uint32, in *[8]uint32) {
	const (
		k2 = 0x5A827999 // sqrt(2) * 2^30
		k3 = 0x6ED9EBA1 // sqrt(3) * 2^30
	)
	a, b, c, d := s[0], s[1], s[2], s[3]
	for _, i := range [2]int{0, 4} {
		a = bits.RotateLeft32(a+(d^(b&(c^d)))+in[i], 3)
		d = bits.RotateLeft32(d+(c^(a&(b^c)))+in[i+1], 7)
		c = bits.RotateLeft32(c+(b^(d&(a^b)))+in[i+2], 11)
		b = bits.RotateLeft32(b+(a^(c&(d^a)))+in[i+3], 19)
	}
	for _, i := range [2]int{1, 0} {
		a = bits.RotateLeft32(a+((b&c)+((b^c)&d))+in[i]+k2, 3)
		d = bits.RotateLeft32(d+((a&b)+((a^b)&c))+in[i+2]+k2, 5)
		c = bits.RotateLeft32(c+((d&a)+((d^a)&b))+in[i+4]+k2, 9)
		b = bits.RotateLeft32(b+((c&d)+((c^d)&a))+in[i+6]+k2, 13)
	}
	for _, i := range [2]int{3, 1} {
		a = bits.RotateLeft32(a+(b^c^d)+in[i]+k3, 3)
		d = bits.RotateLeft32(d+(a^b^c)+in[i+4]+k3, 9)
		c = bits.RotateLeft32(c+(d^a^b)+in[i-1]+k3, 11)
		b = bits.RotateLeft32(b+(c^d^a)+in[i+3]+k3, 15)
	}
	s[0] += a
	s[1] += b
	s[2] += c
	s[3] += d
}

func tea(s *[4]uint32, in *[4]uint32) {
	const delta = 0x9E3779B9 // 2^32 over the golden ratio
	x, y, sum := s[0], s[1], uint32(0)
	for range 16 {
		sum += delta
		x += (y<<4 + in[0]) ^ (y + sum) ^ (y>>5 + in[1])
		y += (x<<4 + in[2]) ^ (x + sum) ^ (x>>5 + in[3])
	}
	s[0] += x
	s[1] += y
}
