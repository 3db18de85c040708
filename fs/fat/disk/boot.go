package disk

import (
	"encoding/binary"
	"strings"
)

// BootSize is how much of the boot sector this package reads and writes, in bytes; sectors may be longer.
const BootSize = 512

// BootSector is the first sector of the medium, with the BIOS parameter block. Little endian.
//
//	off  size  field
//	  0     3  Jump             EB xx 90 or E9 xx xx
//	  3     8  OEM              who made it, for show
//	 11     2  SectorSize       bytes: 512, 1024, 2048, 4096
//	 13     1  PerCluster       sectors of a cluster, a power of two
//	 14     2  Reserved         sectors before the first FAT, at least 1
//	 16     1  FATs             copies of the FAT, at least 1
//	 17     2  RootEntries      slots of the root directory; 0 on FAT32
//	 19     2  Sectors16        all sectors; 0: see Sectors32
//	 21     1  Media            F0, or F8 to FF; also the low byte of FAT[0]
//	 22     2  FATSectors16     sectors of one FAT; 0 on FAT32
//	 24     2  SectorsPerTrack
//	 26     2  Heads
//	 28     4  Hidden           sectors before this one on the disk: where the partition begins
//	 32     4  Sectors32
//
//	FAT12, FAT16                          FAT32
//	 36     1  Drive                       36     4  FATSectors32
//	 37     1  State  StateDirty …         40     2  ExtFlags     0x80: only FAT number 0..15 is kept up
//	 38     1  Signature  28, 29           42     2  Version      0
//	 39     4  Serial                      44     4  RootCluster
//	 43    11  Label                       48     2  InfoSector   of FSInfo; 0 or FFFF: none
//	 54     8  TypeName                    50     2  BackupSector copy of the boot sector; 0 or FFFF: none
//	                                       64     1  Drive
//	                                       65     1  State
//	                                       66     1  Signature
//	                                       67     4  Serial
//	                                       71    11  Label
//	                                       82     8  TypeName
//	510     2  55 AA
//
// Serial and Label are there when Signature says so: 28 the serial only, 29 both.
//
// Source: Microsoft "FAT: General Overview of On-Disk Format", version 1.03, "Boot Sector and BPB".
type BootSector struct {
	Jump            [3]byte
	OEM             [8]byte
	SectorSize      uint16
	PerCluster      uint8
	Reserved        uint16
	FATs            uint8
	RootEntries     uint16
	Sectors16       uint16
	Media           uint8
	FATSectors16    uint16
	SectorsPerTrack uint16
	Heads           uint16
	Hidden          uint32
	Sectors32       uint32

	FATSectors32 uint32
	ExtFlags     uint16
	Version      uint16
	RootCluster  Cluster
	InfoSector   uint16
	BackupSector uint16

	Drive     uint8
	State     uint8
	Signature uint8
	Serial    uint32
	Label     [11]byte
	TypeName  [8]byte
}

// Bits of BootSector.State, and of ExtFlags.
const (
	StateDirty uint8 = 1 // mounted, or not unmounted cleanly
	StateError uint8 = 2 // test the surface of the medium

	ExtNoMirror  uint16 = 0x80 // only the FAT of ExtActive is kept up
	ExtActive    uint16 = 0x0F
	noInfoSector uint16 = 0xFFFF
)

// Is32 reports whether the boot sector has the form of FAT32: no 16-bit count of sectors of the FAT.
func (b *BootSector) Is32() bool { return b.FATSectors16 == 0 }

