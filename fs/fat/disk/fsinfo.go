package disk

import "encoding/binary"

// FSInfo is FAT32's sector of hints. They may be wrong, and nothing may rely on them.
//
//	off  size  field
//	  0     4  52 52 61 41
//	484     4  72 72 41 61
//	488     4  Free      free clusters; FFFFFFFF: not known
//	492     4  Next      where to look for a free one; FFFFFFFF: not known
//	508     4  00 00 55 AA
//
// Source: Microsoft "FAT: General Overview of On-Disk Format", "FAT32 FSInfo Sector Structure and Backup Boot Sector".
type FSInfo struct{ Free, Next uint32 }

// Unknown is the value of a hint that is not there.
const Unknown = 0xFFFFFFFF

const (
	infoLead  = 0x41615252
	infoMid   = 0x61417272
	infoTrail = 0xAA550000
)

// DecodeFSInfo reads the sector, at least 512 bytes. The error is a *Bad when a signature is missing.
func DecodeFSInfo(p []byte) (FSInfo, error) {
	le := binary.LittleEndian
	if len(p) < BootSize {
		return FSInfo{}, bad("FSInfo", "length", uint64(len(p)), "512 bytes")
	}
	for _, s := range []struct {
		off  int
		want uint32
	}{{0, infoLead}, {484, infoMid}, {508, infoTrail}} {
		if got := le.Uint32(p[s.off:]); got != s.want {
			return FSInfo{}, bad("FSInfo", "signature", uint64(got), "%#x at byte %d", s.want, s.off)
		}
	}
	return FSInfo{Free: le.Uint32(p[488:]), Next: le.Uint32(p[492:])}, nil
}

// EncodeTo writes hints and signatures over p.
func (i FSInfo) EncodeTo(p []byte) {
	le := binary.LittleEndian
	le.PutUint32(p, infoLead)
	le.PutUint32(p[484:], infoMid)
	le.PutUint32(p[488:], i.Free)
	le.PutUint32(p[492:], i.Next)
	le.PutUint32(p[508:], infoTrail)
}
