package iomap

import (
	"math"
	"sync"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// segment is a part of a folio in a bio.
type segment struct {
	fo     *pagecache.Folio
	off, n int
}

// mostOf is how many bytes one bio to dev may have. A block is never cut: without a state a folio counts no parts.
func mostOf(dev block.Device, bs int64) int64 {
	most := dev.Limits().MaxBio
	if most == 0 {
		return math.MaxInt64
	}
	return max(most&^(bs-1), bs)
}

// segments are the parts of folios that lie one behind the other on a device, and the memory of them.
type segments struct {
	segs []segment
	vecs [][]byte
	len  int64
}

// add puts bytes [off, off+n) of a folio behind what is there.
func (s *segments) add(fo *pagecache.Folio, off, n int) {
	s.len += int64(n)
	if k := len(s.segs); k > 0 && s.segs[k-1].fo == fo && s.segs[k-1].off+s.segs[k-1].n == off {
		last := &s.segs[k-1]
		last.n += n
		s.vecs[k-1] = fo.Data()[last.off : last.off+last.n]
		return
	}
	s.segs = append(s.segs, segment{fo, off, n})
	s.vecs = append(s.vecs, fo.Data()[off:off+n])
}

// reset empties s and keeps its room.
func (s *segments) reset() {
	clear(s.segs)
	clear(s.vecs)
	s.segs, s.vecs, s.len = s.segs[:0], s.vecs[:0], 0
}

// each calls f for the parts, with the file byte where each begins.
func (s *segments) each(f func(pos int64, data []byte)) {
	for i, g := range s.segs {
		f(g.fo.Pos()+int64(g.off), s.vecs[i])
	}
}

// ReadIO is one read of the device into folios: parts of a file that lie together on the device.
type ReadIO struct {
	Inode *vfs.Inode
	// End, when set by ReadOps.SubmitRead, is called when the data is there, or the read failed, on any goroutine. The folios are
	// locked and not yet valid: it transforms what they hold, now or later, and sees to it that Finish is called.
	End     func(r *ReadIO, err error)
	Private any

	segments
	bio  block.Bio
	dev  block.Device
	max  int64
	wait bool       // somebody waits for it: done in the goroutine that submits, if the device can
	sync chan error // the outcome goes here, and the folio is left alone: a read before a write
}

var readIOs = sync.Pool{New: func() any { return new(ReadIO) }}

func newReadIO(ip *vfs.Inode, dev block.Device, addr int64) *ReadIO {
	r := readIOs.Get().(*ReadIO)
	r.Inode, r.dev, r.bio.Off, r.max = ip, dev, addr, mostOf(dev, int64(ip.BlockSize()))
	return r
}

// room gives how many of n bytes at device byte addr the read takes: none when they do not continue it.
func (r *ReadIO) room(dev block.Device, addr int64, n int) int {
	if r.dev != dev || r.bio.Off+r.len != addr {
		return 0
	}
	return int(min(int64(n), r.max-r.len))
}

// Addr is the device byte where the read begins.
func (r *ReadIO) Addr() int64 { return r.bio.Off }

// Each calls f for each part, with the file byte where it begins; data is the folio's memory.
func (r *ReadIO) Each(f func(pos int64, data []byte)) { r.each(f) }

// send hands the read to the filesystem, or to the device.
func (r *ReadIO) send(ro *ReadOps) {
	if ro != nil && ro.SubmitRead != nil {
		ro.SubmitRead(r)
		return
	}
	r.Submit()
}

// Submit sends the read off. It may be over before Submit returns.
func (r *ReadIO) Submit() {
	r.bio.Op, r.bio.Flags, r.bio.Vecs, r.bio.Err = block.OpRead, 0, r.vecs, nil
	if t := r.Inode.SB().Trace; t != nil {
		t.Emit(trace.Event{Kind: trace.BioSubmit, Ino: r.Inode.Ino(), Pos: r.bio.Off, Len: r.len})
	}
	if r.wait {
		r.over(block.SubmitWait(r.dev, &r.bio))
		return
	}
	r.bio.Done, r.bio.Private = readDone, r
	r.dev.Submit(&r.bio)
}

func readDone(bio *block.Bio) { bio.Private.(*ReadIO).over(bio.Err) }

func (r *ReadIO) over(err error) {
	if r.End != nil {
		r.End(r, err)
		return
	}
	r.Finish(err)
}

// Finish ends the reads of its folios: valid without an error. The read must not be used any more.
func (r *ReadIO) Finish(err error) {
	if r.sync != nil {
		r.sync <- err
	} else {
		for _, s := range r.segs {
			FinishRead(s.fo, s.off, s.n, err)
		}
	}
	r.free()
}

// readSync reads blocks [off, off+n) of a locked folio from device byte addr and waits.
func readSync(ip *vfs.Inode, ro *ReadOps, dev block.Device, addr int64, fo *pagecache.Folio, off, n int) error {
	var done chan error
	if ro != nil && ro.SubmitRead != nil {
		done = make(chan error, 1)
	}
	for n > 0 {
		r := newReadIO(ip, dev, addr)
		k := r.room(dev, addr, n)
		r.add(fo, off, k)
		addr, off, n = addr+int64(k), off+k, n-k
		var err error
		if done != nil {
			r.sync = done
			ro.SubmitRead(r)
			err = <-done
		} else {
			err = r.readNow()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readNow reads in this goroutine and leaves the folio alone.
func (r *ReadIO) readNow() error {
	r.bio.Op, r.bio.Flags, r.bio.Vecs = block.OpRead, block.Sync, r.vecs
	if t := r.Inode.SB().Trace; t != nil {
		t.Emit(trace.Event{Kind: trace.BioSubmit, Ino: r.Inode.Ino(), Pos: r.bio.Off, Len: r.len})
	}
	err := block.SubmitWait(r.dev, &r.bio)
	r.free()
	return err
}

func (r *ReadIO) free() {
	s := r.segments
	s.reset()
	*r = ReadIO{segments: s}
	readIOs.Put(r)
}
