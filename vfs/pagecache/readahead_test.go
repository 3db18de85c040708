package pagecache

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// reads makes a file of 64 MiB whose runs of readahead are counted.
func reads(t *testing.T, limit int64) *store {
	c := New(Options{Limit: limit})
	f := newStore(c, nil, 64<<20, 0, MaxOrder)
	f.countRuns()
	f.size.Store(64 << 20)
	t.Cleanup(func() {
		f.io.Wait()
		f.Evict()
		c.Close()
	})
	return f
}

func (s *store) readAll(t *testing.T, ra *Readahead, pos, n, piece int64) {
	p := make([]byte, piece)
	for end := pos + n; pos < end; pos += piece {
		m, err := s.Read(context.Background(), ra, p, pos, 0)
		require.NoError(t, err)
		require.Equal(t, int(piece), m)
	}
}

// TestSequential reads in small pieces: the windows grow to their most, and the reader meets what is there.
func TestSequential(t *testing.T) {
	f := reads(t, 1<<30)
	var ra Readahead
	f.readAll(t, &ra, 0, 16<<20, 4096)
	f.io.Wait()
	require.LessOrEqual(t, f.runs.Load(), int64(16+8), "bios for 16 MiB")
	require.Equal(t, int64(1), f.cache.Stats().Misses)
	require.LessOrEqual(t, f.runBytes.Load(), int64(16<<20+2<<20), "bytes read ahead of the reader")
	before := f.runs.Load()
	f.readAll(t, &ra, 40<<20, 4<<20, 4096) // from another place in the middle
	f.io.Wait()
	require.LessOrEqual(t, f.runs.Load()-before, int64(4+9))
}

// TestSequentialByMemory keeps the windows of many readers below what a small cache can hold.
func TestSequentialByMemory(t *testing.T) {
	f := reads(t, 1<<20)
	var ra Readahead
	f.gate = make(chan struct{})
	for i := range int64(16) {
		f.populate(context.Background(), uint64(i)*1024, f.cache.readRoom(), noMark, false, false)
		require.LessOrEqual(t, f.cache.reading.Load(), int64(1<<20/4+16*4*PageSize))
	}
	require.EqualValues(t, 4, f.cache.readRoom(), "a few pages in any case")
	close(f.gate)
	f.io.Wait()
	require.Zero(t, f.cache.reading.Load())
	f.readAll(t, &ra, 32<<20, 4<<20, 4096)
	require.LessOrEqual(t, f.runs.Load(), int64(16+4<<20/(64<<10)))
}

// TestStreams reads four parts of a file in turns through one open file: each is as well read ahead as one alone.
func TestStreams(t *testing.T) {
	f := reads(t, 1<<30)
	var ra Readahead
	p := make([]byte, 4096)
	for off := int64(0); off < 4<<20; off += 4096 {
		for s := range int64(4) {
			_, err := f.Read(context.Background(), &ra, p, s<<24+off, 0)
			require.NoError(t, err)
		}
	}
	f.io.Wait()
	require.LessOrEqual(t, f.runs.Load(), int64(4*(4+8)), "bios")
	require.LessOrEqual(t, f.cache.Stats().Misses, int64(4*3))

	// Reads at random between them do not disturb.
	r := rand.New(rand.NewPCG(1, 1))
	before := f.cache.Stats().Misses
	randoms := int64(0)
	for off := int64(4 << 20); off < 6<<20; off += 4096 {
		for s := range int64(4) {
			_, err := f.Read(context.Background(), &ra, p, s<<24+off, 0)
			require.NoError(t, err)
		}
		if off%(64<<10) == 0 {
			_, err := f.Read(context.Background(), &ra, p, (r.Int64N(512)*2+1)<<12+8<<20, 0)
			require.NoError(t, err)
			randoms++
		}
	}
	require.LessOrEqual(t, f.cache.Stats().Misses-before, randoms+4)
}

// TestStrided reads 8 KiB of each 100 KiB: after the third the next ones are there before they are asked for.
func TestStrided(t *testing.T) {
	for _, stride := range []int64{100 << 10, -(100 << 10)} {
		f := reads(t, 1<<30)
		var ra Readahead
		p := make([]byte, 8192)
		pos := int64(32 << 20)
		for range 100 {
			_, err := f.Read(context.Background(), &ra, p, pos, 0)
			require.NoError(t, err)
			pos += stride
		}
		f.io.Wait()
		require.LessOrEqual(t, f.cache.Stats().Misses, int64(4))
		require.LessOrEqual(t, f.runs.Load(), int64(110))
		require.LessOrEqual(t, f.runBytes.Load(), int64(110*3*PageSize), "nothing between the pieces is read")
	}
}

// TestRandom reads what is asked and nothing else.
func TestRandom(t *testing.T) {
	f := reads(t, 1<<30)
	var ra Readahead
	r := rand.New(rand.NewPCG(1, 1))
	p := make([]byte, 4096)
	for range 200 {
		_, err := f.Read(context.Background(), &ra, p, r.Int64N(4000)*4*4096+8192, 0)
		require.NoError(t, err)
	}
	f.io.Wait()
	require.LessOrEqual(t, f.runBytes.Load(), int64(220*PageSize))
}

// TestForeignMarker reads through two open files, one after the other: the second meets the markers of the first.
func TestForeignMarker(t *testing.T) {
	f := reads(t, 1<<30)
	var a, b Readahead
	f.readAll(t, &a, 0, 1<<20, 4096)
	f.io.Wait()
	f.readAll(t, &b, 0, 8<<20, 4096)
	f.io.Wait()
	require.LessOrEqual(t, f.runs.Load(), int64(8+16))
	require.Equal(t, int64(1), f.cache.Stats().Misses, "the first")
}

// TestReadersWithoutState leave the marker to those who have it.
func TestReadersWithoutState(t *testing.T) {
	f := reads(t, 1<<30)
	var ra Readahead
	p := make([]byte, 4096)
	for pos := int64(0); pos < 4<<20; pos += 4096 {
		_, err := f.Read(context.Background(), &ra, p, pos, 0)
		require.NoError(t, err)
		fo := f.Get(uint64(pos+64<<10) >> PageShift)
		if fo != nil {
			_, err = f.Read(context.Background(), nil, p, pos+64<<10, 0)
			require.NoError(t, err)
			fo.Put()
		}
	}
	require.Equal(t, int64(1), f.cache.Stats().Misses)
}
