package copytree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Copier copies. Hard links are recognised between all calls of Copy on one Copier. Not safe for concurrent use, but
// for the counters.
type Copier struct {
	Recursive bool    // copy directories
	NoClobber bool    // leave what is there alone
	Plain     bool    // contents only: owner, times and attributes are the destination's business
	Owner     *uint32 // instead of the source's
	Group     *uint32
	// Warn takes what went wrong with one file while the copy goes on, and what could not be kept.
	Warn func(error)
	// Each is told each path before it is copied; may be nil.
	Each func(from string)

	Files, Bytes atomic.Int64 // done so far

	failed int
	links  map[Key]any
	made   map[Key]bool // directories of the destination that this copy writes in
	warned map[string]bool
	buf    []byte
}

// Failed is the number of files that were not copied.
func (c *Copier) Failed() int { return c.failed }

// Copy copies src to name in dst. from names src in messages. A directory that is there already is copied into.
// It returns an error when the whole copy cannot go on (cancelled, the destination full or read-only); what concerns one
// file goes to Warn and is counted by Failed.
func (c *Copier) Copy(ctx context.Context, src Node, from string, dst Dir, name string) error {
	if c.links == nil {
		c.links, c.made, c.warned = make(map[Key]any), make(map[Key]bool), make(map[string]bool)
		c.buf = make([]byte, 1<<20)
	}
	return c.settle(from, c.copy(ctx, src, from, dst, name))
}

// settle decides whether an error ends the copy.
func (c *Copier) settle(from string, err error) error {
	if err == nil {
		return nil
	}
	switch errno.From(err) {
	case errno.NOSPC, errno.ROFS, errno.INTR, errno.DQUOT:
		return err
	}
	c.failed++
	c.Warn(err)
	return nil
}

