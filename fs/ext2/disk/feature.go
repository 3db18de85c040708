package disk

import (
	"fmt"
	"math/bits"
	"strings"
)

// Compat are features that a driver may ignore.
type Compat uint32

// Incompat are features without which a driver must not touch the filesystem.
type Incompat uint32

// ROCompat are features without which a driver may read but not write.
type ROCompat uint32

// Features of s_feature_compat.
const (
	CompatDirPrealloc   Compat = 0x0001
	CompatImagic        Compat = 0x0002
	CompatHasJournal    Compat = 0x0004 // ext3: clean ones serve as ext2
	CompatExtAttr       Compat = 0x0008
	CompatResizeInode   Compat = 0x0010
	CompatDirIndex      Compat = 0x0020
	CompatLazyBG        Compat = 0x0040
	CompatExcludeInode  Compat = 0x0080
	CompatExcludeBitmap Compat = 0x0100
	CompatSparseSuper2  Compat = 0x0200 // backups of the superblock only in Superblock.BackupGroups
	CompatFastCommit    Compat = 0x0400
	CompatStableInodes  Compat = 0x0800
	CompatOrphanFile    Compat = 0x1000
)

// Features of s_feature_incompat.
const (
	IncompatCompression Incompat = 0x0001
	IncompatFileType    Incompat = 0x0002 // directory entries carry the type
	IncompatRecover     Incompat = 0x0004 // the journal must be replayed first
	IncompatJournalDev  Incompat = 0x0008
	IncompatMetaBG      Incompat = 0x0010
	IncompatExtents     Incompat = 0x0040
	Incompat64Bit       Incompat = 0x0080
	IncompatMMP         Incompat = 0x0100
	IncompatFlexBG      Incompat = 0x0200
	IncompatEAInode     Incompat = 0x0400
	IncompatDirData     Incompat = 0x1000
	IncompatCsumSeed    Incompat = 0x2000
	IncompatLargeDir    Incompat = 0x4000
	IncompatInlineData  Incompat = 0x8000
	IncompatEncrypt     Incompat = 0x10000
	IncompatCasefold    Incompat = 0x20000
)

// Features of s_feature_ro_compat.
const (
	ROCompatSparseSuper   ROCompat = 0x0001 // backups of the superblock only in groups 0, 1 and powers of 3, 5, 7
	ROCompatLargeFile     ROCompat = 0x0002 // there is or was a file of 2 GiB or more
	ROCompatBtreeDir      ROCompat = 0x0004 // never in use
	ROCompatHugeFile      ROCompat = 0x0008
	ROCompatGDTCsum       ROCompat = 0x0010
	ROCompatDirNlink      ROCompat = 0x0020
	ROCompatExtraIsize    ROCompat = 0x0040 // inodes have at least Superblock.MinExtraIsize bytes of extra fields
	ROCompatHasSnapshot   ROCompat = 0x0080
	ROCompatQuota         ROCompat = 0x0100
	ROCompatBigalloc      ROCompat = 0x0200
	ROCompatMetadataCsum  ROCompat = 0x0400
	ROCompatReplica       ROCompat = 0x0800
	ROCompatReadOnly      ROCompat = 0x1000
	ROCompatProject       ROCompat = 0x2000
	ROCompatSharedBlocks  ROCompat = 0x4000
	ROCompatVerity        ROCompat = 0x8000
	ROCompatOrphanPresent ROCompat = 0x10000
)

// What this implementation of ext2 understands. DIR_INDEX is honoured by keeping or clearing Inode flag FlagIndex.
// A new inode on a filesystem with EXTRA_ISIZE gets Superblock.WantExtraIsize bytes of extra fields.
const (
	KnownCompat = CompatDirPrealloc | CompatImagic | CompatHasJournal | CompatExtAttr | CompatResizeInode | CompatDirIndex |
		CompatSparseSuper2
	KnownIncompat = IncompatFileType | IncompatMetaBG
	KnownROCompat = ROCompatSparseSuper | ROCompatLargeFile | ROCompatExtraIsize
)

