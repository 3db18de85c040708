//go:build (invariants || race) && (amd64 || arm64)

package invariant

// goroutine identifies the calling goroutine among those alive: the address of the runtime's record of it, which Go's
// calling conventions keep at hand. The documented way, the first line of a stack dump, walks the whole stack and takes
// tens of microseconds. A goroutine that ends with a lock on its list hands it on to the next that gets its record; that
// one's panic names the line that took the lock.
func goroutine() uintptr
