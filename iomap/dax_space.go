package iomap

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
)

const (
	daxPage  = 4096 // the smallest window
	daxSpans = 1024 // places that may wait to be made durable; with more they are written at once
)

// DaxSpace is what is known of a file that is reached as memory, in place of its page cache: what was stored and is not durable yet, and the
// windows that are held on it. One for each inode; the zero value is ready.
type DaxSpace struct {
	faults sync.Mutex // makes faults of the file take turns. Inside the invalidate lock, outside what Begin takes

	syncs sync.Mutex // makes write-backs of the file take turns: one must not miss what another is at. Outside mu

	mu      sync.Mutex // guards what follows. Leaf
	dirty   []daxSpan  // by position, none touching another
	windows []*DaxWindow
	gone    chan struct{} // closed when a window goes; nil while nobody waits
}

// daxSpan is a part of the file and where it lies.
type daxSpan struct {
	pos, n int64
	addr   int64
	dev    block.Mapper
}

func (s *daxSpan) end() int64 { return s.pos + s.n }

// joins reports whether next continues s, in the file and on the device.
func (s *daxSpan) joins(next *daxSpan) bool {
	return s.end() == next.pos && s.addr+s.n == next.addr && s.dev == next.dev
}

// DaxWindow is a part of a file as memory, as a page table entry would give it to a process. Its holder loads from Mem, and stores to it if
// it is Writable, inside block.Touch, as long as it is Valid, and releases it. Until then the blocks below are not freed.
type DaxWindow struct {
	Mem      []byte
	Pos      int64 // file byte of Mem[0]
	Writable bool
	Zero     bool // shared zeros stand for a hole: never store
	Major    bool // space was allocated for it
	NeedSync bool // the map is to be made durable before a store may count as durable (MAP_SYNC)

	d     *DaxSpace
	addr  int64
	dev   block.Mapper
	stale atomic.Bool
}

// Valid reports whether the window still shows the file: not after its blocks were replaced or are about to go. Then the holder releases it and
// faults again.
func (w *DaxWindow) Valid() bool { return !w.stale.Load() }

// Release gives the window up. What was stored through it stays dirty until it is written back.
func (w *DaxWindow) Release() {
	d := w.d
	d.mu.Lock()
	if i := slices.Index(d.windows, w); i >= 0 {
		d.windows = slices.Delete(d.windows, i, i+1)
	}
	if w.Writable {
		d.markLocked(daxSpan{w.Pos, int64(len(w.Mem)), w.addr, w.dev})
	}
	if d.gone != nil {
		close(d.gone)
		d.gone = nil
	}
	d.mu.Unlock()
}

func (d *DaxSpace) hold(w *DaxWindow) {
	d.mu.Lock()
	d.windows = append(d.windows, w)
	d.mu.Unlock()
}

// over reports whether the window shows a byte of [pos, end).
func (w *DaxWindow) over(pos, end int64) bool { return w.Pos < end && pos < w.Pos+int64(len(w.Mem)) }

// invalidate makes windows over [pos, end) stale: the file is elsewhere from now on.
func (d *DaxSpace) invalidate(pos, end int64) {
	d.mu.Lock()
	for _, w := range d.windows {
		if w.over(pos, end) {
			w.stale.Store(true)
		}
	}
	d.mu.Unlock()
}

// BreakLayout (dax_break_layout) makes the windows over [pos, end) stale and waits until their holders gave them up, since blocks are about
// to be freed or moved, and forgets what is dirty there. Hold ip.Rw and the invalidate lock exclusively: the latter is let go while
// waiting, and held again when it returns, also on error.
// Errors: ctx's, with windows still held.
func (d *DaxSpace) BreakLayout(ctx context.Context, ip *vfs.Inode, pos, end int64) error {
	for {
		held := false
		d.mu.Lock()
		for _, w := range d.windows {
			if w.over(pos, end) {
				w.stale.Store(true)
				held = held || !w.Zero
			}
		}
		if !held {
			d.cut(pos, end)
			d.mu.Unlock()
			return nil
		}
		if d.gone == nil {
			d.gone = make(chan struct{})
		}
		gone := d.gone
		d.mu.Unlock()
		ip.Pages.InvalidateLock.Unlock()
		var err error
		select {
		case <-gone:
		case <-ctx.Done():
			err = ctx.Err()
		}
		ip.Pages.InvalidateLock.Lock()
		if err != nil {
			return err
		}
	}
}

