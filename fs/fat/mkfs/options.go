package mkfs

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/iomapfs/iomapfs/fs/fat/codepage"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Options says what to make. The zero value makes what mkfs.fat makes by default.
type Options struct {
	Width       disk.Width // 0: by the size
	SectorSize  uint32     // bytes: 512 … 4096. 0: 512
	ClusterSize uint32     // bytes: a power of two from the sector size to 128 sectors. 0: by size and width
	FATs        uint32     // copies, 1 to 15. 0: 2
	RootEntries uint32     // slots of the root directory of FAT12 and FAT16. 0: 512
	Reserved    uint32     // sectors before the first FAT. 0: 1, or 32 on FAT32
	Hidden      uint32     // sectors before the partition, for boot loaders
	Media       uint8      // 0: F8
	NoAlign     bool       // structures are not put at multiples of the cluster size

	Label    string        // at most 11 bytes in the code page. Letters become capitals
	Serial   *uint32       // volume id. nil: random
	CodePage disk.CodePage // of short names and the label. nil: 437

	Time time.Time      // of what has none of its own. Zero: now
	Zone *time.Location // times on the medium are local to it. nil: UTC

	ClampTimes bool // times of files that are later than Time become Time

	// Zeroed says that the device reads as zeros already, as a new sparse file does: then no zeros are written.
	Zeroed bool

	// Fill stores the contents, by FromDir. nil: an empty filesystem.
	Fill func(*Builder) error

	// Progress, when set, is called before each file and now and then while it is stored. An error stops Format, which returns it.
	Progress func(Progress) error
}

// Progress says how far the filling is.
type Progress struct {
	Path  string // being stored
	Nodes int64  // names stored
	Bytes int64  // of contents stored
}

// Zeroer is implemented by a writer that knows a cheap way to make a range read as zeros. Format uses it on devices that are
// not Zeroed.
type Zeroer interface {
	ZeroRange(off, length int64) error
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("mkfs: %s: %w", fmt.Sprintf(format, args...), errno.INVAL)
}

// ParseSerial reads a volume id as fsck.fat and blkid write it, 1234-ABCD, with or without the dash.
func ParseSerial(s string) (uint32, error) {
	n, err := strconv.ParseUint(strings.Replace(s, "-", "", 1), 16, 32)
	if err != nil {
		return 0, invalid("volume id %q: want eight hexadecimal digits, as 1234-ABCD", s)
	}
	return uint32(n), nil
}

// complete fills what was left open, but what layout decides, and checks each option alone.
func (o Options) complete() (Options, [11]byte, error) {
	var label [11]byte
	if o.SectorSize == 0 {
		o.SectorSize = 512
	}
	if o.FATs == 0 {
		o.FATs = 2
	}
	if o.RootEntries == 0 {
		o.RootEntries = 512
	}
	if o.Media == 0 {
		o.Media = 0xF8
	}
	if o.Time.IsZero() {
		o.Time = time.Now()
	}
	if o.Zone == nil {
		o.Zone = time.UTC
	}
	if o.CodePage == nil {
		cp, err := codepage.Find(codepage.Default)
		if err != nil {
			return o, label, err
		}
		o.CodePage = cp
	}
	if o.Serial == nil {
		var b [4]byte
		if _, err := io.ReadFull(rand.Reader, b[:]); err != nil {
			return o, label, fmt.Errorf("mkfs: random volume id: %w", err)
		}
		n := binary.LittleEndian.Uint32(b[:])
		o.Serial = &n
	}
	switch {
	case o.Width != 0 && o.Width != disk.FAT12 && o.Width != disk.FAT16 && o.Width != disk.FAT32:
		return o, label, invalid("width %d is not 12, 16 or 32", o.Width)
	case o.SectorSize < 512 || o.SectorSize > 4096 || o.SectorSize&(o.SectorSize-1) != 0:
		return o, label, invalid("sector size %d is not 512, 1024, 2048 or 4096", o.SectorSize)
	case o.ClusterSize != 0 && (o.ClusterSize < o.SectorSize || o.ClusterSize > 128*o.SectorSize || o.ClusterSize&(o.ClusterSize-1) != 0):
		return o, label, invalid("cluster size %d is not a power of two from %d to %d", o.ClusterSize, o.SectorSize, 128*o.SectorSize)
	case o.FATs > 15:
		return o, label, invalid("%d FATs: at most 15", o.FATs)
	case o.RootEntries > 65535:
		return o, label, invalid("%d entries of the root directory: at most 65535", o.RootEntries)
	case o.Reserved > 65535:
		return o, label, invalid("%d reserved sectors: at most 65535", o.Reserved)
	case o.Media < 0xF8 && o.Media != 0xF0:
		return o, label, invalid("media byte %#x: want 0xf0, or 0xf8 and above", o.Media)
	}
	label, ok := disk.EncodeLabel(o.Label, o.CodePage)
	if !ok {
		return o, label, invalid("label %q: at most 11 bytes in the code page, without the characters *?.,;:/\\|+=<>[]\"", o.Label)
	}
	return o, label, nil
}
