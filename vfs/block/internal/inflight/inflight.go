// Package inflight counts the bios that a device works on, so that Close can wait for them.
package inflight

import (
	"sync"
	"sync/atomic"
)

// shut is the bit that refuses newcomers.
const shut = 1 << 62

// Gate counts what is inside and can be shut for good. The zero value is open and empty.
type Gate struct {
	n atomic.Int64 // inside, plus shut

	mu   sync.Mutex // leaf; guards making of gone
	gone chan struct{}
	once sync.Once // closes gone
}

// Enter counts one in. It is false, and counts nothing, when the gate is shut.
func (g *Gate) Enter() bool {
	if g.n.Add(1)&shut != 0 {
		g.Exit()
		return false
	}
	return true
}

// Exit counts one out.
func (g *Gate) Exit() {
	if g.n.Add(-1) == shut {
		g.once.Do(func() { close(g.gone) })
	}
}

// Inside says how many are in.
func (g *Gate) Inside() int64 { return g.n.Load() &^ shut }

// Close shuts the gate and waits until nobody is inside. first is true for the first caller only; everybody waits.
func (g *Gate) Close() (first bool) {
	g.mu.Lock()
	if g.gone == nil {
		first = true
		g.gone = make(chan struct{})
		if g.n.Add(shut) == shut {
			g.once.Do(func() { close(g.gone) })
		}
	}
	gone := g.gone
	g.mu.Unlock()
	<-gone
	return first
}
