package record

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/overlay"
)

// StateOptions say how many states there are.
type StateOptions struct {
	Seed    uint64
	Max     int // of states; more are thinned out by the seed. 0 means all
	Subsets int // random subsets of an epoch of more than 10 writes; default 64
	Sector  int // what a write tears at; default 512
}

// State is one way in which a crash may leave the medium.
type State struct {
	// Name tells what is there, in a form that is the same in each run of the same log and options.
	Name string
	// At is how many events of the log had been submitted. What was promised holds if it was marked among them: a flush that is the
	// last of them need not have completed, a mark after it says that it has.
	At  int
	Sum uint64 // equal for states of equal contents: overlay.Device.Sum
	dev *overlay.Device
}

// Device gives the state, as a device of its own.
func (s *State) Device() *overlay.Device { return s.dev.Fork() }

// part is how much of a write is there.
type part uint8

const (
	none part = iota
	all
	half   // the first half of its sectors
	random // sectors chosen by a seed
)

// epoch is the time from one flush to the end of the next.
type epoch struct {
	end     int    // events submitted in it and before
	durable []bool // by event: durable through the whole epoch
	pending []int  // events that may be there or not
}

// spec is a state before it is built.
type spec struct {
	epoch int
	at    int
	name  string
	seed  uint64
	parts map[int]part // by event; the pending ones that are not in it are absent
}

func (e *Event) change() bool {
	return e.Mark == "" && (e.Op == block.OpWrite || e.Op == block.OpWriteZeroes || e.Op == block.OpDiscard)
}

// epochs cuts the log at the completions of flushes.
func epochs(log []*Event) []epoch {
	var flushes []*Event
	for _, e := range log {
		if e.Mark == "" && e.Done != 0 && e.Err == nil && (e.Op == block.OpFlush || e.Flags&block.PreFlush != 0) {
			flushes = append(flushes, e)
		}
	}
	slices.SortFunc(flushes, func(a, b *Event) int { return a.Done - b.Done })
	var out []epoch
	durable := make([]bool, len(log))
	for i := range len(flushes) + 1 {
		ep := epoch{end: len(log)}
		if i < len(flushes) {
			ep.end = 0
			for ep.end < len(log) && log[ep.end].Begun < flushes[i].Done {
				ep.end++
			}
		}
		// A FUA write counts as durable from the end of its epoch on: before, it may be in flight.
		for k, e := range log[:ep.end] {
			if e.change() && !durable[k] {
				ep.pending = append(ep.pending, k)
			}
		}
		ep.durable = slices.Clone(durable)
		out = append(out, ep)
		if i < len(flushes) {
			f := flushes[i]
			for k, e := range log[:ep.end] {
				fua := e.Flags&block.FUA != 0 && e.Done < f.Done
				if e.change() && e.Err == nil && e.Done != 0 && (e.Done < f.Begun || fua) {
					durable[k] = true
				}
			}
		}
	}
	return out
}

// specs lists the states of one epoch.
func (ep *epoch) specs(no int, log []*Event, o *StateOptions, rng *rand.Rand) []spec {
	var out []spec
	n := len(ep.pending)
	add := func(at int, name string, parts map[int]part) {
		out = append(out, spec{no, at, fmt.Sprintf("epoch %d: %s", no, name), rng.Uint64(), parts})
	}
	// A FUA write that has completed is there for good once something follows it.
	must := map[int]part{}
	for _, k := range ep.pending {
		if e := log[k]; e.Flags&block.FUA != 0 && e.Done != 0 && e.Err == nil && k+1 < ep.end && log[ep.end-1].Begun > e.Done {
			must[k] = all
		}
	}
	with := func(in func(i int) part) map[int]part {
		m := map[int]part{}
		for i, k := range ep.pending {
			if p := in(i); must[k] == all {
				m[k] = all
			} else if p != none {
				m[k] = p
			}
		}
		return m
	}
	whole := func(b bool) part {
		if b {
			return all
		}
		return none
	}
	for i := range n + 1 {
		at := ep.end
		if i < n {
			at = ep.pending[i] // the crash comes before this one is submitted
		}
		m := map[int]part{}
		for _, k := range ep.pending[:i] {
			m[k] = all
		}
		add(at, fmt.Sprintf("the first %d of %d", i, n), m)
	}
	for i := range n {
		add(ep.end, fmt.Sprintf("all but %d of %d", i, n), with(func(j int) part { return whole(i != j) }))
		add(ep.end, fmt.Sprintf("only %d of %d", i, n), with(func(j int) part { return whole(i == j) }))
	}
	if n <= 10 {
		for set := range 1 << n {
			add(ep.end, fmt.Sprintf("set %b of %d", set, n), with(func(j int) part { return whole(set>>j&1 == 1) }))
		}
	} else {
		for range o.Subsets {
			seed := rng.Uint64()
			r := rand.New(rand.NewPCG(seed, 1))
			add(ep.end, fmt.Sprintf("random set %x of %d", seed, n), with(func(int) part { return whole(r.IntN(2) == 0) }))
		}
	}
	for i, k := range ep.pending {
		if log[k].Len <= int64(o.Sector) {
			continue
		}
		for _, p := range []part{half, random} {
			name := [...]string{half: "half", random: "random sectors"}[p]
			add(ep.end, fmt.Sprintf("all, but %s of %d of %d", name, i, n), with(func(j int) part {
				if i == j {
					return p
				}
				return all
			}))
			add(ep.end, fmt.Sprintf("only %s of %d of %d", name, i, n), with(func(j int) part {
				if i == j {
					return p
				}
				return none
			}))
		}
	}
	return out
}

