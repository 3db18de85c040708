package pagecache

import (
	"context"

	"github.com/iomapfs/iomapfs/vfs/invariant"
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
// the page whose folio gets the readahead marker; wanted as in ReadaheadControl; drop: new folios are not to stay. Hold the invalidate lock shared.
func (as *AddressSpace) populate(ctx context.Context, start, n, mark uint64, wanted, drop bool) {
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
		if invariant.Enabled {
			for _, fo := range rac.folios[:rac.next] {
				fo.holder.Disown() // without a reference: nothing but the address of the folio is looked at
			}
		}
		for _, fo := range rac.folios[rac.next:] { // not taken: not to be found half made
			fo.endReading()
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
		fo.startReading()
		if drop {
			fo.SetDropBehind()
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

// window reads [start, start+n) as far as the file goes and memory for reads in flight allows, but a folio at least, and gives
// how many pages that is.
func (as *AddressSpace) window(ctx context.Context, start, n, mark uint64, wanted, drop bool) uint64 {
	end := pageEnd(as.host.Size())
	if start >= end {
		return 0
	}
	n = min(n, end-start, as.cache.readRoom())
	as.InvalidateLock.RLock()
	as.populate(ctx, start, n, mark, wanted, drop)
	as.InvalidateLock.RUnlock()
	return n
}

const noMark = ^uint64(0)

// miss reads around page index, which is not cached and of which the reader wants req pages. st is the reader's stream, nil
// when he has none.
func (as *AddressSpace) miss(ctx context.Context, st *stream, index, req uint64, drop bool) {
	pos := int64(index) << PageShift
	switch {
	case st == nil:
		as.window(ctx, index, min(req, raMax), noMark, true, drop)
		return
	case st.size > 0 && (index == st.start+st.size || index == st.start+st.size-st.async):
		st.grow(index) // the window, or the part of it that was to be read ahead, went by
	case pos == 0 || st.end >= 0 && pos <= st.end+PageSize-1: // begins at 0, or where the last read ended
		st.first(index, req)
	default: // random
		st.start, st.size, st.async, st.want = index, 0, 0, 0
		as.window(ctx, index, min(req, raMax), noMark, true, drop)
		return
	}
	st.want = max(st.want, min(req, raMax))
	st.async = st.want
	if st.want > req {
		st.async = st.want - req
	}
	st.size = as.window(ctx, st.start, st.want, st.start+st.want-st.async, false, drop)
}

// ahead is called when the reader of st reaches the marker at page index: the next window is read while he goes on.
func (as *AddressSpace) ahead(ctx context.Context, st *stream, index uint64, drop bool) {
	if st.size > 0 && index >= st.start && index < st.start+st.size {
		st.grow(st.start + st.size)
	} else {
		// Somebody else's window, or this stream was forgotten: what is cached from here on was read ahead for it.
		next := as.nextMiss(index+1, raMax)
		if next-index > raMax {
			return
		}
		st.want = max(next-index, raInitial/2)
		st.grow(next)
	}
	st.size = as.window(ctx, st.start, st.want, st.start, false, drop)
	st.async = st.size
}

// nextMiss (page_cache_next_miss) gives the first page from index on that is not cached, index+most at most.
func (as *AddressSpace) nextMiss(index, most uint64) uint64 {
	as.mu.RLock()
	defer as.mu.RUnlock()
	i := index
	for i-index < most {
		fo := as.tree.get(i)
		if fo == nil {
			return i
		}
		i = fo.index + fo.pages()
	}
	return index + most
}

// strided reads ahead what comes next in a stream of requests of n bytes at the distance d.
func (as *AddressSpace) strided(ctx context.Context, pos int64, n int, d int64, drop bool) {
	for i := range int64(4) {
		at := pos + d*(i+1)
		if at < 0 {
			return
		}
		as.window(ctx, uint64(at)>>PageShift, pageEnd(at+int64(n))-uint64(at)>>PageShift, noMark, false, drop)
	}
}

// Readahead reads [pos, pos+n) into the cache without waiting (fadvise WILLNEED).
func (as *AddressSpace) Readahead(ctx context.Context, pos, n int64) {
	first := uint64(pos) >> PageShift
	for end := min(pageEnd(pos+n), first+16*raMax, pageEnd(as.host.Size())); first < end; {
		got := as.window(ctx, first, min(end-first, raMax), noMark, false, false)
		if got == 0 {
			return
		}
		first += got
	}
}
