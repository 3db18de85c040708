//go:build linux

package transport

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Readers of /dev/fuse. Each reads a request, works on it and reads again. One is enough as long as operations are short,
// and is the fastest then: a second one only has threads wake each other. More come
//
//   - before an operation that may take long or that makes the kernel send requests of its own,
//   - when the watcher finds the readers in the operations they were in when it last looked,
//   - when it finds that requests wait, up to maxReaders.
//
// A reader that finds another one reading when its operation is done leaves. The watcher sleeps while nothing happens.
const (
	maxIdleReaders = 1                    // reading at the same time
	forgetPause    = 5 * time.Millisecond // with a ring, between FORGETs

	// The watcher looks seldom while all goes well, as each timer of the runtime has several threads look for work, and
	// often after it had to help.
	watchSeldom = 4 * time.Millisecond
	watchOften  = 500 * time.Microsecond
	watchAlert  = 100 // looks in a row without need after which seldom is enough
	watchQuiet  = 5   // seldom looks without a request after which the watcher sleeps
)

// slot is what a reader works with.
type slot struct {
	mem  []byte // of both below; a mapping
	in   []byte // request; the data of a WRITE is page aligned
	out  []byte // reply
	inv  [1][]byte
	outv [1][]byte
	task task
}

// writeDataOffset is where the data of a WRITE begins: both headers.
const writeDataOffset = int(unsafe.Sizeof(fuse.WriteIn{}))

// newSlot takes its memory from the system and not from the heap: most requests touch the first page of it only, and the
// collector need not know of the rest.
func newSlot(maxWrite int) (*slot, error) {
	const page = 4096
	// Replies may be longer than data by their fixed struct, never above a page. The data of a WRITE is to begin on a page.
	in := (page - writeDataOffset) + max(writeDataOffset+maxWrite, minReadBuffer) + page
	out := max(maxWrite, minReadBuffer) + page
	in = (in + page - 1) &^ (page - 1)
	mem, err := unix.Mmap(-1, 0, in+out, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("fuse: memory for requests: %w", err)
	}
	return &slot{mem: mem, in: mem[page-writeDataOffset : in : in], out: mem[in:]}, nil
}

// takeSlot gives memory for a reader, giveSlot takes it back: little of it is kept.
func (c *conn) takeSlot() (*slot, error) {
	select {
	case s := <-c.slots:
		return s, nil
	default:
		return newSlot(c.maxWrite)
	}
}

func (c *conn) giveSlot(s *slot) {
	select {
	case c.slots <- s:
	default:
		unix.Munmap(s.mem) //nolint:errcheck // our own mapping
	}
}

func readRetry(fd int, b []byte) (int, error) {
	for {
		n, err := unix.Read(fd, b)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOENT):
			// ENOENT: the request was given up while it was being read.
		default:
			return n, err
		}
	}
}

func (c *conn) addReader() {
	c.idleReaders.Add(1)
	c.allReaders.Add(1)
	c.readers.Add(1)
	go c.read()
}

func (c *conn) read() {
	defer c.readers.Done()
	defer c.allReaders.Add(-1)
	s, err := c.takeSlot()
	if err != nil {
		c.log.Error("fuse: a reader cannot begin", "error", err)
		if c.idleReaders.Add(-1); c.allReaders.Load() == 1 {
			c.cut() // it was the only one
			c.die()
		}
		return
	}
	defer c.giveSlot(s)
	c.enlist(&s.task)
	defer c.delist(&s.task)
	var pace pacer
	for {
		pace.step()
		n, err := readRetry(c.fd, s.in)
		if err != nil {
			if !errors.Is(err, unix.ENODEV) && !errors.Is(err, unix.ECONNABORTED) {
				c.log.Error("fuse: reading /dev/fuse failed, the connection is given up", "error", err)
				c.cut()
			}
			c.die()
			return
		}
		if n == 0 { // not of the device: of what a test has in its place
			c.die()
			return
		}
		if n < inHeaderSize {
			c.log.Error("fuse: short request on /dev/fuse", "bytes", n)
			continue
		}
		op := wire.Uint32(s.in[offOpcode:])
		if c.idleReaders.Add(-1) == 0 && mayTakeLong(op) {
			c.addReader()
		}
		if c.watcherSleeps.Load() && c.watcherSleeps.CompareAndSwap(true, false) {
			c.wakeWatcher <- struct{}{}
		}
		c.handle(s, n, op)
		c.done.Add(1)
		if !c.idle() {
			return
		}
		if c.ring != nil && (op == opForget || op == opBatchForget) {
			// What is forgotten meanwhile comes as one batch, and whoever causes it wakes nobody. With a ring all that
			// can wait here is an interrupt. It counts as reading, so that the watcher sends nobody else.
			time.Sleep(forgetPause)
		}
	}
}

// mayTakeLong tells operations that wait for the device or for further requests.
func mayTakeLong(op uint32) bool {
	switch op {
	case opFsync, opFsyncDir, opSyncFS, opLseek, opCopyFileRange, opFallocate, opIoctl, opSetLkw:
		return true
	}
	return false
}

