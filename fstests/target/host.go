//go:build linux

package target

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Host is a directory of this machine: a mount of ours through FUSE, or of the kernel's driver.
type Host struct {
	Root  string
	Label string
}

// Name is the label, or the directory.
func (h *Host) Name() string {
	if h.Label != "" {
		return h.Label
	}
	return h.Root
}

func (h *Host) at(p string) string { return filepath.Join(h.Root, p) }

func code(err error) errno.Errno {
	if err == nil || errors.Is(err, io.EOF) {
		return 0
	}
	return errno.From(err)
}

func (h *Host) with(p string, flags int, f func(fd int) error) errno.Errno {
	fd, err := unix.Open(h.at(p), flags|unix.O_NOFOLLOW|unix.O_CLOEXEC|unix.O_NONBLOCK, 0) // a fifo without a peer must not hang
	if err != nil {
		return code(err)
	}
	err = f(fd)
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	return code(err)
}

// Create makes an empty regular file.
func (h *Host) Create(p string, mode uint32) errno.Errno {
	fd, err := unix.Open(h.at(p), unix.O_CREAT|unix.O_EXCL|unix.O_RDWR|unix.O_CLOEXEC, mode)
	if err != nil {
		return code(err)
	}
	return code(unix.Close(fd))
}

// Mkdir makes a directory.
func (h *Host) Mkdir(p string, mode uint32) errno.Errno { return code(unix.Mkdir(h.at(p), mode)) }

// Mknod makes a special file.
func (h *Host) Mknod(p string, mode uint32, d vfs.Dev) errno.Errno {
	return code(unix.Mknod(h.at(p), mode, int(unix.Mkdev(d.Major, d.Minor))))
}

// Symlink makes a symbolic link.
func (h *Host) Symlink(target, p string) errno.Errno { return code(unix.Symlink(target, h.at(p))) }

// Link makes a hard link.
func (h *Host) Link(from, to string) errno.Errno {
	return code(unix.Linkat(unix.AT_FDCWD, h.at(from), unix.AT_FDCWD, h.at(to), 0))
}

// Unlink removes a name.
func (h *Host) Unlink(p string) errno.Errno { return code(unix.Unlink(h.at(p))) }

// Rmdir removes a directory.
func (h *Host) Rmdir(p string) errno.Errno { return code(unix.Rmdir(h.at(p))) }

// Rename moves a name.
func (h *Host) Rename(from, to string, flags uint32) errno.Errno {
	return code(unix.Renameat2(unix.AT_FDCWD, h.at(from), unix.AT_FDCWD, h.at(to), uint(flags)))
}

// Write stores p at off.
func (h *Host) Write(p string, off int64, b []byte) (n int, e errno.Errno) {
	e = h.with(p, unix.O_WRONLY, func(fd int) (err error) { n, err = unix.Pwrite(fd, b, off); return err })
	return max(n, 0), e
}

// Append stores p at the end.
func (h *Host) Append(p string, b []byte) (n int, e errno.Errno) {
	e = h.with(p, unix.O_WRONLY|unix.O_APPEND, func(fd int) (err error) { n, err = unix.Write(fd, b); return err })
	return max(n, 0), e
}

// Read gives up to n bytes.
func (h *Host) Read(p string, off int64, n int) (b []byte, e errno.Errno) {
	b = make([]byte, n)
	got := 0
	e = h.with(p, unix.O_RDONLY, func(fd int) error {
		for got < n {
			m, err := unix.Pread(fd, b[got:], off+int64(got))
			if m <= 0 {
				return err
			}
			got += m
		}
		return nil
	})
	return b[:got], e
}

// Store stores through a mapping made for the purpose.
func (h *Host) Store(p string, off int64, b []byte) (n int, e errno.Errno) {
	e = h.with(p, unix.O_RDWR, func(fd int) error {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFREG {
			return errno.NODEV
		}
		if off >= st.Size {
			return nil
		}
		b = b[:min(int64(len(b)), st.Size-off)]
		first := off &^ 4095
		m, err := unix.Mmap(fd, first, int(off-first)+len(b), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return err
		}
		n = copy(m[off-first:], b)
		return unix.Munmap(m)
	})
	return n, e
}

