package mkfs

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/iomapfs/iomapfs/fs/fat/disk"
)

// DirOptions says how FromDir takes a directory over.
type DirOptions struct {
	// Skip leaves files out, and directories with all below. path is slash-separated, relative to the source.
	Skip func(path string, info fs.FileInfo) bool
	// Special is told of what FAT cannot store: links, devices, fifos, sockets. It decides: nil leaves the file out, an error ends
	// the filling. Nil: an error.
	Special func(path string, info fs.FileInfo) error
}

// FromDir gives a Fill that stores the files and directories in dir with their modification times; files without permission to
// write get AttrReadOnly.
func FromDir(dir string, o DirOptions) func(*Builder) error {
	return func(bu *Builder) error {
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("mkfs: %w", err)
		}
		if !info.IsDir() {
			return invalid("%s is no directory", dir)
		}
		return bu.fromDir(dir, "", &o)
	}
}

func (bu *Builder) fromDir(host, p string, o *DirOptions) error {
	entries, err := os.ReadDir(host) // sorted by name
	if err != nil {
		return fmt.Errorf("mkfs: %w", err)
	}
	for _, e := range entries {
		hostName, name := filepath.Join(host, e.Name()), path.Join(p, e.Name())
		info, err := e.Info()
		if err != nil {
			return fmt.Errorf("mkfs: %w", err)
		}
		if o.Skip != nil && o.Skip(name, info) {
			continue
		}
		n := &Node{Path: name, Mtime: info.ModTime()}
		switch {
		case info.IsDir():
			n.Dir = true
			if err = bu.Add(n, nil); err == nil {
				err = bu.fromDir(hostName, name, o)
			}
		case info.Mode().IsRegular():
			err = bu.fromFile(hostName, n, info)
		case o.Special != nil:
			err = o.Special(name, info)
		default:
			err = invalid("%s: FAT has no files of this type (%v)", hostName, info.Mode().Type())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (bu *Builder) fromFile(host string, n *Node, info fs.FileInfo) error {
	f, err := os.Open(host)
	if err != nil {
		return fmt.Errorf("mkfs: %w", err)
	}
	defer f.Close()
	n.Size = info.Size()
	if info.Mode().Perm()&0o222 == 0 {
		n.Attr = disk.AttrReadOnly
	}
	return bu.Add(n, f)
}
