//go:build linux

package transport

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// How many threads serve a queue. Few are enough for operations that do not block, and more than the Go scheduler has
// processors only get in each other's way; operations that block get more threads when they turn up.
const (
	maxBaseThreads  = 4   // a queue, on a machine with few CPUs
	minBaseThreads  = 2   // a queue, on one with many: one may block
	baseThreadsSum  = 32  // about so many in all, between those two
	maxQueueThreads = 256 // a queue. Each costs 1 MiB of address space, and memory as far as requests filled it

	growLook    = time.Millisecond      // after a queue ran out of free threads it is looked at so soon,
	growLookMax = 16 * time.Millisecond // and while it is short of them, up to so seldom
	roamBytes   = 128 << 10             // requests that move so much leave their CPU
	maxPinned   = 1024                  // CPUs that an affinity mask names

	slowTime = 500 * time.Microsecond // an operation that took so long was waiting, not working
)

// ringServer is the io_uring side of a connection.
type ringServer struct {
	conn    *conn
	payload int      // bytes of an entry's payload area
	queues  []*queue // index: queue number = CPU number
	base    int32    // threads a queue begins with

	startOnce sync.Once
	started   chan struct{} // closed when requests may be handled
	quit      chan struct{} // closed when they never will

	threads sync.WaitGroup
	grow    chan struct{} // something for the grower to look at

	mu  sync.Mutex // before task.mu; guards:
	all []*ringThread
}

// queue is one of the kernel's: the requests of callers on one CPU.
type queue struct {
	id      uint16
	online  bool         // new threads are pinned to its CPU; the grower's after start
	busy    atomic.Int32 // threads at work
	threads atomic.Int32 // threads with an entry in this queue
	slow    atomic.Int32 // operations that took slowTime with no thread free, since the grower looked
	arrived atomic.Bool  // a request came from this CPU, which was absent when we began

	kicking atomic.Int32 // threads that make a request only to have the queue move
	kickers sync.Map     // their thread numbers, uint32

	stuck int32 // the grower's: threads in the same operation as at the last look

	_ [64]byte // away from the next queue's counters
}

// newRingServer starts the threads of all queues and makes their rings, but registers nothing: that is possible only
// after INIT. On an error nothing is left behind.
func newRingServer(c *conn, payload int, online []int) (*ringServer, error) {
	possible, err := cpuList("possible")
	if err != nil {
		return nil, err
	}
	if online == nil {
		if online, err = cpuList("online"); err != nil {
			return nil, err
		}
	}
	rs := &ringServer{
		conn: c, payload: payload,
		base:    int32(min(max(baseThreadsSum/len(online), minBaseThreads), maxBaseThreads)),
		started: make(chan struct{}), quit: make(chan struct{}), grow: make(chan struct{}, 1),
	}
	// The kernel counts queues as it counts possible CPUs and numbers them as the CPUs.
	for i := range len(possible) {
		rs.queues = append(rs.queues, &queue{id: uint16(i), online: slices.Contains(online, i)})
	}
	var threads []*ringThread
	var absent []*queue
	for _, q := range rs.queues {
		if !q.online {
			absent = append(absent, q)
			continue
		}
		for range rs.base {
			threads = append(threads, rs.newThread(q))
		}
	}
	if len(absent) > 0 {
		t := rs.newThread(absent...)
		t.keeper = true
		threads = append(threads, t)
	}
	for _, t := range threads {
		rs.launch(t)
	}
	for _, t := range threads {
		if e := <-t.made; e != nil && err == nil {
			err = e
		}
	}
	if err != nil {
		rs.abandon()
		return nil, err
	}
	return rs, nil
}

// register hands every thread's entries to the kernel. An error means that some queue has none, so that the
// kernel goes on with /dev/fuse; the caller abandons the ring then.
func (rs *ringServer) register() error {
	rs.mu.Lock()
	threads := slices.Clone(rs.all)
	rs.mu.Unlock()
	for _, t := range threads {
		close(t.register)
	}
	var first error
	for _, t := range threads {
		if err := <-t.registered; err != nil && first == nil {
			first = err
		}
	}
	for _, q := range rs.queues {
		if q.threads.Load() == 0 {
			return fmt.Errorf("register queue %d of %d: %w", q.id, len(rs.queues), first)
		}
	}
	if first != nil {
		rs.conn.log.Warn("fuse: fewer io_uring entries than wanted", "error", first)
	}
	return nil
}

// start lets the threads handle requests.
func (rs *ringServer) start() {
	rs.startOnce.Do(func() {
		rs.threads.Add(1)
		go rs.grower()
		close(rs.started)
	})
}

// abandon ends all threads before they have handled anything.
func (rs *ringServer) abandon() {
	close(rs.quit)
	rs.threads.Wait()
}

// wait returns when all threads have ended, after the connection has.
func (rs *ringServer) wait() { rs.threads.Wait() }

// eachTask calls f for what every thread works on, until it returns false.
func (rs *ringServer) eachTask(f func(t *task) bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, t := range rs.all {
		if !f(&t.task) {
			return
		}
	}
}

// count says how many threads there are and how many requests they have handled.
func (rs *ringServer) count() (threads int, requests uint64) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for _, t := range rs.all {
		requests += t.handled.Load()
	}
	return len(rs.all), requests
}