// maxReaders is how many readers the watcher starts for requests that wait, while those there are get on.
func maxReaders() int32 { return int32(2 * runtime.GOMAXPROCS(0)) }

// watch adds readers where there are too few, until the connection is dead.
func (c *conn) watch() {
	defer c.readers.Done()
	every := watchSeldom
	tick := time.NewTimer(every)
	defer tick.Stop()
	last, quiet, waiting, calm := c.done.Load(), 0, 0, 0
	most := maxReaders()
	for {
		select {
		case <-tick.C:
		case <-c.dead:
			return
		}
		n := c.done.Load()
		stuck := n == last
		calm++
		if c.idleReaders.Load() > 0 {
			waiting = 0
			if quiet++; !stuck {
				quiet = 0
			}
			if every == watchSeldom && quiet >= watchQuiet {
				c.watcherSleeps.Store(true)
				select {
				case <-c.wakeWatcher:
				case <-c.dead:
					return
				}
				quiet = 0
			}
		} else {
			quiet = 0
			if waiting++; stuck || waiting > 1 && c.allReaders.Load() < most && c.pendingRequest() {
				c.addReader()
				waiting, calm, every = 0, 0, watchOften
			}
		}
		if calm >= watchAlert {
			every = watchSeldom
		}
		last = n
		tick.Reset(every)
	}
}

// pendingRequest reports whether a request waits to be read.
func (c *conn) pendingRequest() bool {
	p := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&unix.POLLIN != 0
}

// idle counts the reader in again, unless there are enough. Never more are counted than will read: of two that leave at
// the same time none may rely on the other.
func (c *conn) idle() bool {
	for {
		n := c.idleReaders.Load()
		if n >= maxIdleReaders {
			return false
		}
		if c.idleReaders.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// handle answers one request that was read into s.in[:n].
func (c *conn) handle(s *slot, n int, op uint32) {
	c.fromDevice.Add(1)
	unique, node := wire.Uint64(s.in[offUnique:]), wire.Uint64(s.in[offNode:])
	args, direct := c.isDirect(op, node)
	direct = direct && n >= inHeaderSize+args && !pollHack(op, node, s.in[inHeaderSize:n])
	switch op {
	case opForget, opBatchForget, opNotifyReply:
		if direct {
			c.answer(nil, op, s.in[:inHeaderSize+args], s.in[inHeaderSize+args:n], nil)
		} else {
			c.ps.HandleRequest(c.iov(s, n))
		}
		return
	case opInterrupt:
		if n >= inHeaderSize+8 {
			c.interrupt(s, unique, wire.Uint64(s.in[inHeaderSize:]))
		}
		return
	}
	cancel := s.task.begin(unique, direct)
	m, st := 0, fuse.OK
	if direct {
		if m, st = c.answer(cancel, op, s.in[:inHeaderSize+args], s.in[inHeaderSize+args:n], s.out[outHeaderSize:]); !st.Ok() {
			m = 0
		}
		putReply(s.out, unique, st, m)
		m += outHeaderSize
	} else {
		m = c.viaGoFuse(s, n, op, unique, node)
	}
	s.task.end()
	c.reply(s.out[:m], op)
}

// viaGoFuse has a hook or go-fuse answer the request in s.in[:n]. It gives the length of the reply in s.out.
func (c *conn) viaGoFuse(s *slot, n int, op uint32, unique, node uint64) int {
	m, st, ok := c.hooks.hook(op, node, s.in[inHeaderSize:n], s.out[outHeaderSize:])
	if ok {
		putReply(s.out, unique, st, m)
		return m + outHeaderSize
	}
	if m, st = c.ps.HandleRequest(c.iov(s, n)); m < outHeaderSize {
		putReply(s.out, unique, orEIO(st), 0)
		m = outHeaderSize
	}
	return m
}

func (c *conn) iov(s *slot, n int) (in, out [][]byte) {
	s.inv[0], s.outv[0] = s.in[:n], s.out
	return s.inv[:], s.outv[:]
}

// reply writes an answer to the device. ENOENT means that nobody waits for it any more: the caller was killed,
// or the connection is gone.
func (c *conn) reply(b []byte, op uint32) {
	for {
		_, err := unix.Write(c.fd, b)
		switch {
		case err == nil, errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENODEV):
		case errors.Is(err, unix.EINTR):
			continue
		default:
			c.log.Error("fuse: the kernel refused an answer", "operation", op, "error", err)
		}
		return
	}
}

// enlist has the task of a reader known, so that it can be given up; delist takes that back.
func (c *conn) enlist(t *task) {
	c.mu.Lock()
	c.tasks = append(c.tasks, t)
	c.mu.Unlock()
}

func (c *conn) delist(t *task) {
	c.mu.Lock()
	if i := slices.Index(c.tasks, t); i >= 0 {
		c.tasks = slices.Delete(c.tasks, i, i+1)
	}
	c.mu.Unlock()
}

// cut ends the connection from our side after an error that leaves requests without anybody to answer them.
func (c *conn) cut() {
	if c.abort == nil {
		return
	}
	if err := c.abort(); err != nil {
		c.log.Error("fuse: cannot abort the connection; unmount it by hand", "error", err)
	}
}
