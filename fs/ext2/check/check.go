package check

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Code says what kind of problem was found. The words are stable.
type Code string

// The problems, in the order of the passes that find them.
const (
	Super          Code = "superblock"        // a field of the superblock that makes the rest unreadable or is out of range
	Descriptor     Code = "group-descriptor"  // bitmaps or inode table outside their group, counts out of range
	ResizeInode    Code = "resize-inode"      // the file that owns the reserved descriptor blocks is not as it must be
	InodeMode      Code = "inode-mode"        // a file type that does not exist
	InodeDtime     Code = "inode-dtime"       // in use with a deletion time, or deleted without
	InodeExtra     Code = "inode-extra"       // size of the extra fields
	InodeFields    Code = "inode-fields"      // fields and flags that have to be zero
	InodeReserved  Code = "inode-reserved"    // a reserved inode that has no business
	InodeSize      Code = "inode-size"        // size and blocks do not agree
	InodeBlocks    Code = "inode-blocks"      // i_blocks is not what the inode uses
	InodeSymlink   Code = "inode-symlink"     // a symbolic link without a proper target
	InodeDevice    Code = "inode-device"      // a special file with contents
	BlockRange     Code = "block-range"       // a block pointer out of the device
	BlockClaimed   Code = "block-claimed"     // a block in use twice
	Xattr          Code = "xattr"             // attributes in block or inode that cannot be read
	XattrHash      Code = "xattr-hash"        // an attribute whose hash is wrong
	XattrRefCount  Code = "xattr-refcount"    // an attribute block used by another number of inodes than it says
	DirHole        Code = "directory-hole"    // a directory without some of its blocks
	DirBlock       Code = "directory-block"   // records that do not fill the block
	DirDots        Code = "directory-dots"    // "." or ".." missing, doubled or wrong
	EntryInode     Code = "entry-inode"       // a name for an inode that cannot be, or is not in use
	EntryName      Code = "entry-name"        // a name that cannot be
	EntryType      Code = "entry-type"        // the type in an entry is not that of the inode
	EntryDuplicate Code = "entry-duplicate"   // a name twice in one directory
	EntryDirectory Code = "entry-directory"   // a second name for a directory
	Index          Code = "directory-index"   // an index that does not lead to the names
	Root           Code = "root"              // no root directory
	Parent         Code = "parent"            // ".." does not lead to the directory that names this one
	Unconnected    Code = "unconnected"       // a directory or file in use that no path leads to
	LinkCount      Code = "link-count"        // links are not the number of names
	BlockBitmap    Code = "block-bitmap"      // blocks in use marked free, or the other way round
	InodeBitmap    Code = "inode-bitmap"      // likewise inodes
	Padding        Code = "bitmap-padding"    // bits behind the end of a bitmap that are not set
	GroupCounts    Code = "group-counts"      // free blocks, free inodes, directories of a group
	SuperCounts    Code = "superblock-counts" // free blocks, free inodes
)

// Problem is one finding.
type Problem struct {
	Code  Code     `json:"code"`
	Where string   `json:"where"` // "inode 12", "group 3", "inode 12, block 40, byte 24"
	What  string   `json:"what"`  // what was found and what should be there
	Ino   disk.Ino `json:"ino,omitempty"`
}

// String reads "inode 12: size is …  [inode-size]".
func (p Problem) String() string { return p.Where + ": " + p.What + " [" + string(p.Code) + "]" }

// Report is the outcome of a check.
type Report struct {
	Problems []Problem `json:"problems"`
	More     bool      `json:"more"` // the check stopped at Options.MaxProblems

	Dirty bool `json:"dirty"` // not unmounted cleanly, or errors were noted: not a problem in itself, as for e2fsck -n

	Files       uint32 `json:"files"`       // inodes in use, the reserved ones included
	Directories uint32 `json:"directories"` // among them
	UsedBlocks  uint32 `json:"used_blocks"`
	Blocks      uint32 `json:"blocks"`
	Inodes      uint32 `json:"inodes"`
}

// Clean reports that nothing was found.
func (r *Report) Clean() bool { return len(r.Problems) == 0 }

// Options says how to check. The zero value is right.
type Options struct {
	MaxProblems int // stop after so many. 0: 1000

	// Progress, when set, is called now and then with the part of the check that is done, 0 to 1.
	Progress func(done float64)
}

// errEnough ends a check with too many problems.
var errEnough = errors.New("enough problems")

// Check looks for damage in the filesystem on r, a device of size bytes. It only reads.
// The error says that the check could not be made: r cannot be read (its error is wrapped), ctx is done, there is no ext2
// (errno.INVAL), or one with features that this check does not know (errno.OPNOTSUPP). What was found until then is in the
// report. A superblock that contradicts itself is a problem, and the only one in the report.
func Check(ctx context.Context, r io.ReaderAt, size int64, o Options) (Report, error) {
	if o.MaxProblems <= 0 {
		o.MaxProblems = 1000
	}
	c := &checker{ctx: ctx, r: r, size: size, o: o, attrs: map[disk.FSBlock]*attrUse{}}
	err := c.run()
	if errors.Is(err, errEnough) {
		c.rep.More = true
		err = nil
	}
	return c.rep, err
}

