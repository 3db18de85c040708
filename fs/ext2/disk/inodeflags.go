package disk

import "math/bits"

// InodeFlags are the flags of chattr(1), and some of the filesystem's own.
type InodeFlags uint32

// Inode flags.
const (
	FlagSecureDelete InodeFlags = 0x00000001 // s
	FlagUndelete     InodeFlags = 0x00000002 // u
	FlagCompress     InodeFlags = 0x00000004 // c
	FlagSync         InodeFlags = 0x00000008 // S: writes are synchronous
	FlagImmutable    InodeFlags = 0x00000010 // i
	FlagAppend       InodeFlags = 0x00000020 // a
	FlagNoDump       InodeFlags = 0x00000040 // d
	FlagNoAtime      InodeFlags = 0x00000080 // A
	FlagDirty        InodeFlags = 0x00000100
	FlagCompressed   InodeFlags = 0x00000200
	FlagNoCompress   InodeFlags = 0x00000400
	FlagEncrypt      InodeFlags = 0x00000800
	FlagIndex        InodeFlags = 0x00001000 // I: the directory has an index (htree)
	FlagImagic       InodeFlags = 0x00002000
	FlagJournalData  InodeFlags = 0x00004000 // j
	FlagNoTail       InodeFlags = 0x00008000 // t
	FlagDirSync      InodeFlags = 0x00010000 // D: changes of the directory are synchronous
	FlagTopDir       InodeFlags = 0x00020000 // T: its subdirectories are spread over the groups
	FlagHugeFile     InodeFlags = 0x00040000
	FlagExtents      InodeFlags = 0x00080000
	FlagVerity       InodeFlags = 0x00100000
	FlagEAInode      InodeFlags = 0x00200000
	FlagNoCow        InodeFlags = 0x00800000
	FlagDAX          InodeFlags = 0x02000000
	FlagInlineData   InodeFlags = 0x10000000
	FlagProjInherit  InodeFlags = 0x20000000
	FlagCasefold     InodeFlags = 0x40000000
	FlagReserved     InodeFlags = 0x80000000

	// FlagsUserVisible are those that lsattr shows, FlagsUserModifiable those that chattr may change.
	FlagsUserVisible    InodeFlags = 0x0003DFFF
	FlagsUserModifiable InodeFlags = 0x000380FF | FlagJournalData
	// FlagsInherited pass from a directory to what is made in it; see Mask.
	FlagsInherited = FlagSecureDelete | FlagUndelete | FlagCompress | FlagSync | FlagNoDump | FlagNoAtime | FlagCompressed |
		FlagNoCompress | FlagJournalData | FlagNoTail | FlagDirSync
	// FlagsForeign change the meaning of the rest of the inode and belong to features that ext2 refuses.
	FlagsForeign = FlagHugeFile | FlagExtents | FlagEAInode | FlagInlineData | FlagEncrypt
)

// Mask leaves the flags that something of the given mode may have when it inherits them: directories all, regular files all
// but DIRSYNC and TOPDIR, others only NODUMP and NOATIME.
func (f InodeFlags) Mask(mode uint16) InodeFlags {
	switch mode & ModeType {
	case ModeDir:
		return f
	case ModeRegular:
		return f &^ (FlagDirSync | FlagTopDir)
	}
	return f & (FlagNoDump | FlagNoAtime)
}

var inodeFlagNames = []string{
	"secure_deletion", "undelete", "compress", "sync", "immutable", "append_only", "no_dump", "no_atime", "dirty",
	"compressed_clusters", "no_compress", "encrypted", "indexed_directory", "imagic", "journal_data", "no_tail_merging", "dirsync",
	"top_of_directory_hierarchies", "huge_file", "extents", "verity", "ea_inode", "", "no_cow", "", "dax", "", "", "inline_data",
	"project_inherit", "casefold", "reserved",
}

// Names lists the flags.
func (f InodeFlags) Names() []string {
	var list []string
	for w := uint32(f); w != 0; w &= w - 1 {
		i := bits.TrailingZeros32(w)
		if inodeFlagNames[i] == "" {
			list = append(list, "flag"+string(rune('0'+i/10))+string(rune('0'+i%10)))
			continue
		}
		list = append(list, inodeFlagNames[i])
	}
	return list
}
