package mkfs

import (
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// describeHost fills what the host's stat knows beyond Go's file information.
func describeHost(info fs.FileInfo, n *Node) hostID {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return hostID{}
	}
	n.UID, n.GID = st.Uid, st.Gid
	n.Major, n.Minor = unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))
	return hostID{dev: uint64(st.Dev), ino: st.Ino, links: uint64(st.Nlink)}
}

// hostXattrs reads all attributes of a file that the caller may see; links are not followed.
func hostXattrs(path string) (map[string][]byte, error) {
	var names []byte
	for {
		n, err := unix.Llistxattr(path, nil)
		if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		names = make([]byte, n)
		n, err = unix.Llistxattr(path, names)
		if errors.Is(err, unix.ERANGE) {
			continue // it grew in between
		}
		if err != nil {
			return nil, err
		}
		names = names[:n]
		break
	}
	m := map[string][]byte{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		for {
			n, err := unix.Lgetxattr(path, name, nil)
			value := make([]byte, max(n, 0))
			if err == nil && n > 0 {
				n, err = unix.Lgetxattr(path, name, value)
			}
			if errors.Is(err, unix.ERANGE) {
				continue
			}
			if errors.Is(err, unix.ENODATA) {
				break // it went away in between
			}
			if err != nil {
				return nil, err
			}
			m[name] = value[:n]
			break
		}
	}
	return m, nil
}

// dataFile skips holes by SEEK_DATA.
type dataFile struct{ *os.File }

func openData(f *os.File) io.Reader { return dataFile{f} }

var _ SparseReader = dataFile{}

// NextData implements SparseReader.
func (df dataFile) NextData(pos int64) (start, end int64, err error) {
	fd := int(df.Fd())
	start, err = unix.Seek(fd, pos, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return 0, 0, io.EOF
	}
	if err == nil {
		end, err = unix.Seek(fd, start, unix.SEEK_HOLE)
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOTSUP) {
		return pos, math.MaxInt64, nil // a filesystem that does not tell
	}
	return start, end, err
}
