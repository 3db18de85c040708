package iomap

import (
	"bytes"
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// DAX: files reached as the memory of their device (Mapping.Dax), without page cache and without bios. Begin is asked with OpDax. It
// never shows unwritten space to a write: what it allocates is zeroed on the device before the map leads to it, or is marked
// FlagShared, so that End puts in exactly what was written. Nothing revalidates mappings: the inode lock and the invalidate lock keep the
// map as it is. Memory that faults is errno.IO (block.Touch). What is stored is durable after DaxWriteback, or a flush of the device.
//
//	                HOLE, UNWRITTEN     MAPPED       MAPPED, UNWRITTEN with FlagShared
//	read            zeros               copy         copy (MAPPED)
//	write           errno.IO            copy         the rest of the blocks from the source, then copy
//	zero, truncate  left alone          zeros        the rest of the blocks from the source, then zeros

// DaxRW (dax_iomap_rw) reads or writes p at k.Pos, and moves k.Pos on. Reads end at the end of the file. A write does not move it: the
// filesystem does afterwards, under the same hold of ip.Rw, which is exclusive for writes and shared for reads.
//
// It gives the bytes moved, and an error only when there are none: Begin's (errno.NOSPC …), errno.IO, ctx's.
// Source: Documentation/filesystems/iomap/operations.rst, "fsdax Reads", "fsdax Writes".
func DaxRW(ctx context.Context, k *vfs.Kiocb, p []byte, write bool, ops *Ops, d *DaxSpace) (int, error) {
	flags := OpDax
	if write {
		flags |= OpWrite
	}
	if k.NoWait {
		flags |= OpNoWait
	}
	it := NewIter(k.Inode, k.Pos, int64(len(p)), flags, ops)
	defer it.Close(ctx)
	for it.Next(ctx) {
		part := p[it.Pos()-k.Pos:][:it.Usable()]
		var n int64
		var err error
		if write {
			n, err = daxStore(it, d, it.Usable(), func(dst, _ []byte) { copy(dst, part) })
		} else {
			n, err = daxRead(it, part)
		}
		it.Advance(n)
		it.Fail(err)
	}
	done := it.Pos() - k.Pos
	if write {
		d.bound(k.Inode)
	}
	if done == 0 {
		return 0, it.Err()
	}
	k.Pos += done
	return int(done), nil
}

// daxRead copies what the mapping in use serves, up to the end of the file; 0 without error there.
func daxRead(it *Iter, p []byte) (int64, error) {
	m, n := &it.Map, min(int64(len(p)), it.Inode.Size()-it.Pos())
	if n <= 0 {
		return 0, nil
	}
	switch m.Type {
	case Hole, Unwritten:
		clear(p[:n])
		return n, nil
	case Mapped:
		mem, err := daxMemory(it, m, it.Pos(), n)
		if err == nil {
			err = block.Touch(func() { copy(p, mem) })
		}
		if err != nil {
			return 0, err
		}
		return n, nil
	}
	return 0, it.broken("a read of memory is answered by %s", m)
}

// daxMemory gives the memory behind n bytes of the file at pos.
func daxMemory(it *Iter, m *Mapping, pos, n int64) ([]byte, error) {
	mem, err := m.Dax.DirectAccess(m.AddrOf(pos), n)
	if err != nil {
		return nil, fmt.Errorf("inode %d at %d: %w", it.Inode.Ino(), pos, err)
	}
	return mem, nil
}

// daxStore lets fill store n bytes at the iterator's position, no more than usable, and gives n. old is what was there in shared space, nil
// for zeros and elsewhere. The rest of shared blocks is copied before (dax_iomap_copy_around).
func daxStore(it *Iter, d *DaxSpace, n int64, fill func(dst, old []byte)) (int64, error) {
	m, pos := &it.Map, it.Pos()
	cow := m.Flags&FlagShared != 0
	if m.Type != Mapped && !(cow && m.Type == Unwritten) {
		return 0, it.broken("a write of memory is answered by %s", m)
	}
	lo, hi := pos, pos+n
	if cow {
		bs := int64(it.Inode.BlockSize())
		lo, hi = lo&^(bs-1), (hi+bs-1)&^(bs-1)
	}
	if cow || m.Flags&FlagNew != 0 {
		// Windows show what was there before: the shared zeros, or the shared blocks.
		d.invalidate(lo, hi)
	}
	mem, err := daxMemory(it, m, lo, hi-lo)
	var old []byte
	if err == nil && cow && it.Src.Type == Mapped {
		old, err = daxMemory(it, &it.Src, lo, hi-lo)
	}
	if err != nil {
		return 0, err
	}
	off := pos - lo
	err = block.Touch(func() {
		var under []byte
		if cow {
			copyOr(mem[:off], old, 0)
			copyOr(mem[off+n:], old, off+n)
			if old != nil {
				under = old[off:][:n]
			}
		}
		fill(mem[off:][:n], under)
	})
	d.mark(lo, hi-lo, m.AddrOf(lo), m.Dax)
	if err != nil {
		return 0, fmt.Errorf("inode %d at %d: %w", it.Inode.Ino(), pos, err)
	}
	return n, nil
}

// copyOr fills dst from byte off of old, or with zeros when there is none.
func copyOr(dst, old []byte, off int64) {
	if old == nil {
		clear(dst)
		return
	}
	copy(dst, old[off:])
}

// DaxZeroRange (dax_zero_range) makes [pos, pos+length) read as zeros; the size does not change. did reports whether anything was stored.
// Hold ip.Rw and the invalidate lock exclusively. On error a part may have been zeroed; calling again is safe.
func DaxZeroRange(ctx context.Context, ip *vfs.Inode, pos, length int64, ops *Ops, d *DaxSpace) (did bool, err error) {
	it := NewIter(ip, pos, length, OpZero|OpDax, ops)
	defer it.Close(ctx)
	for it.Next(ctx) {
		if t := it.Source().Type; t == Hole || t == Unwritten {
			it.Advance(it.Usable())
			continue
		}
		n, err := daxStore(it, d, it.Usable(), func(dst, _ []byte) { clear(dst) })
		it.Advance(n)
		it.Fail(err)
		did = did || n > 0
	}
	return did, it.Err()
}

// DaxTruncatePage (dax_truncate_page) zeroes from pos to the end of its block; nothing when pos begins one. Locks: DaxZeroRange's.
func DaxTruncatePage(ctx context.Context, ip *vfs.Inode, pos int64, ops *Ops, d *DaxSpace) (did bool, err error) {
	bs := int64(ip.BlockSize())
	off := pos & (bs - 1)
	if off == 0 {
		return false, nil
	}
	return DaxZeroRange(ctx, ip, pos, bs-off, ops, d)
}

// DaxUnshare (dax_file_unshare) makes the blocks that [pos, pos+length) shares with other files the file's own, by copying them. Cut at the
// end of the file. Locks: DaxZeroRange's.
func DaxUnshare(ctx context.Context, ip *vfs.Inode, pos, length int64, ops *Ops, d *DaxSpace) error {
	size := ip.Size()
	if pos < 0 || pos >= size {
		return nil
	}
	it := NewIter(ip, pos, min(length, size-pos), OpWrite|OpUnshare|OpDax, ops)
	defer it.Close(ctx)
	for it.Next(ctx) {
		n := it.Usable()
		if it.Map.Flags&FlagShared != 0 && it.Src.Type == Mapped {
			var err error
			n, err = daxStore(it, d, n, func(dst, old []byte) { copy(dst, old) })
			it.Fail(err)
		}
		it.Advance(n)
	}
	return it.Err()
}

// DaxSame (dax_dedupe_file_range_compare) reports whether n bytes of a at apos are those of b at bpos, before they become one. What one of
// them has a hole for and the other has not is different, also when it is zeros. Hold both files' Rw and invalidate locks
// (vfs.LockTwo's order).
//
// Errors: Begin's, errno.IO.
func DaxSame(ctx context.Context, a *vfs.Inode, apos int64, aops *Ops, b *vfs.Inode, bpos int64, bops *Ops, n int64) (same bool, err error) {
	ia, ib := NewIter(a, apos, n, OpDax, aops), NewIter(b, bpos, n, OpDax, bops)
	defer ia.Close(ctx)
	defer ib.Close(ctx)
	same = true
	for same && ia.Next(ctx) && ib.Next(ctx) {
		step := min(ia.Usable(), ib.Usable())
		if same, err = daxEqual(ia, ib, step); err != nil {
			return false, err
		}
		ia.Advance(step)
		ib.Advance(step)
	}
	if err := ia.Err(); err != nil {
		return false, err
	}
	return same && ib.Err() == nil, ib.Err()
}

// daxEqual compares n bytes of the mappings in use.
func daxEqual(ia, ib *Iter, n int64) (same bool, err error) {
	hole := func(m *Mapping) bool { return m.Type == Hole || m.Type == Unwritten }
	if hole(&ia.Map) || hole(&ib.Map) {
		return hole(&ia.Map) && hole(&ib.Map), nil
	}
	for _, it := range [...]*Iter{ia, ib} {
		if it.Map.Type != Mapped {
			return false, it.broken("a read of memory is answered by %s", &it.Map)
		}
	}
	ma, err := daxMemory(ia, &ia.Map, ia.Pos(), n)
	if err != nil {
		return false, err
	}
	mb, err := daxMemory(ib, &ib.Map, ib.Pos(), n)
	if err != nil {
		return false, err
	}
	err = block.Touch(func() { same = bytes.Equal(ma, mb) })
	return same && err == nil, err
}

// DaxFault (dax_iomap_fault) gives a window of length bytes at pos, a page or a naturally aligned larger piece, which falls back to the page
// when one mapping does not serve all of it inside the file. For a store it is written space, counted as dirty until it is released and
// written back; for a load a hole is a window on shared zeros. Faults of one file take turns. The caller releases the window.
//
// Hold the invalidate lock shared, and no other.
//
// Errors: errno.FAULT for a page behind the end of the file (SIGBUS); errno.INVAL for a place that is no page; errno.IO when no
// mapping covers the page; Begin's.
// Source: Documentation/filesystems/iomap/operations.rst, "fsdax Write and mmap Faults".
func DaxFault(ctx context.Context, ip *vfs.Inode, pos, length int64, write bool, ops *Ops, d *DaxSpace) (*DaxWindow, error) {
	const page = daxPage
	if pos < 0 || length < page || length&(length-1) != 0 || pos&(page-1) != 0 {
		return nil, fmt.Errorf("inode %d: fault of %d bytes at %d: %w", ip.Ino(), length, pos, errno.INVAL)
	}
	d.faults.Lock()
	defer d.faults.Unlock()
	size := ip.Size()
	if pos >= size {
		return nil, fmt.Errorf("inode %d: fault at %d, behind the end: %w", ip.Ino(), pos, errno.FAULT)
	}
	if pos&(length-1) != 0 || pos+length > size {
		length = page
	}
	flags := OpDax | OpFault
	if write {
		flags |= OpWrite
	}
	it := NewIter(ip, pos, length, flags, ops)
	defer it.Close(ctx)
	var w *DaxWindow
	for w == nil && it.Next(ctx) {
		if it.Usable() < length {
			length = page
		}
		if it.Usable() < page {
			it.Fail(it.broken("%s does not cover the page", &it.Map))
			break
		}
		var err error
		if w, err = daxWindow(it, d, length, write); err == nil {
			it.Advance(length)
		}
		it.Fail(err)
	}
	return w, it.Err()
}

// daxWindow makes a window of the mapping in use.
func daxWindow(it *Iter, d *DaxSpace, n int64, write bool) (*DaxWindow, error) {
	m, pos := &it.Map, it.Pos()
	w := &DaxWindow{Pos: pos, Writable: write, Major: m.Flags&FlagNew != 0, NeedSync: write && m.Flags&FlagDirty != 0, d: d, dev: m.Dax}
	if !write && (m.Type == Hole || m.Type == Unwritten) {
		if n > int64(len(zeros)) {
			n = daxPage
		}
		w.Mem, w.Zero = zeros[:n:n], true
		d.hold(w)
		return w, nil
	}
	if write {
		_, err := daxStore(it, d, n, func(dst, old []byte) {
			if m.Flags&FlagShared != 0 {
				copyOr(dst, old, 0)
			}
		})
		if err != nil {
			return nil, err
		}
	} else if m.Type != Mapped {
		return nil, it.broken("a read of memory is answered by %s", m)
	}
	mem, err := daxMemory(it, m, pos, n)
	if err != nil {
		return nil, err
	}
	w.Mem, w.addr = mem, m.AddrOf(pos)
	d.hold(w)
	return w, nil
}
