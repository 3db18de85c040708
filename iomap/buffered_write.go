package iomap

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// BufferedWrite (iomap_file_buffered_write) stores p at k.Pos through the page cache, a large folio at a time, moves k.Pos on, and
// raises the file's size with each folio, under its lock. private is what Begin and FolioOps find in Iter.Private.
//
// Hold ip.Rw exclusively. The caller has zeroed the gap between the end of the file and k.Pos, checked limits, and syncs afterwards. The
// writer is held back here, between folios, while there is too much dirty memory.
//
// It gives the bytes stored, and an error only when there are none: Begin's (errno.NOSPC …), errno.IO where a part of a block
// could not be read, errno.AGAIN with k.NoWait, ctx's. What failed past the end of the file is dropped from the cache.
// Source: Documentation/filesystems/iomap/operations.rst, "Buffered Writes".
func BufferedWrite(ctx context.Context, k *vfs.Kiocb, p []byte, ops *Ops, ro *ReadOps, private any) (int, error) {
	return bufferedWrite(ctx, k, source{p: p, n: len(p)}, ops, ro, private)
}

// BufferedWriteFrom is BufferedWrite of n bytes that fill stores: fill copies the bytes of the source from off on to dst and gives how
// many it could; fewer than len(dst) is a short copy, and nothing at all ends the write with errno.FAULT. It runs with a folio locked,
// so it must not wait for anything that a folio's lock may hold up.
func BufferedWriteFrom(ctx context.Context, k *vfs.Kiocb, n int, fill func(dst []byte, off int) int, ops *Ops, ro *ReadOps, private any) (int, error) {
	return bufferedWrite(ctx, k, source{fill: fill, n: n}, ops, ro, private)
}

// source is where written bytes come from.
type source struct {
	p    []byte
	fill func(dst []byte, off int) int
	n    int
}

func (s *source) copyTo(dst []byte, off int) int {
	if s.fill != nil {
		return s.fill(dst, off)
	}
	return copy(dst, s.p[off:])
}

func bufferedWrite(ctx context.Context, k *vfs.Kiocb, src source, ops *Ops, ro *ReadOps, private any) (int, error) {
	flags := OpWrite
	if k.NoWait {
		flags |= OpNoWait
	}
	if k.DontCache {
		flags |= OpDontCache
	}
	w := writer{ro: ro, src: src, start: k.Pos}
	it := NewIter(k.Inode, k.Pos, int64(src.n), flags, ops)
	defer it.Close(ctx)
	it.Private = private
	for it.Next(ctx) {
		w.mapping(ctx, it)
	}
	done := it.Pos() - k.Pos
	if done == 0 {
		return 0, it.Err()
	}
	k.Pos += done
	return int(done), nil
}

// writer is a buffered write under way.
type writer struct {
	ro    *ReadOps
	src   source
	start int64 // file byte of the source's first
}

// mapping stores what the mapping in use serves.
func (w *writer) mapping(ctx context.Context, it *Iter) {
	const most = int64(pagecache.PageSize) << pagecache.MaxOrder
	ip, limit := it.Inode, most
	for it.Usable() > 0 && !it.IsStale() {
		if it.Flags&OpNoWait == 0 {
			if err := ip.SB().WB.Balance(ctx, &ip.Pages); err != nil {
				it.Fail(err)
				return
			}
		}
		pos := it.Pos()
		n, copied, err := w.folio(ctx, it, min(it.Usable(), most-pos&(most-1), limit))
		switch {
		case err == nil && copied == 0 && !it.IsStale():
			err = fmt.Errorf("inode %d: nothing to be had of what is to be written at %d: %w", ip.Ino(), pos, errno.FAULT)
			fallthrough
		case err != nil:
			it.Fail(err)
			return
		case n == 0:
			// A short copy into a folio that is not valid around it. Once more with exactly what can be had: then what it
			// does not cover of its blocks is read first.
			limit = int64(copied)
		default:
			it.Advance(int64(n))
			limit = most
		}
	}
}

// folio stores up to want bytes at the iterator's position, in one folio. n is how many count, copied how many the source gave. With a
// mapping that went stale both are 0.
func (w *writer) folio(ctx context.Context, it *Iter, want int64) (n, copied int, err error) {
	ip, pos := it.Inode, it.Pos()
	fo, n, err := writeBegin(ctx, it, w.ro, want)
	if err != nil || fo == nil {
		if err != nil {
			dropPast(ip, pos, want)
		}
		return 0, 0, err
	}
	off := int(pos - fo.Pos())
	want = int64(n)
	copied = w.src.copyTo(fo.Data()[off:off+n], int(pos-w.start))
	n = writeEnd(it, fo, off, n, copied)
	// Under the folio's lock: writeback must not take the folio for one behind the end.
	old, end := ip.Size(), pos+int64(n)
	if n > 0 && end > old {
		ip.SetSize(end)
		it.Map.Flags |= FlagSizeChanged
	}
	putFolio(it, pos, int64(n), fo)
	switch {
	case n == 0:
		dropPast(ip, pos, want)
	case old < pos:
		ip.Pages.Extended(old, pos)
	}
	return n, copied, nil
}

// dropPast drops what a failed write of [pos, pos+n) left in the cache behind the end of the file; never what is before it.
func dropPast(ip *vfs.Inode, pos, n int64) {
	if size := ip.Size(); pos+n > size {
		ip.Pages.InvalidateLock.Lock()
		ip.Pages.TruncateRange(max(pos, size), pos+n)
		ip.Pages.InvalidateLock.Unlock()
	}
}
