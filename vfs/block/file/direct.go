package file

import (
	"sync"
	"unsafe"

	"github.com/iomapfs/iomapfs/vfs/arena"
)

// directIO moves bufs to or from [off, end) past the host's cache. What is aligned as the host wants goes straight;
// the rest through a bounce buffer, window by window.
func (d *Device) directIO(bufs [][]byte, off, end int64, write, fua bool) error {
	if d.aligned(bufs, off, end) {
		if write {
			defer d.ranges.lock(d, off, end, false)()
		}
		return d.transfer(bufs, off, write, fua, false)
	}
	unit := int64(d.facts.offAlign)
	order, _ := arena.OrderFor(int(min(end-off+2*unit, arena.MaxBlock)))
	bounce, err := arena.Alloc(order)
	if err != nil {
		return err
	}
	defer arena.Free(bounce)
	for off < end {
		lo := off &^ (unit - 1)
		stop := min(end, lo+int64(len(bounce)))
		if lo >= d.edge {
			// The host's last unit is incomplete: only the buffered descriptor reaches it.
			part := bounce[:stop-off]
			if write {
				bufs = gather(part, bufs)
			}
			if err := d.transfer([][]byte{part}, off, write, fua, true); err != nil {
				return err
			}
			if !write {
				bufs = scatter(bufs, part)
			}
			off = stop
			continue
		}
		stop = min(stop, d.edge)
		hi := min((stop+unit-1)&^(unit-1), d.edge)
		window := bounce[:hi-lo]
		if write {
			bufs, err = d.bounceWrite(bufs, window, off, lo, stop, hi, fua)
		} else {
			err = d.transfer([][]byte{window}, lo, false, false, false)
			if err == nil {
				bufs = scatter(bufs, window[off-lo:stop-lo])
			}
		}
		if err != nil {
			return err
		}
		off = stop
	}
	return nil
}

// bounceWrite writes [off, stop) as the window [lo, hi), whose edges are read first when they are not ours.
func (d *Device) bounceWrite(bufs [][]byte, window []byte, off, lo, stop, hi int64, fua bool) ([][]byte, error) {
	unit := int64(d.facts.offAlign)
	partial := off != lo || stop != hi
	defer d.ranges.lock(d, lo, hi, partial)()
	if off != lo {
		if err := d.transfer([][]byte{window[:unit]}, lo, false, false, false); err != nil {
			return bufs, err
		}
	}
	if stop != hi && (off == lo || hi-unit != lo) {
		if err := d.transfer([][]byte{window[hi-unit-lo:]}, hi-unit, false, false, false); err != nil {
			return bufs, err
		}
	}
	bufs = gather(window[off-lo:stop-lo], bufs)
	return bufs, d.transfer([][]byte{window}, lo, true, fua, false)
}

// aligned says whether the host takes the memory and the range as they are.
func (d *Device) aligned(bufs [][]byte, off, end int64) bool {
	unit, mem := int64(d.facts.offAlign), uintptr(d.facts.memAlign)
	if (off|end)&(unit-1) != 0 {
		return false
	}
	for _, v := range bufs {
		if uintptr(unsafe.Pointer(unsafe.SliceData(v)))&(mem-1) != 0 || int64(len(v))&(unit-1) != 0 {
			return false
		}
	}
	return true
}

// gather fills dst from the front of bufs and gives what is left of bufs.
func gather(dst []byte, bufs [][]byte) [][]byte {
	for len(dst) > 0 {
		n := copy(dst, bufs[0])
		dst = dst[n:]
		if bufs[0] = bufs[0][n:]; len(bufs[0]) == 0 {
			bufs = bufs[1:]
		}
	}
	return bufs
}

// scatter fills the front of bufs from src and gives what is left of bufs.
func scatter(bufs [][]byte, src []byte) [][]byte {
	for len(src) > 0 {
		n := copy(bufs[0], src)
		src = src[n:]
		if bufs[0] = bufs[0][n:]; len(bufs[0]) == 0 {
			bufs = bufs[1:]
		}
	}
	return bufs
}

// ranges keeps a read-modify-write of a unit of the host apart from other writes to that unit. It is only used when
// a unit is larger than the logical block; otherwise writes never share one.
type ranges struct {
	mu   sync.Mutex // leaf; guards what follows
	cond *sync.Cond
	held []span
}

// span is a locked range in bytes.
type span struct {
	off, end  int64
	exclusive bool
}

func unlocked() {}

// lock takes a range, shared with others that are not exclusive, and gives the function that gives it back.
func (l *ranges) lock(d *Device, off, end int64, exclusive bool) func() {
	if d.facts.offAlign <= d.facts.logical {
		return unlocked
	}
	s := span{off, end, exclusive}
	l.mu.Lock()
	if l.cond == nil {
		l.cond = sync.NewCond(&l.mu)
	}
	for l.conflicts(s) {
		l.cond.Wait()
	}
	l.held = append(l.held, s)
	l.mu.Unlock()
	return func() {
		l.mu.Lock()
		for i := range l.held {
			if l.held[i] == s {
				last := len(l.held) - 1
				l.held[i] = l.held[last]
				l.held = l.held[:last]
				break
			}
		}
		l.cond.Broadcast()
		l.mu.Unlock()
	}
}

func (l *ranges) conflicts(s span) bool {
	for _, h := range l.held {
		if h.off < s.end && s.off < h.end && (h.exclusive || s.exclusive) {
			return true
		}
	}
	return false
}

// lockEdges keeps a hole or zeroing apart from read-modify-writes of the units at its edges.
func (d *Device) lockEdges(off, end int64) func() {
	if !d.direct {
		return unlocked
	}
	unit := int64(d.facts.offAlign)
	lo, hi := off&^(unit-1), (end+unit-1)&^(unit-1)
	return d.ranges.lock(d, lo, hi, lo != off || hi != end)
}
