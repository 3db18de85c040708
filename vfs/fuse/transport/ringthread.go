//go:build linux

package transport

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Commands of FUSE over io_uring.
const (
	cmdRegister       = 1
	cmdCommitAndFetch = 2
)

// An entry's header area (struct fuse_uring_req_header).
//
//	  0  128  fuse_in_header as a request, fuse_out_header as a reply
//	128  128  the operation's fixed struct, on requests only
//	256   32  8: commit id (8 bytes)  16: bytes used of the payload (4 bytes)
const (
	headerSize    = 288
	headerArgs    = 128
	headerArgsMax = 128
	headerCommit  = 256 + 8
	headerPayload = 256 + 16

	// The payload begins on a page of its own, so that it may be used for O_DIRECT.
	payloadOffset = 4096
)

// entry is one place for a request. The kernel holds it from register or commit until its command completes; then its
// thread does.
type entry struct {
	queue   *queue
	header  []byte
	payload []byte
	iov     [2]unix.Iovec         // both areas; the kernel reads it at registration
	in      [3][]byte             // the request for go-fuse: header, fixed struct, the rest
	out     [2][]byte             // where it puts the reply: header, everything else
	head    [directMax / 8]uint64 // header and fixed struct in one piece, for what we answer ourselves
	scratch []byte                // an ioctl's input, out of the way of its output
	dead    bool                  // the kernel has let go of it
}

// ringThread is one locked thread with an io_uring of its own.
type ringThread struct {
	rs      *ringServer
	entries []entry // one; for a keeper one a queue
	keeper  bool    // it serves the queues of absent CPUs
	roams   bool    // not pinned at the moment
	ring    *uring
	mem     []byte

	made       chan error    // one value: the ring is there or not
	register   chan struct{} // closed when INIT is done
	registered chan error    // one value: whether the kernel took at least one entry

	task    task          // the request in work
	handled atomic.Uint64 // requests begun
	seen    uint64        // the grower's: handled when it last looked
	_       [48]byte      // away from the next thread's counters
}

// run is the thread. It stays locked, so that the runtime ends the thread with the goroutine: it is pinned.
func (t *ringThread) run() {
	defer t.rs.threads.Done()
	runtime.LockOSThread()
	err := t.make()
	t.made <- err
	if err != nil {
		return
	}
	defer t.free()
	select {
	case <-t.register:
	case <-t.rs.quit:
		return
	}
	err = t.enlist()
	t.registered <- err
	if err != nil {
		return
	}
	select {
	case <-t.rs.started:
	case <-t.rs.quit:
		return
	}
	t.loop()
}

// make pins the thread and makes its ring and memory.
func (t *ringThread) make() error {
	if !t.keeper {
		pin(t.entries[0].queue)
	}
	size := payloadOffset + t.rs.payload
	mem, err := unix.Mmap(-1, 0, size*len(t.entries), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("fuse: memory for %d io_uring entries: %w", len(t.entries), err)
	}
	t.mem = mem
	for i := range t.entries {
		e, m := &t.entries[i], mem[i*size:(i+1)*size]
		e.header, e.payload = m[:headerSize:headerSize], m[payloadOffset:size:size]
		e.iov[0].Base, e.iov[1].Base = &e.header[0], &e.payload[0]
		e.iov[0].SetLen(len(e.header))
		e.iov[1].SetLen(len(e.payload))
	}
	if t.ring, err = newUring(len(t.entries)); err != nil {
		unix.Munmap(mem) //nolint:errcheck // our own mapping
		return err
	}
	return nil
}

// free gives ring and memory back, in this order: the kernel writes to the memory as long as the ring has commands.
func (t *ringThread) free() {
	t.ring.close()
	unix.Munmap(t.mem) //nolint:errcheck // our own mapping
}

// enlist registers the entries. The error is that of the last one if the kernel took none.
func (t *ringThread) enlist() error {
	for i := range t.entries {
		t.submit(cmdRegister, i, 0)
	}
	if err := t.ring.enter(0); err != nil {
		return err
	}
	var err error
	// A refused entry completes at once, a good one with its first request, which only loop waits for.
	for {
		i, res, ok := t.ring.peek()
		if !ok || res >= 0 {
			break
		}
		t.ring.advance()
		t.entries[i].dead = true
		err = unix.Errno(-res)
	}
	taken := 0
	for i := range t.entries {
		if !t.entries[i].dead {
			taken++
			t.entries[i].queue.threads.Add(1)
		}
	}
	if taken > 0 {
		return nil
	}
	return fmt.Errorf("fuse: register io_uring entry: %w", err)
}

// submit queues a command for entry i; the next enter sends it.
func (t *ringThread) submit(cmd uint32, i int, commit uint64) {
	e := &t.entries[i]
	s := t.ring.sqe()
	s[0] = opUringCmd
	wire.PutUint32(s[4:], uint32(t.rs.conn.fd))
	wire.PutUint32(s[8:], cmd)
	if cmd == cmdRegister {
		wire.PutUint64(s[16:], uint64(uintptr(unsafe.Pointer(&e.iov[0]))))
		wire.PutUint32(s[24:], uint32(len(e.iov)))
	}
	wire.PutUint64(s[32:], uint64(i))
	// The command area: flags (8), commit id (8), queue id (2).
	wire.PutUint64(s[sqeCmd+8:], commit)
	wire.PutUint16(s[sqeCmd+16:], e.queue.id)
}

