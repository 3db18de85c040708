package pagecache

import (
	"bytes"
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/invariant"
)

// store is a file without holes behind an address space; its I/O completes late, out of order, on other goroutines.
type store struct {
	AddressSpace
	mu       sync.Mutex
	size     atomic.Int64
	bytes    []byte
	fail     atomic.Bool
	slow     bool
	uncached bool          // writes are
	gate     chan struct{} // when set, I/O sent off from now on completes after it was closed
	io       sync.WaitGroup

	runs, runBytes atomic.Int64 // of readahead, after countRuns
}

func (s *store) Size() int64      { return s.size.Load() }
func (s *store) BlockBits() uint8 { return 12 }
func (s *store) Ino() uint64      { return 1 }
func (s *store) Pin() bool        { return true }
func (s *store) Unpin()           {}

func (s *store) later(f func()) {
	s.io.Add(1)
	gate := s.gate
	go func() {
		defer s.io.Done()
		if gate != nil {
			<-gate
		}
		if s.slow {
			time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
		}
		f()
	}()
}

func newStore(c *Cache, wb *Writeback, max int64, lo, hi uint8) *store {
	s := &store{bytes: make([]byte, max)}
	s.Init(c, wb, s, &Operations{
		ReadFolio: func(_ context.Context, fo *Folio) error {
			s.later(func() {
				if s.fail.Load() {
					fo.EndRead(false)
					return
				}
				s.mu.Lock()
				clear(fo.Data())
				if size := s.Size(); fo.Pos() < size {
					copy(fo.Data(), s.bytes[fo.Pos():min(size, fo.End())])
				}
				s.mu.Unlock()
				fo.EndRead(true)
			})
			return nil
		},
		WritePages: func(ctx context.Context, as *AddressSpace, wbc *WritebackControl) error {
			return as.WriteIter(ctx, wbc, func(fo *Folio) error {
				size := s.Size()
				if fo.Pos() >= size {
					fo.Unlock()
					return nil
				}
				fo.StartWriteback()
				data := bytes.Clone(fo.Data()[:min(size, fo.End())-fo.Pos()])
				pos := fo.Pos()
				fo.Unlock()
				s.later(func() {
					if s.fail.Load() {
						as.SetError(errno.IO)
					} else {
						s.mu.Lock()
						copy(s.bytes[pos:], data)
						s.mu.Unlock()
					}
					fo.EndWriteback()
				})
				return nil
			})
		},
	})
	s.SetOrders(lo, hi)
	return s
}

// countRuns has readahead read each run at once, and counts.
func (s *store) countRuns() {
	ops := *s.ops
	ops.Readahead = func(ctx context.Context, rac *ReadaheadControl) {
		s.runs.Add(1)
		s.runBytes.Add(rac.Len())
		for fo := rac.Next(); fo != nil; fo = rac.Next() {
			_ = s.ops.ReadFolio(ctx, fo)
		}
	}
	s.SetOps(&ops)
}

// writeBalanced is write as a filesystem does it: held back between folios. look is called after each.
func (s *store) writeBalanced(t testing.TB, p []byte, pos int64, look func()) {
	for len(p) > 0 {
		if err := s.wb.Balance(context.Background(), &s.AddressSpace); err != nil {
			t.Error(err)
		}
		n := min(int64(len(p)), int64(PageSize)<<s.cache.maxOrder()-pos&(PageSize-1))
		s.write(t, p[:n], pos)
		p, pos = p[n:], pos+n
		if look != nil {
			look()
		}
	}
}

func (s *store) write(t testing.TB, p []byte, pos int64) {
	grab := s.Grab
	if s.uncached {
		grab = s.GrabUncached
	}
	for len(p) > 0 {
		fo, err := grab(context.Background(), uint64(pos)>>PageShift, int64(len(p)))
		require.NoError(t, err)
		off := pos - fo.Pos()
		n := min(int64(len(p)), int64(fo.Len())-off)
		if !fo.Uptodate() && n < int64(fo.Len()) {
			require.NoError(t, s.ops.ReadFolio(context.Background(), fo))
			fo.Disown()
			fo.Lock()
			require.True(t, fo.Uptodate())
		}
		copy(fo.Data()[off:], p[:n])
		fo.SetUptodate()
		if pos+n > s.Size() {
			s.size.Store(pos + n)
		}
		fo.MarkDirty()
		fo.Unlock()
		fo.Put()
		p, pos = p[n:], pos+n
	}
}