var compatNames = []string{
	"dir_prealloc", "imagic_inodes", "has_journal", "ext_attr", "resize_inode", "dir_index", "lazy_bg", "snapshot_inode",
	"snapshot_bitmap", "sparse_super2", "fast_commit", "stable_inodes", "orphan_file",
}

var incompatNames = []string{
	"compression", "filetype", "needs_recovery", "journal_dev", "meta_bg", "", "extent", "64bit", "mmp", "flex_bg", "ea_inode", "",
	"dirdata", "metadata_csum_seed", "large_dir", "inline_data", "encrypt", "casefold",
}

var roCompatNames = []string{
	"sparse_super", "large_file", "btree_dir", "huge_file", "uninit_bg", "dir_nlink", "extra_isize", "snapshot", "quota", "bigalloc",
	"metadata_csum", "replica", "read-only", "project", "shared_blocks", "verity", "orphan_present",
}

// names lists the set bits by the names that mke2fs and dumpe2fs use; a bit without one is FEATURE_<letter><bit>, as
// dumpe2fs prints it.
func names(word uint32, table []string, letter byte) []string {
	var list []string
	for ; word != 0; word &= word - 1 {
		bit := bits.TrailingZeros32(word)
		if bit < len(table) && table[bit] != "" {
			list = append(list, table[bit])
		} else {
			list = append(list, fmt.Sprintf("FEATURE_%c%d", letter, bit))
		}
	}
	return list
}

// Names lists the features by mke2fs's names.
func (f Compat) Names() []string { return names(uint32(f), compatNames, 'C') }

// Names lists the features by mke2fs's names.
func (f Incompat) Names() []string { return names(uint32(f), incompatNames, 'I') }

// Names lists the features by mke2fs's names.
func (f ROCompat) Names() []string { return names(uint32(f), roCompatNames, 'R') }

// String joins Names with spaces.
func (f Compat) String() string { return strings.Join(f.Names(), " ") }

// String joins Names with spaces.
func (f Incompat) String() string { return strings.Join(f.Names(), " ") }

// String joins Names with spaces.
func (f ROCompat) String() string { return strings.Join(f.Names(), " ") }

// ParseFeature finds the word and bit of a feature by mke2fs's name; at most one of the three results is not 0, none when the
// name is unknown.
func ParseFeature(name string) (Compat, Incompat, ROCompat) {
	find := func(table []string) uint32 {
		for i, n := range table {
			if n == name && n != "" {
				return 1 << i
			}
		}
		return 0
	}
	if b := find(compatNames); b != 0 {
		return Compat(b), 0, 0
	}
	if b := find(incompatNames); b != 0 {
		return 0, Incompat(b), 0
	}
	return 0, 0, ROCompat(find(roCompatNames))
}

// UnknownIncompat gives the features that forbid a mount; 0 is the good answer. When IncompatRecover is among them the
// journal must be replayed first, by "e2fsck -p DEVICE" or a mount as ext3 or ext4.
func (sb *Superblock) UnknownIncompat() Incompat { return sb.Incompat &^ KnownIncompat }

// UnknownROCompat gives the features that forbid writing; 0 is the good answer.
func (sb *Superblock) UnknownROCompat() ROCompat { return sb.ROCompat &^ KnownROCompat }

// UnknownCompat gives the features that a checker or maker must know, though a mount need not.
func (sb *Superblock) UnknownCompat() Compat { return sb.Compat &^ KnownCompat }

// FeatureNames lists all features in dumpe2fs's order: compatible, incompatible, read-only compatible.
func (sb *Superblock) FeatureNames() []string {
	return append(append(sb.Compat.Names(), sb.Incompat.Names()...), sb.ROCompat.Names()...)
}