func (c *Copier) copy(ctx context.Context, src Node, from string, dst Dir, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	a := src.Attr()
	if a.kind() == vfs.ModeDir && !c.Recursive {
		return fmt.Errorf("%s: %w (-r copies directories)", from, errno.ISDIR)
	}
	if c.Each != nil {
		c.Each(from)
	}
	there, found, err := dst.Look(ctx, name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if found {
		if skip, err := c.makeWay(ctx, &a, &there, from, dst, name); skip || err != nil {
			return err
		}
	}
	if a.Nlink > 1 && a.kind() != vfs.ModeDir && a.Key.FS != nil {
		if to, ok := c.links[a.Key]; ok {
			if err := dst.Link(ctx, name, to); err == nil {
				c.Files.Add(1)
				return nil
			} else if e := errno.From(err); e != errno.MLINK && e != errno.XDEV && e != errno.PERM && e != errno.OPNOTSUPP {
				return fmt.Errorf("%s: link: %w", from, err)
			}
			c.once("links", fmt.Errorf("%s: the destination does not take another hard link; copied instead", from))
		}
	}
	switch a.kind() {
	case vfs.ModeDir:
		err = c.dir(ctx, src, &a, from, dst, name)
	case vfs.ModeRegular:
		err = c.file(ctx, src, &a, from, dst, name)
	case vfs.ModeSymlink:
		var t string
		if t, err = src.Readlink(ctx); err == nil {
			err = dst.Symlink(ctx, name, t)
		}
	case vfs.ModeBlock, vfs.ModeChar, vfs.ModeFIFO, vfs.ModeSocket:
		err = dst.Mknod(ctx, name, a.Mode&(vfs.ModeType|0o700), a.Rdev)
	default:
		err = fmt.Errorf("has no known type (mode %o): %w", a.Mode, errno.UCLEAN)
	}
	if err == nil {
		err = c.finish(ctx, src, &a, from, dst, name)
	}
	if err != nil {
		return wrap(from, err)
	}
	c.Files.Add(1)
	if a.Nlink > 1 && a.kind() != vfs.ModeDir && a.Key.FS != nil {
		if to, err := dst.Mark(ctx, name); err == nil {
			c.links[a.Key] = to
		}
	}
	return nil
}

// wrap names the file unless the error does so already.
func wrap(from string, err error) error {
	if strings.HasPrefix(err.Error(), from) {
		return err
	}
	return fmt.Errorf("%s: %w", from, err)
}

// makeWay deals with a name that is taken.
func (c *Copier) makeWay(ctx context.Context, a, there *Attr, from string, dst Dir, name string) (skip bool, err error) {
	switch {
	case a.Key.FS != nil && a.Key == there.Key:
		return true, fmt.Errorf("%s: is the file to be written too: %w", from, errno.EXIST)
	case there.kind() == vfs.ModeDir && a.kind() == vfs.ModeDir:
		return false, nil
	case c.NoClobber:
		return true, nil
	case there.kind() == vfs.ModeDir:
		return true, fmt.Errorf("%s: a directory %q is in its place: %w", from, name, errno.ISDIR)
	case a.kind() == vfs.ModeDir:
		return true, fmt.Errorf("%s: %q is in its place and no directory: %w", from, name, errno.NOTDIR)
	}
	if err := dst.Remove(ctx, name); err != nil {
		return true, fmt.Errorf("%s: replace %q: %w", from, name, err)
	}
	return false, nil
}

func (c *Copier) dir(ctx context.Context, src Node, a *Attr, from string, dst Dir, name string) error {
	if a.Key.FS != nil && c.made[a.Key] {
		return fmt.Errorf("%s: a directory cannot be copied into itself: %w", from, errno.INVAL)
	}
	into, err := dst.Mkdir(ctx, name)
	if err != nil {
		return err
	}
	defer into.Close()
	c.made[into.Key()] = true
	names, err := src.List(ctx)
	if err != nil {
		return err
	}
	for _, n := range names {
		p := path.Join(from, n)
		child, err := src.Child(ctx, n)
		if err == nil {
			err = c.copy(ctx, child, p, into, n)
			child.Close()
		}
		if err != nil {
			if err := c.settle(p, wrap(p, err)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Copier) file(ctx context.Context, src Node, a *Attr, from string, dst Dir, name string) (err error) {
	r, err := src.Open(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	w, err := dst.Create(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	pos, written := int64(0), int64(0)
	for pos < a.Size {
		start, end, err := r.NextData(ctx, pos)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		end = min(end, a.Size)
		if start < pos || end <= start {
			break // the file shrank meanwhile
		}
		if written, err = c.run(ctx, r, w, start, end); err != nil {
			return err
		}
		pos = end
	}
	if written < a.Size {
		// A hole at the end. Not done before: where there are no holes it would be zeros first and data then.
		return w.Truncate(ctx, a.Size)
	}
	return nil
}

// run copies [pos, end), which is data, and gives how far it came: not to the end of a file that shrank.
func (c *Copier) run(ctx context.Context, r Reader, w Writer, pos, end int64) (int64, error) {
	for pos < end {
		if err := ctx.Err(); err != nil {
			return pos, err
		}
		b := c.buf[:min(end-pos, int64(len(c.buf)))]
		n, err := r.ReadAt(ctx, b, pos)
		if n > 0 {
			if _, err := w.WriteAt(ctx, b[:n], pos); err != nil {
				return pos, fmt.Errorf("write at byte %d: %w", pos, err)
			}
			c.Bytes.Add(int64(n))
			pos += int64(n)
		}
		if err == io.EOF || err == nil && n == 0 {
			return pos, nil // it shrank
		}
		if err != nil {
			return pos, fmt.Errorf("read at byte %d: %w", pos, err)
		}
	}
	return pos, nil
}

// finish stores what is beside the contents. The owner comes first, since changing it takes set-id bits and capabilities
// away; then attributes, which need a writable file; the mode after ACLs, which change it; the times last.
func (c *Copier) finish(ctx context.Context, src Node, a *Attr, from string, dst Dir, name string) error {
	mode, setID := a.Mode&vfs.ModePerm, vfs.ModeSetUID|vfs.ModeSetGID
	if c.Plain {
		return dst.SetMode(ctx, name, mode&^setID)
	}
	uid, gid := a.UID, a.GID
	if c.Owner != nil {
		uid = *c.Owner
	}
	if c.Group != nil {
		gid = *c.Group
	}
	kept, err := dst.SetOwner(ctx, name, uid, gid)
	if err != nil {
		return err
	}
	if !kept && a.kind() != vfs.ModeDir {
		mode &^= setID // it would be somebody else's identity
	}
	if err := c.xattrs(ctx, src, from, dst, name); err != nil {
		return err
	}
	if err := dst.SetMode(ctx, name, mode); err != nil {
		return err
	}
	return dst.SetTimes(ctx, name, a.Atime, a.Mtime)
}

func (c *Copier) xattrs(ctx context.Context, src Node, from string, dst Dir, name string) error {
	list, err := src.Xattrs(ctx)
	if err != nil && errno.From(err) != errno.OPNOTSUPP {
		return err
	}
	for _, x := range list {
		switch err := dst.SetXattr(ctx, name, x); errno.From(err) {
		case 0:
		case errno.OPNOTSUPP, errno.PERM, errno.ACCES:
			if strings.HasPrefix(x.Name, "system.fat.") {
				continue // shows what only FAT stores
			}
			ns, _, _ := strings.Cut(x.Name, ".")
			c.once("xattr "+ns, fmt.Errorf("%s: the destination does not take the attribute %s, and maybe no other %s.*: %w", from, x.Name, ns, err))
		default:
			return fmt.Errorf("attribute %s: %w", x.Name, err)
		}
	}
	return nil
}

// once warns of a kind of loss the first time.
func (c *Copier) once(kind string, err error) {
	if !c.warned[kind] {
		c.warned[kind] = true
		c.Warn(err)
	}
}
