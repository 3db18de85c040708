package disk

import (
	"encoding/binary"
)

// SuperOffset is where the primary superblock is, in bytes from the start of the device. A backup stands at the start of the
// first block of its group.
const SuperOffset = 1024

// SuperSize is the length of a superblock, in bytes.
const SuperSize = 1024

// Magic is Superblock.Magic.
const Magic = 0xEF53

// State bits of Superblock.State.
const (
	StateValid  uint16 = 1 // unmounted cleanly
	StateErrors uint16 = 2 // errors were seen
	StateOrphan uint16 = 4 // orphans being recovered
)

// Behaviours of Superblock.Errors.
const (
	ErrorsContinue   uint16 = 1
	ErrorsRemountRO  uint16 = 2
	ErrorsPanic      uint16 = 3
	ErrorsUnspec     uint16 = 0 // treated as ErrorsContinue
	maxErrorsDefined        = 3
)

// Revisions of Superblock.Revision.
const (
	RevOld     = 0 // 128-byte inodes, no features, first inode 11
	RevDynamic = 1
)

// Values of Superblock.CreatorOS.
const (
	OSLinux   = 0
	OSHurd    = 1
	OSMasix   = 2
	OSFreeBSD = 3
	OSLites   = 4
)

// Bits of Superblock.Flags.
const (
	FlagSignedHash   uint32 = 1 // names are hashed as signed characters
	FlagUnsignedHash uint32 = 2 // as unsigned ones
	FlagTestFS       uint32 = 4
)

// Bits of Superblock.DefaultMountOpts.
const (
	DefMountDebug     uint32 = 0x001
	DefMountBSDGroups uint32 = 0x002
	DefMountXattrUser uint32 = 0x004
	DefMountACL       uint32 = 0x008
	DefMountUID16     uint32 = 0x010
)

// Superblock describes the whole filesystem. 1024 bytes; blocks in units of the block size, times in seconds since 1970.
//
//	off  size  field
//	  0     4  Inodes            all inodes
//	  4     4  Blocks            all blocks, from block 0
//	  8     4  ReservedBlocks    kept for ReservedUID and ReservedGID
//	 12     4  FreeBlocks
//	 16     4  FreeInodes
//	 20     4  FirstDataBlock    first block of group 0: 1 for 1 KiB blocks, else 0
//	 24     4  LogBlockSize      block size is 1024 << it
//	 28     4  LogFragSize       fragments are not in use: the same
//	 32     4  BlocksPerGroup
//	 36     4  FragsPerGroup     the same as BlocksPerGroup
//	 40     4  InodesPerGroup
//	 44     4  MountTime
//	 48     4  WriteTime
//	 52     2  MountCount        mounts since the last check
//	 54     2  MaxMountCount     check after so many; -1 or 0 never
//	 56     2  Magic             0xEF53
//	 58     2  State             StateValid, StateErrors
//	 60     2  Errors            what to do on an error
//	 62     2  MinorRevision
//	 64     4  LastCheck
//	 68     4  CheckInterval     seconds between checks; 0 none
//	 72     4  CreatorOS
//	 76     4  Revision
//	 80     2  ReservedUID
//	 82     2  ReservedGID
//	       from here on revision 1 only
//	 84     4  FirstIno          first inode for files
//	 88     2  InodeSize
//	 90     2  GroupNumber       the group that this copy is in
//	 92     4  Compat
//	 96     4  Incompat
//	100     4  ROCompat
//	104    16  UUID
//	120    16  VolumeName        padded by zeros
//	136    64  LastMounted
//	200     4  AlgorithmBitmap
//	204     1  PreallocBlocks
//	205     1  PreallocDirBlocks
//	206     2  ReservedGDTBlocks blocks after the descriptor table for it to grow (RESIZE_INODE)
//	208    16  JournalUUID
//	224     4  JournalIno
//	228     4  JournalDev
//	232     4  LastOrphan
//	236    16  HashSeed
//	252     1  DefHashVersion    HashLegacy, HashHalfMD4, HashTEA
//	253     1  JournalBackupType
//	254     2  DescSize          0 or 32 for ext2
//	256     4  DefaultMountOpts
//	260     4  FirstMetaBG       first descriptor block placed the META_BG way
//	264     4  MkfsTime
//	268    68  JournalBlocks     (kept as found)
//	348     2  MinExtraIsize
//	350     2  WantExtraIsize
//	352     4  Flags             FlagSignedHash, FlagUnsignedHash
//	356     2  RaidStride
//	368     4  RaidStripeWidth
//	376     8  KBytesWritten
//	404     4  ErrorCount
//	408     4  FirstErrorTime
//	460     4  LastErrorTime
//	584     4  OverheadBlocks    blocks of metadata, 0 when not worked out
//	588     8  BackupGroups      the two groups with backups (SPARSE_SUPER2); 0 none
//	            (all others kept as found)
//
// Source: "The Second Extended Filesystem", superblock; ext4/super.rst of the kernel's documentation for the later fields.
type Superblock struct {
	Inodes, Blocks, ReservedBlocks, FreeBlocks, FreeInodes uint32
	FirstDataBlock, LogBlockSize, LogFragSize              uint32
	BlocksPerGroup, FragsPerGroup, InodesPerGroup          uint32
	MountTime, WriteTime                                   uint32
	MountCount                                             uint16
	MaxMountCount                                          int16
	Magic, State, Errors, MinorRevision                    uint16
	LastCheck, CheckInterval, CreatorOS, Revision          uint32
	ReservedUID, ReservedGID                               uint16
	FirstIno                                               Ino    // 11 in revision 0
	InodeSize                                              uint16 // 128 in revision 0
	GroupNumber                                            uint16
	Compat                                                 Compat // 0 in revision 0, as the next two
	Incompat                                               Incompat
	ROCompat                                               ROCompat
	UUID                                                   [16]byte
	VolumeName                                             [16]byte
	LastMounted                                            [64]byte
	AlgorithmBitmap                                        uint32
	PreallocBlocks, PreallocDirBlocks                      uint8
	ReservedGDTBlocks                                      uint16
	JournalUUID                                            [16]byte
	JournalIno                                             Ino
	JournalDev                                             uint32
	LastOrphan                                             Ino
	HashSeed                                               HashSeed
	DefHashVersion                                         HashVersion
	JournalBackupType                                      uint8
	DescSize                                               uint16
	DefaultMountOpts, FirstMetaBG, MkfsTime                uint32
	MinExtraIsize, WantExtraIsize                          uint16
	Flags                                                  uint32
	RaidStride                                             uint16
	RaidStripeWidth                                        uint32
	KBytesWritten                                          uint64
	ErrorCount, FirstErrorTime, LastErrorTime              uint32
	OverheadBlocks                                         uint32
	BackupGroups                                           [2]Group
}