// States gives states in which a crash may leave a device that held base's contents before the log, and no two of one epoch that are
// equal: for each epoch all prefixes, all but one write, one write only, all subsets (of many writes: some), and torn writes. base
// must not change meanwhile. A state that cannot be built ends the sequence with an error.
func States(base block.Device, log []*Event, o StateOptions) iter.Seq2[*State, error] {
	if o.Subsets == 0 {
		o.Subsets = 64
	}
	if o.Sector == 0 {
		o.Sector = 512
	}
	return func(yield func(*State, error) bool) {
		rng := rand.New(rand.NewPCG(o.Seed, 0x57a7e5))
		eps := epochs(log)
		var specs []spec
		for no := range eps {
			specs = append(specs, eps[no].specs(no, log, &o, rng)...)
		}
		if o.Max > 0 && len(specs) > o.Max {
			rng.Shuffle(len(specs), func(i, j int) { specs[i], specs[j] = specs[j], specs[i] })
			specs = specs[:o.Max]
			slices.SortStableFunc(specs, func(a, b spec) int { return a.epoch - b.epoch })
		}
		stable, settled := overlay.New(base), 0 // the first events, of which none is pending
		known, in := map[uint64]bool{}, -1
		for i := range specs {
			sp := &specs[i]
			ep := &eps[sp.epoch]
			if sp.epoch != in {
				in = sp.epoch
				clear(known)
				for ; settled < ep.end && (ep.durable[settled] || !log[settled].change()); settled++ {
					if err := log[settled].lay(stable, all, 0, &o); err != nil {
						yield(nil, err)
						return
					}
				}
			}
			st, err := sp.build(stable, settled, ep, log, &o)
			if err == nil && known[st.Sum] {
				continue
			}
			if err == nil {
				known[st.Sum] = true
			}
			if !yield(st, err) || err != nil {
				return
			}
		}
	}
}

func (sp *spec) build(stable *overlay.Device, settled int, ep *epoch, log []*Event, o *StateOptions) (st *State, err error) {
	st = &State{Name: sp.name, At: sp.at, dev: stable.Fork()}
	for k := settled; k < ep.end; k++ {
		p := sp.parts[k]
		if ep.durable[k] {
			p = all
		}
		if err := log[k].lay(st.dev, p, sp.seed, o); err != nil {
			return nil, err
		}
	}
	st.Sum, err = st.dev.Sum()
	return st, err
}

// lay does the event, or a part of it, to a device.
func (e *Event) lay(d block.Device, p part, seed uint64, o *StateOptions) error {
	switch {
	case !e.change() || p == none || e.Len == 0:
		return nil
	case e.Op == block.OpWriteZeroes:
		return block.WriteZeroes(d, e.Off, e.Len)
	case e.Op == block.OpDiscard:
		return block.Discard(d, e.Off, e.Len)
	case p == all:
		return block.WriteAt(d, e.Data, e.Off, 0)
	}
	sectors := (int(e.Len) + o.Sector - 1) / o.Sector
	rng := rand.New(rand.NewPCG(seed, 2))
	for s := range sectors {
		if p == half && s >= (sectors+1)/2 || p == random && rng.IntN(2) == 0 {
			continue
		}
		if err := block.WriteAt(d, e.Data[s*o.Sector:min((s+1)*o.Sector, len(e.Data))], e.Off+int64(s*o.Sector), 0); err != nil {
			return err
		}
	}
	return nil
}
