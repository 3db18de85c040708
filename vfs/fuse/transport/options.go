//go:build linux

package transport

import (
	"log/slog"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// Kind is a way to carry requests.
type Kind uint8

const (
	Auto     Kind = iota // only as a wish: Ring where it is to be had, else Device
	Ordinary             // go-fuse's server on /dev/fuse
	Ring                 // FUSE over io_uring
	Device               // our own loop on /dev/fuse
)

// String gives the name used in logs and by status commands.
func (k Kind) String() string {
	switch k {
	case Auto:
		return "auto"
	case Ordinary:
		return "ordinary"
	case Ring:
		return "io_uring"
	default:
		return "device"
	}
}

// Options says how to carry requests. The zero value is right for most.
type Options struct {
	// Kind is the wish. Auto (the default) never fails for want of io_uring; Ring does.
	// Ordinary with Hooks or Block becomes Device, since go-fuse's server has no place for hooks.
	Kind Kind
	// EnableRing lets Mount turn on the kernel's switch for FUSE over io_uring, when it is off, for as long as the mount
	// takes. It needs root; without, Auto does without io_uring.
	EnableRing bool
	// Hooks answer what go-fuse does not.
	Hooks Hooks
	// ReadAheadKiB is written to the read_ahead_kb of the mount's backing device info; 0 leaves the kernel's 128.
	// FUSE itself cannot negotiate more. It needs root; without, a line in the log says so.
	ReadAheadKiB int
	// Block mounts as fuseblk: MountOptions.FsName must be a block device that nobody holds open exclusively, and the
	// caller root. The kernel then sends DESTROY and waits for the answer before umount(2) returns, sends BMAP and
	// SYNCFS, and takes the device's size for granted.
	Block bool
	// BlockSize is the fuseblk mount's block size in bytes, a power of two from 512 to the page size; 0 means 4096.
	BlockSize int
	// Logger gets what an administrator should know; nil means slog.Default().
	Logger *slog.Logger

	// For tests.
	payload int   // bytes of a ring entry's payload area instead of what the kernel asks for
	online  []int // CPUs to think online instead of those that are
}

// Hooks answer requests that go-fuse has no method for. A nil hook leaves the request to go-fuse, which answers ENOSYS,
// except to DESTROY. They may be called at the same time as anything else and as each other.
type Hooks struct {
	// Bmap gives the device block that holds block of the file; both in units of blockSize bytes, which the kernel
	// chooses (the page size on Linux 6.17 and later). 0 is a hole. The kernel asks on fuseblk mounts only.
	Bmap func(node, block uint64, blockSize uint32) (uint64, fuse.Status)
	// SyncFS writes everything back; syncfs(2) and sync(2) wait for it. On fuseblk mounts of Linux 6.18 and later.
	SyncFS func() fuse.Status
	// Destroy is called when the kernel says goodbye, before umount(2) returns, on fuseblk mounts only. Files that
	// were open through an abort have not been released.
	Destroy func()
}

func (h *Hooks) any() bool { return h.Bmap != nil || h.SyncFS != nil || h.Destroy != nil }

// Notifier tells the kernel that something changed without its doing. Both kinds have one; *fuse.Server is one.
// OK, or ENOENT when the kernel did not know the node or name, or ENODEV after the unmount.
type Notifier interface {
	// InodeNotify drops cached attributes and the cached data in [off, off+length); length 0 means to the end,
	// a negative off leaves the data.
	InodeNotify(node uint64, off, length int64) fuse.Status
	// EntryNotify drops a cached name, or the cached absence of one.
	EntryNotify(parent uint64, name string) fuse.Status
	// DeleteNotify drops a name that is gone for good; child is what it named.
	DeleteNotify(parent, child uint64, name string) fuse.Status
	// InodeNotifyStoreCache puts data into the kernel's page cache.
	InodeNotifyStoreCache(node uint64, offset int64, data []byte) fuse.Status
	// PruneNotify asks the kernel to forget nodes it has cached but does not use; ENOSYS before Linux 6.18.
	PruneNotify(nodes []uint64) fuse.Status
}

var _ Notifier = (*fuse.Server)(nil)
