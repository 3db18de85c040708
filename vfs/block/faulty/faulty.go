// Package faulty is a device over another that fails as it is told: errors on chosen operations, places or numbers, torn writes,
// delays, completions that are held, a device that is full, and the loss of power.
//
//	d := faulty.New(dev)
//	d.Add(faulty.Rule{Op: block.OpWrite, Nth: 3, Err: errno.IO})
//	… the third write from now fails, once …
//
// Without rules it does what the device below does. Nothing is random: what happens follows from the rules and the order of
// submission.
package faulty

import (
	"sync"
	"time"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Rule says which bios fail, and how. A bio is looked at by each rule in the order in which they were added; the first that
// strikes decides.
type Rule struct {
	Op         block.Op // the operation that it is about
	Any        bool     // … or every operation
	Start, End int64    // bytes of the device that the bio must touch; End 0: everywhere
	Nth        int      // strikes at the n-th bio that it matches, counted from when the rule was added; 0 or 1: the first
	Always     bool     // … and at all later ones
	Err        error    // what the bio fails with. Nil with Delay or Hold only: it is then done
	Torn       int      // writes: so many sectors of 512 bytes of it are stored before it fails
	Delay      time.Duration
	Hold       *Gate // the bio waits until the gate is opened
}

// Gate holds bios back.
type Gate struct {
	mu   sync.Mutex // guards what follows
	open bool
	held []func()
}

// Held is how many bios wait.
func (g *Gate) Held() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.held)
}

// Open lets those that wait go on, last first if reverse, and all that come later.
func (g *Gate) Open(reverse bool) {
	g.mu.Lock()
	list := g.held
	g.held, g.open = nil, true
	g.mu.Unlock()
	for i := range list {
		if reverse {
			i = len(list) - 1 - i
		}
		list[i]()
	}
}

func (g *Gate) wait(f func()) {
	g.mu.Lock()
	if !g.open {
		g.held = append(g.held, f)
		g.mu.Unlock()
		return
	}
	g.mu.Unlock()
	f()
}

// Device is the device. It implements neither Backing nor Mapper: nothing gets around the rules.
type Device struct {
	block.Device
	lim block.Limits // immutable

	mu    sync.Mutex // guards what follows. Leaf
	rules []*state
	dead  bool
	hits  int
}

type state struct {
	Rule
	seen int
}

// New makes a device over dev, which it closes with itself.
func New(dev block.Device) *Device {
	d := &Device{Device: dev, lim: *dev.Limits()}
	d.lim.DirectMemory = false
	return d
}

// Limits are those of the device below, but for direct memory.
func (d *Device) Limits() *block.Limits { return &d.lim }

// Add adds a rule.
func (d *Device) Add(r Rule) {
	d.mu.Lock()
	d.rules = append(d.rules, &state{Rule: r})
	d.mu.Unlock()
}

// Clear removes all rules.
func (d *Device) Clear() {
	d.mu.Lock()
	d.rules = nil
	d.mu.Unlock()
}

// Hits is how many bios a rule struck.
func (d *Device) Hits() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.hits
}

// PowerCut makes every bio fail from now on, errno.IO, and nothing more is stored. What was stored before is below; what a volatile
// cache would have lost besides is vfs/block/record's to work out.
func (d *Device) PowerCut() {
	d.mu.Lock()
	d.dead = true
	d.mu.Unlock()
}

// Full makes every write fail with errno.NOSPC that touches bytes from off on, as an image file on a full filesystem does.
func (d *Device) Full(off int64) {
	d.Add(Rule{Op: block.OpWrite, Start: off, End: d.Size(), Always: true, Err: errno.NOSPC})
}

// strike finds the rule that is to decide, if any.
func (d *Device) strike(b *block.Bio) (r Rule, struck bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return Rule{Err: errno.IO}, true
	}
	for _, s := range d.rules {
		if !s.Any && s.Op != b.Op || s.End > 0 && b.Op != block.OpFlush && (b.Off >= s.End || b.Off+b.Bytes() <= s.Start) {
			continue
		}
		s.seen++
		if n := max(s.Nth, 1); s.seen == n || s.seen > n && s.Always {
			d.hits++
			return s.Rule, true
		}
	}
	return Rule{}, false
}

// Submit is Device's.
func (d *Device) Submit(b *block.Bio) {
	r, struck := d.strike(b)
	if !struck {
		d.Device.Submit(b)
		return
	}
	act := func() {
		if r.Err == nil {
			d.Device.Submit(b)
			return
		}
		if r.Torn > 0 && b.Op == block.OpWrite {
			d.tear(b, int64(r.Torn)*512)
		}
		b.End(b.Fail(d.Name(), "injected", r.Err))
	}
	switch {
	case r.Hold != nil:
		r.Hold.wait(act)
	case r.Delay > 0:
		time.AfterFunc(r.Delay, act)
	default:
		act()
	}
}

// tear stores the first n bytes of a write.
func (d *Device) tear(b *block.Bio, n int64) {
	sector := int64(max(d.Limits().LogicalBlock, 1))
	off := b.Off
	for _, v := range b.Vecs {
		k := min(int64(len(v)), n) / sector * sector
		if k <= 0 {
			return
		}
		if err := block.WriteAt(d.Device, v[:k], off, 0); err != nil {
			return // fails all the same
		}
		off, n = off+k, n-k
	}
}
