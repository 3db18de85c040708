//go:build !unix

package mkfs

import (
	"io"
	"io/fs"
	"os"
)

// describeHost: the host has no owners and device numbers, and permissions that do not say what a Unix wants to know.
func describeHost(info fs.FileInfo, n *Node) hostID {
	n.Mode |= 0o444
	if info.IsDir() {
		n.Mode |= 0o111
	}
	return hostID{}
}

func hostXattrs(string) (map[string][]byte, error) { return nil, nil }

func openData(f *os.File) io.Reader { return f }