// DecodeSuperblock reads a superblock from the first 1024 bytes of b and makes sure that it is one, of a known revision: more
// is checked by Verify. For revision 0 the fields that came later get the values that revision 0 stands for.
// Errors: *Bad.
func DecodeSuperblock(b []byte) (Superblock, error) {
	if len(b) < SuperSize {
		return Superblock{}, bad("superblock", "length", uint64(len(b)), "%d bytes", SuperSize)
	}
	le := binary.LittleEndian
	var sb Superblock
	sb.Inodes = le.Uint32(b[0:])
	sb.Blocks = le.Uint32(b[4:])
	sb.ReservedBlocks = le.Uint32(b[8:])
	sb.FreeBlocks = le.Uint32(b[12:])
	sb.FreeInodes = le.Uint32(b[16:])
	sb.FirstDataBlock = le.Uint32(b[20:])
	sb.LogBlockSize = le.Uint32(b[24:])
	sb.LogFragSize = le.Uint32(b[28:])
	sb.BlocksPerGroup = le.Uint32(b[32:])
	sb.FragsPerGroup = le.Uint32(b[36:])
	sb.InodesPerGroup = le.Uint32(b[40:])
	sb.MountTime = le.Uint32(b[44:])
	sb.WriteTime = le.Uint32(b[48:])
	sb.MountCount = le.Uint16(b[52:])
	sb.MaxMountCount = int16(le.Uint16(b[54:]))
	sb.Magic = le.Uint16(b[56:])
	sb.State = le.Uint16(b[58:])
	sb.Errors = le.Uint16(b[60:])
	sb.MinorRevision = le.Uint16(b[62:])
	sb.LastCheck = le.Uint32(b[64:])
	sb.CheckInterval = le.Uint32(b[68:])
	sb.CreatorOS = le.Uint32(b[72:])
	sb.Revision = le.Uint32(b[76:])
	sb.ReservedUID = le.Uint16(b[80:])
	sb.ReservedGID = le.Uint16(b[82:])
	if sb.Magic != Magic {
		return sb, bad("superblock", "magic number", uint64(sb.Magic), "%d (0xEF53)", Magic)
	}
	if sb.Revision > RevDynamic {
		return sb, bad("superblock", "revision", uint64(sb.Revision), "0 or 1")
	}
	if sb.Revision == RevOld {
		sb.FirstIno, sb.InodeSize = OldFirstIno, OldInodeSize
		return sb, nil
	}
	sb.FirstIno = Ino(le.Uint32(b[84:]))
	sb.InodeSize = le.Uint16(b[88:])
	sb.GroupNumber = le.Uint16(b[90:])
	sb.Compat = Compat(le.Uint32(b[92:]))
	sb.Incompat = Incompat(le.Uint32(b[96:]))
	sb.ROCompat = ROCompat(le.Uint32(b[100:]))
	copy(sb.UUID[:], b[104:])
	copy(sb.VolumeName[:], b[120:])
	copy(sb.LastMounted[:], b[136:])
	sb.AlgorithmBitmap = le.Uint32(b[200:])
	sb.PreallocBlocks = b[204]
	sb.PreallocDirBlocks = b[205]
	sb.ReservedGDTBlocks = le.Uint16(b[206:])
	copy(sb.JournalUUID[:], b[208:])
	sb.JournalIno = Ino(le.Uint32(b[224:]))
	sb.JournalDev = le.Uint32(b[228:])
	sb.LastOrphan = Ino(le.Uint32(b[232:]))
	for i := range sb.HashSeed {
		sb.HashSeed[i] = le.Uint32(b[236+4*i:])
	}
	sb.DefHashVersion = HashVersion(b[252])
	sb.JournalBackupType = b[253]
	sb.DescSize = le.Uint16(b[254:])
	sb.DefaultMountOpts = le.Uint32(b[256:])
	sb.FirstMetaBG = le.Uint32(b[260:])
	sb.MkfsTime = le.Uint32(b[264:])
	sb.MinExtraIsize = le.Uint16(b[348:])
	sb.WantExtraIsize = le.Uint16(b[350:])
	sb.Flags = le.Uint32(b[352:])
	sb.RaidStride = le.Uint16(b[356:])
	sb.RaidStripeWidth = le.Uint32(b[368:])
	sb.KBytesWritten = le.Uint64(b[376:])
	sb.ErrorCount = le.Uint32(b[404:])
	sb.FirstErrorTime = le.Uint32(b[408:])
	sb.LastErrorTime = le.Uint32(b[460:])
	sb.OverheadBlocks = le.Uint32(b[584:])
	sb.BackupGroups[0] = Group(le.Uint32(b[588:]))
	sb.BackupGroups[1] = Group(le.Uint32(b[592:]))
	return sb, nil
}