// checker holds what the passes hand on: bitmaps of what is in use, a few bytes an inode, a record for each directory.
type checker struct {
	ctx  context.Context
	r    io.ReaderAt
	size int64
	o    Options
	rep  Report

	sb     disk.Superblock
	g      *disk.Geometry
	groups []groupState
	attrs  map[disk.FSBlock]*attrUse
	dirs   []dirState // by inode
}

// groupState is what is known of a group; the slices are there once something in the group is in use.
type groupState struct {
	desc   disk.GroupDesc
	known  bool        // the descriptor is sound
	blocks disk.Bitmap // found in use
	inodes disk.Bitmap // found in use
	links  []uint16    // of each inode, as it says
	refs   []uint16    // names found, at most 65535
	types  []uint8     // disk.FileType; unknown for what is not in use
	dirs   uint32
}

func (c *checker) run() error {
	for i, pass := range []func() error{c.super, c.inodes, c.directories, c.connect, c.counts} {
		if err := pass(); err != nil {
			return err
		}
		if c.g == nil {
			return nil // no geometry, no further
		}
		c.progress([]float64{0.01, 0.6, 0.9, 0.95, 1}[i])
	}
	return nil
}

func (c *checker) progress(done float64) {
	if c.o.Progress != nil {
		c.o.Progress(done)
	}
}

// found adds a problem.
func (c *checker) found(code Code, ino disk.Ino, where, what string, args ...any) error {
	if len(args) > 0 {
		what = fmt.Sprintf(what, args...)
	}
	c.rep.Problems = append(c.rep.Problems, Problem{Code: code, Where: where, What: what, Ino: ino})
	if len(c.rep.Problems) >= c.o.MaxProblems {
		return errEnough
	}
	return nil
}

// ino adds a problem of an inode.
func (c *checker) ino(code Code, ino disk.Ino, what string, args ...any) error {
	return c.found(code, ino, fmt.Sprintf("inode %d", ino), what, args...)
}

// group adds a problem of a group.
func (c *checker) group(code Code, gr disk.Group, what string, args ...any) error {
	return c.found(code, 0, fmt.Sprintf("group %d", gr), what, args...)
}

// read fills b from a byte address.
func (c *checker) read(b []byte, off int64, what string) error {
	n, err := c.r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = fmt.Errorf("only %d bytes: %w", n, errno.IO)
	}
	return fmt.Errorf("check: read %s, %d bytes at %d: %w", what, len(b), off, err)
}

// block reads one block; b is a valid one.
func (c *checker) block(buf []byte, b disk.FSBlock, what string) error {
	return c.read(buf[:c.g.BlockSize], c.g.BytesOf(b), what)
}

// claim marks a block in use and reports whether it was not before.
func (c *checker) claim(b disk.FSBlock) bool {
	gr, i := c.g.GroupIndex(b)
	p := &c.groups[gr]
	if p.blocks == nil {
		p.blocks = make(disk.Bitmap, c.g.BlockSize)
	}
	return p.blocks.Set(i)
}

// at gives a group's tables and the index of an inode, a valid one, in them. With make they are made when not there.
func (c *checker) at(ino disk.Ino, create bool) (*groupState, uint32) {
	gr, i := c.g.InodeIndex(ino)
	p := &c.groups[gr]
	if p.inodes == nil && create {
		p.inodes = make(disk.Bitmap, c.g.BlockSize)
		p.links = make([]uint16, c.g.InodesPerGroup)
		p.refs = make([]uint16, c.g.InodesPerGroup)
		p.types = make([]uint8, c.g.InodesPerGroup)
	}
	return p, i
}

// inUse reports whether an inode, a valid one, is in use, and its type.
func (c *checker) inUse(ino disk.Ino) (disk.FileType, bool) {
	p, i := c.at(ino, false)
	if p.inodes == nil || !p.inodes.Test(i) {
		return 0, false
	}
	return disk.FileType(p.types[i]), true
}

// readInode reads an inode again.
func (c *checker) readInode(ino disk.Ino, raw []byte) (disk.Inode, error) {
	gr := c.g.InodeGroup(ino)
	b, off := c.g.InodeAt(ino, c.groups[gr].desc.InodeTable)
	if err := c.read(raw[:c.g.InodeSize], c.g.BytesOf(b)+int64(off), "an inode"); err != nil {
		return disk.Inode{}, err
	}
	in, _ := disk.DecodeInode(raw[:c.g.InodeSize]) // what is wrong with it was found before
	return in, nil
}
