package fat

import (
	"sync"

	"github.com/iomapfs/iomapfs/fs/fat/disk"
)

// Inode numbers. FAT stores none, so they are made:
//
//	root             1
//	file             the byte address of its entry on the medium, in slots of 32 bytes
//	directory        dirBit and its first cluster, which it keeps for life
//	file whose number is taken by another, in memory, that had that place before
//	                 oddBit and a count
//
// So two files in memory never share a number, and a file keeps its number while it is in memory, whatever becomes of its name.
const (
	rootIno uint64 = 1
	dirBit  uint64 = 1 << 41
	oddBit  uint64 = 1 << 42
)

// numbers knows what does not follow from the rules above.
type numbers struct {
	mu    sync.Mutex             // guards the rest. Leaf
	slots map[uint64]int64       // where the entry is of inodes that moved, or are numbered oddly; 0 for those without a name
	inos  map[int64]uint64       // the number of the inode whose entry is there, if it is not the usual one
	dirs  map[disk.Cluster]int64 // where the entry of a directory is
	odd   uint64                 // odd numbers given out
}

func (nu *numbers) init() {
	nu.slots, nu.inos, nu.dirs = make(map[uint64]int64), make(map[int64]uint64), make(map[disk.Cluster]int64)
}

// usual gives the number of a file that follows from the place of its entry.
func usual(slot int64) uint64 { return uint64(slot) / disk.DirentSize }

// file gives the number of the file whose entry is at a byte address.
func (nu *numbers) file(slot int64) uint64 {
	nu.mu.Lock()
	defer nu.mu.Unlock()
	if ino, ok := nu.inos[slot]; ok {
		return ino
	}
	ino := usual(slot)
	if _, taken := nu.slots[ino]; !taken {
		return ino
	}
	nu.odd++
	ino = oddBit | nu.odd
	nu.inos[slot], nu.slots[ino] = ino, slot
	return ino
}

// dir gives the number of a directory with that first cluster and entry. ok is false when another entry claims the cluster.
func (nu *numbers) dir(start disk.Cluster, slot int64) (ino uint64, ok bool) {
	nu.mu.Lock()
	defer nu.mu.Unlock()
	if old, known := nu.dirs[start]; known && old != slot {
		return 0, false
	}
	nu.dirs[start] = slot
	return dirBit | uint64(start), true
}

// slotOf gives the place of an inode's entry; ok is false for a number that was never given out, or does not name the file that is at
// its place.
func (nu *numbers) slotOf(ino uint64) (slot int64, ok bool) {
	nu.mu.Lock()
	defer nu.mu.Unlock()
	if ino&dirBit != 0 {
		slot, ok = nu.dirs[disk.Cluster(ino)]
		return slot, ok
	}
	if slot, ok = nu.slots[ino]; ok {
		return slot, slot != 0
	}
	slot = int64(ino) * disk.DirentSize
	_, other := nu.inos[slot]
	return slot, ino&oddBit == 0 && !other
}

// moved notes that the entry of an inode in memory is at another place now; 0: it has none any more.
func (nu *numbers) moved(ino uint64, from, to int64) {
	nu.mu.Lock()
	defer nu.mu.Unlock()
	if ino&dirBit != 0 {
		if delete(nu.dirs, disk.Cluster(ino)); to != 0 {
			nu.dirs[disk.Cluster(ino)] = to
		}
		return
	}
	if nu.inos[from] == ino { // in an exchange it may be the other's already
		delete(nu.inos, from)
	}
	nu.slots[ino] = to
	if to != 0 {
		nu.inos[to] = ino
	}
}

// gone notes that an inode left memory: its number is nobody's, and its entry is numbered as usual.
func (nu *numbers) gone(ino uint64) {
	nu.mu.Lock()
	defer nu.mu.Unlock()
	if ino&dirBit != 0 {
		return
	}
	if slot, ok := nu.slots[ino]; ok {
		delete(nu.slots, ino)
		if nu.inos[slot] == ino {
			delete(nu.inos, slot)
		}
	}
}