// EncodeTo writes the superblock over the first 1024 bytes of b, which hold the old one or zeros: what this package does not
// know stays. A revision 0 superblock only has its first 84 bytes written.
func (sb *Superblock) EncodeTo(b []byte) {
	_ = b[SuperSize-1]
	le := binary.LittleEndian
	le.PutUint32(b[0:], sb.Inodes)
	le.PutUint32(b[4:], sb.Blocks)
	le.PutUint32(b[8:], sb.ReservedBlocks)
	le.PutUint32(b[12:], sb.FreeBlocks)
	le.PutUint32(b[16:], sb.FreeInodes)
	le.PutUint32(b[20:], sb.FirstDataBlock)
	le.PutUint32(b[24:], sb.LogBlockSize)
	le.PutUint32(b[28:], sb.LogFragSize)
	le.PutUint32(b[32:], sb.BlocksPerGroup)
	le.PutUint32(b[36:], sb.FragsPerGroup)
	le.PutUint32(b[40:], sb.InodesPerGroup)
	le.PutUint32(b[44:], sb.MountTime)
	le.PutUint32(b[48:], sb.WriteTime)
	le.PutUint16(b[52:], sb.MountCount)
	le.PutUint16(b[54:], uint16(sb.MaxMountCount))
	le.PutUint16(b[56:], sb.Magic)
	le.PutUint16(b[58:], sb.State)
	le.PutUint16(b[60:], sb.Errors)
	le.PutUint16(b[62:], sb.MinorRevision)
	le.PutUint32(b[64:], sb.LastCheck)
	le.PutUint32(b[68:], sb.CheckInterval)
	le.PutUint32(b[72:], sb.CreatorOS)
	le.PutUint32(b[76:], sb.Revision)
	le.PutUint16(b[80:], sb.ReservedUID)
	le.PutUint16(b[82:], sb.ReservedGID)
	if sb.Revision == RevOld {
		return
	}
	le.PutUint32(b[84:], uint32(sb.FirstIno))
	le.PutUint16(b[88:], sb.InodeSize)
	le.PutUint16(b[90:], sb.GroupNumber)
	le.PutUint32(b[92:], uint32(sb.Compat))
	le.PutUint32(b[96:], uint32(sb.Incompat))
	le.PutUint32(b[100:], uint32(sb.ROCompat))
	copy(b[104:], sb.UUID[:])
	copy(b[120:], sb.VolumeName[:])
	copy(b[136:], sb.LastMounted[:])
	le.PutUint32(b[200:], sb.AlgorithmBitmap)
	b[204] = sb.PreallocBlocks
	b[205] = sb.PreallocDirBlocks
	le.PutUint16(b[206:], sb.ReservedGDTBlocks)
	copy(b[208:], sb.JournalUUID[:])
	le.PutUint32(b[224:], uint32(sb.JournalIno))
	le.PutUint32(b[228:], sb.JournalDev)
	le.PutUint32(b[232:], uint32(sb.LastOrphan))
	for i, w := range sb.HashSeed {
		le.PutUint32(b[236+4*i:], w)
	}
	b[252] = uint8(sb.DefHashVersion)
	b[253] = sb.JournalBackupType
	le.PutUint16(b[254:], sb.DescSize)
	le.PutUint32(b[256:], sb.DefaultMountOpts)
	le.PutUint32(b[260:], sb.FirstMetaBG)
	le.PutUint32(b[264:], sb.MkfsTime)
	le.PutUint16(b[348:], sb.MinExtraIsize)
	le.PutUint16(b[350:], sb.WantExtraIsize)
	le.PutUint32(b[352:], sb.Flags)
	le.PutUint16(b[356:], sb.RaidStride)
	le.PutUint32(b[368:], sb.RaidStripeWidth)
	le.PutUint64(b[376:], sb.KBytesWritten)
	le.PutUint32(b[404:], sb.ErrorCount)
	le.PutUint32(b[408:], sb.FirstErrorTime)
	le.PutUint32(b[460:], sb.LastErrorTime)
	le.PutUint32(b[584:], sb.OverheadBlocks)
	le.PutUint32(b[588:], uint32(sb.BackupGroups[0]))
	le.PutUint32(b[592:], uint32(sb.BackupGroups[1]))
}

