package pagecache

// SeekData gives the first byte in [start, end) that the cache holds, false if none. A read over unwritten space counts:
// what is asked is "uptodate", not "dirty".
func (as *AddressSpace) SeekData(start, end int64) (int64, bool) { return as.seek(start, end, true) }

// SeekHole gives the first byte in [start, end) that the cache does not hold, false if it holds all.
func (as *AddressSpace) SeekHole(start, end int64) (int64, bool) { return as.seek(start, end, false) }

func (as *AddressSpace) seek(start, end int64, data bool) (int64, bool) {
	block := int64(1) << as.host.BlockBits()
	for pos := start; pos < end; {
		var batch [1]*Folio
		if as.Batch(uint64(pos)>>PageShift, pageEnd(end), TagAny, batch[:]) == 0 {
			return pos, !data
		}
		fo := batch[0]
		if fo.Pos() > pos {
			if !data {
				fo.Put()
				return pos, true
			}
			pos = fo.Pos()
		}
		if pos >= end {
			fo.Put()
			break
		}
		stop := min(fo.End(), end)
		switch {
		case fo.Uptodate():
			if data {
				fo.Put()
				return pos, true
			}
			pos = stop
		case fo.private == nil || as.ops.IsPartiallyUptodate == nil:
			if !data {
				fo.Put()
				return pos, true
			}
			pos = stop
		default:
			fo.Lock()
			gone := fo.AddressSpace() != as
			for ; pos < stop && !gone; pos = (pos/block + 1) * block {
				n := min((pos/block+1)*block, stop) - pos
				if as.ops.IsPartiallyUptodate(fo, int(pos-fo.Pos()), int(n)) == data {
					fo.Unlock()
					fo.Put()
					return pos, true
				}
			}
			fo.Unlock()
			if gone {
				pos = stop
			}
		}
		fo.Put()
	}
	return 0, false
}
