package file

import (
	"sync"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Bounds of a queue.
const (
	mergeBytes = 1 << 20 // a request does not grow beyond this by merging
	mergeVecs  = 512     // nor beyond this many pieces of memory
	mergeLook  = 4       // newest requests that a bio is compared with
	fullNoWait = 1024    // queued requests beyond which NoWait bios are refused
	fullAhead  = 128     // and ReadAhead bios dropped
)

// request is a run of bios on neighbouring ranges that one system call serves.
type request struct {
	op    block.Op
	flags block.Flags // PreFlush and FUA
	off   int64       // bytes, from here
	end   int64       // to here
	vecs  int
	bios  []*block.Bio
	bufs  [][]byte // scratch of the run: what is still to be moved
}

var requests = sync.Pool{New: func() any { return new(request) }}

// newRequest makes a request of one bio.
func newRequest(b *block.Bio) *request {
	r := requests.Get().(*request)
	r.op, r.flags, r.off, r.end = b.Op, b.Flags&(block.PreFlush|block.FUA), b.Off, b.Off+b.Bytes()
	r.vecs = len(b.Vecs)
	r.bios = append(r.bios[:0], b)
	return r
}

// recycle forgets the bios and keeps the memory.
func (r *request) recycle() {
	clear(r.bios)
	clear(r.bufs[:cap(r.bufs)])
	r.bios, r.bufs = r.bios[:0], r.bufs[:0]
	if cap(r.bufs) <= 4*mergeVecs {
		requests.Put(r)
	}
}

// merge appends b when it starts where the request ends and is of the same kind.
func (r *request) merge(b *block.Bio) bool {
	if b.Off != r.end || b.Op != r.op || b.Flags&(block.PreFlush|block.FUA) != r.flags || r.flags&block.PreFlush != 0 ||
		(b.Op != block.OpRead && b.Op != block.OpWrite) || r.vecs+len(b.Vecs) > mergeVecs {
		return false
	}
	n := b.Bytes()
	if r.end-r.off+n > mergeBytes {
		return false
	}
	r.end += n
	r.vecs += len(b.Vecs)
	r.bios = append(r.bios, b)
	return true
}

// queue holds requests in the order of arrival until a worker takes them.
type queue struct {
	dev  *Device // immutable
	max  int     // immutable; workers
	work func()  // immutable; worker, made once so that starting one allocates nothing

	mu      sync.Mutex // leaf; guards what follows
	ring    []*request // a power of two of slots
	head    int        // slot of the oldest
	n       int
	workers int
}

func (q *queue) init(d *Device, workers int) {
	q.dev, q.max = d, workers
	q.ring = make([]*request, 64)
	q.work = q.worker
}

// add queues a bio, or merges it into a queued request, and sees to it that a worker is there.
func (q *queue) add(b *block.Bio) error {
	q.mu.Lock()
	if b.Flags&block.NoWait != 0 && q.n >= fullNoWait || b.Flags&block.ReadAhead != 0 && q.n >= fullAhead {
		q.mu.Unlock()
		return errno.AGAIN
	}
	for i := 1; i <= mergeLook && i <= q.n; i++ {
		if q.ring[(q.head+q.n-i)&(len(q.ring)-1)].merge(b) {
			q.mu.Unlock()
			return nil
		}
	}
	if q.n == len(q.ring) {
		q.grow()
	}
	q.ring[(q.head+q.n)&(len(q.ring)-1)] = newRequest(b)
	q.n++
	start := q.workers < q.max
	if start {
		q.workers++
	}
	q.mu.Unlock()
	if start {
		go q.work()
	}
	return nil
}

// grow doubles the ring.
func (q *queue) grow() {
	ring := make([]*request, 2*len(q.ring))
	for i := range q.n {
		ring[i] = q.ring[(q.head+i)&(len(q.ring)-1)]
	}
	q.ring, q.head = ring, 0
}

// worker runs requests until there are none.
func (q *queue) worker() {
	for {
		q.mu.Lock()
		if q.n == 0 {
			q.workers--
			q.mu.Unlock()
			return
		}
		r := q.ring[q.head]
		q.ring[q.head] = nil
		q.head = (q.head + 1) & (len(q.ring) - 1)
		q.n--
		q.mu.Unlock()
		q.dev.run(r)
	}
}
