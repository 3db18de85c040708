package ext2

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
)

// dirIndex is the index of a directory in memory: where each name stands, and how much room each block has. It is made when
// a directory of more than a few blocks is first searched, kept right by every change, and may be dropped at any time.
// Entries never move, so it holds places, not names: a place is looked at before it is believed.
//
// Readers hold the directory's Rw shared, changes hold it exclusively.
type dirIndex struct {
	slots []uint64 // open addressing, linear probing: hash << 32 | place + 1; 0 is free. Length a power of two
	used  int
	at    []uint32 // device block of each block of the directory
	room  roomTree

	stamp atomic.Uint64 // dirIndexes.clock when last used
	bytes int64         // as accounted; guarded by dirIndexes.mu
}

// place is where an entry begins: its byte offset in the directory, in units of 4.
type place uint32

func placeOf(n disk.FileBlock, off int, bits uint8) place {
	return place(uint64(n)<<(bits-2) | uint64(off)>>2)
}

func (p place) split(bits uint8) (n disk.FileBlock, off int) {
	return disk.FileBlock(p >> (bits - 2)), int(p<<2) & (1<<bits - 1)
}

// dirBytesMax bounds a directory, so that every place fits into 30 bits and i_size into 32.
const dirBytesMax = 1<<32 - 1<<16

const (
	indexSlotsMin = 256
	slotBytes     = 8
)

var nameSeed = maphash.MakeSeed()

func hashName(name string) uint32      { return uint32(maphash.String(nameSeed, name)) }
func hashNameBytes(name []byte) uint32 { return uint32(maphash.Bytes(nameSeed, name)) }

func newDirIndex(blocks int) *dirIndex {
	return &dirIndex{slots: make([]uint64, indexSlotsMin), at: make([]uint32, 0, blocks)}
}

// size is the memory that the index takes, in bytes.
func (x *dirIndex) size() int64 {
	return int64(len(x.slots))*slotBytes + int64(cap(x.at))*4 + int64(len(x.room.max))*2 + 128
}

// probe walks the places of names with the given hash: start with i < 0; ok is false after the last.
func (x *dirIndex) probe(hash uint32, i int) (next int, p place, ok bool) {
	mask := len(x.slots) - 1
	if i < 0 {
		i = int(hash) & mask
	} else {
		i = (i + 1) & mask
	}
	for {
		s := x.slots[i]
		if s == 0 {
			return 0, 0, false
		}
		if uint32(s>>32) == hash {
			return i, place(uint32(s)) - 1, true
		}
		i = (i + 1) & mask
	}
}

// add notes a name. It reports whether the table grew.
func (x *dirIndex) add(hash uint32, p place) bool {
	grew := false
	if (x.used+1)*4 > len(x.slots)*3 {
		old := x.slots
		x.slots = make([]uint64, 2*len(old))
		for _, s := range old {
			if s != 0 {
				x.store(s)
			}
		}
		grew = true
	}
	x.store(uint64(hash)<<32 | uint64(p) + 1)
	x.used++
	return grew
}

func (x *dirIndex) store(s uint64) {
	mask := len(x.slots) - 1
	i := int(s>>32) & mask
	for x.slots[i] != 0 {
		i = (i + 1) & mask
	}
	x.slots[i] = s
}

// remove forgets a name, and closes the gap so that probing never needs tombstones.
func (x *dirIndex) remove(hash uint32, p place) {
	mask := len(x.slots) - 1
	want := uint64(hash)<<32 | uint64(p) + 1
	i := int(hash) & mask
	for x.slots[i] != want {
		if x.slots[i] == 0 {
			return
		}
		i = (i + 1) & mask
	}
	x.used--
	for j := i; ; {
		j = (j + 1) & mask
		s := x.slots[j]
		if s == 0 {
			x.slots[i] = 0
			return
		}
		// s may fill the gap unless its own probe sequence begins behind the gap.
		if home := int(s>>32) & mask; (j-home)&mask >= (j-i)&mask {
			x.slots[i], i = s, j
		}
	}
}

// roomTree finds the first block with room enough: a heap-shaped tree of maxima over the blocks, in units of 4 bytes.
type roomTree struct {
	max    []uint16 // [1] is the root, [leaves+n] block n
	leaves int
}

