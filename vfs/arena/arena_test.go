package arena

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/invariant"
)

func addrOf(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

func TestBlocksHaveTheirSizeAndAlignment(t *testing.T) {
	a := New()
	for o := uint(0); o <= MaxOrder; o++ {
		b, err := a.Alloc(o)
		require.NoError(t, err)
		require.Len(t, b, PageSize<<o)
		require.Equal(t, PageSize<<o, cap(b))
		require.Zero(t, addrOf(b)%PageSize)
		b[0], b[len(b)-1] = 1, 2
		a.Free(b[:1]) // a prefix will do
	}
	_, err := a.Alloc(MaxOrder + 1)
	require.ErrorIs(t, err, errno.INVAL)
	require.Zero(t, a.Stats().InUse)
}

func TestOrderFor(t *testing.T) {
	for _, c := range []struct {
		n    int
		want uint
		ok   bool
	}{{0, 0, true}, {1, 0, true}, {4096, 0, true}, {4097, 1, true}, {1 << 20, 8, true}, {1<<20 + 1, 9, false}} {
		o, ok := OrderFor(c.n)
		require.Equal(t, c.ok, ok, c.n)
		if ok {
			require.Equal(t, c.want, o, c.n)
		}
	}
}

// Blocks in use never overlap and keep their contents, whatever else is allocated, freed, joined and released.
func TestBlocksInUseAreDisjoint(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	a := New()
	type held struct {
		b   []byte
		tag uint64
	}
	var live []held
	var bytes int64
	stamp := func(b []byte, tag uint64) {
		for i := 0; i < len(b); i += 512 {
			binary.LittleEndian.PutUint64(b[i:], tag+uint64(i))
		}
	}
	for step := range 20000 {
		if len(live) == 0 || (rng.IntN(2) == 0 && bytes < 48<<20) {
			o := uint(min(rng.IntN(MaxOrder+1), rng.IntN(MaxOrder+1)))
			b, err := a.Alloc(o)
			require.NoError(t, err)
			stamp(b, uint64(step)<<32)
			live = append(live, held{b, uint64(step) << 32})
			bytes += int64(len(b))
			continue
		}
		i := rng.IntN(len(live))
		h := live[i]
		for j := 0; j < len(h.b); j += 512 {
			require.Equal(t, h.tag+uint64(j), binary.LittleEndian.Uint64(h.b[j:]), "step %d byte %d", step, j)
		}
		a.Free(h.b)
		bytes -= int64(len(h.b))
		live[i] = live[len(live)-1]
		live = live[:len(live)-1]
		if rng.IntN(500) == 0 {
			a.Trim()
		}
		require.Equal(t, bytes, a.Stats().InUse)
	}
	for _, h := range live {
		a.Free(h.b)
	}
	checkEmpty(t, a)
}

// checkEmpty demands that everything joined again and went back.
func checkEmpty(t *testing.T, a *Arena) {
	t.Helper()
	a.Trim()
	s := a.Stats()
	require.Zero(t, s.InUse)
	require.Zero(t, s.Cached)
	require.Zero(t, s.Resident)
	require.Zero(t, s.Foreign)
	require.LessOrEqual(t, s.Mapped, int64(chunkSize), "one chunk may stay")
	require.Equal(t, s.Mapped, s.Free)
	for _, c := range a.buddy.sorted {
		require.Equal(t, chunkPages>>MaxOrder, c.nfree[MaxOrder], "all pages joined to the largest blocks")
	}
}

// Freeing much gives memory back without being asked to.
func TestBigFreesGiveMemoryBack(t *testing.T) {
	a := New()
	var live [][]byte
	for range 128 {
		b, err := a.Alloc(MaxOrder)
		require.NoError(t, err)
		clear(b)
		live = append(live, b)
	}
	require.Equal(t, int64(128<<20), a.Stats().InUse)
	for _, b := range live {
		a.Free(b)
	}
	s := a.Stats()
	require.LessOrEqual(t, s.Resident, int64(reserveMin))
	require.GreaterOrEqual(t, s.Released, uint64(100<<20))
	require.Less(t, s.Mapped, int64(64<<20))
	checkEmpty(t, a)
}

// Small blocks freed in random order join, so that large ones can be given out without new memory.
func TestNeighboursJoin(t *testing.T) {
	a := New()
	var live [][]byte
	for range 8 * chunkPages {
		b, err := a.Alloc(0)
		require.NoError(t, err)
		live = append(live, b)
	}
	rand.Shuffle(len(live), func(i, j int) { live[i], live[j] = live[j], live[i] })
	for _, b := range live {
		a.Free(b)
	}
	mapped := a.Stats().Mapped
	a.drain()
	live = live[:0]
	for range mapped / MaxBlock {
		b, err := a.Alloc(MaxOrder)
		require.NoError(t, err)
		live = append(live, b)
	}
	require.LessOrEqual(t, a.Stats().Mapped, mapped+int64(shardCap(MaxOrder))*MaxBlock)
	for _, b := range live {
		a.Free(b)
	}
	checkEmpty(t, a)
}

func TestConcurrent(t *testing.T) {
	a := New()
	var wg sync.WaitGroup
	pass := make(chan []byte, 256) // blocks freed by another goroutine than took them
	for g := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 7))
			for range 5000 {
				b, err := a.Alloc(uint(rng.IntN(6)))
				if err != nil {
					t.Error(err)
					return
				}
				b[0], b[len(b)-1] = byte(g), byte(g)
				if b[0] != byte(g) || b[len(b)-1] != byte(g) {
					t.Error("shared block")
				}
				select {
				case pass <- b:
				default:
					a.Free(b)
				}
				select {
				case x := <-pass:
					a.Free(x)
				default:
				}
				if rng.IntN(1000) == 0 {
					a.Trim()
				}
			}
		})
	}
	wg.Wait()
	close(pass)
	for b := range pass {
		a.Free(b)
	}
	checkEmpty(t, a)
}

func TestForeignMemoryIsCaught(t *testing.T) {
	a := New()
	b, err := a.Alloc(0)
	require.NoError(t, err)
	if invariant.Enabled {
		require.Panics(t, func() { a.Free(make([]byte, 100)) })
		require.Panics(t, func() { a.Free(make([]byte, PageSize)) })
		a.Free(b)
		require.Panics(t, func() { a.Free(b) })
		return
	}
	a.Free(make([]byte, 100))
	require.EqualValues(t, 1, a.Stats().Foreign)
	a.Free(make([]byte, PageSize))
	a.drain()
	require.EqualValues(t, 2, a.Stats().Foreign)
	a.Free(b)
}

func TestSteadyStateAllocatesNothing(t *testing.T) {
	if invariant.Enabled {
		t.Skip("checks keep a table")
	}
	a := New()
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		b, _ := a.Alloc(0)
		c, _ := a.Alloc(4)
		a.Free(b)
		a.Free(c)
	}))
}

func BenchmarkAllocFree(b *testing.B) {
	a := New()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			x, _ := a.Alloc(0)
			a.Free(x)
		}
	})
}

// A fill and a drain, as a cache does it: past the shards all the time.
func BenchmarkFillDrain(b *testing.B) {
	a := New()
	var live [4096][]byte
	for b.Loop() {
		for i := range live {
			live[i], _ = a.Alloc(0)
		}
		for i := range live {
			a.Free(live[i])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/4096, "ns/pair")
}
