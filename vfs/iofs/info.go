package iofs

import (
	"io/fs"
	"time"

	"github.com/iomapfs/iomapfs/vfs"
)

// info is an fs.FileInfo; Sys gives the vfs.Stat.
type info struct {
	name string
	st   vfs.Stat
}

func (i *info) Name() string       { return i.name }
func (i *info) Size() int64        { return i.st.Size }
func (i *info) Mode() fs.FileMode  { return goMode(i.st.Mode) }
func (i *info) ModTime() time.Time { return i.st.Mtime.Std() }
func (i *info) IsDir() bool        { return i.Mode().IsDir() }
func (i *info) Sys() any           { return i.st }
func (i *info) String() string     { return fs.FormatFileInfo(i) }

// goMode turns a Linux mode into io/fs's.
func goMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & vfs.ModeType {
	case vfs.ModeDir:
		m |= fs.ModeDir
	case vfs.ModeSymlink:
		m |= fs.ModeSymlink
	case vfs.ModeBlock:
		m |= fs.ModeDevice
	case vfs.ModeChar:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case vfs.ModeFIFO:
		m |= fs.ModeNamedPipe
	case vfs.ModeSocket:
		m |= fs.ModeSocket
	}
	for _, b := range [...]struct {
		bit uint32
		m   fs.FileMode
	}{{vfs.ModeSetUID, fs.ModeSetuid}, {vfs.ModeSetGID, fs.ModeSetgid}, {vfs.ModeSticky, fs.ModeSticky}} {
		if mode&b.bit != 0 {
			m |= b.m
		}
	}
	return m
}

// dirEntry is one name of a directory; Info asks when asked.
type dirEntry struct {
	fs        *FS
	dir, name string
	typ       fs.FileMode
}

func (e *dirEntry) Name() string      { return e.name }
func (e *dirEntry) IsDir() bool       { return e.typ.IsDir() }
func (e *dirEntry) Type() fs.FileMode { return e.typ }
func (e *dirEntry) String() string    { return fs.FormatDirEntry(e) }

func (e *dirEntry) Info() (fs.FileInfo, error) {
	if e.dir == "." {
		return e.fs.Lstat(e.name)
	}
	return e.fs.Lstat(e.dir + "/" + e.name)
}
