package pagecache

// Readahead (struct file_ra_state) is what one open file remembers of how it is read: several sequential streams, which may
// come in turns, and the distance of strided reads. The zero value is a new file. One reader at a time.
type Readahead struct {
	streams      [raStreams]stream
	cur          int    // the stream of the read in progress, or of the last
	clock        uint64 // counts reads
	last, stride int64  // bytes: the last request and its distance from the one before
	strides      int    // requests in a row at that distance
}

// stream is one sequential reader.
type stream struct {
	end                int64  // byte after its last read
	start, size, async uint64 // pages: the window read last, and the part of it that is ahead of the marker; size 0: none yet
	want               uint64 // pages that window was to have, memory permitting
	used               uint64 // clock of the last read
}

// Windows, in pages, and streams.
const (
	raInitial = 4
	raMax     = 256
	raStreams = 6
)

// at makes the stream that a read at pos goes on with the current one. A read that goes on with none begins a new one, in
// the place of one that never became sequential, if there is such, or of the one that was read longest ago: so reads at
// random do not push out streams.
func (ra *Readahead) at(pos int64) *stream {
	ra.clock++
	s := &ra.streams[ra.cur]
	if !s.follows(pos) {
		s = ra.find(pos)
	}
	s.used = ra.clock
	return s
}

func (s *stream) follows(pos int64) bool {
	return s.used > 0 && pos <= s.end && s.end-pos < PageSize
}

func (ra *Readahead) find(pos int64) *stream {
	victim := 0
	for i := range ra.streams {
		s := &ra.streams[i]
		if s.follows(pos) {
			ra.cur = i
			return s
		}
		v := &ra.streams[victim]
		if (s.size > 0) == (v.size > 0) && s.used < v.used || s.size == 0 && v.size > 0 {
			victim = i
		}
	}
	ra.cur = victim
	ra.streams[victim] = stream{end: -1}
	return &ra.streams[victim]
}

// strided looks at a request and gives the distance to the next ones if several came at the same distance, else 0.
func (ra *Readahead) strided(pos int64, n int) int64 {
	d := pos - ra.last
	if d == ra.stride && d != 0 {
		ra.strides++
	} else {
		ra.stride, ra.strides = d, 0
	}
	ra.last = pos
	if ra.strides < 2 || d > 0 && d <= int64(n)+PageSize || n > 64<<10 {
		return 0
	}
	return d
}

// first sizes the first window for a request of req pages.
func (s *stream) first(index, req uint64) {
	s.start, s.want = index, raInitial
	for s.want < 2*req && s.want < raMax {
		s.want *= 2
	}
}

// grow doubles the window, which now begins at index.
func (s *stream) grow(index uint64) { s.start, s.want = index, min(2*s.want, raMax) }
