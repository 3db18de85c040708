package minix

import (
	"context"

	"github.com/iomapfs/iomapfs/porting/minix/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// slot is the place of one directory entry.
type slot struct {
	metaBlock
	disk.Entry
	pos int64 // byte in the directory
}

// scan visits the slots of a directory from byte pos on, until visit says stop; then it gives that slot, held. ok is false at the
// end. Free slots are visited too.
func (ip *inode) scan(ctx context.Context, pos int64, visit func(e disk.Entry, pos int64) (stop bool)) (s slot, ok bool, err error) {
	sb := &ip.fs.super
	bs, size := int64(sb.BlockSize), int64(sb.DirEntrySize())
	for pos < ip.Size() {
		b, ok, err := ip.metaBlock(ctx, uint64(pos/bs))
		if err != nil {
			return s, false, err
		}
		if !ok {
			return s, false, ip.fs.corrupt(ip.Ino(), "the directory has a hole at byte %d", pos)
		}
		for end := min((pos/bs+1)*bs, ip.Size()); pos+size <= end; pos += size {
			if e := sb.Entry(b.data[pos%bs:]); visit(e, pos) {
				return slot{b, e, pos}, true, nil
			}
		}
		b.put()
		pos = (pos + bs - 1) / bs * bs
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
		if s, err = ip.newSlot(ctx); err != nil {
			return err
		}
	}
	defer s.put()
	ip.free = s.pos
	s.change(func() { s.Set(ino, name) })
	if size := s.pos + int64(ip.fs.super.DirEntrySize()); size > ip.Size() {
		ip.grow(size)
	}
	ip.changed()
	return nil
}

// newSlot gives the slot behind the last one.
func (ip *inode) newSlot(ctx context.Context) (s slot, err error) {
	sb := &ip.fs.super
	bs, size := int64(sb.BlockSize), int64(sb.DirEntrySize())
	pos := ip.Size() / size * size
	if pos+size > ip.fs.sb.MaxBytes {
		return s, errno.NOSPC
	}
	b, ok, err := ip.metaBlock(ctx, uint64(pos/bs))
	if err == nil && !ok {
		b, err = ip.addMetaBlock(ctx, uint64(pos/bs))
	}
	if err != nil {
		return s, err
	}
	return slot{b, sb.Entry(b.data[pos%bs:]), pos}, nil
}

// remove frees a slot. Hold Rw exclusively.
func (ip *inode) remove(s *slot) {
	s.change(func() { s.SetIno(0) })
	ip.free = min(ip.free, s.pos)
	ip.changed()
}

// replace lets a slot name another inode. Hold Rw exclusively.
func (ip *inode) replace(s *slot, ino disk.Ino) {
	s.change(func() { s.SetIno(ino) })
	ip.changed()
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
	s, ok, err := ip.scan(ctx, 0, func(e disk.Entry, _ int64) bool {
		n := string(e.Name())
		return e.Ino() != 0 && n != "." && n != ".."
	})
	if ok {
		s.put()
	}
	return !ok, err
}

// parent is InodeOperations.Parent.
func (fs *fsys) parent(ctx context.Context, dir *vfs.Inode) (uint64, error) {
	s, err := inodeOf(dir).find(ctx, "..")
	if err != nil {
		return 0, fs.corrupt(dir.Ino(), "the directory has no \"..\": %v", err)
	}
	defer s.put()
	return uint64(s.Ino()), nil
}

// readDir is FileOperations.ReadDir. A cookie is the byte of the next slot: slots never move.
func (fs *fsys) readDir(ctx context.Context, f *vfs.File, pos int64, emit func(*vfs.DirEntry) bool) error {
	ip, size := inodeOf(f.Inode), int64(fs.super.DirEntrySize())
	if pos < 0 {
		return errno.INVAL
	}
	s, ok, err := ip.scan(ctx, (pos+size-1)/size*size, func(e disk.Entry, at int64) bool {
		return e.Ino() != 0 && !emit(&vfs.DirEntry{Ino: uint64(e.Ino()), Type: vfs.DTUnknown, Name: string(e.Name()), Next: at + size})
	})
	if ok {
		s.put()
	}
	return err
}
