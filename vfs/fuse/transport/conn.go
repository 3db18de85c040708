//go:build linux

package transport

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// conn is one connection served by ourselves: the readers of /dev/fuse, and with io_uring the ring's threads.
//
//	made ──INIT answered──► ready ──serve──► serving ──ENODEV on /dev/fuse──► dead ──all operations back──► closed
type conn struct {
	hooks Hooks
	log   *slog.Logger
	abort func() error // cuts the connection from our side
	point string       // where it is mounted

	// set before INIT is answered
	fd int                  // /dev/fuse; closed by close
	ps *fuse.ProtocolServer // parses, calls the filesystem, builds replies: of what is not answered in direct.go
	fs fuse.RawFileSystem

	throughGoFuse bool                       // everything, as its options want: it logs each request
	onPanic       func(what any) fuse.Status // what to answer when the filesystem panics

	maxWrite int           // bytes of data in a request, as negotiated
	init     fuse.InitIn   // what the kernel said
	slots    chan *slot    // unused ones
	dead     chan struct{} // closed once when the kernel is gone
	die      func()        // closes dead
	ring     *ringServer   // nil without io_uring

	idleReaders atomic.Int32
	allReaders  atomic.Int32
	readers     sync.WaitGroup // and the watcher
	done        atomic.Uint64  // requests from the device that were answered

	watcherSleeps atomic.Bool
	wakeWatcher   chan struct{} // one message for each time that watcherSleeps was taken back

	fromDevice  atomic.Uint64 // requests
	interrupted atomic.Uint64 // of those, interrupts

	pending interrupts // interrupts whose operation was not there yet

	mu    sync.Mutex // before ringServer.mu and task.mu; guards:
	tasks []*task    // of the readers
}

// keptSlots is how many readers' memory is kept for the next ones.
const keptSlots = 4

func newConn(hooks Hooks, log *slog.Logger, maxWrite int) *conn {
	c := &conn{
		fd: -1, hooks: hooks, log: log, maxWrite: maxWrite, dead: make(chan struct{}),
		wakeWatcher: make(chan struct{}, 1),
	}
	c.die = sync.OnceFunc(func() { close(c.dead) })
	c.slots = make(chan *slot, keptSlots)
	return c
}

// isDead reports whether the kernel has ended the connection.
func (c *conn) isDead() bool {
	select {
	case <-c.dead:
		return true
	default:
		return false
	}
}

// initialize reads INIT, the first request of a connection, and answers it. raw is the request as it came;
// ring reports whether the kernel agreed to io_uring.
func (c *conn) initialize() (raw []byte, ring bool, err error) {
	s, err := c.takeSlot()
	if err != nil {
		return nil, false, err
	}
	defer c.giveSlot(s)
	n, err := readRetry(c.fd, s.in)
	if err != nil {
		return nil, false, fmt.Errorf("read INIT: %w", err)
	}
	if n < inHeaderSize+16 || wire.Uint32(s.in[offOpcode:]) != opInit {
		return nil, false, fmt.Errorf("the kernel's first request has %d bytes and operation %d instead of INIT: %w", n, wire.Uint32(s.in[offOpcode:]), unix.EPROTO)
	}
	raw = append([]byte(nil), s.in[:n]...)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&c.init)), unsafe.Sizeof(c.init)), raw)
	m, st := c.ps.HandleRequest([][]byte{raw}, [][]byte{s.out})
	if m < outHeaderSize {
		putReply(s.out, wire.Uint64(raw[offUnique:]), orEIO(st), 0)
		m = outHeaderSize
	}
	code := fuse.Status(-int32(wire.Uint32(s.out[offError:])))
	if code.Ok() && m >= outHeaderSize+int(unsafe.Sizeof(fuse.InitOut{})) {
		var out fuse.InitOut
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&out)), unsafe.Sizeof(out)), s.out[outHeaderSize:])
		ring = out.Flags64()&fuse.CAP_OVER_IO_URING != 0
	}
	if _, err := unix.Write(c.fd, s.out[:m]); err != nil {
		return nil, false, fmt.Errorf("answer INIT: %w", err)
	}
	if !code.Ok() {
		return nil, false, fmt.Errorf("the kernel speaks FUSE %d.%d: %w", c.init.Major, c.init.Minor, unix.Errno(code))
	}
	return raw, ring, nil
}

// serve works until the connection is dead and every operation has returned.
func (c *conn) serve() {
	c.addReader()
	c.readers.Add(1)
	go c.watch()
	if c.ring != nil {
		c.ring.start()
	}
	<-c.dead
	ended := make(chan struct{})
	go func() {
		c.readers.Wait()
		if c.ring != nil {
			c.ring.wait()
		}
		close(ended)
	}()
	c.cancelUntil(ended)
	c.pending.wait()
}

// close gives the device back. Nobody may be reading it.
func (c *conn) close() {
	unix.Close(c.fd) //nolint:errcheck // the connection is gone; nothing to lose
	for {
		select {
		case s := <-c.slots:
			unix.Munmap(s.mem) //nolint:errcheck // our own mapping
		default:
			return
		}
	}
}

func orEIO(st fuse.Status) fuse.Status {
	if st.Ok() {
		return fuse.EIO
	}
	return st
}
