package mkfs

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Node is a file of any type to be stored.
type Node struct {
	Path  string // slash-separated from the root; "" or "." is the root directory. A leading slash is ignored
	Mode  uint16 // type and permissions, disk.ModeRegular | 0o644
	UID   uint32
	GID   uint32
	Size  int64  // bytes, of regular files
	Link  string // target of a symbolic link
	Major uint32 // of device nodes
	Minor uint32

	Mtime, Atime, Ctime time.Time // zero: Mtime for the last two, Options.Time for Mtime

	Flags  disk.InodeFlags   // those that chattr may set are kept
	Xattrs map[string][]byte // by full name; ACLs in the form of the Linux attribute
}

// Builder stores a tree while Format runs. It is not for use by several goroutines.
//
// A directory may be named before what is in it or not at all: then it is made with mode 0755, owned by root, as old as
// Options.Time. After an error from any method the image is of no use; Format gives the first one back.
type Builder struct {
	o    *Options
	out  *output
	al   *allocator
	fm   fileMap
	buf  []byte // contents on their way, a multiple of the block size
	dirs map[string]*dirNode
	list []*dirNode // in the order of their making

	shared  map[[32]byte]*attrBlock
	blocks  []*attrBlock
	replace bool                   // Add may replace what is no directory
	files   map[disk.Ino]*fileNode // those with several links; all when replace is set

	progress Progress
	large    bool // a file of 2 GiB or more was stored
	err      error

	types, index, extAttr bool // features
}

// fileNode is what is known of a file that was stored.
type fileNode struct {
	links uint16
	runs  []run // all blocks but that of the attributes; kept with Builder.replace only
	attrs *attrBlock
}

// cleanPath gives the path without leading slash and dots; an error for one that leaves the root.
func cleanPath(p string) (string, error) {
	if strings.IndexByte(p, 0) >= 0 {
		return "", fmt.Errorf("mkfs: path %q holds a zero byte: %w", p, errno.INVAL)
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == ".." {
			return "", fmt.Errorf("mkfs: path %q leaves the root: %w", p, errno.INVAL)
		}
		if len(part) > disk.NameMax {
			return "", fmt.Errorf("mkfs: path %q: a name of %d bytes, at most %d: %w", p, len(part), disk.NameMax, errno.NAMETOOL)
		}
	}
	return strings.TrimPrefix(path.Clean("/"+p), "/"), nil
}

// Add stores a file. r gives the contents of a regular file, Node.Size bytes; an earlier end is an error, more is not read.
// A directory that is there already takes the new attributes; anything else that is there already is errno.EXIST.
func (bu *Builder) Add(n *Node, r io.Reader) error {
	_, err := bu.add(n, r)
	return bu.fail(n.Path, err)
}

// Link gives the file at oldPath, which is no directory, another name.
func (bu *Builder) Link(oldPath, newPath string) error {
	return bu.fail(newPath, bu.link(oldPath, newPath))
}

// Done says that nothing will be added to the directory any more (its subdirectories are not meant). It is written, and its
// names are forgotten. Calling it is never needed, but saves memory.
func (bu *Builder) Done(dir string) error {
	p, err := cleanPath(dir)
	if d := bu.dirs[p]; err == nil && d != nil && p != "" && p != lostFound {
		err = bu.writeDir(d)
	}
	return bu.fail(dir, err)
}

// ChownRoot gives the root directory another owner than what was added gave it.
func (bu *Builder) ChownRoot(uid, gid uint32) {
	d := bu.dirs[""]
	d.in.UID, d.in.GID = uid, gid
}

// fail keeps the first error and says which path it is about.
func (bu *Builder) fail(p string, err error) error {
	if err == nil {
		return nil
	}
	if !strings.HasPrefix(err.Error(), "mkfs: ") {
		err = fmt.Errorf("mkfs: %q: %w", p, err)
	}
	if bu.err == nil {
		bu.err = err
	}
	return err
}

// report tells the caller of Format how far it is.
func (bu *Builder) report() error {
	if bu.o.Progress == nil {
		return nil
	}
	return bu.o.Progress(bu.progress)
}