// set notes the largest room of block n, in bytes. It reports whether the tree grew.
func (t *roomTree) set(n disk.FileBlock, bytes int) bool {
	grew := false
	if int(n) >= t.leaves {
		leaves := max(16, t.leaves)
		for leaves <= int(n) {
			leaves *= 2
		}
		old := t.max[min(t.leaves, len(t.max)):]
		t.max, t.leaves = make([]uint16, 2*leaves), leaves
		copy(t.max[leaves:], old)
		for i := leaves - 1; i > 0; i-- {
			t.max[i] = max(t.max[2*i], t.max[2*i+1])
		}
		grew = true
	}
	i := t.leaves + int(n)
	t.max[i] = uint16(bytes >> 2)
	for i >>= 1; i > 0; i >>= 1 {
		m := max(t.max[2*i], t.max[2*i+1])
		if t.max[i] == m {
			break
		}
		t.max[i] = m
	}
	return grew
}

// get gives the room of block n as noted, in bytes.
func (t *roomTree) get(n disk.FileBlock) int {
	if int(n) >= t.leaves {
		return 0
	}
	return int(t.max[t.leaves+int(n)]) << 2
}

// first gives the first block with room for bytes.
func (t *roomTree) first(bytes int) (disk.FileBlock, bool) {
	need := uint16((bytes + 3) >> 2)
	if t.leaves == 0 || t.max[1] < need {
		return 0, false
	}
	i := 1
	for i < t.leaves {
		if i *= 2; t.max[i] < need {
			i++
		}
	}
	return disk.FileBlock(i - t.leaves), true
}

// dirIndexes bounds the memory of all indexes of a mount: when they take more than limit, those that were not used for the
// longest time are dropped.
type dirIndexes struct {
	clock atomic.Uint64 // counts indexes made

	mu    sync.Mutex // guards the rest. Leaf
	limit int64      // bytes
	bytes int64
	all   map[*dirAux]*dirIndex
}

const (
	// indexesMin is enough for one directory of six million names, whatever the cache: searched without an index it would take
	// seconds for each name.
	indexesMin = 64 << 20
	// indexesPart is the part of the cache's limit that indexes may take besides it.
	indexesPart = 8
)

// use marks an index as used now.
func (d *dirIndexes) use(x *dirIndex) {
	if now := d.clock.Load(); x.stamp.Load() != now {
		x.stamp.Store(now)
	}
}

// publish makes x the index of a directory and drops others where memory is short. False when x alone is too large: then
// the directory goes without.
func (d *dirIndexes) publish(aux *dirAux, x *dirIndex) bool {
	x.stamp.Store(d.clock.Add(1))
	d.mu.Lock()
	defer d.mu.Unlock()
	x.bytes = x.size()
	if x.bytes > d.limit {
		return false
	}
	if d.all == nil {
		d.all = make(map[*dirAux]*dirIndex)
	}
	if old := d.all[aux]; old != nil {
		d.bytes -= old.bytes
	}
	d.all[aux] = x
	d.bytes += x.bytes
	aux.index.Store(x)
	d.shrink(aux)
	return true
}

// grew accounts for an index that became larger. An index that was dropped meanwhile is nobody's business.
func (d *dirIndexes) grew(aux *dirAux, x *dirIndex) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.all[aux] != x {
		return
	}
	d.bytes += x.size() - x.bytes
	x.bytes = x.size()
	d.shrink(aux)
}

// shrink drops the indexes that were used last, keep's at the very last. Hold mu.
func (d *dirIndexes) shrink(keep *dirAux) {
	for d.bytes > d.limit && len(d.all) > 0 {
		var victim *dirAux
		for aux, x := range d.all {
			if aux != keep && (victim == nil || x.stamp.Load() < d.all[victim].stamp.Load()) {
				victim = aux
			}
		}
		if victim == nil {
			victim = keep
		}
		d.dropLocked(victim)
	}
}

func (d *dirIndexes) dropLocked(aux *dirAux) {
	if x := d.all[aux]; x != nil {
		d.bytes -= x.bytes
		delete(d.all, aux)
		aux.index.Store(nil)
	}
}

// drop forgets the index of a directory that leaves memory.
func (d *dirIndexes) drop(aux *dirAux) {
	d.mu.Lock()
	d.dropLocked(aux)
	d.mu.Unlock()
}
