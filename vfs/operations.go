package vfs

import (
	"context"

	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// InodeOperations (struct inode_operations) is what a filesystem does with names and attributes. A nil entry answers
// errno.OPNOTSUPP, unless said otherwise. Directory operations are called with dir.Rw held: shared for Lookup,
// exclusive for the others (Rename: both directories, and the super block's rename lock across directories). Names
// are checked: not empty, not "." or "..", no '/', no longer than SuperBlock.NameMax. New and found inodes are
// returned with a reference that is the caller's.
type InodeOperations struct {
	// Lookup finds a name. errno.NOENT when it is not there.
	Lookup func(ctx context.Context, dir *Inode, name string) (*Inode, error)
	// Stored gives a name as the directory holds it, where that may differ from how it is asked for: in case, or as a short name.
	// errno.NOENT when it is not there. Nil: names are found only as they are stored. dir.Rw held shared.
	Stored func(ctx context.Context, dir *Inode, name string) (string, error)
	// Parent gives the number that ".." names.
	Parent func(ctx context.Context, dir *Inode) (uint64, error)
	// Create makes a regular file; Mknod a device, fifo or socket; Mkdir a directory. mode carries type and permission
	// bits before umask and ACL: the filesystem calls InitOwner and InheritACL. errno.EXIST when the name is taken.
	Create  func(ctx context.Context, cred *Cred, dir *Inode, name string, mode uint32) (*Inode, error)
	Mknod   func(ctx context.Context, cred *Cred, dir *Inode, name string, mode uint32, dev Dev) (*Inode, error)
	Mkdir   func(ctx context.Context, cred *Cred, dir *Inode, name string, mode uint32) (*Inode, error)
	Symlink func(ctx context.Context, cred *Cred, dir *Inode, name, target string) (*Inode, error)
	// Tmpfile makes a file without a name (O_TMPFILE).
	Tmpfile func(ctx context.Context, cred *Cred, dir *Inode, mode uint32) (*Inode, error)
	// Link gives ip another name; ip.Rw is held exclusively too. errno.MLINK at the limit.
	Link func(ctx context.Context, dir *Inode, name string, ip *Inode) error
	// Unlink removes a name that is ip's; ip.Rw is held exclusively. Rmdir wants an empty directory (errno.NOTEMPTY).
	Unlink func(ctx context.Context, dir *Inode, name string, ip *Inode) error
	Rmdir  func(ctx context.Context, dir *Inode, name string, ip *Inode) error
	// Rename moves r.From/r.OldName to r.To/r.NewName. All inodes concerned are locked.
	Rename func(ctx context.Context, r *Rename) error

	// Readlink gives the target of a symbolic link.
	Readlink func(ctx context.Context, ip *Inode) (string, error)
	// SetAttr changes attributes; ip.Rw is held exclusively and the change was permitted. Size changes included. Nil:
	// attributes are changed in memory and marked dirty; size cannot change.
	SetAttr func(ctx context.Context, ip *Inode, a *SetAttr) error
	// SetFlags stores the chattr flags, after the VFS checked immutable and append. Unknown bits: errno.OPNOTSUPP.
	SetFlags func(ctx context.Context, ip *Inode, f FileFlags) error

	// GetXattr gives the value (errno.NODATA when absent); ListXattr all names; SetXattr stores (flags XattrCreate,
	// XattrReplace), ip.Rw held exclusively; a nil value removes. Names carry their namespace ("user.x").
	GetXattr  func(ctx context.Context, ip *Inode, name string) ([]byte, error)
	ListXattr func(ctx context.Context, ip *Inode) ([]string, error)
	SetXattr  func(ctx context.Context, ip *Inode, name string, value []byte, flags int) error

	// Fiemap reports extents through info.Emit. See FiemapInfo.
	Fiemap func(ctx context.Context, ip *Inode, info *FiemapInfo) error
	// Bmap gives the device block of a file block, 0 for a hole. The VFS has written the file back before.
	Bmap func(ctx context.Context, ip *Inode, block uint64) (uint64, error)
	// SwapActivate walks the extents of a swap file and reports usable page ranges on the device. ip.Rw is held
	// exclusively.
	SwapActivate func(ctx context.Context, ip *Inode, maxPages uint64, add func(SwapExtent) error) error
}

// SwapExtent is a run of whole pages of a swap file.
type SwapExtent struct {
	Page  uint64 // first swap page, counted over usable pages
	Pages uint64
	Addr  int64 // byte address on the device, page aligned
}

// Rename is one rename(2).
type Rename struct {
	From    *Inode // directory
	OldName string
	Old     *Inode // what OldName names
	To      *Inode // directory, may be From
	NewName string
	New     *Inode // what NewName names, nil if free
	// Exchange swaps the two names; otherwise New is replaced.
	Exchange bool
}

// FileOperations (struct file_operations) is what a filesystem does with an open file. The read and write entries take
// ip.Rw themselves, since the paths differ in how.
type FileOperations struct {
	Open    func(ctx context.Context, f *File) error // nil: always allowed
	Release func(f *File)                            // nil: nothing to do

	// Read fills p from k.Pos on; fewer bytes only at EOF or after an error. k.Direct asks for the direct path.
	// ErrQueued: k.Done will be called.
	Read func(ctx context.Context, k *Kiocb, p []byte) (int, error)
	// Write stores p at k.Pos (k.Append: at the end, and sets k.Pos). O_SYNC and O_DSYNC are honoured by the VFS
	// afterwards, through Fsync, unless direct I/O did it.
	Write func(ctx context.Context, k *Kiocb, p []byte) (int, error)
	// Seek answers SEEK_DATA and SEEK_HOLE. Nil: the whole file is data.
	Seek func(ctx context.Context, f *File, pos int64, whence int) (int64, error)
	// Fsync makes the file durable; datasync leaves out attributes that data does not need.
	Fsync func(ctx context.Context, f *File, start, end int64, datasync bool) error
	// Fallocate changes the allocation of [pos, pos+n).
	Fallocate func(ctx context.Context, f *File, mode uint32, pos, n int64) error
	// ReadDir lists from the cookie pos on (0: start) in a stable order. Entries include "." and "..".
	// dir.Rw is held shared.
	ReadDir func(ctx context.Context, f *File, pos int64, emit func(*DirEntry) bool) error
	// PageMkwrite (vm_operations_struct.page_mkwrite) prepares a folio for a store through a shared mapping: space is found or
	// reserved, and the folio is dirty. The folio is locked and uptodate, the invalidate lock held shared. Nil: files cannot be
	// mapped for writing.
	PageMkwrite func(ctx context.Context, ip *Inode, fo *pagecache.Folio) error
	Ioctl       func(ctx context.Context, f *File, cmd uint32, in []byte, out []byte) (int, error) // after the VFS's own
}

// DirEntry is one name of a directory. Emit returning false means that the entry was not taken.
type DirEntry struct {
	Ino  uint64
	Type uint8  // DT_ number
	Name string // valid during emit only
	Next int64  // cookie of what follows
}

// Whence values beyond io.SeekEnd (linux/fs.h).
const (
	SeekData = 3
	SeekHole = 4
)

// Fallocate modes (linux/falloc.h).
const (
	FallocKeepSize  = 0x01
	FallocPunchHole = 0x02
	FallocCollapse  = 0x08
	FallocZeroRange = 0x10
	FallocInsert    = 0x20
	FallocUnshare   = 0x40
)

// Rename flags (linux/fs.h).
const (
	RenameNoReplace = 1
	RenameExchange  = 2
	RenameWhiteout  = 4
)

// Setxattr flags (linux/xattr.h).
const (
	XattrCreate  = 1
	XattrReplace = 2
)
