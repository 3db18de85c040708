package disk

import "fmt"

// Cluster is the number of a cluster, from FirstCluster on. 0 means none.
type Cluster uint32

// Sector is the number of a sector on the medium, in units of Geometry.SectorSize.
type Sector uint32

// FirstCluster is the first cluster that holds data: entries 0 and 1 of the FAT hold the media byte and the state.
const FirstCluster Cluster = 2

// Width is how many bits an entry of the FAT has: 12, 16 or 32 (of which 28 count).
type Width uint8

// Widths.
const (
	FAT12 Width = 12
	FAT16 Width = 16
	FAT32 Width = 32
)

// String reads "FAT16".
func (w Width) String() string { return fmt.Sprintf("FAT%d", uint8(w)) }

// The most clusters that a filesystem of each width has. Microsoft draws the lines a few clusters below what the entries could
// number, and software that looks at the count alone tells the width by them.
const (
	MaxClusters12 = 4084
	MaxClusters16 = 65524
	MaxClusters32 = 0x0FFFFFF5
)

// MaxFileSize is the length of the longest file: sizes have 32 bits.
const MaxFileSize = 1<<32 - 1

// MaxDirEntries is how many slots a directory has at most, so that 16 bits count them.
const MaxDirEntries = 65536

// Bad says that a structure holds what it must not.
type Bad struct {
	Struct string // "boot sector", "FAT", "directory" …
	Field  string // in the words of this package's documentation
	Got    uint64 // what it holds
	Want   string // what it may hold
}

// Error reads "boot sector: sector size is 3, want …".
func (b *Bad) Error() string {
	return fmt.Sprintf("%s: %s is %d, want %s", b.Struct, b.Field, b.Got, b.Want)
}

func bad(strct, field string, got uint64, want string, args ...any) *Bad {
	if len(args) > 0 {
		want = fmt.Sprintf(want, args...)
	}
	return &Bad{Struct: strct, Field: field, Got: got, Want: want}
}
