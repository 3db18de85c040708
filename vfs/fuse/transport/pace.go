//go:build linux

package transport

import (
	"runtime"
	"time"
)

// pacer has a goroutine that does nothing but system calls pass through the scheduler now and then. One that never does
// looks to the runtime's monitor as if it had held its processor for ever: once 10 ms are over the monitor takes the
// processor away at each call, and looks for the next chance every 20 µs, which costs a tenth of a CPU and more.
type pacer struct{ last time.Time }

const paceEvery = 5 * time.Millisecond

func (p *pacer) step() {
	if now := time.Now(); now.Sub(p.last) > paceEvery {
		runtime.Gosched()
		p.last = now
	}
}
