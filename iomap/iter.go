package iomap

import (
	"context"
	"fmt"
	"sync"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// Iter (struct iomap_iter) walks a range of a file, mapping by mapping:
//
//	it := NewIter(ip, pos, length, flags, ops)
//	defer it.Close(ctx)
//	for it.Next(ctx) {
//		n, err := use(it.Pos(), it.Usable(), &it.Map)
//		it.Advance(n)
//		it.Fail(err)
//	}
//	return it.Err()
//
// Next ends the mapping in use and begins the next. It stops when the range is done, after an error, and when the body made no
// progress: that is how a body says that it has seen enough. Only a body that called Stale without progress is called again.
//
// Not for use by several goroutines. Source: Documentation/filesystems/iomap/design.rst, "Iteration"; operation as of Linux 6.15.
type Iter struct {
	Inode *vfs.Inode
	Flags OpFlags
	Map   Mapping // the mapping in use; only its flags may be changed by the body
	Src   Mapping // where old contents are, when they are elsewhere: see Source
	// Private is the caller's, for Begin and the hooks to see.
	Private any

	ops   *Ops
	pos   int64 // first byte not yet done
	left  int64 // bytes of the range from pos on
	start int64 // pos when the mapping was made
	limit int64 // bytes usable of the mapping from start on
	used  bool  // the mappings are not empty
	held  bool  // Begin succeeded and End was not called yet
	done  bool
	err   error
}

var iters = sync.Pool{New: func() any { return new(Iter) }}

// NewIter makes an iterator over [pos, pos+length) of ip. Bytes; length may be 0.
func NewIter(ip *vfs.Inode, pos, length int64, flags OpFlags, ops *Ops) *Iter {
	it := iters.Get().(*Iter)
	it.Inode, it.Flags, it.ops, it.pos, it.left = ip, flags, ops, pos, length
	return it
}

// Close ends a mapping still in use, after an early way out of the loop, and gives the iterator up.
func (it *Iter) Close(ctx context.Context) {
	_ = it.end(ctx) // as in Next: who left the loop has his reasons, and they are not replaced
	*it = Iter{}
	iters.Put(it)
}

// Pos is the file byte to work on next.
func (it *Iter) Pos() int64 { return it.pos }

// Left is how many bytes of the range remain.
func (it *Iter) Left() int64 { return it.left }

// Usable is how many bytes from Pos on the mapping serves, within the range (iomap_length): it ends where the mapping, or its
// source, ends.
func (it *Iter) Usable() int64 { return it.limit - (it.pos - it.start) }

// Source is where old contents are read (iomap_iter_srcmap): Src if there is one, else Map.
func (it *Iter) Source() *Mapping {
	if it.Src.Type != Hole {
		return &it.Src
	}
	return &it.Map
}

// Advance moves on by n bytes of the range, at most Usable (iomap_iter_advance).
func (it *Iter) Advance(n int64) {
	if n < 0 || n > it.Usable() {
		it.Fail(it.broken("progress of %d bytes in a mapping that serves %d", n, it.Usable()))
		return
	}
	it.pos += n
	it.left -= n
}

// Fail keeps the first error; nil changes nothing. The loop ends with it, after End.
func (it *Iter) Fail(err error) {
	if err != nil && it.err == nil {
		it.err = err
	}
}

// MarkStale says that the mapping no longer holds: what is left is mapped afresh, even without progress.
func (it *Iter) MarkStale() { it.Map.Flags |= FlagStale }

// IsStale reports whether somebody said so.
func (it *Iter) IsStale() bool { return it.Map.Flags&FlagStale != 0 }

// Err is the error that ended the loop, nil if the range was done or the body had enough.
func (it *Iter) Err() error { return it.err }

// Next ends the mapping in use and begins the next one; false ends the loop.
func (it *Iter) Next(ctx context.Context) bool {
	if it.done {
		return false
	}
	if it.held {
		progress, stale := it.pos-it.start, it.IsStale()
		if err := it.end(ctx); err != nil && progress == 0 {
			it.Fail(err)
		}
		if it.err != nil || it.left == 0 || progress == 0 && !stale {
			it.done = true
			return false
		}
	}
	if it.left <= 0 || it.err != nil {
		it.done = true
		return false
	}
	if err := ctx.Err(); err != nil {
		it.err, it.done = err, true
		return false
	}
	if err := it.begin(ctx); err != nil {
		it.err, it.done = err, true
		return false
	}
	return true
}

// begin maps pos.
func (it *Iter) begin(ctx context.Context) error {
	if it.used {
		it.Map = Mapping{}
		it.Src = Mapping{}
	}
	it.used, it.Map.Addr, it.Src.Addr = true, NullAddr, NullAddr
	err := it.ops.Begin(ctx, it.Inode, it.pos, it.left, it.Flags, &it.Map, &it.Src)
	if t := it.Inode.SB().Trace; t != nil {
		it.trace(t, trace.Begin, it.pos, it.left, it.Map.Length, err)
	}
	if err != nil {
		return err
	}
	it.held, it.start, it.limit = true, it.pos, 0
	bs := int64(it.Inode.BlockSize())
	if why := it.Map.check(it.pos, bs, it.Flags); why != "" {
		return it.abandon(ctx, &it.Map, why)
	}
	it.limit = min(it.left, it.Map.End()-it.pos)
	if it.Src.Type != Hole {
		if why := it.Src.check(it.pos, bs, it.Flags); why != "" {
			return it.abandon(ctx, &it.Src, "source "+why)
		}
		it.limit = min(it.limit, it.Src.End()-it.pos)
	}
	return nil
}

// abandon ends a mapping that must not be used, and says what is wrong with it.
func (it *Iter) abandon(ctx context.Context, m *Mapping, why string) error {
	err := it.broken("bad mapping for %s of %d bytes: %s: %s", it.Flags, it.left, m, why)
	_ = it.end(ctx) // the mapping's own defect is the error to report
	return err
}

// end gives the mapping back with the progress made.
func (it *Iter) end(ctx context.Context) error {
	if !it.held {
		return nil
	}
	it.held = false
	if it.Map.Batch != nil {
		it.Map.Batch.Release()
		it.Map.Batch = nil
	}
	if it.ops.End == nil {
		return nil
	}
	done := it.pos - it.start
	err := it.ops.End(ctx, it.Inode, it.start, it.limit, done, it.Flags, &it.Map)
	if t := it.Inode.SB().Trace; t != nil {
		it.trace(t, trace.End, it.start, it.limit, done, err)
	}
	return err
}

func (it *Iter) trace(t trace.Sink, kind trace.Kind, pos, length, got int64, err error) {
	t.Emit(trace.Event{Kind: kind, Flags: uint32(it.Flags), Ino: it.Inode.Ino(), Pos: pos, Len: length, Addr: it.Map.Addr, Got: got, Err: err})
}

// broken makes the error of a broken promise: the filesystem's, or the library's own.
func (it *Iter) broken(format string, args ...any) error {
	sb := it.Inode.SB()
	name := ""
	if sb.Type != nil {
		name = sb.Type.Name
	}
	return fmt.Errorf("iomap: %s: inode %d at %d: %s: %w", name, it.Inode.Ino(), it.pos, fmt.Sprintf(format, args...), errno.IO)
}
