package compare

import "github.com/iomapfs/iomapfs/vfs/invariant"

// countLocks runs f and says how often locks of each rank were taken meanwhile, outer ones first.
func countLocks(f func() error) (locks []Lock, err error) {
	for r, n := range invariant.CountLocks(func() { err = f() }) {
		if n > 0 {
			locks = append(locks, Lock{invariant.Rank(r).String(), n})
		}
	}
	return locks, err
}
