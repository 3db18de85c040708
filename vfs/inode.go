package vfs

import (
	"sync"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/vfs/invariant"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// Inode (struct inode) is a file object in memory: one for each inode number of a super block. The filesystem
// embeds it in a structure of its own or hangs that on Private.
//
// References: each lookup result, open File, and dirty-folio flusher holds one; the inode cache itself holds none.
// When the last goes, an inode without links is evicted at once, others stay cached until memory is wanted.
//
// Locks, outer first: Rw, Pages.InvalidateLock, folio locks, then the filesystem's own; AttrMu is a leaf.
type Inode struct {
	// immutable once the inode is published
	sb      *SuperBlock
	ino     uint64
	Gen     uint32           // generation: tells two lives of one number apart
	Op      *InodeOperations // never nil
	Fop     *FileOperations  // never nil
	Private any              // the filesystem's inode

	// Rw (i_rwsem) is held exclusively to change the file's contents or layout, or a directory's entries, and shared
	// to look names up, list, and read directly. Nothing inner may be held when taking it. Two inodes: by LockTwo.
	Rw invariant.RWMutex[invariant.Inode]

	// Pages caches the file's data.
	Pages pagecache.AddressSpace

	// AttrMu guards A. Leaf.
	AttrMu invariant.Mutex[invariant.Leaf]
	A      Attr

	size   atomic.Int64 // bytes; see SetSize
	blocks atomic.Int64 // 512-byte units

	dio     dioCount
	swap    atomic.Bool  // an active swap file: no change allowed
	writers atomic.Int32 // open files with write access

	// guarded by the inode cache's shard lock
	refs    int32
	state   inodeState
	lruNext *Inode
	lruPrev *Inode
	readErr error // what filling it said
}

type inodeState uint8

const (
	inodeNew     inodeState = iota // being filled by ReadInode
	inodeLive                      // usable
	inodeFreeing                   // being evicted; the number may not be reused yet
	inodeBad                       // reading failed
)

// Ino is the inode number.
func (ip *Inode) Ino() uint64 { return ip.ino }

// SB is the super block the inode belongs to.
func (ip *Inode) SB() *SuperBlock { return ip.sb }

// Size is the file's length in bytes. It may change unless Rw is held.
func (ip *Inode) Size() int64 { return ip.size.Load() }

// SetSize changes the length. Hold Rw exclusively, and for buffered growth the lock of the folio at the new end too.
func (ip *Inode) SetSize(n int64) { ip.size.Store(n) }

// Blocks is the space allocated to the file in 512-byte units.
func (ip *Inode) Blocks() int64 { return ip.blocks.Load() }

// SetBlocks stores the allocated space when an inode is read.
func (ip *Inode) SetBlocks(n int64) { ip.blocks.Store(n) }

// AddBlocks changes the allocated space by n 512-byte units.
func (ip *Inode) AddBlocks(n int64) { ip.blocks.Add(n) }

// BlockBits is log2 of the filesystem's block size.
func (ip *Inode) BlockBits() uint8 { return ip.sb.BlockBits }

// BlockSize is the filesystem's block size in bytes.
func (ip *Inode) BlockSize() int { return 1 << ip.sb.BlockBits }

// Mode gives type and permission bits.
func (ip *Inode) Mode() uint32 {
	ip.AttrMu.Lock()
	m := ip.A.Mode
	ip.AttrMu.Unlock()
	return m
}

// Nlink gives the link count.
func (ip *Inode) Nlink() uint32 {
	ip.AttrMu.Lock()
	n := ip.A.Nlink
	ip.AttrMu.Unlock()
	return n
}

// Flags gives the chattr flags.
func (ip *Inode) Flags() FileFlags {
	ip.AttrMu.Lock()
	f := ip.A.Flags
	ip.AttrMu.Unlock()
	return f
}

// IsDir, IsRegular, IsSymlink test the file type.
func (ip *Inode) IsDir() bool { return ip.Mode()&ModeType == ModeDir }

// IsRegular tests for a regular file.
func (ip *Inode) IsRegular() bool { return ip.Mode()&ModeType == ModeRegular }

// IsSymlink tests for a symbolic link.
func (ip *Inode) IsSymlink() bool { return ip.Mode()&ModeType == ModeSymlink }

// Stat takes a consistent view of the attributes.
func (ip *Inode) Stat() Stat {
	ip.AttrMu.Lock()
	st := Stat{Attr: ip.A}
	ip.AttrMu.Unlock()
	st.Ino, st.Generation = ip.ino, ip.Gen
	st.Size, st.Blocks, st.BlockSize = ip.Size(), ip.Blocks(), uint32(ip.BlockSize())
	return st
}

// Dirty tells the filesystem that attributes changed and must reach the medium.
func (ip *Inode) Dirty(d DirtyFlags) {
	if f := ip.sb.Op.DirtyInode; f != nil {
		f(ip, d)
	}
}

// DirtyFlags says what of an inode changed.
type DirtyFlags uint8

// What changed.
const (
	DirtyTimes DirtyFlags = 1 << iota // timestamps only
	DirtyMeta                         // mode, owner, links, flags
	DirtySize                         // size or block map: fdatasync must write it
)

// TouchNow sets mtime and ctime to the clock and marks them dirty.
func (ip *Inode) TouchNow(mtime bool) {
	now := ip.sb.Now()
	ip.AttrMu.Lock()
	ip.A.Ctime = now
	if mtime {
		ip.A.Mtime = now
	}
	ip.AttrMu.Unlock()
	ip.Dirty(DirtyTimes)
}

// InodeOf gives the inode whose pages as caches. It panics for an address space that is not an inode's: the one
// checked assertion on the way up.
func InodeOf(as *pagecache.AddressSpace) *Inode { return as.Host().(*Inode) }

var _ pagecache.Host = (*Inode)(nil)

// LockTwo takes Rw of both inodes exclusively, by number. They may be the same, or b nil.
func LockTwo(a, b *Inode) (unlock func()) {
	if b == nil || a == b {
		a.Rw.Lock()
		return a.Rw.Unlock
	}
	if b.ino < a.ino {
		a, b = b, a
	}
	a.Rw.Lock()
	b.Rw.Lock()
	return func() { b.Rw.Unlock(); a.Rw.Unlock() }
}

// dioCount counts direct I/O in flight. Increment needs Rw (shared is enough), so an exclusive holder that
// waits for zero has quiesced it.
type dioCount struct {
	mu   sync.Mutex // guards n and zero; leaf
	n    int
	zero *sync.Cond
}

// DirectBegin counts one direct I/O in. Hold Rw.
func (ip *Inode) DirectBegin() {
	ip.dio.mu.Lock()
	ip.dio.n++
	ip.dio.mu.Unlock()
}

// DirectEnd counts it out; any goroutine.
func (ip *Inode) DirectEnd() {
	ip.dio.mu.Lock()
	ip.dio.n--
	if ip.dio.n == 0 && ip.dio.zero != nil {
		ip.dio.zero.Broadcast()
	}
	ip.dio.mu.Unlock()
}

// DirectWait waits until no direct I/O is in flight. Hold Rw exclusively.
func (ip *Inode) DirectWait() {
	ip.dio.mu.Lock()
	for ip.dio.n > 0 {
		if ip.dio.zero == nil {
			ip.dio.zero = sync.NewCond(&ip.dio.mu)
		}
		ip.dio.zero.Wait()
	}
	ip.dio.mu.Unlock()
}

// SetSwap marks or unmarks an active swap file. Hold Rw exclusively.
func (ip *Inode) SetSwap(on bool) { ip.swap.Store(on) }

// IsSwap reports whether the file is an active swap file: write, truncate and punch answer errno.TXTBSY.
func (ip *Inode) IsSwap() bool { return ip.swap.Load() }
