package vfs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/invariant"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// FileSystem (struct file_system_type) is a kind of filesystem: probing and mounting.
type FileSystem struct {
	Name string
	// Probe looks at a device without changing it. ok is false when it holds something else.
	Probe func(dev block.Device) (p Probe, ok bool)
	// Mount reads the super block and gives a SuperBlock whose Root is set. The device stays the caller's until Mount
	// succeeds; then it belongs to the SuperBlock, which closes it on Unmount.
	Mount func(ctx context.Context, dev block.Device, opts *MountOptions) (*SuperBlock, error)
	// Help lists the filesystem's own mount words, for --help.
	Help []OptionHelp
	// Sides lists the paths that can serve an operation. Nil: the legacy one.
	Sides func(op PathOp) []Path
}

// Probe is what blkid would say of a device.
type Probe struct {
	Type, SecType, Version, Label, UUID string // SecType: an older type that the device can be used as, "" for none
	BlockSize                           uint32
	Size                                int64 // bytes the filesystem spans
}

// OptionHelp documents one mount word.
type OptionHelp struct{ Word, Text string }

// MountOptions are what every filesystem understands; the zero value is right.
type MountOptions struct {
	ReadOnly bool
	Words    []string // words of -o that the caller did not take itself; a filesystem refuses what it does not know
	// Cache to use; nil makes one of CacheBytes (0: pagecache.DefaultLimit) that belongs to the mount.
	Cache       *pagecache.Cache
	CacheBytes  int64
	Paths       *Paths // nil: DefaultPaths of the filesystem
	NoAtime     bool   // never update access times; otherwise relatime
	NoDirAtime  bool   // never those of directories
	StrictAtime bool   // update them at every read, not as relatime does
	DirSync     bool   // every change of a directory is durable before it is answered
	Log         *slog.Logger
	Trace       trace.Sink
	MountPoint  string      // recorded as "last mounted on"; may be empty
	Clock       func() Time // nil: the clock
}

// SuperOperations (struct super_operations) is what a filesystem does as a whole. Nil entries do nothing.
type SuperOperations struct {
	// ReadInode fills a new inode from the medium: attributes, size, Op, Fop, Pages.SetOps, Private. errno.STALE for a
	// number that is not in use.
	ReadInode func(ctx context.Context, ip *Inode) error
	// EvictInode runs when the last reference is gone (or the number of links is 0 and the last user left): it empties
	// Pages and, without links, frees the file's blocks and its number. After it the number may be used again.
	EvictInode func(ip *Inode)
	// DirtyInode notes that attributes changed.
	DirtyInode func(ip *Inode, d DirtyFlags)
	// Sync writes all metadata and, when wait, makes it durable. The file data has been written before.
	Sync func(ctx context.Context, wait bool) error
	// StatFS fills the numbers of statfs(2).
	StatFS func() (StatFS, error)
	// Trim discards free space in [start, start+n) in runs of at least minLen bytes; gives the bytes discarded.
	Trim func(ctx context.Context, start, n, minLen int64) (int64, error)
	// Remount changes between read-only and read-write.
	Remount func(ctx context.Context, readOnly bool) error
	// Put writes the clean state; the last call before the device closes. All inodes are gone.
	Put func(ctx context.Context) error
	// Label and SetLabel read and change the volume label (FS_IOC_GETFSLABEL).
	Label    func() string
	SetLabel func(ctx context.Context, label string) error
	// Options lists the mount words in force, for status.
	Options func() []string
}

// StatFS is statfs(2): blocks of BlockSize bytes.
type StatFS struct {
	BlockSize           uint32
	Blocks, Free, Avail uint64
	Files, FilesFree    uint64
	NameMax             uint32
	FSID                uint64
}

// SuperBlock (struct super_block) is one mounted filesystem.
//
// Life: Mount → serving → Unmount, which writes everything back, evicts all inodes and closes the device. Goroutines
// that serve the mount belong to it and end before Unmount returns.
//
// Lock order (outer first): freeze, RenameMu, Inode.Rw, AddressSpace.InvalidateLock, folio lock, the filesystem's
// transaction, its map lock, allocation group and buffer locks, leaves.
type SuperBlock struct {
	// immutable after Mount
	Type                             *FileSystem
	Dev                              block.Device
	Cache                            *pagecache.Cache
	WB                               *pagecache.Writeback
	Op                               *SuperOperations
	BlockBits                        uint8  // log2 of the block size
	MaxBytes                         int64  // largest file size
	NameMax                          int    // bytes of a name
	TimeMin                          Time   // earliest and latest time the medium can store
	TimeMax                          Time   // …
	TimeGran                         uint32 // granularity in ns
	UUID                             [16]byte
	Private                          any // the filesystem's super block
	Root                             *Inode
	Paths                            Paths
	NoAtime                          bool // immutable, like the three that follow; see MountOptions
	NoDirAtime, StrictAtime, DirSync bool
	Log                              *slog.Logger
	Trace                            trace.Sink
	clock                            func() Time
	ownCache                         bool

	// RenameMu (s_vfs_rename_mutex) is held over a rename between directories, so that the tree cannot change shape
	// under the check for loops. Taken before any Inode.Rw.
	RenameMu invariant.Mutex[invariant.Rename]

	readOnly atomic.Bool
	shutdown atomic.Bool
	aborted  atomic.Pointer[error] // why the filesystem turned read-only by itself; nil while it did not

	// freeze is held shared while something changes, exclusively while the filesystem is frozen. Outermost.
	freeze   invariant.RWMutex[invariant.Freeze]
	freezeMu sync.Mutex // guards frozen; leaf of freeze
	frozen   bool

	dataMu    sync.Mutex // guards dataSince. Leaf
	dataSince uint64     // errors of file data that Sync gave

	// Err collects errors of metadata writeback: each File sees each once at fsync.
	Err pagecache.ErrSeq

	icache icache
	bg     sync.WaitGroup
	stop   context.CancelFunc
	ctx    context.Context
}

