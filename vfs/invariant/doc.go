// Package invariant holds the checks that our own code keeps its promises: conditions, and the order of locks.
//
// The checks are compiled in by the build tag "invariants" and by the race detector; without either, every call
// here is an empty function that the compiler removes, and a ranked lock is a sync lock that may be counted (CountLocks) and nothing more. Arguments are
// still evaluated unless they are free, so an expensive condition stands behind "if invariant.Enabled".
//
// A failed check panics: it means a fault of this repository, never bad input.
//
// # The order of locks
//
// Outer first:
//
//	freeze → rename → inode → invalidate → folio → commit → transaction → map → allocgroup, buffer → list → shard → leaf
//
// A lock has its rank by its type; Mutex and RWMutex are used like those of package sync:
//
//	Rw invariant.RWMutex[invariant.Inode]
//
// Who waits for a lock while he holds one of a later rank panics, and so does who waits for a lock that he holds: Go's
// locks are not recursive, and a second RLock deadlocks with a writer between the two. The message names both locks and
// the lines that took them. Several locks of one rank are allowed for ranks that have an order of their own (inodes,
// folios, groups), and refused for the others. A try-lock cannot deadlock and is not checked when taken; what is waited
// for under it is.
//
// Locks of another kind (a bit in a flag word) have a Holder and tell it what happens to them:
//
//	fo.holder.Wait(invariant.RankFolio, file, index)   before waiting
//	fo.holder.Took(invariant.RankFolio, file, index)   when the lock was taken
//	fo.holder.Released()                               before it is given up, on whatever goroutine
//	fo.holder.Disown()                                 this goroutine left the lock to somebody else, who releases it
//
// A lock that stands for I/O in flight is disowned by who submitted it: from then on nothing he waits for can keep the
// lock from being released.
package invariant

// Rank is the place of a lock in the order. Lower is outer.
type Rank uint8

// Ranks, outer first.
const (
	RankFreeze      Rank = iota + 1 // super block: freeze against writers
	RankRename                      // super block: renames between directories
	RankInode                       // inode rwlock; two directories: the ancestor first; two files: by number
	RankInvalidate                  // address space invalidate lock; several by inode number
	RankFolio                       // folio lock; several of a file by index
	RankCommit                      // a filesystem's commit of metadata: one at a time
	RankTransaction                 // transaction reservation
	RankMap                         // a filesystem's map lock
	RankAllocGroup                  // allocation group, buffer, folio of a device; several by number
	RankList                        // list of dirty address spaces
	RankShard                       // inode cache shard
	RankLeaf                        // folio state, cache shard, device queue: nothing is taken under it
)

// RankBuffer is the rank of buffer locks: the same as an allocation group's.
const RankBuffer = RankAllocGroup

var rankNames = [...]string{
	"none", "freeze", "rename", "inode", "invalidate", "folio", "commit", "transaction", "map", "allocgroup/buffer",
	"list", "shard", "leaf",
}

// String names the rank.
func (r Rank) String() string {
	if int(r) < len(rankNames) {
		return rankNames[r]
	}
	return "unknown"
}

// Class gives the locks of a type their rank.
type Class interface{ rank() Rank }

// Classes, one for each rank.
type (
	Freeze      struct{}
	Rename      struct{}
	Inode       struct{}
	Invalidate  struct{}
	Commit      struct{}
	Transaction struct{}
	Map         struct{}
	AllocGroup  struct{}
	List        struct{}
	Shard       struct{}
	Leaf        struct{}
)

func (Freeze) rank() Rank      { return RankFreeze }
func (Rename) rank() Rank      { return RankRename }
func (Inode) rank() Rank       { return RankInode }
func (Invalidate) rank() Rank  { return RankInvalidate }
func (Commit) rank() Rank      { return RankCommit }
func (Transaction) rank() Rank { return RankTransaction }
func (Map) rank() Rank         { return RankMap }
func (AllocGroup) rank() Rank  { return RankAllocGroup }
func (List) rank() Rank        { return RankList }
func (Shard) rank() Rank       { return RankShard }
func (Leaf) rank() Rank        { return RankLeaf }