// loop answers requests until the kernel has let go of all entries.
func (t *ringThread) loop() {
	alive := 0
	for i := range t.entries {
		if !t.entries[i].dead {
			alive++
		}
	}
	var pace pacer
	for alive > 0 {
		i, res, ok := t.ring.peek()
		if !ok {
			pace.step()
			if err := t.ring.enter(1); err != nil {
				t.rs.conn.log.Error("fuse: a ring failed, the connection is given up", "error", err)
				t.rs.conn.cut()
				return
			}
			continue
		}
		t.ring.advance()
		e := &t.entries[i]
		if res < 0 {
			e.dead = true
			alive--
			if errno := unix.Errno(-res); !ended(errno) {
				t.rs.conn.log.Error("fuse: the kernel refused an answer, the connection is given up", "queue", e.queue.id, "error", errno)
				t.rs.conn.cut()
			}
			continue
		}
		if t.keeper {
			// Its CPU is here now: it gets threads of its own.
			e.queue.arrived.Store(true)
			t.rs.saturated()
		}
		t.settle(e)
		t.handle(e)
		t.submit(cmdCommitAndFetch, int(i), wire.Uint64(e.header[headerCommit:]))
		if t.keeper {
			// The answer must not wait for the other entries. An error shows again at the enter above.
			_ = t.ring.enter(0)
		}
	}
}

// settle lets the thread go where there is room when the request in e moves much data: copying beside the caller, not
// in turns with him, is worth more than waking him without an interrupt. For small ones it comes back to its CPU.
func (t *ringThread) settle(e *entry) {
	if t.keeper || !e.queue.online {
		return
	}
	bytes := wire.Uint32(e.header[headerPayload:])
	if wire.Uint32(e.header[offOpcode:]) == opRead {
		bytes = wire.Uint32(e.header[headerArgs+offReadSize:])
	}
	switch big := bytes >= roamBytes; {
	case big && !t.roams:
		unpin()
	case !big && t.roams:
		pin(e.queue)
	default:
		return
	}
	t.roams = !t.roams
}

// handle works on the request in e and leaves the reply there.
func (t *ringThread) handle(e *entry) {
	q := e.queue
	var began time.Time
	full := q.busy.Add(1) >= q.threads.Load()
	if full {
		began = time.Now()
		t.rs.saturated()
	}
	unique := wire.Uint64(e.header[offUnique:])
	t.handled.Add(1)

	n := t.call(e, unique)
	wire.PutUint32(e.header[headerPayload:], uint32(n))

	t.task.end()
	if full && time.Since(began) >= slowTime {
		q.slow.Add(1)
	}
	q.busy.Add(-1)
}

// call runs the operation. The reply's header is then in e.header, and n bytes of its body in e.payload.
func (t *ringThread) call(e *entry, unique uint64) (n int) {
	c := t.rs.conn
	length, used := int(wire.Uint32(e.header)), int(wire.Uint32(e.header[headerPayload:]))
	args := length - inHeaderSize - used
	if args < 0 || args > headerArgsMax || used > len(e.payload) {
		c.log.Error("fuse: malformed request on io_uring", "length", length, "payload", used)
		putReply(e.header, unique, fuse.EIO, 0)
		return 0
	}
	if c.isDead() {
		putReply(e.header, unique, fuse.Status(unix.ENOTCONN), 0)
		return 0
	}
	op, node := wire.Uint32(e.header[offOpcode:]), wire.Uint64(e.header[offNode:])
	if e.queue.kicked(op, wire.Uint32(e.header[offPid:])) {
		putReply(e.header, unique, fuse.EAGAIN, 0)
		return 0
	}
	want, direct := c.isDirect(op, node)
	direct = direct && args >= want && !pollHack(op, node, e.payload[:used])
	cancel := t.task.begin(unique, direct)
	if direct {
		head := unsafe.Slice((*byte)(unsafe.Pointer(&e.head)), directMax)[:inHeaderSize+args]
		copy(head, e.header[:inHeaderSize])
		copy(head[inHeaderSize:], e.header[headerArgs:headerArgs+args])
		n, st := c.answer(cancel, op, head, e.payload[:used], e.payload)
		if !st.Ok() {
			n = 0
		}
		putReply(e.header, unique, st, n)
		return n
	}
	e.in = [3][]byte{e.header[:inHeaderSize], e.header[headerArgs : headerArgs+args], e.payload[:used]}
	if op == opIoctl && used > 0 {
		// The only operation that reads its input while it writes its output, and both are the payload.
		e.scratch = append(e.scratch[:0], e.in[2]...)
		e.in[2] = e.scratch
	}
	if n, st, ok := c.hooks.hook(op, node, e.in[1], e.payload); ok {
		putReply(e.header, unique, st, n)
		return n
	}
	e.out = [2][]byte{e.header[:outHeaderSize], e.payload}
	m, st := c.ps.HandleRequest(e.in[:], e.out[:])
	if m < outHeaderSize {
		putReply(e.header, unique, orEIO(st), 0)
		return 0
	}
	return m - outHeaderSize
}