// NewSuperBlock makes the common part of a mount: cache, writeback, inode cache, clock. The filesystem fills in the
// rest and calls Start.
func NewSuperBlock(t *FileSystem, dev block.Device, opts *MountOptions) *SuperBlock {
	sb := &SuperBlock{
		Type: t, Dev: dev, Cache: opts.Cache, NoAtime: opts.NoAtime, NoDirAtime: opts.NoDirAtime, StrictAtime: opts.StrictAtime, DirSync: opts.DirSync, Log: opts.Log, Trace: opts.Trace, clock: opts.Clock,
		NameMax: 255, TimeGran: 1, TimeMax: Time{Sec: 1<<63 - 1}, TimeMin: Time{Sec: -1 << 63},
	}
	if sb.Cache == nil {
		limit := opts.CacheBytes
		if limit == 0 {
			limit = pagecache.DefaultLimit()
		}
		sb.Cache, sb.ownCache = pagecache.New(pagecache.Options{Limit: limit}), true
	}
	if sb.Log == nil {
		sb.Log = slog.Default()
	}
	if sb.clock == nil {
		sb.clock = Now
	}
	sb.readOnly.Store(opts.ReadOnly || dev.Limits().ReadOnly)
	sb.WB = pagecache.NewWriteback(sb.Cache, dev.Name())
	sb.ctx, sb.stop = context.WithCancel(context.Background())
	sb.icache.init(sb)
	return sb
}

// Start begins background writeback. The filesystem calls it at the end of Mount.
func (sb *SuperBlock) Start() { sb.WB.Start() }

// Discard undoes NewSuperBlock after a Mount that failed. The device stays open.
func (sb *SuperBlock) Discard() {
	sb.stop()
	sb.bg.Wait()
	sb.icache.evictAll()
	sb.WB.Stop(context.Background())
	if sb.ownCache {
		sb.Cache.Close()
	}
}

// Go runs a background task of the mount. ctx ends when unmounting begins; Unmount waits for the task.
func (sb *SuperBlock) Go(f func(ctx context.Context)) {
	sb.bg.Add(1)
	go func() { defer sb.bg.Done(); f(sb.ctx) }()
}

// Now is the clock, cut to what the medium can store.
func (sb *SuperBlock) Now() Time { return sb.ClampTime(sb.clock()) }

// ClampTime cuts t to the range and granularity of the medium.
func (sb *SuperBlock) ClampTime(t Time) Time {
	if t.Before(sb.TimeMin) {
		return sb.TimeMin
	}
	if sb.TimeMax.Before(t) {
		return sb.TimeMax
	}
	if sb.TimeGran > 1 {
		t.Nsec -= t.Nsec % sb.TimeGran
	}
	return t
}

// ReadOnly reports whether changes are refused.
func (sb *SuperBlock) ReadOnly() bool { return sb.readOnly.Load() }

// SetReadOnly makes the filesystem read-only at once. For Mount; what goes wrong later is Abort's.
func (sb *SuperBlock) SetReadOnly() { sb.readOnly.Store(true) }

// Abort makes the filesystem read-only at once because of err, as errors=remount-ro does. Changes made before may be in memory only
// and stay there, so from now on fsync of every file, also of one opened later, Sync and Unmount answer errno.IO; a filesystem that
// was mounted read-only has nothing to lose and answers 0. What can be written still is. The first err stays; a Remount to
// read-write that the filesystem allows ends it.
func (sb *SuperBlock) Abort(err error) {
	sb.aborted.CompareAndSwap(nil, &err)
	sb.readOnly.Store(true)
}

