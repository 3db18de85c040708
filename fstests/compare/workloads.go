package compare

import (
	"errors"
	"fmt"
	"math"

	"github.com/iomapfs/iomapfs/vfs"
)

// Workloads are what programs do with files, several operations in one.
var Workloads = []Op{
	{"copy-tree", "a tree of small files copied beside itself", func(e *env) error { return e.tree("from") }, (*env).copyTree, nil},
	{"untar", "a tree of small files written, with times and modes", nil, (*env).untar, nil},
	{"database", "8 KiB read and written at random places, an fsync after every four", (*env).fill, (*env).database, nil},
	{"log-append", "lines appended to a log, an fsync after every fifty", (*env).create, (*env).log, nil},
	{"sparse", "a file of 64 times the size with little in it, walked by SEEK_DATA", (*env).create, (*env).sparse, nil},
	{"big-file", "a large file written, made durable, read back", (*env).create, func(e *env) error {
		return errors.Join(e.write(), e.cold(e.f), e.heard(e.f))
	}, nil},
	{"fragmented", "two files that grow in turns a block at a time, then read back", nil, (*env).fragmented, nil},
	{"mixed", "writes, reads, truncations, holes, renames and removals in a few files", nil, (*env).mixed, nil},
}

// smallFiles is how many files a tree has.
const smallFiles = 300

// tree makes directories of small files, and calls each with its directory and file.
func (e *env) treeOf(name string, each func(dir *vfs.Inode, f *vfs.File) error) error {
	top, err := e.dir.Mkdir(e.ctx, vfs.Root, name, 0o755)
	if err != nil {
		return err
	}
	defer top.Put()
	var dir *vfs.Inode
	defer func() {
		if dir != nil {
			dir.Put()
		}
	}()
	for i := range smallFiles {
		if i%20 == 0 {
			if dir != nil {
				dir.Put()
			}
			if dir, err = top.Mkdir(e.ctx, vfs.Root, fmt.Sprint("dir-", i/20), 0o755); err != nil {
				return err
			}
		}
		f, err := e.make(dir, fmt.Sprint("file-", i))
		if err != nil {
			return err
		}
		n := e.next(1 << (4 + i%13)) // up to 64 KiB, most of them small
		e.buf[0]++
		if _, err = f.WriteAt(e.ctx, e.buf[:n], 0); err == nil && each != nil {
			err = each(dir, f)
		}
		f.Close()
		if err != nil {
			return err
		}
		e.n += n
	}
	return nil
}

func (e *env) tree(name string) error { return errors.Join(e.treeOf(name, nil), e.sb.Sync(e.ctx)) }

func (e *env) untar() error {
	return errors.Join(e.treeOf("unpacked", func(_ *vfs.Inode, f *vfs.File) error {
		t := vfs.Time{Sec: 1e9 + e.next(1e8)}
		return f.Inode.SetAttr(e.ctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetMode | vfs.SetMtime, Mode: uint32(0o600 + e.next(0o100)), Mtime: t, File: f})
	}), e.sb.Sync(e.ctx))
}

func (e *env) copyTree() error {
	from, err := e.dir.Lookup(e.ctx, "from")
	if err != nil {
		return err
	}
	defer from.Put()
	to, err := e.dir.Mkdir(e.ctx, vfs.Root, "to", 0o755)
	if err != nil {
		return err
	}
	defer to.Put()
	for i := range smallFiles {
		if err := e.copyFile(from, to, fmt.Sprint("dir-", i/20), fmt.Sprint("file-", i), i%20 == 0); err != nil {
			return err
		}
	}
	return e.sb.Sync(e.ctx)
}

func (e *env) copyFile(from, to *vfs.Inode, dir, name string, first bool) error {
	in, err := from.Lookup(e.ctx, dir)
	if err != nil {
		return err
	}
	defer in.Put()
	var out *vfs.Inode
	if first {
		out, err = to.Mkdir(e.ctx, vfs.Root, dir, 0o755)
	} else {
		out, err = to.Lookup(e.ctx, dir)
	}
	if err != nil {
		return err
	}
	defer out.Put()
	ip, err := in.Lookup(e.ctx, name)
	if err != nil {
		return err
	}
	defer ip.Put()
	src, err := ip.Open(e.ctx, vfs.ORdonly)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := e.make(out, name)
	if err != nil {
		return err
	}
	defer dst.Close()
	n, err := vfs.CopyRange(e.ctx, src, 0, dst, 0, math.MaxInt64)
	e.n += n
	return err
}

