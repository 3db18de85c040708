//go:build invariants || race

package invariant

import "fmt"

// Enabled is true when the checks are compiled in.
const Enabled = true

// Check panics with the message when cond is false and checks are compiled in.
func Check(cond bool, format string, args ...any) {
	if !cond {
		panic("invariant broken: " + fmt.Sprintf(format, args...))
	}
}
