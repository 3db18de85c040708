//go:build linux

package transport

import (
	"errors"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// An interrupt names a request. It comes through /dev/fuse, the request perhaps through a ring, so it can overtake:
//
//	kernel                          ring thread               reader of /dev/fuse
//	copies request to the entry
//	caller gets a signal
//	INTERRUPT to /dev/fuse
//	                                                          not known: keep it
//	                                operation begins
//	                                                          tries again: cancel closes
//
// The kernel repeats an interrupt answered with EAGAIN only for requests it sent through /dev/fuse, so those of
// the rings are kept here and tried again for a while.
//
// A signal that comes after the kernel chose an entry and before it copied the request there makes no INTERRUPT at all
// (seen on Linux 6.18, where only reading /dev/fuse looks for it again). Nothing here can help that.
const (
	interruptRetry = time.Millisecond
	interruptKeep  = 250 * time.Millisecond // longer than any delay between the kernel's copy and the operation's begin
	interruptMax   = 1024                   // kept at once; the kernel has a fatal signal's way out beyond
)

// interrupts are those kept to be tried again. A goroutine lives as long as there are any.
type interrupts struct {
	mu     sync.Mutex // leaf; guards:
	since  map[uint64]time.Time
	active bool

	worker sync.WaitGroup
}

// wait returns when the goroutine that tries again has ended.
func (p *interrupts) wait() { p.worker.Wait() }

// interrupt closes the cancel channel of a request that is being worked on.
func (c *conn) interrupt(s *slot, unique, target uint64) {
	c.interrupted.Add(1)
	if c.cancel(target) {
		return
	}
	// Not there (yet). For a request of this device the kernel now asks again; ENOENT: it is none, or done.
	putReply(s.out, unique, fuse.EAGAIN, 0)
	if _, err := unix.Write(c.fd, s.out[:outHeaderSize]); err == nil || !errors.Is(err, unix.ENOENT) || c.ring == nil {
		return
	}
	c.keep(target)
}

// cancel closes the cancel channel of the request with this unique number; false if none is known by it
// (or it was closed before).
func (c *conn) cancel(unique uint64) bool {
	found := false
	c.eachTask(func(t *task) bool {
		found = t.interrupt(unique)
		return !found
	})
	if found {
		return true
	}
	var in [inHeaderSize + 8]byte
	var out [outHeaderSize]byte
	wire.PutUint32(in[:], uint32(len(in)))
	wire.PutUint32(in[offOpcode:], opInterrupt)
	wire.PutUint64(in[inHeaderSize:], unique)
	n, _ := c.ps.HandleRequest([][]byte{in[:]}, [][]byte{out[:]})
	return n == 0 // go-fuse answers an interrupt only when it failed
}

func (c *conn) keep(target uint64) {
	p := &c.pending
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since == nil {
		p.since = map[uint64]time.Time{}
	}
	if len(p.since) >= interruptMax {
		return
	}
	p.since[target] = time.Now()
	if !p.active {
		p.active = true
		p.worker.Add(1)
		go c.retryInterrupts()
	}
}

func (c *conn) retryInterrupts() {
	p := &c.pending
	defer p.worker.Done()
	var targets []uint64
	for {
		time.Sleep(interruptRetry)
		p.mu.Lock()
		targets = targets[:0]
		for t, since := range p.since {
			if time.Since(since) > interruptKeep {
				delete(p.since, t)
				continue
			}
			targets = append(targets, t)
		}
		if len(targets) == 0 {
			p.active = false
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		for _, t := range targets {
			if c.cancel(t) {
				p.mu.Lock()
				delete(p.since, t)
				p.mu.Unlock()
			}
		}
	}
}

// cancelUntil closes the cancel channels of everything in work, again and again for what begins late, until ended.
func (c *conn) cancelUntil(ended <-chan struct{}) {
	pause := time.Millisecond
	for {
		for _, u := range c.working() {
			c.cancel(u)
		}
		select {
		case <-ended:
			return
		case <-time.After(pause):
			pause = min(2*pause, 50*time.Millisecond)
		}
	}
}

// eachTask calls f for what every reader and every thread of the ring works on, until it returns false.
func (c *conn) eachTask(f func(t *task) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.tasks {
		if !f(t) {
			return
		}
	}
	if c.ring != nil {
		c.ring.eachTask(f)
	}
}

// working lists the requests that are being worked on.
func (c *conn) working() []uint64 {
	var list []uint64
	c.eachTask(func(t *task) bool {
		if u := t.current(); u != 0 {
			list = append(list, u)
		}
		return true
	})
	return list
}
