package record

import (
	"fmt"
	"io"
	"sync"

	"github.com/iomapfs/iomapfs/vfs/block"
)

// Event is one entry of the log.
type Event struct {
	Op    block.Op
	Flags block.Flags
	Off   int64  // bytes
	Len   int64  // bytes
	Data  []byte // writes: a copy of what was written
	Mark  string // not a bio: a note of the workload
	// Begun and Done are when the event was submitted and completed, on one clock that counts both from 1. Done is 0 while in flight.
	Begun, Done int
	Err         error
}

// String is a line for a person.
func (e *Event) String() string {
	if e.Mark != "" {
		return "-- " + e.Mark
	}
	if e.Op == block.OpFlush {
		return "flush"
	}
	s := fmt.Sprintf("%s %d+%d", e.Op, e.Off, e.Len)
	if e.Flags&block.FUA != 0 {
		s += " fua"
	}
	if e.Flags&block.PreFlush != 0 {
		s += " preflush"
	}
	return s
}

// Device passes everything on to the device underneath and logs it.
type Device struct {
	block.Device

	mu  sync.Mutex // guards the rest. Leaf
	log []*Event
	now int // the clock of events
}

// New records what is done to dev. It owns dev from now on.
func New(dev block.Device) *Device { return &Device{Device: dev} }

// Mark puts a note of the workload into the log: what is done next, what was promised just now.
func (d *Device) Mark(format string, args ...any) {
	d.mu.Lock()
	d.now++
	d.log = append(d.log, &Event{Mark: fmt.Sprintf(format, args...), Begun: d.now, Done: d.now})
	d.mu.Unlock()
}

// Log gives the events so far.
func (d *Device) Log() []*Event {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*Event(nil), d.log...)
}

func (d *Device) begin(b *block.Bio) *Event {
	if b.Op == block.OpRead {
		return nil
	}
	e := &Event{Op: b.Op, Flags: b.Flags, Off: b.Off, Len: b.Bytes()}
	if b.Op == block.OpWrite {
		e.Data = make([]byte, 0, e.Len)
		for _, v := range b.Vecs {
			e.Data = append(e.Data, v...)
		}
	}
	d.mu.Lock()
	d.now++
	e.Begun = d.now
	d.log = append(d.log, e)
	d.mu.Unlock()
	return e
}

func (d *Device) end(e *Event, err error) {
	if e == nil {
		return
	}
	d.mu.Lock()
	d.now++
	e.Done, e.Err = d.now, err
	d.mu.Unlock()
}

// Submit logs the bio and passes it on.
func (d *Device) Submit(b *block.Bio) {
	e := d.begin(b)
	if e != nil {
		done := b.Done
		b.Done = func(b *block.Bio) {
			d.end(e, b.Err)
			b.Done = done
			done(b)
		}
	}
	d.Device.Submit(b)
}

// SubmitWait logs the bio and runs it.
func (d *Device) SubmitWait(b *block.Bio) error {
	e := d.begin(b)
	err := block.SubmitWait(d.Device, b)
	d.end(e, err)
	return err
}

// Apply lays one event over a copy of the device.
func (e *Event) Apply(w io.WriterAt) error {
	switch {
	case e.Mark != "" || e.Op == block.OpFlush || e.Op == block.OpDiscard:
		return nil // a discard may or may not have happened: here it has not
	case e.Op == block.OpWriteZeroes:
		_, err := w.WriteAt(make([]byte, e.Len), e.Off)
		return err
	}
	_, err := w.WriteAt(e.Data, e.Off)
	return err
}

// Replay lays the first n events of the log over a copy of the device as it was before.
func Replay(w io.WriterAt, log []*Event, n int) error {
	for _, e := range log[:n] {
		if err := e.Apply(w); err != nil {
			return err
		}
	}
	return nil
}

var (
	_ block.Device = (*Device)(nil)
	_ block.Waiter = (*Device)(nil)
)
