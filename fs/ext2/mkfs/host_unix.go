//go:build unix && !linux

package mkfs

import (
	"io"
	"io/fs"
	"os"
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
	return hostID{dev: uint64(st.Dev), ino: uint64(st.Ino), links: uint64(st.Nlink)}
}

// hostXattrs gives none: attributes of this host have other name spaces.
func hostXattrs(string) (map[string][]byte, error) { return nil, nil }

// openData reads the whole file: blocks of zeros become holes anyway.
func openData(f *os.File) io.Reader { return f }
