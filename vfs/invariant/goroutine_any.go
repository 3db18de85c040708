//go:build (invariants || race) && !amd64 && !arm64

package invariant

import "runtime"

// goroutine identifies the calling goroutine: the number in the first line of a stack dump ("goroutine 17 [running]:").
func goroutine() uintptr {
	var buf [32]byte
	n := runtime.Stack(buf[:], false)
	var id uintptr
	for _, c := range buf[len("goroutine "):n] {
		if c < '0' || c > '9' {
			break
		}
		id = id*10 + uintptr(c-'0')
	}
	return id
}