func (rs *ringServer) newThread(queues ...*queue) *ringThread {
	t := &ringThread{rs: rs, made: make(chan error, 1), register: make(chan struct{}), registered: make(chan error, 1)}
	for _, q := range queues {
		t.entries = append(t.entries, entry{queue: q})
	}
	return t
}

func (rs *ringServer) launch(t *ringThread) {
	rs.mu.Lock()
	rs.all = append(rs.all, t)
	rs.mu.Unlock()
	rs.threads.Add(1)
	go t.run()
}

// saturated tells the grower that a queue has no free thread.
func (rs *ringServer) saturated() {
	select {
	case rs.grow <- struct{}{}:
	default:
	}
}

// grower gives threads to queues whose threads wait for something. It sleeps while every queue has threads enough.
func (rs *ringServer) grower() {
	defer rs.threads.Done()
	pause := time.NewTimer(time.Hour)
	defer pause.Stop()
	wait := growLook
	for {
		select {
		case <-rs.grow:
			wait = growLook
		case <-pause.C:
			wait = min(2*wait, growLookMax)
		case <-rs.conn.dead:
			return
		}
		if rs.look() {
			pause.Reset(wait)
		} else {
			pause.Stop()
		}
	}
}

// look gives one more thread to each queue that has at most one left which is not stuck in the operation it was in at
// the last look, so that one is there for what comes next, and to queues whose operations are slow. It reports whether
// there are queues short of threads, to be looked at again.
func (rs *ringServer) look() bool {
	short := false
	for _, q := range rs.queues {
		if q.arrived.Load() && !q.online {
			q.online = true
			for range rs.base {
				rs.addThread(q)
			}
			rs.kick(q)
		}
		q.stuck = 0
		short = short || q.short()
	}
	rs.mu.Lock()
	for _, t := range rs.all {
		if h := t.handled.Load(); h != t.seen {
			t.seen = h
		} else if t.task.current() != 0 {
			for i := range t.entries {
				t.entries[i].queue.stuck++
			}
		}
	}
	rs.mu.Unlock()
	for _, q := range rs.queues {
		n := q.threads.Load()
		slow := q.slow.Swap(0) >= n
		if n >= maxQueueThreads || !q.short() || q.stuck < max(n-1, 1) && !slow {
			continue
		}
		rs.addThread(q)
		rs.kick(q)
	}
	return short
}

// short reports whether a queue has work and at most one free thread.
func (q *queue) short() bool {
	busy := q.busy.Load()
	return busy > 0 && busy >= q.threads.Load()-1
}

// kick makes the kernel look at a queue. Requests that found no entry free wait there until one is committed; an entry
// that is new does not take them, only a new request does that, by the commit that follows it. So we make one: on the
// queue's CPU, of a kind that changes nothing, and answer it without asking the filesystem. Every new thread needs its
// own kick, since an earlier one may be among those that wait. It needs the mount in its place; a mount that was
// detached while all threads were blocked has to wait for somebody else's request.
func (rs *ringServer) kick(q *queue) {
	rs.threads.Add(1)
	go func() {
		defer rs.threads.Done()
		runtime.LockOSThread() // for good: the thread is pinned, and ends with the goroutine
		pin(q)
		tid := uint32(unix.Gettid())
		q.kickers.Store(tid, nil)
		q.kicking.Add(1)
		var st unix.Statfs_t
		_ = unix.Statfs(rs.conn.point, &st) // fails, as the answer is an error
		q.kicking.Add(-1)
		q.kickers.Delete(tid)
	}()
}

// kicked reports whether a request is one that kick made.
func (q *queue) kicked(op, pid uint32) bool {
	if q.kicking.Load() == 0 || op != opStatfs {
		return false
	}
	_, ok := q.kickers.Load(pid)
	return ok
}

// pin keeps the calling thread, which must be locked, on the queue's CPU, if our cpuset has it.
func pin(q *queue) {
	if q.online {
		var set unix.CPUSet
		set.Set(int(q.id))
		_ = unix.SchedSetaffinity(0, &set) // outside of our cpuset it runs where it may
	}
}

// unpin lets the calling thread, which must be locked, run on any CPU of our cpuset.
func unpin() {
	var set unix.CPUSet
	for i := range maxPinned {
		set.Set(i)
	}
	_ = unix.SchedSetaffinity(0, &set) // it stays where it is, then
}

// addThread gives a queue one more thread. Failing to is not fatal: the others go on.
func (rs *ringServer) addThread(q *queue) {
	t := rs.newThread(q)
	rs.launch(t)
	if err := <-t.made; err != nil {
		rs.conn.log.Warn("fuse: no further thread for a queue", "queue", q.id, "error", err)
		return
	}
	close(t.register)
	if err := <-t.registered; err != nil && !rs.conn.isDead() {
		rs.conn.log.Warn("fuse: no further thread for a queue", "queue", q.id, "error", err)
	}
	if q.threads.Load() == maxQueueThreads {
		rs.conn.log.Warn("fuse: every thread of a queue is blocked and it may have no more", "queue", q.id, "threads", maxQueueThreads)
	}
}

// ended reports whether an error of a command means that the connection is over.
func ended(e unix.Errno) bool {
	return e == unix.ENOTCONN || e == unix.ECONNABORTED || e == unix.ECANCELED
}

// ringPayload is how many bytes an entry's payload area must have, by what INIT negotiated.
func ringPayload(maxWrite int) int {
	page := os.Getpagesize()
	pages := (maxWrite + page - 1) / page
	return max(minReadBuffer, pages*page)
}
