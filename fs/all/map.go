package all

// Map is a picture of what the blocks of a filesystem hold, coarse enough to be shown: counts for equal stretches of it.
type Map struct {
	BlockSize int64    `json:"block_size"` // bytes
	Size      int64    `json:"size"`       // bytes
	Kinds     []string `json:"kinds"`      // what Counts count, in their order; the first is free space
	Fixed     int      `json:"fixed"`      // the first of Kinds that is metadata at fixed places
	Rows      []MapRow `json:"rows"`
}

// MapRow is one or more allocation groups.
type MapRow struct {
	Group  int       `json:"group"`  // the first
	Groups int       `json:"groups"` // how many
	Cells  []MapCell `json:"cells"`
}

// MapCell is a stretch of blocks. Bytes.
type MapCell struct {
	Start  int64   `json:"start"`
	Length int64   `json:"length"`
	Counts []int64 `json:"counts"`           // blocks of each of Map.Kinds
	Marked int64   `json:"marked,omitempty"` // bytes of the file that was asked for
}

// newMap makes the empty picture of groups of groupSize bytes: a row for each group, or for several where rows would not do,
// each of at most columns cells. Cells are whole blocks.
func newMap(kinds []string, fixed int, size, groupSize, first, blockSize int64, groups, rows, columns int) *Map {
	m := &Map{BlockSize: blockSize, Size: size, Kinds: kinds, Fixed: fixed}
	each := max((groups+rows-1)/max(rows, 1), 1)
	span := groupSize * int64(each)
	cell := ((span+int64(columns)-1)/int64(columns) + blockSize - 1) / blockSize * blockSize
	for g := 0; g < groups; g += each {
		start := first + int64(g)*groupSize
		r := MapRow{Group: g, Groups: min(each, groups-g)}
		for end := min(start+span, size); start < end; start += cell {
			r.Cells = append(r.Cells, MapCell{Start: start, Length: min(cell, end-start), Counts: make([]int64, len(kinds))})
		}
		m.Rows = append(m.Rows, r)
	}
	return m
}

// each calls f for the part of [start, start+n) that lies in each cell.
func (m *Map) each(start, n int64, f func(c *MapCell, bytes int64)) {
	if len(m.Rows) == 0 || len(m.Rows[0].Cells) == 0 || n <= 0 {
		return
	}
	first := m.Rows[0].Cells[0]
	row := int64(0)
	if len(m.Rows) > 1 {
		row = m.Rows[1].Cells[0].Start - first.Start
	}
	for end := min(start+n, m.Size); start < end; {
		at, r := start-first.Start, int64(0)
		if at < 0 {
			start = first.Start
			continue
		}
		if row > 0 {
			r = at / row
		}
		if r >= int64(len(m.Rows)) {
			return
		}
		cells := m.Rows[r].Cells
		i := (at - r*row) / first.Length
		if i >= int64(len(cells)) {
			return
		}
		c := &cells[i]
		stop := min(end, c.Start+c.Length)
		if stop <= start {
			return
		}
		f(c, stop-start)
		start = stop
	}
}

// add counts n blocks from the byte start on as of a kind; a negative sign takes them away.
func (m *Map) add(kind int, start, n, sign int64) {
	m.each(start, n*m.BlockSize, func(c *MapCell, bytes int64) { c.Counts[kind] += sign * (bytes / m.BlockSize) })
}

// settle takes back what was counted twice: blocks that several files share.
func (m *Map) settle() {
	for _, r := range m.Rows {
		for _, c := range r.Cells {
			for i := range c.Counts {
				c.Counts[i] = max(c.Counts[i], 0)
			}
		}
	}
}

// Mark notes where bytes of the file lie that was asked for.
func (m *Map) Mark(start, n int64) {
	m.each(start, n, func(c *MapCell, bytes int64) { c.Marked += bytes })
}