// Aborted gives errno.IO with the reason after Abort, nil before.
func (sb *SuperBlock) Aborted() error {
	why := sb.aborted.Load()
	if why == nil {
		return nil
	}
	return fmt.Errorf("%s: turned read-only by an error, what was changed may be lost: %w: %v", sb.Dev.Name(), errno.IO, *why)
}

// IsShutdown reports whether Shutdown was called.
func (sb *SuperBlock) IsShutdown() bool { return sb.shutdown.Load() }

// Shutdown stops all changes and all writing at once, as pulling the plug would (FS_IOC_SHUTDOWN): later operations
// answer errno.IO, and nothing more reaches the device.
func (sb *SuperBlock) Shutdown() {
	sb.shutdown.Store(true)
	sb.readOnly.Store(true)
}

// WantWrite begins a change: it waits while the filesystem is frozen and refuses on a read-only one (errno.ROFS, or
// errno.IO after Shutdown). Each success needs one EndWrite. Not recursive: take it at the outermost call only.
func (sb *SuperBlock) WantWrite() error {
	if sb.shutdown.Load() {
		return fmt.Errorf("%s: shut down: %w", sb.Dev.Name(), errno.IO)
	}
	if sb.readOnly.Load() {
		return errno.ROFS
	}
	sb.freeze.RLock()
	return nil
}

// EndWrite ends what WantWrite began.
func (sb *SuperBlock) EndWrite() { sb.freeze.RUnlock() }

// Freeze writes everything back and holds all changes until Thaw.
func (sb *SuperBlock) Freeze(ctx context.Context) error {
	sb.freezeMu.Lock()
	defer sb.freezeMu.Unlock()
	if sb.frozen {
		return errno.BUSY
	}
	sb.freeze.Lock()
	if err := sb.Sync(ctx); err != nil {
		sb.freeze.Unlock()
		return err
	}
	sb.frozen = true
	sb.freeze.Disown() // whoever calls Thaw unlocks
	return nil
}

// Thaw ends Freeze.
func (sb *SuperBlock) Thaw() error {
	sb.freezeMu.Lock()
	defer sb.freezeMu.Unlock()
	if !sb.frozen {
		return errno.INVAL
	}
	sb.frozen = false
	sb.freeze.Unlock()
	return nil
}

// Sync writes all data and metadata and makes it durable. It gives errors of writing data since the Sync before too, which background
// writeback met, each once: a sync that says that all is well means it. errno.IO after Shutdown and after Abort.
func (sb *SuperBlock) Sync(ctx context.Context) error {
	if sb.shutdown.Load() {
		return errno.IO
	}
	err := sb.sync(ctx)
	sb.dataMu.Lock()
	defer sb.dataMu.Unlock()
	if derr := sb.WB.CheckError(&sb.dataSince); err == nil {
		err = derr
	}
	return err
}

func (sb *SuperBlock) sync(ctx context.Context) error {
	err := sb.WB.SyncAll(ctx)
	if sb.Op.Sync != nil {
		err = errors.Join(err, sb.Op.Sync(ctx, true))
	}
	if why := sb.Aborted(); why != nil {
		return why // with the first cause; the errors above follow from it
	}
	return err
}

// StatFS gives the numbers of statfs(2).
func (sb *SuperBlock) StatFS() (StatFS, error) { return sb.Op.StatFS() }

// Remount changes between read-only and read-write; data is written back first.
func (sb *SuperBlock) Remount(ctx context.Context, readOnly bool) error {
	if readOnly == sb.ReadOnly() {
		return nil
	}
	if !readOnly && sb.Dev.Limits().ReadOnly {
		return fmt.Errorf("%s: the device was opened read-only: %w", sb.Dev.Name(), errno.ROFS)
	}
	if readOnly {
		sb.freeze.Lock()
		defer sb.freeze.Unlock()
		if err := sb.Sync(ctx); err != nil {
			return err
		}
	}
	if sb.Op.Remount != nil {
		if err := sb.Op.Remount(ctx, readOnly); err != nil {
			return err
		}
	}
	if !readOnly {
		sb.aborted.Store(nil)
	}
	sb.readOnly.Store(readOnly)
	return nil
}

// Unmount writes everything back, evicts all inodes, writes the clean state and closes the device. References that
// are still held (open files of an abandoned server) are dropped. The first error is returned, and the device is
// closed all the same.
func (sb *SuperBlock) Unmount(ctx context.Context) error {
	var err error
	if !sb.shutdown.Load() {
		err = sb.sync(ctx)
	}
	sb.stop()
	sb.bg.Wait()
	if sb.Root != nil {
		sb.Root.Put()
	}
	sb.icache.evictAll()
	if sb.Op.Put != nil {
		if perr := sb.Op.Put(ctx); sb.aborted.Load() == nil || err == nil {
			err = errors.Join(err, perr)
		}
	}
	sb.WB.Stop(ctx)
	if sb.ownCache {
		sb.Cache.Close()
	}
	return errors.Join(err, sb.Dev.Close())
}