// mark notes that bytes were stored.
func (d *DaxSpace) mark(pos, n, addr int64, dev block.Mapper) {
	d.mu.Lock()
	d.markLocked(daxSpan{pos, n, addr, dev})
	d.mu.Unlock()
}

func (d *DaxSpace) markLocked(s daxSpan) {
	if n := len(d.dirty); n > 0 && d.dirty[n-1].joins(&s) {
		d.dirty[n-1].n += s.n // one behind the other, as most files are written
		return
	}
	i := d.cut(s.pos, s.end())
	if i > 0 && d.dirty[i-1].joins(&s) {
		i--
		d.dirty[i].n += s.n
	} else {
		d.dirty = slices.Insert(d.dirty, i, s)
	}
	if i+1 < len(d.dirty) && d.dirty[i].joins(&d.dirty[i+1]) {
		d.dirty[i].n += d.dirty[i+1].n
		d.dirty = slices.Delete(d.dirty, i+1, i+2)
	}
}

// cut takes [pos, end) out of what is dirty and gives the index where it would be put in.
func (d *DaxSpace) cut(pos, end int64) int {
	i, _ := slices.BinarySearchFunc(d.dirty, pos, func(s daxSpan, pos int64) int {
		if s.end() <= pos {
			return -1
		}
		return 1
	})
	if i < len(d.dirty) && d.dirty[i].pos < pos {
		s := d.dirty[i]
		d.dirty[i].n = pos - s.pos
		i++
		if s.end() > end {
			d.dirty = slices.Insert(d.dirty, i, daxSpan{end, s.end() - end, s.addr + end - s.pos, s.dev})
			return i
		}
	}
	j := i
	for j < len(d.dirty) && d.dirty[j].end() <= end {
		j++
	}
	d.dirty = slices.Delete(d.dirty, i, j)
	if i < len(d.dirty) && d.dirty[i].pos < end {
		s := &d.dirty[i]
		s.addr, s.n, s.pos = s.addr+end-s.pos, s.end()-end, end
	}
	return i
}

// Dirty counts the bytes that DaxWriteback would make durable.
func (d *DaxSpace) Dirty() (n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.dirty {
		n += d.dirty[i].n
	}
	return n
}

// bound keeps the list of what is dirty from growing without end.
func (d *DaxSpace) bound(ip *vfs.Inode) {
	d.mu.Lock()
	long := len(d.dirty) > daxSpans
	d.mu.Unlock()
	if long {
		_ = DaxWriteback(ip, 0, 1<<62, d) // recorded, for whoever syncs the file
	}
}

// DaxWriteback (dax_writeback_mapping_range) makes durable what was stored in [start, end) of the file and is not yet: for whoever waits, as
// nothing is gained by doing it early. What a writable window shows is written and stays dirty, for its holder may store again. An error
// is recorded for everybody who has the file open.
//
// Errors: the device's. Its memory that cannot be flushed by parts is flushed as a whole.
func DaxWriteback(ip *vfs.Inode, start, end int64, d *DaxSpace) error {
	d.syncs.Lock()
	defer d.syncs.Unlock()
	d.mu.Lock()
	var list []daxSpan
	keep := d.dirty[:0]
	for _, s := range d.dirty {
		if s.pos < end && start < s.end() {
			list = append(list, s)
		} else {
			keep = append(keep, s)
		}
	}
	clear(d.dirty[len(keep):])
	d.dirty = keep
	for _, w := range d.windows {
		if w.Writable && w.over(start, end) {
			d.markLocked(daxSpan{w.Pos, int64(len(w.Mem)), w.addr, w.dev})
			list = append(list, daxSpan{w.Pos, int64(len(w.Mem)), w.addr, w.dev})
		}
	}
	d.mu.Unlock()
	var first error
	for _, s := range list {
		f, ok := s.dev.(block.MemoryFlusher)
		if !ok {
			if dev, is := s.dev.(block.Device); is {
				first = block.Flush(dev)
			}
			break
		}
		if err := f.FlushMemory(s.addr, s.n); err != nil && first == nil {
			first = fmt.Errorf("inode %d at %d: %w", ip.Ino(), s.pos, err)
		}
	}
	if first != nil {
		ip.Pages.SetError(first)
	}
	return first
}