// BlockSize gives the block size in bytes, or 0 when LogBlockSize is out of range.
func (sb *Superblock) BlockSize() uint32 {
	if sb.LogBlockSize > MaxBlockBits-MinBlockBits {
		return 0
	}
	return MinBlockSize << sb.LogBlockSize
}

// Label gives the volume name up to the first zero byte.
func (sb *Superblock) Label() string { return cString(sb.VolumeName[:]) }

// LastMountedOn gives the directory of the last mount.
func (sb *Superblock) LastMountedOn() string { return cString(sb.LastMounted[:]) }

// SetLastMounted notes the directory of a mount, cut to 63 bytes.
func (sb *Superblock) SetLastMounted(dir string) {
	sb.LastMounted = [64]byte{}
	copy(sb.LastMounted[:63], dir)
}

// Clean reports whether the filesystem was unmounted cleanly and no error was noted.
func (sb *Superblock) Clean() bool {
	return sb.State&StateValid != 0 && sb.State&(StateErrors|StateOrphan) == 0 && sb.Incompat&IncompatRecover == 0
}

// HasFileType reports whether directory entries carry the type of their inode.
func (sb *Superblock) HasFileType() bool { return sb.Incompat&IncompatFileType != 0 }

// HasDirIndex reports whether directories may have an index (Inode flag FlagIndex).
func (sb *Superblock) HasDirIndex() bool { return sb.Compat&CompatDirIndex != 0 }

// HashVersionOf gives the version to hash names with in a directory whose index root says v: signed versions turn into the
// unsigned ones where Flags says so.
func (sb *Superblock) HashVersionOf(v HashVersion) HashVersion {
	if v <= HashTEA && sb.Flags&FlagUnsignedHash != 0 {
		return v + (HashLegacyUnsigned - HashLegacy)
	}
	return v
}

func cString(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