func (bu *Builder) add(n *Node, r io.Reader) (disk.Ino, error) {
	if bu.err != nil {
		return 0, bu.err
	}
	p, err := cleanPath(n.Path)
	if err != nil {
		return 0, err
	}
	bu.progress.Path = p
	bu.progress.Nodes++
	if err := bu.report(); err != nil {
		return 0, err
	}
	ft := disk.FileTypeOf(n.Mode)
	if ft == disk.TypeUnknown {
		return 0, fmt.Errorf("mode %#o has no file type that ext2 knows: %w", n.Mode, errno.INVAL)
	}
	if ft == disk.TypeDir {
		d, err := bu.mkdir(p)
		if err != nil {
			return 0, err
		}
		return d.ino, bu.setDir(d, n)
	}
	if p == "" {
		return 0, fmt.Errorf("the root has to be a directory: %w", errno.NOTDIR)
	}
	dir, name, err := bu.parent(p)
	if err != nil {
		return 0, err
	}
	if err := bu.makeRoom(dir, p, name); err != nil {
		return 0, err
	}
	ino, err := bu.al.allocInode(false)
	if err != nil {
		return 0, err
	}
	in := disk.Inode{Mode: n.Mode, Links: 1}
	bu.setAttributes(&in, n)
	file := fileNode{links: 1}
	var runs *[]run
	if bu.replace {
		runs = &file.runs
	}
	switch ft {
	case disk.TypeRegular:
		err = bu.storeData(&in, n.Size, r, runs)
	case disk.TypeSymlink:
		err = bu.storeSymlink(&in, n.Link, runs)
	case disk.TypeChar, disk.TypeBlock:
		if !in.SetDevice(n.Major, n.Minor) {
			err = fmt.Errorf("device %d:%d: major at most 4095, minor at most 1048575: %w", n.Major, n.Minor, errno.INVAL)
		}
	}
	if err != nil {
		return 0, err
	}
	if file.attrs, err = bu.writeInode(ino, &in, n.Xattrs); err != nil {
		return 0, err
	}
	if bu.replace {
		bu.files[ino] = &file
	}
	dir.put(name, ino, ft)
	return ino, nil
}

func (bu *Builder) link(oldPath, newPath string) error {
	op, err := cleanPath(oldPath)
	if err != nil {
		return err
	}
	np, err := cleanPath(newPath)
	if err != nil || op == np {
		return err
	}
	from := bu.dirs[dirOf(op)]
	if from == nil {
		return fmt.Errorf("hard link to %q: %w", oldPath, errno.NOENT)
	}
	ent, ok := from.find(path.Base(op))
	switch {
	case !ok && from.written:
		return fmt.Errorf("hard link to %q, whose directory is complete: %w", oldPath, errno.NOENT)
	case !ok:
		return fmt.Errorf("hard link to %q, which is not stored yet: %w", oldPath, errno.NOENT)
	case ent.ft == disk.TypeDir:
		return fmt.Errorf("hard link to %q, a directory: %w", oldPath, errno.PERM)
	}
	return bu.linkInode(ent.ino, ent.ft, np)
}

// linkInode gives an inode that is no directory the name p, a clean path.
func (bu *Builder) linkInode(ino disk.Ino, ft disk.FileType, p string) error {
	if bu.err != nil {
		return bu.err
	}
	bu.progress.Path = p
	bu.progress.Nodes++
	if err := bu.report(); err != nil {
		return err
	}
	dir, name, err := bu.parent(p)
	if err != nil {
		return err
	}
	f := bu.files[ino]
	if f == nil {
		f = &fileNode{links: 1}
		bu.files[ino] = f
	}
	if f.links >= disk.LinkMax {
		return fmt.Errorf("more than %d hard links to one file: %w", disk.LinkMax, errno.MLINK)
	}
	f.links++ // before makeRoom, which may take another name of the same file away
	if err := bu.makeRoom(dir, p, name); err != nil {
		return err
	}
	if err := bu.out.patchLinks(bu.al.inodeAt(ino), f.links); err != nil {
		return err
	}
	dir.put(name, ino, ft)
	return nil
}