func (s *store) truncate(n int64) {
	s.InvalidateLock.Lock()
	old := s.Size()
	s.size.Store(n)
	if n < old {
		s.Truncate(n)
		s.mu.Lock()
		clear(s.bytes[n:old])
		s.mu.Unlock()
	}
	s.InvalidateLock.Unlock()
}

// TestModel runs random operations against a byte slice, with memory far too small, in all folio orders.
func TestModel(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, orders := range [][2]uint8{{0, 0}, {0, 3}, {2, 2}, {0, MaxOrder}} {
		seed := uint64(time.Now().UnixNano())
		t.Logf("orders %v seed %d", orders, seed)
		r := rand.New(rand.NewPCG(seed, 1))
		const top = 1 << 20
		c := New(Options{Limit: 64 * PageSize, Interval: 2 * time.Millisecond, Expire: time.Millisecond})
		wb := NewWriteback(c, "test")
		wb.Start()
		s := newStore(c, wb, top+1<<16, orders[0], orders[1])
		s.slow = true
		model := make([]byte, top)
		var size int64
		var ra Readahead
		ctx := context.Background()
		for range 3000 {
			pos := r.Int64N(top)
			n := min(1+r.Int64N(40000), top-pos)
			switch r.IntN(15) {
			case 0, 1, 2:
				p := make([]byte, n)
				for i := range p {
					p[i] = byte(r.Uint32())
				}
				if pos > size {
					s.Extended(size, pos)
				}
				s.uncached = r.IntN(3) == 0
				s.write(t, p, pos)
				copy(model[pos:], p)
				size = max(size, pos+n)
				require.NoError(t, wb.Balance(ctx, &s.AddressSpace))
			case 3:
				size = pos
				clear(model[size:])
				s.truncate(size)
			case 4:
				if pos+n <= size {
					s.InvalidateLock.Lock()
					s.TruncateRange(pos, pos+n)
					s.mu.Lock()
					clear(s.bytes[pos : pos+n])
					s.mu.Unlock()
					s.InvalidateLock.Unlock()
					clear(model[pos : pos+n])
				}
			case 5:
				require.NoError(t, s.WriteAndWait(ctx, pos, pos+n))
			case 6:
				require.NoError(t, s.WriteAndWait(ctx, pos, pos+n))
				require.NoError(t, s.Invalidate(ctx, pos, pos+n))
			case 7:
				s.DropClean(0, top)
			case 8:
				c.SetLimit((32 + r.Int64N(64)) * PageSize)
			case 9:
				require.NoError(t, s.FlushStart(ctx, pos, pos+n))
			case 10:
				s.Readahead(ctx, pos, n)
			default:
				if r.IntN(2) == 0 {
					pos = ra.streams[ra.cur].end
					pos = max(pos, 0)
					n = min(n, top-min(pos, top))
				}
				got := make([]byte, n)
				m, err := s.Read(ctx, &ra, got, pos, ReadFlags(r.IntN(2))*DontCache)
				require.NoError(t, err)
				want := model[min(pos, size):min(pos+n, size)]
				require.Equal(t, len(want), m)
				require.True(t, bytes.Equal(want, got[:m]), "bytes at %d+%d", pos, n)
			}
			require.LessOrEqual(t, c.Stats().Bytes, int64(96*PageSize*3/2), "memory follows the limit but for what is dirty")
		}
		require.NoError(t, wb.SyncAll(ctx))
		s.io.Wait()
		require.True(t, bytes.Equal(model[:size], s.bytes[:size]))
		require.Zero(t, c.Stats().Dirty)
		require.Zero(t, c.Stats().Writeback)
		s.Evict()
		require.Zero(t, c.Stats().Bytes)
		require.Zero(t, c.Stats().Folios)
		wb.Stop(ctx)
	}
}

// TestErrorOnce shows an error of writeback once to each watcher, and not to one that came later.
func TestErrorOnce(t *testing.T) {
	c := New(Options{Limit: 1 << 20})
	wb := NewWriteback(c, "test")
	s := newStore(c, wb, 1<<20, 0, 0)
	a, b := s.SampleError(), s.SampleError()
	s.write(t, []byte("x"), 0)
	s.fail.Store(true)
	require.ErrorIs(t, s.WriteAndWait(context.Background(), 0, 1<<20), errno.IO)
	early := s.SampleError() // nobody has seen it yet: this opener will
	require.ErrorIs(t, s.CheckError(&a), errno.IO)
	require.NoError(t, s.CheckError(&a))
	require.ErrorIs(t, s.CheckError(&b), errno.IO)
	require.ErrorIs(t, s.CheckError(&early), errno.IO)
	late := s.SampleError()
	require.NoError(t, s.CheckError(&late))
	s.fail.Store(false)
	s.write(t, []byte("y"), 0)
	require.NoError(t, s.WriteAndWait(context.Background(), 0, 1<<20), "an old error is not this call's")
	s.Evict()
}

