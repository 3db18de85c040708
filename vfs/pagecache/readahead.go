package pagecache

import "context"

// Readahead (struct file_ra_state) is what one open file remembers of how it is read. The zero value is a new file. One
// reader at a time.
type Readahead struct {
	start, size, async uint64 // pages: the window read last, and the part of it that is ahead of the marker
	end                int64  // byte after the last read
	last, stride       int64  // bytes: the last request and its distance from the one before
	strides            int    // requests in a row at that distance
}

// Windows, in pages.
const (
	raInitial = 4
	raMax     = 256
)

// ReadaheadControl (struct readahead_control) is one run of new, locked folios to be read.
type ReadaheadControl struct {
	as     *AddressSpace
	folios []*Folio
	next   int
	wanted bool
}

// AS is the address space to read.
func (rac *ReadaheadControl) AS() *AddressSpace { return rac.as }

// Wanted reports whether somebody waits for all of the run and nothing in it is ahead of him: then handing it to somebody
// else costs more than doing it at once.
func (rac *ReadaheadControl) Wanted() bool { return rac.wanted }

// Pos is the file byte where the folios not yet handed out begin.
func (rac *ReadaheadControl) Pos() int64 {
	if rac.next == len(rac.folios) {
		return rac.folios[rac.next-1].End()
	}
	return rac.folios[rac.next].Pos()
}

// Len is the number of bytes not yet handed out.
func (rac *ReadaheadControl) Len() int64 {
	return rac.folios[len(rac.folios)-1].End() - rac.Pos()
}

// Next hands out the next folio, locked; its reader unlocks it by EndRead. No reference comes with it: the lock keeps it.
// Nil at the end.
func (rac *ReadaheadControl) Next() *Folio {
	if rac.next == len(rac.folios) {
		return nil
	}
	fo := rac.folios[rac.next]
	rac.next++
	fo.Put()
	return fo
}

// populate makes folios for the pages [start, start+n) that are not cached and has them read, without waiting. mark is
// the page whose folio gets the readahead marker; wanted as in ReadaheadControl. Hold the invalidate lock shared.
func (as *AddressSpace) populate(ctx context.Context, start, n, mark uint64, wanted bool) {
	var room [64]*Folio
	rac := ReadaheadControl{as: as, folios: room[:0], wanted: wanted}
	flush := func() {
		if len(rac.folios) == 0 {
			return
		}
		if ra := as.ops.Readahead; ra != nil {
			ra(ctx, &rac)
		} else {
			for fo := rac.Next(); fo != nil; fo = rac.Next() {
				_ = as.ops.ReadFolio(ctx, fo) // seen as a folio that is not uptodate
			}
		}
		for _, fo := range rac.folios[rac.next:] { // not taken: not to be found half made
			if fo.private != nil {
				as.drop(fo)
			} else {
				as.detach(fo)
			}
			fo.Unlock()
			fo.Put()
		}
		rac.folios, rac.next = room[:0], 0
	}
	for i, end := start, start+n; i < end; {
		if fo := as.Get(i); fo != nil {
			flush()
			i = fo.index + fo.pages()
			fo.Put()
			continue
		}
		fo, err := as.add(i, as.orderFor(i, int64(end-i)<<PageShift))
		if err != nil {
			break
		}
		if fo == nil {
			i++ // somebody else was first
			continue
		}
		if mark >= fo.index && mark < fo.index+fo.pages() {
			fo.flags.Or(flagReadahead)
		}
		i = fo.index + fo.pages()
		if k := len(rac.folios); k > 0 && rac.folios[k-1].End() != fo.Pos() || k == cap(room[:]) {
			flush()
		}
		rac.folios = append(rac.folios, fo)
	}
	flush()
}

// window reads [start, start+n) as far as the file goes.
func (as *AddressSpace) window(ctx context.Context, start, n, mark uint64, wanted bool) {
	end := pageEnd(as.host.Size())
	if start >= end {
		return
	}
	as.InvalidateLock.RLock()
	as.populate(ctx, start, min(n, end-start), mark, wanted)
	as.InvalidateLock.RUnlock()
}

const noMark = ^uint64(0)

// miss reads around page index, which is not cached and of which the reader wants req pages.
func (as *AddressSpace) miss(ctx context.Context, ra *Readahead, index, req uint64) {
	if ra == nil {
		as.window(ctx, index, min(req, raMax), noMark, true)
		return
	}
	pos := int64(index) << PageShift
	switch {
	case ra.size > 0 && index == ra.start+ra.size, ra.size > 0 && index == ra.start+ra.size-ra.async:
		ra.start = index
		ra.size = min(2*ra.size, raMax)
	case pos == 0 || pos <= ra.end && ra.end-pos <= PageSize: // begins at 0 or where the last read ended
		ra.start = index
		ra.size = raInitial
		for ra.size < 2*req && ra.size < raMax {
			ra.size *= 2
		}
	default: // random
		ra.start, ra.size, ra.async = index, 0, 0
		as.window(ctx, index, min(req, raMax), noMark, true)
		return
	}
	ra.size = max(ra.size, min(req, raMax))
	ra.async = ra.size
	if ra.size > req {
		ra.async = ra.size - req
	}
	as.window(ctx, ra.start, ra.size, ra.start+ra.size-ra.async, false)
}

// ahead is called when the reader reaches the marker: the next window is read while he goes on.
func (as *AddressSpace) ahead(ctx context.Context, ra *Readahead, index uint64) {
	if ra == nil {
		return
	}
	if ra.size == 0 || index < ra.start || index >= ra.start+ra.size {
		ra.start, ra.size = index, raInitial // another stream of the file
	} else {
		ra.start += ra.size
		ra.size = min(2*ra.size, raMax)
	}
	ra.async = ra.size
	as.window(ctx, ra.start, ra.size, ra.start, false)
}

// request looks at a request before it is served: several at the same distance are a strided stream, whose next pieces are
// read ahead.
func (as *AddressSpace) request(ctx context.Context, ra *Readahead, pos int64, n int) {
	d := pos - ra.last
	if d == ra.stride && d != 0 {
		ra.strides++
	} else {
		ra.stride, ra.strides = d, 0
	}
	ra.last = pos
	if ra.strides < 2 || d > 0 && d <= int64(n)+PageSize || n > 64<<10 {
		return
	}
	for i := range int64(4) {
		at := pos + d*(i+1)
		if at < 0 {
			return
		}
		as.window(ctx, uint64(at)>>PageShift, pageEnd(at+int64(n))-uint64(at)>>PageShift, noMark, false)
	}
}

// Readahead reads [pos, pos+n) into the cache without waiting (fadvise WILLNEED).
func (as *AddressSpace) Readahead(ctx context.Context, pos, n int64) {
	first := uint64(pos) >> PageShift
	as.window(ctx, first, min(pageEnd(pos+n)-first, 16*raMax), noMark, false)
}
