//go:build !invariants && !race

package invariant

// Enabled is true when the checks are compiled in.
const Enabled = false

// Check panics with the message when cond is false and checks are compiled in.
func Check(cond bool, format string, args ...any) {}

// Acquire notes that the goroutine is about to wait for a lock of that rank.
func Acquire(r Rank) {}

// AcquireTry notes that the goroutine got a lock of that rank without waiting; no order is checked.
func AcquireTry(r Rank) {}

// Release notes that the goroutine gave up a lock of that rank.
func Release(r Rank) {}

// Held says whether the goroutine holds a lock of that rank. Without checks it answers true, so that
// Check(Held(r), …) holds.
func Held(r Rank) bool { return true }

// NoneHeld panics when the goroutine holds a lock of a rank from `from` on (an entry point that may wait for long calls it).
func NoneHeld(from Rank) {}