// Truncate sets the size.
func (h *Host) Truncate(p string, size int64) errno.Errno {
	return h.with(p, unix.O_WRONLY, func(fd int) error { return unix.Ftruncate(fd, size) })
}

// Punch deallocates a range.
func (h *Host) Punch(p string, off, n int64) errno.Errno {
	return h.with(p, unix.O_WRONLY, func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}

// ZeroRange zeroes a range.
func (h *Host) ZeroRange(p string, off, n int64) errno.Errno {
	return h.with(p, unix.O_WRONLY, func(fd int) error { return unix.Fallocate(fd, unix.FALLOC_FL_ZERO_RANGE, off, n) })
}

// Chmod changes the permission bits.
func (h *Host) Chmod(p string, mode uint32) errno.Errno { return code(unix.Chmod(h.at(p), mode)) }

// Chown changes the owner.
func (h *Host) Chown(p string, uid, gid uint32) errno.Errno {
	return code(unix.Lchown(h.at(p), int(uid), int(gid)))
}

// SetXattr stores an attribute.
func (h *Host) SetXattr(p, name string, v []byte, flags int) errno.Errno {
	return code(unix.Lsetxattr(h.at(p), name, v, flags))
}

// GetXattr gives its value.
func (h *Host) GetXattr(p, name string) ([]byte, errno.Errno) {
	b := make([]byte, vfs.XattrSizeMax)
	n, err := unix.Lgetxattr(h.at(p), name, b)
	if err != nil {
		return nil, code(err)
	}
	return b[:n], 0
}

// RemoveXattr removes it.
func (h *Host) RemoveXattr(p, name string) errno.Errno { return code(unix.Lremovexattr(h.at(p), name)) }

// ListXattr gives all names, sorted.
func (h *Host) ListXattr(p string) ([]string, errno.Errno) {
	b := make([]byte, vfs.XattrListMax)
	n, err := unix.Llistxattr(h.at(p), b)
	if err != nil {
		return nil, code(err)
	}
	var names []string
	for _, s := range strings.Split(string(b[:n]), "\x00") {
		if s != "" {
			names = append(names, s)
		}
	}
	sort.Strings(names)
	return names, 0
}

// Stat gives the attributes.
func (h *Host) Stat(p string) (Info, errno.Errno) {
	var st unix.Stat_t
	if err := unix.Lstat(h.at(p), &st); err != nil {
		return Info{}, code(err)
	}
	i := Info{
		Mode: st.Mode, UID: st.Uid, GID: st.Gid, Nlink: uint32(st.Nlink), Size: st.Size, Ino: st.Ino,
		Rdev: vfs.Dev{Major: unix.Major(st.Rdev), Minor: unix.Minor(st.Rdev)},
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		i.Size = 0
	}
	return i, 0
}

// Readlink gives the target.
func (h *Host) Readlink(p string) (string, errno.Errno) {
	s, err := os.Readlink(h.at(p))
	return s, code(err)
}

// ReadDir lists names, sorted.
func (h *Host) ReadDir(p string) ([]string, errno.Errno) {
	fi, err := os.Lstat(h.at(p))
	if err == nil && !fi.IsDir() {
		return nil, errno.NOTDIR
	}
	d, err := os.Open(h.at(p))
	if err != nil {
		return nil, code(err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	sort.Strings(names)
	return names, code(err)
}

// Fsync makes a file or directory durable.
func (h *Host) Fsync(p string) errno.Errno {
	return h.with(p, unix.O_RDONLY, unix.Fsync)
}

// Sync makes everything durable.
func (h *Host) Sync() errno.Errno {
	return h.with("", unix.O_RDONLY|unix.O_DIRECTORY, unix.Syncfs)
}

var _ Target = (*Host)(nil)
