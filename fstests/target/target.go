// Package target lets one sequence of file operations run on anything that has files: a filesystem of this repository
// in the same process, any mounted directory (through system calls), and the in-memory model. Results are compared
// across targets, so each answers in the same terms: an errno.Errno, 0 for success, and plain values.
package target

import (
	"os"
	"strings"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Target runs file operations on paths relative to its root ("a/b", no leading slash; "" is the root).
// Operations follow no symbolic link in the last component. Not safe for concurrent use unless its maker says so.
type Target interface {
	Name() string
	Create(path string, mode uint32) errno.Errno
	Mkdir(path string, mode uint32) errno.Errno
	Mknod(path string, mode uint32, dev vfs.Dev) errno.Errno
	Symlink(target, path string) errno.Errno
	Link(from, to string) errno.Errno
	Unlink(path string) errno.Errno
	Rmdir(path string) errno.Errno
	Rename(from, to string, flags uint32) errno.Errno

	// Write stores p at off and gives the bytes taken; Append stores it at the end.
	Write(path string, off int64, p []byte) (int, errno.Errno)
	Append(path string, p []byte) (int, errno.Errno)
	// Read gives up to n bytes from off on, fewer at EOF.
	Read(path string, off int64, n int) ([]byte, errno.Errno)
	// Store stores p at off as stores through a shared mapping do, which must lie inside the file; fewer bytes at its end.
	Store(path string, off int64, p []byte) (int, errno.Errno)
	Truncate(path string, size int64) errno.Errno
	// Punch deallocates a range; ZeroRange makes it read as zeros and may grow the file.
	Punch(path string, off, n int64) errno.Errno
	ZeroRange(path string, off, n int64) errno.Errno

	Chmod(path string, mode uint32) errno.Errno
	Chown(path string, uid, gid uint32) errno.Errno
	SetXattr(path, name string, value []byte, flags int) errno.Errno
	GetXattr(path, name string) ([]byte, errno.Errno)
	RemoveXattr(path, name string) errno.Errno
	ListXattr(path string) ([]string, errno.Errno)

	Stat(path string) (Info, errno.Errno)
	Readlink(path string) (string, errno.Errno)
	ReadDir(path string) ([]string, errno.Errno) // without "." and "..", sorted

	Fsync(path string) errno.Errno
	Sync() errno.Errno
}

// Info is what must be the same on all targets.
type Info struct {
	Mode     uint32
	UID, GID uint32
	Nlink    uint32
	Size     int64 // 0 for directories, whose size is the filesystem's business
	Rdev     vfs.Dev
	Ino      uint64 // to find hard links; differs between targets
}

// PathWords are mount words that put a whole run of the tests on other paths: IOMAPFS_PATHS="path=iomap legacy=dio-read".
func PathWords() []string { return strings.Fields(os.Getenv("IOMAPFS_PATHS")) }