// DecodeBootSector reads a boot sector of at least BootSize bytes. The error is a *Bad for one that cannot be FAT's; the
// numbers are checked by NewGeometry.
func DecodeBootSector(p []byte) (b BootSector, err error) {
	if len(p) < BootSize {
		return b, bad("boot sector", "length", uint64(len(p)), "512 bytes")
	}
	le := binary.LittleEndian
	if sig := le.Uint16(p[510:]); sig != 0xAA55 {
		return b, bad("boot sector", "signature", uint64(sig), "0xAA55")
	}
	copy(b.Jump[:], p)
	copy(b.OEM[:], p[3:])
	b.SectorSize = le.Uint16(p[11:])
	b.PerCluster = p[13]
	b.Reserved = le.Uint16(p[14:])
	b.FATs = p[16]
	b.RootEntries = le.Uint16(p[17:])
	b.Sectors16 = le.Uint16(p[19:])
	b.Media = p[21]
	b.FATSectors16 = le.Uint16(p[22:])
	b.SectorsPerTrack = le.Uint16(p[24:])
	b.Heads = le.Uint16(p[26:])
	b.Hidden = le.Uint32(p[28:])
	b.Sectors32 = le.Uint32(p[32:])
	x := p[36:]
	if b.Is32() {
		b.FATSectors32 = le.Uint32(p[36:])
		b.ExtFlags = le.Uint16(p[40:])
		b.Version = le.Uint16(p[42:])
		b.RootCluster = Cluster(le.Uint32(p[44:]))
		b.InfoSector = le.Uint16(p[48:])
		b.BackupSector = le.Uint16(p[50:])
		x = p[64:]
	}
	b.Drive, b.State, b.Signature = x[0], x[1], x[2]
	if b.Signature == 0x28 || b.Signature == 0x29 {
		b.Serial = le.Uint32(x[3:])
	}
	if b.Signature == 0x29 {
		copy(b.Label[:], x[7:])
		copy(b.TypeName[:], x[18:])
	}
	return b, nil
}

// EncodeTo writes the boot sector over p, at least BootSize bytes; boot code and what else is there stays.
func (b *BootSector) EncodeTo(p []byte) {
	le := binary.LittleEndian
	copy(p, b.Jump[:])
	copy(p[3:], b.OEM[:])
	le.PutUint16(p[11:], b.SectorSize)
	p[13] = b.PerCluster
	le.PutUint16(p[14:], b.Reserved)
	p[16] = b.FATs
	le.PutUint16(p[17:], b.RootEntries)
	le.PutUint16(p[19:], b.Sectors16)
	p[21] = b.Media
	le.PutUint16(p[22:], b.FATSectors16)
	le.PutUint16(p[24:], b.SectorsPerTrack)
	le.PutUint16(p[26:], b.Heads)
	le.PutUint32(p[28:], b.Hidden)
	le.PutUint32(p[32:], b.Sectors32)
	x := p[36:]
	if b.Is32() {
		le.PutUint32(p[36:], b.FATSectors32)
		le.PutUint16(p[40:], b.ExtFlags)
		le.PutUint16(p[42:], b.Version)
		le.PutUint32(p[44:], uint32(b.RootCluster))
		le.PutUint16(p[48:], b.InfoSector)
		le.PutUint16(p[50:], b.BackupSector)
		x = p[64:]
	}
	x[0], x[1], x[2] = b.Drive, b.State, b.Signature
	if b.Signature == 0x28 || b.Signature == 0x29 {
		le.PutUint32(x[3:], b.Serial)
	}
	if b.Signature == 0x29 {
		copy(x[7:18], b.Label[:])
		copy(x[18:26], b.TypeName[:])
	}
	le.PutUint16(p[510:], 0xAA55)
}

// LabelBytes gives the label of the boot sector without padding; nil for none and for "NO NAME". In the code page of who
// wrote it.
func (b *BootSector) LabelBytes() []byte { return trimLabel(b.Label) }

// noName is what the boot sector says of a volume without a label.
const noName = "NO NAME    "

func trimLabel(l [11]byte) []byte {
	if string(l[:]) == noName || l[0] == 0 {
		return nil
	}
	return []byte(strings.TrimRight(string(l[:]), " \x00"))
}

// PadLabel makes the label field of a directory entry or boot sector of at most 11 bytes; none gives "NO NAME".
func PadLabel(b []byte) (l [11]byte) {
	if len(b) == 0 {
		copy(l[:], noName)
		return l
	}
	for i := copy(l[:], b); i < len(l); i++ {
		l[i] = ' '
	}
	return l
}