func (e *env) database() error {
	for i := range 200 {
		pos := e.next(e.size>>13) << 13
		p := e.buf[:8<<10]
		if _, err := e.f.ReadAt(e.ctx, p, pos); err != nil {
			return err
		}
		e.sum.Write(p)
		p[i%len(p)]++
		if _, err := e.f.WriteAt(e.ctx, p, pos); err != nil {
			return err
		}
		if i%4 == 3 {
			if err := e.f.Fsync(e.ctx, true); err != nil {
				return err
			}
		}
		e.n += 16 << 10
	}
	return nil
}

func (e *env) log() error {
	for i := range 4 * many {
		k := e.f.Kiocb(0)
		k.Append = true
		line := fmt.Appendf(e.buf[:0], "%08d something happened, and it took %d ms\n", i, e.next(1e6))
		if _, err := k.Write(e.ctx, line); err != nil {
			return err
		}
		if i%50 == 49 {
			if err := e.f.Fsync(e.ctx, true); err != nil {
				return err
			}
		}
		e.n += int64(len(line))
	}
	return nil
}

func (e *env) sparse() error {
	for range 200 {
		if _, err := e.f.WriteAt(e.ctx, e.buf[:1+e.next(3000)], e.next(64*e.size)); err != nil {
			return err
		}
	}
	if err := e.cold(e.f); err != nil {
		return err
	}
	return e.seek()
}

func (e *env) fragmented() (err error) {
	if e.f, err = e.make(e.dir, "data"); err != nil {
		return err
	}
	other, err := e.make(e.dir, "other")
	if err != nil {
		return err
	}
	defer other.Close()
	bs := int64(e.f.Inode.BlockSize())
	for i := range min(e.size/bs/2, 512) {
		for _, f := range []*vfs.File{e.f, other} {
			if _, err := f.WriteAt(e.ctx, e.buf[:bs], i*bs); err != nil {
				return err
			}
			if i%4 == 3 { // written back while it grows, so that delayed allocation cannot gather it all
				if err := f.Inode.Pages.WriteAndWait(e.ctx, 0, math.MaxInt64); err != nil {
					return err
				}
			}
		}
	}
	return errors.Join(e.cold(e.f), e.cold(other), e.heard(e.f), e.heard(other))
}

func (e *env) mixed() error {
	const files = 6
	var open [files]*vfs.File
	defer func() {
		for _, f := range open {
			if f != nil {
				f.Close()
			}
		}
	}()
	for step := range many {
		i := e.next(files)
		name := fmt.Sprint("file-", i)
		if open[i] == nil {
			var err error
			if open[i], err = e.make(e.dir, name); err != nil {
				return err
			}
		}
		if err := e.step(open[i], name, e.next(10)); err != nil {
			return fmt.Errorf("step %d: %w", step, err)
		}
		if e.next(40) == 0 {
			open[i].Close()
			open[i] = nil
			var err error
			if e.next(2) == 0 {
				err = e.dir.Unlink(e.ctx, name)
			} else {
				err = e.dir.RenameTo(e.ctx, name, e.dir, fmt.Sprint("kept-", e.next(4)), 0)
			}
			if err != nil {
				return fmt.Errorf("step %d: %w", step, err)
			}
		}
		e.n++
	}
	return e.sb.Sync(e.ctx)
}

// step is one of the things that mixed does to a file.
func (e *env) step(f *vfs.File, name string, what int64) error {
	pos, n := e.next(e.size/8), 1+e.next(40000)
	switch {
	case what < 4:
		_, err := f.WriteAt(e.ctx, e.buf[:n], pos)
		return err
	case what < 7:
		n, err := f.ReadAt(e.ctx, e.buf[:n], pos)
		e.sum.Write(e.buf[:n])
		return err
	case what == 7:
		return f.Inode.SetAttr(e.ctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize, Size: pos, File: f})
	case what == 8:
		return f.Fallocate(e.ctx, vfs.FallocPunchHole|vfs.FallocKeepSize, pos, n)
	default:
		return f.Fsync(e.ctx, false)
	}
}
