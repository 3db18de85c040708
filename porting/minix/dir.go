package minix

import (
	"context"

	"github.com/iomapfs/iomapfs/porting/minix/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// slot is the place of one directory entry, and what it holds: a copy.
type slot struct {
	disk.Entry
	pos int64 // byte in the directory
}

// scan visits the slots of a directory from byte pos on, until visit says stop; then it gives that slot. ok is false at the end.
// Free slots are visited too.
func (ip *inode) scan(ctx context.Context, pos int64, visit func(e disk.Entry, pos int64) (stop bool)) (s slot, ok bool, err error) {
	sb := &ip.fs.super
	bs, size := int64(sb.BlockSize), int64(sb.DirEntrySize())
	block := make([]byte, bs)
	for pos < ip.Size() {
		n, err := ip.fs.tables.metaRead(ctx, ip.Inode, pos, block[pos%bs:])
		if err != nil {
			return s, false, err
		}
		for at, end := pos, pos+int64(n); at+size <= end; at += size {
			if e := sb.Entry(block[at%bs:]); visit(e, at) {
				return slot{e, at}, true, nil
			}
		}
		pos = (pos/bs + 1) * bs
	}
	return s, false, nil
}

// find looks a name up.
func (ip *inode) find(ctx context.Context, name string) (slot, error) {
	s, ok, err := ip.scan(ctx, 0, func(e disk.Entry, _ int64) bool { return e.Ino() != 0 && string(e.Name()) == name })
	if err == nil && !ok {
		err = errno.NOENT
	}
	return s, err
}

// add stores a new name in the first free slot, or behind the last. Hold Rw exclusively.
func (ip *inode) add(ctx context.Context, name string, ino disk.Ino) error {
	s, ok, err := ip.scan(ctx, ip.free, func(e disk.Entry, _ int64) bool { return e.Ino() == 0 })
	if err != nil {
		return err
	}
	if !ok {
		if s, err = ip.newSlot(); err != nil {
			return err
		}
	}
	ip.free = s.pos
	s.Set(ino, name)
	return ip.store(ctx, s)
}

// newSlot gives the slot behind the last one.
func (ip *inode) newSlot() (s slot, err error) {
	sb := &ip.fs.super
	size := int64(sb.DirEntrySize())
	pos := ip.Size() / size * size
	if pos+size > ip.fs.sb.MaxBytes {
		return s, errno.NOSPC
	}
	return slot{sb.Entry(make([]byte, size)), pos}, nil
}

// store writes a slot to its place. Hold Rw exclusively.
func (ip *inode) store(ctx context.Context, s slot) error {
	err := ip.fs.tables.metaWrite(ctx, ip.Inode, s.pos, s.B)
	if err == nil {
		ip.changed()
	}
	return err
}

// remove frees a slot. Hold Rw exclusively.
func (ip *inode) remove(ctx context.Context, s slot) error {
	ip.free = min(ip.free, s.pos)
	return ip.replace(ctx, s, 0)
}

// replace lets a slot name another inode. Hold Rw exclusively.
func (ip *inode) replace(ctx context.Context, s slot, ino disk.Ino) error {
	s.SetIno(ino)
	return ip.store(ctx, s)
}

// changed moves mtime and ctime.
func (ip *inode) changed() {
	now := ip.fs.sb.Now()
	ip.AttrMu.Lock()
	ip.A.Mtime, ip.A.Ctime = now, now
	ip.AttrMu.Unlock()
	ip.Dirty(0)
}

// isEmpty reports whether a directory holds nothing but "." and "..".
func (ip *inode) isEmpty(ctx context.Context) (bool, error) {
	_, ok, err := ip.scan(ctx, 0, func(e disk.Entry, _ int64) bool {
		n := string(e.Name())
		return e.Ino() != 0 && n != "." && n != ".."
	})
	return !ok, err
}

// parent is InodeOperations.Parent.
func (fs *fsys) parent(ctx context.Context, dir *vfs.Inode) (uint64, error) {
	s, err := inodeOf(dir).find(ctx, "..")
	if err != nil {
		return 0, fs.corrupt(dir.Ino(), "the directory has no \"..\": %v", err)
	}
	return uint64(s.Ino()), nil
}

// readDir is FileOperations.ReadDir. A cookie is the byte of the next slot: slots never move.
func (fs *fsys) readDir(ctx context.Context, f *vfs.File, pos int64, emit func(*vfs.DirEntry) bool) error {
	ip, size := inodeOf(f.Inode), int64(fs.super.DirEntrySize())
	if pos < 0 {
		return errno.INVAL
	}
	_, _, err := ip.scan(ctx, (pos+size-1)/size*size, func(e disk.Entry, at int64) bool {
		return e.Ino() != 0 && !emit(&vfs.DirEntry{Ino: uint64(e.Ino()), Type: vfs.DTUnknown, Name: string(e.Name()), Next: at + size})
	})
	return err
}
