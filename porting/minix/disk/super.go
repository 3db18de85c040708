package disk

import (
	"encoding/binary"
	"math/bits"
)

var le = binary.LittleEndian

// Magic numbers.
const (
	MagicV1   = 0x137f // V1, names of 14 bytes
	MagicV1L  = 0x138f // V1, 30 bytes
	MagicV2   = 0x2468 // V2, 14 bytes
	MagicV2L  = 0x2478 // V2, 30 bytes
	MagicV3   = 0x4d5a // V3, 60 bytes
	SuperSize = 32
)

// State bits of V1 and V2.
const (
	StateValid = 1 // unmounted cleanly
	StateError = 2 // errors were seen
)

// Super is the superblock.
//
//	V1, V2                             V3
//	off size field                     off size field
//	  0    2 Inodes                      0    4 Inodes
//	  2    2 Zones (V1)                  4    2 –
//	  4    2 InodeMapBlocks              6    2 InodeMapBlocks
//	  6    2 ZoneMapBlocks               8    2 ZoneMapBlocks
//	  8    2 FirstZone                  10    2 FirstZone
//	 10    2 log2(zone/block), 0        12    2 log2(zone/block), 0
//	 12    4 MaxSize                    16    4 MaxSize
//	 16    2 Magic                      20    4 Zones
//	 18    2 State                      24    2 Magic
//	 20    4 Zones (V2)                 28    2 BlockSize
//	                                    30    1 disk version, kept
type Super struct {
	Version        int // 1, 2, 3
	Inodes         uint32
	Zones          uint32 // blocks of the device, from 0
	InodeMapBlocks uint32
	ZoneMapBlocks  uint32
	FirstZone      Zone
	LogZoneSize    uint16
	MaxSize        uint32 // bytes, largest file
	Magic          uint16
	State          uint16 // V1, V2
	BlockSize      uint32 // bytes
	NameMax        int    // bytes of a name
}

// DecodeSuper reads a superblock from its SuperSize bytes. ok is false when it is no Minix superblock.
func DecodeSuper(b []byte) (s Super, ok bool) {
	if le.Uint16(b[24:]) == MagicV3 {
		return Super{
			Version: 3, Inodes: le.Uint32(b), InodeMapBlocks: uint32(le.Uint16(b[6:])), ZoneMapBlocks: uint32(le.Uint16(b[8:])),
			FirstZone: Zone(le.Uint16(b[10:])), LogZoneSize: le.Uint16(b[12:]), MaxSize: le.Uint32(b[16:]), Zones: le.Uint32(b[20:]),
			Magic: MagicV3, State: StateValid, BlockSize: uint32(le.Uint16(b[28:])), NameMax: 60,
		}, true
	}
	s = Super{
		Inodes: uint32(le.Uint16(b)), InodeMapBlocks: uint32(le.Uint16(b[4:])), ZoneMapBlocks: uint32(le.Uint16(b[6:])),
		FirstZone: Zone(le.Uint16(b[8:])), LogZoneSize: le.Uint16(b[10:]), MaxSize: le.Uint32(b[12:]), Magic: le.Uint16(b[16:]),
		State: le.Uint16(b[18:]), BlockSize: 1024,
	}
	switch s.Magic {
	case MagicV1, MagicV1L:
		s.Version, s.Zones = 1, uint32(le.Uint16(b[2:]))
	case MagicV2, MagicV2L:
		s.Version, s.Zones = 2, le.Uint32(b[20:])
	default:
		return Super{}, false
	}
	s.NameMax = 14
	if s.Magic == MagicV1L || s.Magic == MagicV2L {
		s.NameMax = 30
	}
	return s, true
}

