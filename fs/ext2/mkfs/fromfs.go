package mkfs

import (
	"fmt"
	"io"
	"io/fs"
)

// FromFS gives a Fill that stores an io/fs.FS: directories, regular files and, where fsys implements fs.ReadLinkFS, symbolic links,
// with mode and modification time, owned by owner.
func FromFS(fsys fs.FS, owner Owner) func(*Builder) error {
	return func(bu *Builder) error {
		return fs.WalkDir(fsys, ".", func(p string, e fs.DirEntry, err error) error {
			if err != nil {
				return fmt.Errorf("mkfs: %w", err)
			}
			info, err := e.Info()
			if err != nil {
				return fmt.Errorf("mkfs: %w", err)
			}
			mode, ok := modeOf(info.Mode())
			if !ok || info.Mode().Type()&^(fs.ModeDir|fs.ModeSymlink) != 0 {
				return invalid("%s: file type %v cannot be stored from an io/fs.FS", p, info.Mode().Type())
			}
			n := &Node{Path: p, Mode: mode, UID: owner.UID, GID: owner.GID, Mtime: info.ModTime()}
			var r io.Reader
			switch info.Mode().Type() {
			case fs.ModeSymlink:
				if n.Link, err = fs.ReadLink(fsys, p); err != nil {
					return fmt.Errorf("mkfs: %w", err)
				}
			case 0:
				f, err := fsys.Open(p)
				if err != nil {
					return fmt.Errorf("mkfs: %w", err)
				}
				defer f.Close()
				n.Size, r = info.Size(), f
			}
			return bu.Add(n, r)
		})
	}
}
