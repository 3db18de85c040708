// Package invariant holds the checks that our own code keeps its promises: conditions and lock ranks.
//
// The checks are compiled in by the build tag "invariants" and by the race detector; without either, every call
// here is an empty function that the compiler removes. Arguments are still evaluated unless they are free, so
// an expensive condition stands behind "if invariant.Enabled".
//
// A failed check panics: it means a fault of this repository, never bad input.
//
// # Lock ranks
//
// Locks have an order, outer first:
//
//	freeze → rename → inode → invalidate → folio → transaction → map → allocgroup, buffer → leaf
//
// Acquire says, just before a lock is taken, that this goroutine takes a lock of that rank; it panics when the goroutine
// holds one of a later rank. Two locks of the same rank are allowed for ranks that have an order of their own
// (inodes by number, folios by index, groups by number), and refused for the others: freeze, rename, transaction, leaf.
// Release takes the most recently acquired lock of that rank off the list, so that locks may be released in any order.
//
//	invariant.Acquire(invariant.RankInode)
//	ip.Rw.Lock()
//	…
//	ip.Rw.Unlock()
//	invariant.Release(invariant.RankInode)
//
// A lock that is taken by one goroutine and released by another (a folio lock during a read) is handed over by
// Release in the first once it is out of its hands; the other does not Acquire it. A try-lock cannot deadlock: call
// AcquireTry after it succeeded.
package invariant

// Rank is the place of a lock in the order. Lower is outer.
type Rank uint8

// Ranks, outer first.
const (
	RankFreeze      Rank = iota + 1 // super block: freeze against writers
	RankRename                      // super block: renames between directories
	RankInode                       // inode rwlock; several by inode number
	RankInvalidate                  // address space invalidate lock; several by inode number
	RankFolio                       // folio lock; several by inode number and index
	RankTransaction                 // transaction reservation
	RankMap                         // a filesystem's map lock
	RankAllocGroup                  // allocation group or buffer; several by number
	RankLeaf                        // folio state, cache shard, device queue: nothing is taken under it
)

// RankBuffer is the rank of buffer locks: the same as an allocation group's.
const RankBuffer = RankAllocGroup

// String names the rank.
func (r Rank) String() string {
	if int(r) < len(rankNames) {
		return rankNames[r]
	}
	return "unknown"
}

var rankNames = [...]string{
	"none", "freeze", "rename", "inode", "invalidate", "folio", "transaction", "map", "allocgroup/buffer", "leaf",
}