// makeRoom makes sure that name is not in dir. With replace, a file goes away.
func (bu *Builder) makeRoom(dir *dirNode, p, name string) error {
	if dir.written {
		return fmt.Errorf("directory %q is complete: %w", dir.path, errno.INVAL)
	}
	ent, ok := dir.find(name)
	switch {
	case !ok:
		return nil
	case !bu.replace:
		return errno.EXIST
	case ent.ft == disk.TypeDir || bu.dirs[p] != nil:
		return fmt.Errorf("is a directory already: %w", errno.ISDIR)
	}
	dir.remove(name)
	f := bu.files[ent.ino]
	if f.links--; f.links > 0 {
		return bu.out.patchLinks(bu.al.inodeAt(ent.ino), f.links)
	}
	delete(bu.files, ent.ino)
	for _, r := range f.runs {
		bu.al.free(r)
	}
	if f.attrs != nil {
		bu.dropAttrs(f.attrs)
	}
	bu.al.freeInode(ent.ino)
	return errors.Join(bu.out.flush(), bu.out.forceZero(bu.al.inodeAt(ent.ino), int64(bu.al.g.InodeSize), "an inode"))
}

// parent gives the directory that p, which is not the root, lies in; it is made when it is not there.
func (bu *Builder) parent(p string) (*dirNode, string, error) {
	dir, err := bu.mkdir(dirOf(p))
	return dir, path.Base(p), err
}

// dirOf is path.Dir with "" for the root.
func dirOf(p string) string {
	if i := strings.LastIndexByte(p, '/'); i >= 0 {
		return p[:i]
	}
	return ""
}

// mkdir gives the directory at p; it and what leads to it are made when not there.
func (bu *Builder) mkdir(p string) (*dirNode, error) {
	if d := bu.dirs[p]; d != nil {
		return d, nil
	}
	up := bu.dirs[dirOf(p)]
	if up == nil {
		// From the top down, not by recursion: a path may have as many parts as it likes.
		for i := range len(p) {
			if p[i] == '/' {
				if _, err := bu.mkdir(p[:i]); err != nil {
					return nil, err
				}
			}
		}
		up = bu.dirs[dirOf(p)]
	}
	name := path.Base(p)
	if err := bu.makeRoom(up, p, name); err != nil {
		return nil, err
	}
	if up.in.Links >= disk.LinkMax {
		return nil, fmt.Errorf("directory %q has more than %d subdirectories: %w", up.path, disk.LinkMax-2, errno.MLINK)
	}
	ino, err := bu.al.allocInode(true)
	if err != nil {
		return nil, err
	}
	d := bu.newDir(p, ino, up.ino)
	up.in.Links++
	up.put(name, ino, disk.TypeDir)
	return d, nil
}

// setDir gives a directory the attributes of a node.
func (bu *Builder) setDir(d *dirNode, n *Node) error {
	if d.written {
		return fmt.Errorf("directory is complete: %w", errno.INVAL)
	}
	links := d.in.Links
	d.in = disk.Inode{Mode: n.Mode, Links: links}
	bu.setAttributes(&d.in, n)
	d.xattrs = n.Xattrs
	return nil
}

// setAttributes fills owner, times and flags.
func (bu *Builder) setAttributes(in *disk.Inode, n *Node) {
	in.UID, in.GID = n.UID, n.GID
	in.Flags = (n.Flags & disk.FlagsUserModifiable).Mask(n.Mode)
	if bu.o.InodeSize > disk.OldInodeSize {
		in.ExtraSize = disk.MaxExtraSize
	}
	stamp := func(t, other time.Time) disk.Time {
		if t.IsZero() {
			t = other
		}
		if t.IsZero() || bu.o.ClampTimes && t.After(bu.o.Time) {
			t = bu.o.Time
		}
		return in.ClampTime(disk.Time{Sec: t.Unix(), Nsec: uint32(t.Nanosecond())})
	}
	in.Mtime = stamp(n.Mtime, time.Time{})
	in.Atime = stamp(n.Atime, n.Mtime)
	in.Ctime = stamp(n.Ctime, n.Mtime)
	in.Crtime = in.ClampTime(disk.Time{Sec: bu.o.Time.Unix()})
}

// writeInode stores the attributes of an inode and writes it.
func (bu *Builder) writeInode(ino disk.Ino, in *disk.Inode, xattrs map[string][]byte) (*attrBlock, error) {
	raw := make([]byte, bu.al.g.InodeSize)
	in.EncodeTo(raw)
	ab, err := bu.storeXattrs(in, raw, xattrs)
	if err != nil {
		return nil, err
	}
	in.EncodeTo(raw)
	return ab, bu.out.inode(bu.al.inodeAt(ino), raw)
}
