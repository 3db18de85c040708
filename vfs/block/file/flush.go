package file

import (
	"sync"

	"github.com/iomapfs/iomapfs/vfs/block"
)

// flusher lets all flushes that wait at one moment share one fdatasync: each is served by a call that began after it
// was submitted. A failed call is reported to everyone who shared it.
type flusher struct {
	dev  *Device // immutable
	work func()  // immutable

	mu      sync.Mutex // leaf; guards what follows
	running bool
	bios    []*block.Bio
	waiters []chan error
}

func (f *flusher) init(d *Device) {
	f.dev = d
	f.work = f.serve
}

// add starts a flush for a bio that was counted in.
func (f *flusher) add(b *block.Bio) {
	f.mu.Lock()
	f.bios = append(f.bios, b)
	start := !f.running
	f.running = true
	f.mu.Unlock()
	if start {
		go f.work()
	}
}

// wait flushes and returns when it is done, in the caller's goroutine when no other flush is running.
func (f *flusher) wait() error {
	f.mu.Lock()
	if f.running {
		ch := make(chan error, 1)
		f.waiters = append(f.waiters, ch)
		f.mu.Unlock()
		return <-ch
	}
	f.running = true
	f.mu.Unlock()
	err := f.dev.host.sync()
	f.mu.Lock()
	more := len(f.bios)+len(f.waiters) > 0
	f.running = more
	f.mu.Unlock()
	if more {
		go f.work()
	}
	return err
}

// serve runs flushes until nobody waits.
func (f *flusher) serve() {
	for {
		f.mu.Lock()
		bios, waiters := f.bios, f.waiters
		if len(bios)+len(waiters) == 0 {
			f.running = false
			f.mu.Unlock()
			return
		}
		f.bios, f.waiters = nil, nil
		f.mu.Unlock()
		err := f.dev.host.sync()
		for _, ch := range waiters {
			ch <- err
		}
		for _, b := range bios {
			f.dev.end(b, b.Fail(f.dev.name, "", err))
		}
	}
}
