//go:build linux || darwin

package copytree

import (
	"errors"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/iomapfs/iomapfs/vfs"
	"golang.org/x/sys/unix"
)

// openNoBlock keeps an open from hanging on a fifo that took a file's place.
const openNoBlock = unix.O_NONBLOCK | unix.O_NOFOLLOW

type hostFS uint64 // st_dev, as the FS of a Key

func attrOf(fi os.FileInfo) Attr {
	a := plainAttr(fi)
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return a
	}
	a.Mode, a.UID, a.GID, a.Nlink = uint32(st.Mode), st.Uid, st.Gid, uint32(st.Nlink)
	a.Rdev = vfs.Dev{Major: unix.Major(uint64(st.Rdev)), Minor: unix.Minor(uint64(st.Rdev))}
	a.Key = Key{hostFS(st.Dev), st.Ino}
	a.Atime = atimeOf(st)
	return a
}

func listXattrs(path string) ([]Xattr, error) {
	names, err := grow(func(b []byte) (int, error) { return unix.Llistxattr(path, b) })
	if err != nil {
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
			return nil, nil
		}
		return nil, &os.PathError{Op: "listxattr", Path: path, Err: err}
	}
	var list []Xattr
	for _, name := range strings.Split(string(names), "\x00") {
		if name == "" {
			continue
		}
		v, err := grow(func(b []byte) (int, error) { return unix.Lgetxattr(path, name, b) })
		if err == noAttr {
			continue
		}
		if err != nil {
			return nil, &os.PathError{Op: "getxattr " + name, Path: path, Err: err}
		}
		list = append(list, Xattr{name, v})
	}
	return list, nil
}

// grow calls get with larger buffers until the answer fits.
func grow(get func([]byte) (int, error)) ([]byte, error) {
	for size := 256; ; size *= 4 {
		b := make([]byte, size)
		n, err := get(b)
		if err == unix.ERANGE && size < 1<<20 {
			continue
		}
		if err != nil {
			return nil, err
		}
		return b[:n], nil
	}
}

func setXattr(path string, x Xattr) error { return unix.Lsetxattr(path, x.Name, x.Value, 0) }

func setTimes(path string, atime, mtime vfs.Time) error {
	ts := []unix.Timespec{unix.NsecToTimespec(0), unix.NsecToTimespec(0)}
	for i, t := range []vfs.Time{atime, mtime} {
		ts[i].Sec, ts[i].Nsec = t.Sec, int64(t.Nsec)
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "set times", Path: path, Err: err}
	}
	return nil
}

func mknod(path string, mode uint32, d vfs.Dev) error {
	return unix.Mknod(path, mode, int(unix.Mkdev(d.Major, d.Minor)))
}

func nextData(f *os.File, pos int64) (int64, int64, error) {
	start, err := unix.Seek(int(f.Fd()), pos, unix.SEEK_DATA)
	if err == unix.ENXIO {
		return 0, 0, io.EOF
	}
	if err != nil { // a filesystem without it: all is data
		fi, err := f.Stat()
		if err != nil {
			return 0, 0, err
		}
		if pos >= fi.Size() {
			return 0, 0, io.EOF
		}
		return pos, fi.Size(), nil
	}
	end, err := unix.Seek(int(f.Fd()), start, unix.SEEK_HOLE)
	return start, end, err
}

func ignoreUnsupported(err error) error { return err }
