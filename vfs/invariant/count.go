package invariant

import "sync/atomic"

// How often locks are taken is counted for who asks, one at a time: a comparison of two ways to do a thing. While nobody does, a lock
// costs a branch more.
var (
	counting atomic.Bool
	acquired [len(rankNames)]atomic.Int64
)

// Taken counts a lock of another kind than Mutex and RWMutex, by who takes it.
func Taken(r Rank) {
	if counting.Load() {
		acquired[r].Add(1)
	}
}

// count counts a Mutex or RWMutex.
func count[C Class]() { Taken(rankOf[C]()) }

func rankOf[C Class]() Rank {
	var c C
	return c.rank()
}

// CountLocks runs f and says how often locks of each rank were taken meanwhile, by whomever; the index is the rank. Not to be called
// while another call runs.
func CountLocks(f func()) []int64 {
	before := make([]int64, len(acquired))
	for r := range acquired {
		before[r] = acquired[r].Load()
	}
	counting.Store(true)
	f()
	counting.Store(false)
	for r := range acquired {
		before[r] = acquired[r].Load() - before[r]
	}
	return before
}