// TestRaces reads, writes, truncates and writes back at once: readers see bytes that somebody wrote there, or zeros.
func TestRaces(t *testing.T) {
	defer goleak.VerifyNone(t)
	c := New(Options{Limit: 48 * PageSize, Interval: time.Millisecond, Expire: time.Microsecond})
	wb := NewWriteback(c, "test")
	wb.Start()
	s := newStore(c, wb, 1<<20, 0, 2)
	var iolock sync.RWMutex // what the inode lock is to writers and truncate
	stop := time.Now().Add(500 * time.Millisecond)
	var wg sync.WaitGroup
	run := func(f func(r *rand.Rand)) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for r := rand.New(rand.NewPCG(rand.Uint64(), 2)); time.Now().Before(stop); {
				f(r)
			}
		}()
	}
	for range 2 {
		run(func(r *rand.Rand) {
			pos := r.Int64N(800000)
			p := make([]byte, 1+r.IntN(20000))
			for i := range p {
				p[i] = byte((pos+int64(i))>>9)*2 + 1
			}
			iolock.Lock()
			s.write(t, p, pos)
			iolock.Unlock()
		})
		run(func(r *rand.Rand) {
			pos := r.Int64N(800000)
			p := make([]byte, 1+r.IntN(20000))
			n, err := s.Read(context.Background(), nil, p, pos, 0)
			if err != nil {
				t.Error(err)
			}
			for i, b := range p[:n] {
				if b != 0 && b != byte((pos+int64(i))>>9)*2+1 {
					t.Errorf("byte %d is %d", pos+int64(i), b)
					return
				}
			}
		})
	}
	run(func(r *rand.Rand) {
		iolock.Lock()
		s.truncate(r.Int64N(800000))
		iolock.Unlock()
		time.Sleep(time.Millisecond)
	})
	run(func(r *rand.Rand) {
		if err := s.WriteAndWait(context.Background(), 0, 1<<20); err != nil {
			t.Error(err)
		}
	})
	run(func(r *rand.Rand) { s.DropClean(0, 1<<20); time.Sleep(time.Millisecond) })
	wg.Wait()
	s.io.Wait()
	wb.Stop(context.Background())
	s.Evict()
	require.Zero(t, c.Stats().Bytes)
}

// TestHotPathsAllocateNothing holds the promise of look-up and cached read.
func TestHotPathsAllocateNothing(t *testing.T) {
	if invariant.Enabled {
		t.Skip("the checks allocate")
	}
	c := New(Options{Limit: 1 << 22})
	s := newStore(c, NewWriteback(c, "test"), 1<<20, 0, 0)
	s.write(t, make([]byte, 1<<20), 0)
	p := make([]byte, 65536)
	var ra Readahead
	require.Zero(t, testing.AllocsPerRun(100, func() {
		s.Get(7).Put()
		_, _ = s.Read(context.Background(), &ra, p, 65536, 0)
	}))
	s.Evict()
}

func BenchmarkGet(b *testing.B) {
	c := New(Options{Limit: 1 << 22})
	s := newStore(c, NewWriteback(c, "test"), 1<<20, 0, 0)
	s.write(b, make([]byte, 1<<20), 0)
	for b.Loop() {
		s.Get(200).Put()
	}
	s.Evict()
}

func BenchmarkCachedRead64K(b *testing.B) {
	c := New(Options{Limit: 1 << 22})
	s := newStore(c, NewWriteback(c, "test"), 1<<20, 0, 0)
	s.write(b, make([]byte, 1<<20), 0)
	p := make([]byte, 65536)
	var ra Readahead
	b.SetBytes(65536)
	for b.Loop() {
		_, _ = s.Read(context.Background(), &ra, p, 65536, 0)
	}
	s.Evict()
}

func BenchmarkMemcpy64K(b *testing.B) {
	src, p := make([]byte, 1<<20), make([]byte, 65536)
	b.SetBytes(65536)
	for b.Loop() {
		copy(p, src[65536:])
	}
}
