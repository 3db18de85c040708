package vfs

// Attr is what stat(2) shows of an inode, but the size, which Inode keeps apart since it is read without locks.
type Attr struct {
	Mode                       uint32 // type and permission bits
	UID, GID                   uint32
	Nlink                      uint32
	Rdev                       Dev
	Atime, Mtime, Ctime, Btime Time
	HasBtime                   bool // the medium stores a birth time for this inode
	Flags                      FileFlags
}

// Stat is a consistent view of one inode.
type Stat struct {
	Attr
	Ino        uint64
	Generation uint32
	Size       int64 // bytes
	Blocks     int64 // 512-byte units allocated, metadata of the file included
	BlockSize  uint32
}

// FileFlags are the inode flags of chattr(1), numbers of FS_IOC_GETFLAGS (linux/fs.h).
type FileFlags uint32

// Flags that the VFS acts on; a filesystem may store more.
const (
	FlagSync      FileFlags = 0x00000008 // every write is synchronous
	FlagImmutable FileFlags = 0x00000010 // nothing may change
	FlagAppend    FileFlags = 0x00000020 // writes only at the end; no truncate, no unlink
	FlagNoDump    FileFlags = 0x00000040
	FlagNoAtime   FileFlags = 0x00000080
	FlagIndex     FileFlags = 0x00001000 // directory has a hash index
	FlagDirSync   FileFlags = 0x00010000 // changes of the directory are synchronous
	FlagTopDir    FileFlags = 0x00020000
)

// SetAttr says which attributes to change.
type SetAttr struct {
	Valid        SetValid
	Mode         uint32 // permission bits only
	UID, GID     uint32
	Size         int64
	Atime, Mtime Time
	Ctime        Time
	File         *File // the open file when the change came through one (ftruncate); may be nil
}

// SetValid names the members of a SetAttr that count.
type SetValid uint32

// Members.
const (
	SetMode SetValid = 1 << iota
	SetUID
	SetGID
	SetSize
	SetAtime
	SetMtime
	SetAtimeNow // the time is the clock's, not Atime
	SetMtimeNow
	SetCtime // set by a kernel that caches times (writeback cache)
	KillSUID // drop set-id bits, as after a write by another user
)
