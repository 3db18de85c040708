package mkfs

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Options says what to make. The zero value makes what mke2fs -t ext2 makes by default.
type Options struct {
	BlockSize      uint32  // bytes: 1024, 2048 … 65536. 0: 1024 below 512 MiB, else 4096
	InodeSize      uint32  // bytes: 128, 256, 512, 1024. 0: 256
	Inodes         uint32  // how many at least. 0: as InodeRatio says
	InodeRatio     uint32  // bytes of device for each inode. 0: 8192 below 3 MiB, 4096 below 512 MiB, then 16384, 32768, 65536
	BlocksPerGroup uint32  // a multiple of 8, at least 256. 0: as many as a bitmap of one block counts
	Reserved       float64 // percent of the blocks that only root may use, at most 50. 0: 5; negative: none

	// Features changes the default set, as mke2fs -O does: names separated by commas or blanks, each put on, or off by a ^
	// before it; "none" takes all off. The default: ext_attr, resize_inode, dir_index, filetype, sparse_super, large_file.
	// Others to choose: sparse_super2, meta_bg (needs ^resize_inode), dir_prealloc, imagic_inodes, extra_isize.
	Features string

	Label    string            // at most 16 bytes
	UUID     [16]byte          // zero: random
	HashSeed disk.HashSeed     // zero: made from the UUID
	Hash     *disk.HashVersion // of directory indexes. nil: disk.HashHalfMD4

	RootUID, RootGID uint32 // owner of the root directory, unless Fill sets it
	RootMode         uint16 // permissions of the root directory, unless Fill sets them. 0: 0755

	Time       time.Time // of everything made here. Zero: now
	ClampTimes bool      // times of files that are later than Time become Time

	// Zeroed says that the device reads as zeros already, as a new sparse file does: then no zeros are written.
	Zeroed bool

	// Fill stores the contents, by FromDir, FromTar, FromFS or calls of its own. nil: an empty filesystem.
	Fill func(*Builder) error

	// Progress, when set, is called now and then while contents are stored, and before each file. An error stops Format,
	// which returns it.
	Progress func(Progress) error
}

// Progress says how far the filling is.
type Progress struct {
	Path  string // being stored
	Nodes int64  // names stored
	Bytes int64  // of contents stored, holes not counted
}

// Zeroer is implemented by a writer that knows a cheap way to make a range read as zeros. Format uses it on devices that are
// not Zeroed.
type Zeroer interface {
	ZeroRange(off, length int64) error
}

// Features of mke2fs -t ext2, and those that may be chosen.
const (
	defaultCompat   = disk.CompatExtAttr | disk.CompatResizeInode | disk.CompatDirIndex
	defaultIncompat = disk.IncompatFileType
	defaultROCompat = disk.ROCompatSparseSuper | disk.ROCompatLargeFile

	makeCompat   = defaultCompat | disk.CompatSparseSuper2 | disk.CompatDirPrealloc | disk.CompatImagic
	makeIncompat = disk.KnownIncompat
	makeROCompat = disk.KnownROCompat
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("mkfs: %s: %w", fmt.Sprintf(format, args...), errno.INVAL)
}

// features works out the feature words.
func (o *Options) features() (c disk.Compat, i disk.Incompat, r disk.ROCompat, err error) {
	c, i, r = defaultCompat, defaultIncompat, defaultROCompat
	for _, word := range strings.FieldsFunc(o.Features, func(r rune) bool { return r == ',' || r == ' ' }) {
		if word == "none" {
			c, i, r = 0, 0, 0
			continue
		}
		name, off := strings.CutPrefix(word, "^")
		fc, fi, fr := disk.ParseFeature(name)
		switch {
		case fc == 0 && fi == 0 && fr == 0:
			return 0, 0, 0, invalid("feature %q is not known", name)
		case off:
			c, i, r = c&^fc, i&^fi, r&^fr
		case fc&^makeCompat != 0 || fi&^makeIncompat != 0 || fr&^makeROCompat != 0:
			return 0, 0, 0, invalid("feature %q cannot be made; those of ext2 can: %s %s %s", name, disk.Compat(makeCompat), makeIncompat, makeROCompat)
		default:
			c, i, r = c|fc, i|fi, r|fr
		}
	}
	switch {
	case i&disk.IncompatMetaBG != 0 && c&disk.CompatResizeInode != 0:
		return 0, 0, 0, invalid("features meta_bg and resize_inode exclude each other: add ^resize_inode")
	case c&disk.CompatResizeInode != 0 && r&disk.ROCompatSparseSuper == 0 && c&disk.CompatSparseSuper2 == 0:
		return 0, 0, 0, invalid("feature resize_inode needs sparse_super: add ^resize_inode")
	}
	return c, i, r, nil
}

