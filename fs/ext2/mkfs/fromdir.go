package mkfs

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
)

// Owner is a user and a group.
type Owner struct{ UID, GID uint32 }

// DirOptions says how FromDir takes a directory over.
type DirOptions struct {
	Owner *Owner // of all that is stored. nil: the owners of the source; root where the host has no numbers

	// Skip leaves files out, and directories with all below. path is slash-separated, relative to the source.
	Skip func(path string, info fs.FileInfo) bool

	NoXattrs bool // leave extended attributes and ACLs out
}

// hostID names an inode of the host, to find its other hard links.
type hostID struct {
	dev, ino uint64
	links    uint64 // 0 or 1: there are none
}

// FromDir gives a Fill that stores what is in dir: files of all types with owner, mode, modification time, attributes and ACLs
// as far as the host gives them, hard links, holes. The root directory takes the attributes of dir. Access and change times
// become the modification time. Attributes in name spaces that ext2 does not know are left out.
func FromDir(dir string, o DirOptions) func(*Builder) error {
	return func(bu *Builder) error {
		ds := &dirSource{bu: bu, o: o, links: map[hostID]linked{}}
		info, err := os.Stat(dir)
		if err != nil {
			return fmt.Errorf("mkfs: %w", err)
		}
		if !info.IsDir() {
			return invalid("%s is no directory", dir)
		}
		if dir, err = filepath.EvalSymlinks(dir); err != nil {
			return fmt.Errorf("mkfs: %w", err)
		}
		return ds.dir(dir, "", info)
	}
}

type linked struct {
	ino disk.Ino
	ft  disk.FileType
}

type dirSource struct {
	bu    *Builder
	o     DirOptions
	links map[hostID]linked
}

// dir stores a directory and what is in it.
func (ds *dirSource) dir(host, p string, info fs.FileInfo) error {
	n := &Node{Path: p, Mtime: info.ModTime()}
	if _, err := ds.describe(host, info, n); err != nil {
		return err
	}
	if err := ds.bu.Add(n, nil); err != nil {
		return err
	}
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
		if ds.o.Skip != nil && ds.o.Skip(name, info) {
			continue
		}
		if info.IsDir() {
			err = ds.dir(hostName, name, info)
		} else {
			err = ds.file(hostName, name, info)
		}
		if err != nil {
			return err
		}
	}
	return ds.bu.Done(p)
}

// file stores what is no directory.
func (ds *dirSource) file(host, p string, info fs.FileInfo) error {
	n := &Node{Path: p, Mtime: info.ModTime()}
	id, err := ds.describe(host, info, n)
	if err != nil {
		return err
	}
	if id.links > 1 {
		if l, ok := ds.links[id]; ok {
			return ds.bu.fail(p, ds.bu.linkInode(l.ino, l.ft, p))
		}
	}
	var r io.Reader
	switch {
	case info.Mode().IsRegular():
		f, err := os.Open(host)
		if err != nil {
			return fmt.Errorf("mkfs: %w", err)
		}
		defer f.Close()
		n.Size = info.Size()
		r = openData(f)
	case info.Mode()&fs.ModeSymlink != 0:
		if n.Link, err = os.Readlink(host); err != nil {
			return fmt.Errorf("mkfs: %w", err)
		}
	}
	ino, err := ds.bu.add(n, r)
	if err != nil {
		return ds.bu.fail(p, err)
	}
	if id.links > 1 {
		ds.links[id] = linked{ino, disk.FileTypeOf(n.Mode)}
	}
	return nil
}

// describe fills mode, owner, device number and attributes.
func (ds *dirSource) describe(host string, info fs.FileInfo, n *Node) (hostID, error) {
	mode, ok := modeOf(info.Mode())
	if !ok {
		return hostID{}, invalid("%s: file type %v cannot be stored", host, info.Mode().Type())
	}
	n.Mode = mode
	id := describeHost(info, n)
	if ds.o.Owner != nil {
		n.UID, n.GID = ds.o.Owner.UID, ds.o.Owner.GID
	}
	if ds.o.NoXattrs {
		return id, nil
	}
	var err error
	if n.Xattrs, err = hostXattrs(host); err != nil {
		return id, fmt.Errorf("mkfs: attributes of %s: %w", host, err)
	}
	for name := range n.Xattrs {
		if index, _, ok := disk.SplitXattrName(name); !ok || index == disk.XattrSystem {
			delete(n.Xattrs, name)
		}
	}
	return id, nil
}

// modeOf turns Go's file mode into that of an inode; false for a type that ext2 does not have.
func modeOf(m fs.FileMode) (uint16, bool) {
	mode := uint16(m.Perm())
	if m&fs.ModeSetuid != 0 {
		mode |= 0o4000
	}
	if m&fs.ModeSetgid != 0 {
		mode |= 0o2000
	}
	if m&fs.ModeSticky != 0 {
		mode |= 0o1000
	}
	switch m.Type() {
	case 0:
		return mode | disk.ModeRegular, true
	case fs.ModeDir:
		return mode | disk.ModeDir, true
	case fs.ModeSymlink:
		return mode | disk.ModeSymlink, true
	case fs.ModeNamedPipe:
		return mode | disk.ModeFIFO, true
	case fs.ModeSocket:
		return mode | disk.ModeSocket, true
	case fs.ModeDevice:
		return mode | disk.ModeBlock, true
	case fs.ModeDevice | fs.ModeCharDevice:
		return mode | disk.ModeChar, true
	}
	return 0, false
}
