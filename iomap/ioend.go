package iomap

import (
	"fmt"
	"slices"
	"sync"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// Most folios in one ioend: completion handles each, and nothing else meanwhile.
const ioendFolios = 4096

// Ioend (struct iomap_ioend) is one write of cached data under way: a range of the file that lies together on the device and is of one
// kind. The filesystem owns it from WritebackOps.Submit until Finish.
type Ioend struct {
	Inode *vfs.Inode
	Pos   int64  // file byte
	Size  int64  // bytes, up to the end of the file as it was when the data was taken
	Addr  uint64 // device byte
	Type  Type   // Mapped or Unwritten
	Flags Flags  // FlagShared, FlagBoundary, FlagAnonWrite of the mapping
	Err   error  // of the I/O, when End runs
	// End, when set by Submit, completes the write: it runs when the I/O is over, on any goroutine and without waiting for anything,
	// usually to put the ioend on an IoendQueue; it sees to it that Finish is called.
	End     func(io *Ioend)
	Private any

	segments
	bio     block.Bio
	dev     block.Device
	max     int64
	instead [1][]byte // what is written in place of vecs, if anything
	merged  []*Ioend  // those that continue it, put together at completion
}

var ioends = sync.Pool{New: func() any {
	io := new(Ioend)
	io.bio.Private = io
	return io
}}

// newIoend begins an ioend at file byte pos.
func newIoend(ip *vfs.Inode, m *Mapping, pos int64) *Ioend {
	io := ioends.Get().(*Ioend)
	io.Inode, io.Pos, io.Size, io.Type = ip, pos, 0, m.Type
	io.Flags = m.Flags & (FlagShared | FlagAnonWrite)
	if pos == m.Offset {
		io.Flags |= m.Flags & FlagBoundary // not in the middle of what it begins
	}
	io.dev, io.max = m.Dev, mostOf(m.Dev, int64(ip.BlockSize()))
	if io.Addr = NullAddr; m.Flags&FlagAnonWrite == 0 {
		io.Addr = uint64(m.AddrOf(pos))
	}
	return io
}

// room gives how many of the n bytes at file byte pos, mapped by m, continue the ioend; 0 when they need another.
func (io *Ioend) room(m *Mapping, pos int64, n int) int {
	switch {
	case io.len == 0:
	case m.Flags&(FlagShared|FlagAnonWrite) != io.Flags&(FlagShared|FlagAnonWrite), m.Type != io.Type, m.Dev != io.dev,
		pos != io.Pos+io.len, io.Size != io.len, m.Flags&FlagBoundary != 0 && pos == m.Offset, len(io.segs) >= ioendFolios,
		m.Flags&FlagAnonWrite == 0 && uint64(m.AddrOf(pos)) != io.Addr+uint64(io.len):
		return 0
	}
	return int(min(int64(n), io.max-io.len))
}

// Each calls f for each part, with the file byte where it begins. data is the folio's memory, which readers see: a filesystem that
// transforms what it writes does so in a copy (Replace).
func (io *Ioend) Each(f func(pos int64, data []byte)) { io.each(f) }

// Replace makes the write store p, of the same length, in place of what the folios hold. It stays the caller's, and is not changed until End.
func (io *Ioend) Replace(p []byte) { io.instead = [1][]byte{p} }

// Submit sends the write off. An Addr that was not known must be set.
func (io *Ioend) Submit() {
	io.bio.Op, io.bio.Off, io.bio.Vecs, io.bio.Err, io.bio.Done = block.OpWrite, int64(io.Addr), io.vecs, nil, ioendDone
	if io.instead[0] != nil {
		io.bio.Vecs = io.instead[:]
	}
	if t := io.Inode.SB().Trace; t != nil {
		t.Emit(trace.Event{Kind: trace.BioSubmit, Ino: io.Inode.Ino(), Pos: io.bio.Off, Len: io.len})
	}
	io.dev.Submit(&io.bio)
}

func ioendDone(bio *block.Bio) {
	io := bio.Private.(*Ioend)
	if t := io.Inode.SB().Trace; t != nil {
		t.Emit(trace.Event{Kind: trace.IoendDone, Ino: io.Inode.Ino(), Pos: io.Pos, Len: io.Size, Addr: io.Addr, Err: bio.Err})
	}
	if io.End != nil {
		io.Err = bio.Err
		io.End(io)
		return
	}
	io.Finish(bio.Err)
}

// Finish (iomap_finish_ioends) ends the write, and of those merged into it: the error is recorded for everybody who has the file open,
// then the folios' writeback ends. What the filesystem has to do to make the data found comes before: who waits for writeback may rely
// on it. A failed folio stays uptodate with its new contents. The ioend must not be used any more.
func (io *Ioend) Finish(err error) {
	for _, m := range io.merged {
		m.Finish(err)
	}
	as := &io.Inode.Pages
	if err != nil {
		as.SetError(fmt.Errorf("write of %d bytes of inode %d at %d: %w", io.len, io.Inode.Ino(), io.Pos, err))
	}
	for _, s := range io.segs {
		if st := stateOf(s.fo); st != nil {
			endWrites(s.fo, st, int64(s.n))
		} else {
			s.fo.EndWriteback()
		}
	}
	clear(io.merged)
	s := io.segments
	s.reset()
	*io = Ioend{segments: s, merged: io.merged[:0]}
	io.bio.Private = io
	ioends.Put(io)
}

// IoendQueue completes the ioends of one inode in a goroutine of its own, which may wait, run transactions and take the map lock, but
// neither folio nor inode locks: others wait for writeback with those held. Ioends that continue each other are put together
// first, so that what the filesystem does is done once for all of them. The zero value with Handle set is ready.
type IoendQueue struct {
	// Handle does what the filesystem must do when the data of io, and of those merged into it, is on the device: io.Err says how
	// that went. Its error, or io.Err, is what the ioends finish with. Immutable.
	Handle func(io *Ioend) error

	mu      sync.Mutex // guards what follows. Leaf
	list    []*Ioend
	working bool
	idle    *sync.Cond // broadcast when the worker ends; made by Wait
}

// Add takes an ioend over. For Ioend.End.
func (q *IoendQueue) Add(io *Ioend) {
	q.mu.Lock()
	q.list = append(q.list, io)
	start := !q.working
	q.working = true
	q.mu.Unlock()
	if start {
		go q.work()
	}
}

// Wait waits until everything added is finished. Hold nothing that Handle takes.
func (q *IoendQueue) Wait() {
	q.mu.Lock()
	for q.working {
		if q.idle == nil {
			q.idle = sync.NewCond(&q.mu)
		}
		q.idle.Wait()
	}
	q.mu.Unlock()
}

func (q *IoendQueue) work() {
	for {
		q.mu.Lock()
		list := q.list
		q.list = nil
		if len(list) == 0 {
			q.working = false
			if q.idle != nil {
				q.idle.Broadcast()
			}
			q.mu.Unlock()
			return
		}
		q.mu.Unlock()
		for _, io := range mergeIoends(list) {
			err := q.Handle(io)
			if err == nil {
				err = io.Err
			}
			io.Finish(err)
		}
	}
}

// mergeIoends (iomap_sort_ioends, iomap_ioend_try_merge) sorts by file position and puts those together that continue each other
// in the file and on the device, are of one kind, and went alike.
func mergeIoends(list []*Ioend) []*Ioend {
	slices.SortFunc(list, func(a, b *Ioend) int { return int(min(max(a.Pos-b.Pos, -1), 1)) })
	out := list[:0]
	for _, io := range list {
		if n := len(out); n > 0 && out[n-1].continuedBy(io) {
			head := out[n-1]
			head.Size += io.Size
			head.merged = append(head.merged, io)
			continue
		}
		out = append(out, io)
	}
	return out
}

// continuedBy reports whether next lies behind io and can be completed with it. Addr is what was submitted.
func (io *Ioend) continuedBy(next *Ioend) bool {
	return (io.Err == nil) == (next.Err == nil) && io.Type == next.Type && (io.Flags^next.Flags)&FlagShared == 0 &&
		next.Flags&FlagBoundary == 0 && io.Pos+io.Size == next.Pos && io.dev == next.dev && io.Addr+uint64(io.Size) == next.Addr
}

// Split (iomap_split_ioend) cuts the first n bytes, whole blocks, off into an ioend of their own, for a device that takes only so much
// at once: both are to be submitted. Nil when io is no longer than n.
func (io *Ioend) Split(n int64) *Ioend {
	n &^= int64(io.Inode.BlockSize()) - 1
	if n <= 0 || n >= io.len {
		return nil
	}
	head := ioends.Get().(*Ioend)
	head.Inode, head.Pos, head.Addr, head.Type, head.Flags, head.dev, head.max = io.Inode, io.Pos, io.Addr, io.Type, io.Flags, io.dev, io.max
	head.End, head.Private, head.bio.Flags = io.End, io.Private, io.bio.Flags
	rest := append([]segment(nil), io.segs...)
	size := io.Size
	io.reset()
	for _, s := range rest {
		if k := int(min(int64(s.n), n-head.len)); k > 0 {
			head.add(s.fo, s.off, k)
			s.off, s.n = s.off+k, s.n-k
		}
		if s.n > 0 {
			io.add(s.fo, s.off, s.n)
		}
	}
	head.Size = min(size, n)
	io.Pos, io.Size = io.Pos+n, size-head.Size
	if io.Addr != NullAddr {
		io.Addr += uint64(n)
	}
	io.Flags &^= FlagBoundary
	return head
}