// EncodeTo stores the superblock over b; what it does not know stays.
func (s *Super) EncodeTo(b []byte) {
	if s.Version == 3 {
		le.PutUint32(b, s.Inodes)
		le.PutUint16(b[6:], uint16(s.InodeMapBlocks))
		le.PutUint16(b[8:], uint16(s.ZoneMapBlocks))
		le.PutUint16(b[10:], uint16(s.FirstZone))
		le.PutUint16(b[12:], s.LogZoneSize)
		le.PutUint32(b[16:], s.MaxSize)
		le.PutUint32(b[20:], s.Zones)
		le.PutUint16(b[24:], s.Magic)
		le.PutUint16(b[28:], uint16(s.BlockSize))
		return
	}
	le.PutUint16(b, uint16(s.Inodes))
	le.PutUint16(b[4:], uint16(s.InodeMapBlocks))
	le.PutUint16(b[6:], uint16(s.ZoneMapBlocks))
	le.PutUint16(b[8:], uint16(s.FirstZone))
	le.PutUint16(b[10:], s.LogZoneSize)
	le.PutUint32(b[12:], s.MaxSize)
	le.PutUint16(b[16:], s.Magic)
	le.PutUint16(b[18:], s.State)
	if s.Version == 1 {
		le.PutUint16(b[2:], uint16(s.Zones))
	} else {
		le.PutUint32(b[20:], s.Zones)
	}
}

// Verify checks the superblock against a device of that many bytes: everything that later code uses as a place or a bound.
func (s *Super) Verify(device int64) error {
	bs := s.BlockSize
	if bs < 1024 || bs > 4096 || bits.OnesCount32(bs) != 1 {
		return bad("block size", "%d bytes, want 1024, 2048 or 4096", bs)
	}
	if s.LogZoneSize != 0 {
		return bad("zone size", "zones of %d blocks are not supported", 1<<min(s.LogZoneSize, 31))
	}
	if s.Inodes == 0 {
		return bad("inodes", "there are none")
	}
	if int64(s.Zones)*int64(bs) > device {
		return bad("zones", "%d blocks of %d bytes do not fit on a device of %d bytes", s.Zones, bs, device)
	}
	perBlock := uint64(bs) * 8
	if uint64(s.InodeMapBlocks)*perBlock < uint64(s.Inodes)+1 {
		return bad("inode map", "%d blocks are too few for %d inodes", s.InodeMapBlocks, s.Inodes)
	}
	first := uint64(s.TableStart()) + (uint64(s.Inodes)+uint64(s.InodesPerBlock())-1)/uint64(s.InodesPerBlock())
	if uint64(s.FirstZone) < first || uint32(s.FirstZone) >= s.Zones {
		return bad("first zone", "is %d, want from %d to %d", s.FirstZone, first, int64(s.Zones)-1)
	}
	if uint64(s.ZoneMapBlocks)*perBlock < uint64(s.DataZones())+1 {
		return bad("zone map", "%d blocks are too few for %d zones", s.ZoneMapBlocks, s.DataZones())
	}
	return nil
}

// InodeSize is the bytes of an inode on disk.
func (s *Super) InodeSize() uint32 {
	if s.Version == 1 {
		return 32
	}
	return 64
}

// InodesPerBlock is how many inodes a block of the table holds.
func (s *Super) InodesPerBlock() uint32 { return s.BlockSize / s.InodeSize() }

// TableStart is the first block of the inode table.
func (s *Super) TableStart() uint32 { return 2 + s.InodeMapBlocks + s.ZoneMapBlocks }

// InodeAt gives the block that holds ino and the byte in it. ino must be valid.
func (s *Super) InodeAt(ino Ino) (block uint32, off int) {
	i := uint32(ino) - 1
	return s.TableStart() + i/s.InodesPerBlock(), int(i % s.InodesPerBlock() * s.InodeSize())
}

// ValidIno reports whether there is an inode of that number.
func (s *Super) ValidIno(ino uint64) bool { return ino >= 1 && ino <= uint64(s.Inodes) }

// ValidZone reports whether a file may own the zone.
func (s *Super) ValidZone(z Zone) bool { return z >= s.FirstZone && uint32(z) < s.Zones }

// DataZones is the number of zones that files may own. Bit z − FirstZone + 1 of the zone map is zone z's.
func (s *Super) DataZones() uint32 { return s.Zones - uint32(s.FirstZone) }

// DirEntrySize is the bytes of a directory entry: the inode number and the name.
func (s *Super) DirEntrySize() int {
	if s.Version == 3 {
		return 64
	}
	return s.NameMax + 2
}

// LinkMax is the largest number of links.
func (s *Super) LinkMax() uint32 {
	if s.Version == 1 {
		return 250
	}
	return 65530
}
