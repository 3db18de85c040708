package iomap

import (
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

// readBio is one read of the device into folios.
type readBio struct {
	segments
	bio block.Bio
	dev block.Device
	max int64
}

var readBios = sync.Pool{New: func() any {
	b := new(readBio)
	b.bio.Private = b
	return b
}}

func newReadBio(dev block.Device, addr int64) *readBio {
	b := readBios.Get().(*readBio)
	b.dev, b.bio.Off, b.max = dev, addr, dev.Limits().MaxBio
	return b
}

// room gives how many of n bytes at device byte addr the bio takes: none when they do not continue it.
func (b *readBio) room(dev block.Device, addr int64, n int) int {
	if b.dev != dev || b.bio.Off+b.len != addr {
		return 0
	}
	if b.max > 0 {
		return int(min(int64(n), b.max-b.len))
	}
	return n
}

// submit sends the bio off; wait does it in this goroutine if the device can.
func (b *readBio) submit(ip *vfs.Inode, wait bool) {
	b.bio.Op, b.bio.Flags, b.bio.Vecs, b.bio.Err = block.OpRead, 0, b.vecs, nil
	if t := ip.SB().Trace; t != nil {
		t.Emit(trace.Event{Kind: trace.BioSubmit, Ino: ip.Ino(), Pos: b.bio.Off, Len: b.len})
	}
	if wait {
		b.finish(block.SubmitWait(b.dev, &b.bio))
		return
	}
	b.bio.Done = readDone
	b.dev.Submit(&b.bio)
}

func readDone(bio *block.Bio) { bio.Private.(*readBio).finish(bio.Err) }

// finish ends the reads of its folios.
func (b *readBio) finish(err error) {
	for _, s := range b.segs {
		FinishRead(s.fo, s.off, s.n, err)
	}
	b.reset()
	b.bio.Vecs, b.dev = nil, nil
	b.bio.Private = b // SubmitWait takes it
	readBios.Put(b)
}

// readSync reads blocks of a locked folio and waits.
func readSync(ip *vfs.Inode, dev block.Device, addr int64, p []byte) error {
	if t := ip.SB().Trace; t != nil {
		t.Emit(trace.Event{Kind: trace.BioSubmit, Ino: ip.Ino(), Pos: addr, Len: int64(len(p))})
	}
	return block.ReadAt(dev, p, addr)
}