// complete fills what was left open and checks each option alone. size is the device's.
func (o Options) complete(size int64) (Options, error) {
	if size < 0 {
		return o, invalid("size %d is negative", size)
	}
	if o.BlockSize == 0 {
		o.BlockSize = 4096
		if size < 512<<20 {
			o.BlockSize = 1024
		}
	}
	if o.BlockSize < disk.MinBlockSize || o.BlockSize > disk.MaxBlockSize || o.BlockSize&(o.BlockSize-1) != 0 {
		return o, invalid("block size %d is not a power of two from 1024 to 65536", o.BlockSize)
	}
	if o.InodeSize == 0 {
		o.InodeSize = 256
	}
	if o.InodeSize < disk.OldInodeSize || o.InodeSize > min(disk.MaxInodeSize, o.BlockSize) || o.InodeSize&(o.InodeSize-1) != 0 {
		return o, invalid("inode size %d is not a power of two from 128 to %d", o.InodeSize, min(disk.MaxInodeSize, o.BlockSize))
	}
	if o.InodeRatio == 0 {
		switch {
		case size < 3<<20:
			o.InodeRatio = 8192
		case size < 512<<20:
			o.InodeRatio = 4096
		case size < 4<<40:
			o.InodeRatio = 16384
		case size < 16<<40:
			o.InodeRatio = 32768
		default:
			o.InodeRatio = 65536
		}
		o.InodeRatio = max(o.InodeRatio, o.BlockSize)
	}
	if o.InodeRatio < 1024 {
		return o, invalid("inode ratio %d is below 1024 bytes", o.InodeRatio)
	}
	if o.BlocksPerGroup != 0 && (o.BlocksPerGroup < 256 || o.BlocksPerGroup > maxBlocksPerGroup(o.BlockSize) || o.BlocksPerGroup%8 != 0) {
		return o, invalid("%d blocks in a group: want a multiple of 8 from 256 to %d", o.BlocksPerGroup, maxBlocksPerGroup(o.BlockSize))
	}
	switch {
	case o.Reserved == 0:
		o.Reserved = 5
	case o.Reserved < 0:
		o.Reserved = 0
	case o.Reserved > 50 || math.IsNaN(o.Reserved):
		return o, invalid("%g percent of reserved blocks: at most 50", o.Reserved)
	}
	if len(o.Label) > 16 || strings.ContainsRune(o.Label, 0) {
		return o, invalid("label %q: at most 16 bytes, none of them zero", o.Label)
	}
	if o.RootMode&^disk.ModePerm != 0 {
		return o, invalid("mode %#o of the root directory has more than permissions", o.RootMode)
	}
	if o.RootMode == 0 {
		o.RootMode = 0o755
	}
	if o.Hash == nil {
		v := disk.HashHalfMD4
		o.Hash = &v
	}
	if *o.Hash > disk.HashTEA {
		return o, invalid("hash version %d: 0 to 2", *o.Hash)
	}
	if o.UUID == ([16]byte{}) {
		if _, err := io.ReadFull(rand.Reader, o.UUID[:]); err != nil {
			return o, fmt.Errorf("mkfs: random UUID: %w", err)
		}
		o.UUID[6] = o.UUID[6]&0x0F | 0x40 // version 4
		o.UUID[8] = o.UUID[8]&0x3F | 0x80 // RFC 9562's variant
	}
	if o.HashSeed == (disk.HashSeed{}) {
		sum := sha256.Sum256(append([]byte("ext2 directory hash seed of "), o.UUID[:]...))
		for i := range o.HashSeed {
			o.HashSeed[i] = binary.LittleEndian.Uint32(sum[4*i:])
		}
	}
	if o.Time.IsZero() {
		o.Time = time.Now()
	}
	if s := o.Time.Unix(); s < 0 || s > math.MaxUint32 {
		return o, invalid("time %v is not between 1970 and 2106", o.Time)
	}
	return o, nil
}

// ParseUUID reads the usual form, 8-4-4-4-12 hexadecimal digits; the dashes may be left out.
func ParseUUID(s string) (id [16]byte, err error) {
	b, err := hex.DecodeString(strings.ReplaceAll(s, "-", ""))
	if err != nil || len(b) != 16 {
		return id, invalid("%q is not a UUID", s)
	}
	return [16]byte(b), nil
}

// SourceDateEpoch reads the value of the environment variable SOURCE_DATE_EPOCH, for Options.Time: seconds since 1970.
// An empty value gives the zero time.
func SourceDateEpoch(value string) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	var sec int64
	if n, err := fmt.Sscanf(value+"\n", "%d\n", &sec); n != 1 || err != nil || sec < 0 || sec > math.MaxUint32 {
		return time.Time{}, invalid("SOURCE_DATE_EPOCH %q is not a number of seconds since 1970", value)
	}
	return time.Unix(sec, 0).UTC(), nil
}
