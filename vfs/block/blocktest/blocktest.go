package blocktest

import (
	"bytes"
	"math"
	"math/bits"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Config says what to test.
type Config struct {
	// Open makes a fresh device of at least 1 MiB that reads as zeros, or as whatever it likes when Dirty is set. It is closed by
	// the test.
	Open func(t *testing.T) block.Device
	// Dirty says that a fresh device may hold anything.
	Dirty bool
	// Steps of the random test; default 600.
	Steps int
}

// Run runs everything on fresh devices.
func Run(t *testing.T, c Config) {
	if c.Steps == 0 {
		c.Steps = 600
	}
	seed := rand.Uint64()
	if s := os.Getenv("BLOCKTEST_SEED"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
		seed = v
	}
	for _, sub := range []struct {
		name string
		run  func(t *testing.T, c *Config, seed uint64)
	}{
		{"Limits", testLimits},
		{"Refusals", testRefusals},
		{"Random", testRandom},
		{"Queue", testQueue},
		{"Stripes", testStripes},
		{"Chain", testChain},
		{"Close", testClose},
		{"Mapping", testMapping},
		{"Backing", testBacking},
	} {
		t.Run(sub.name, func(t *testing.T) {
			t.Logf("BLOCKTEST_SEED=%d", seed)
			sub.run(t, &c, seed)
		})
	}
}

// open makes a device that is closed at the end.
func (c *Config) open(t *testing.T) block.Device {
	d := c.Open(t)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

func testLimits(t *testing.T, c *Config, _ uint64) {
	d := c.open(t)
	lim := d.Limits()
	require.Equal(t, 1, bits.OnesCount32(lim.LogicalBlock), "logical block %d", lim.LogicalBlock)
	require.Equal(t, 1, bits.OnesCount32(lim.PhysicalBlock), "physical block %d", lim.PhysicalBlock)
	require.GreaterOrEqual(t, lim.PhysicalBlock, lim.LogicalBlock)
	require.LessOrEqual(t, bits.OnesCount32(lim.DiscardGrain), 1, "discard grain %d", lim.DiscardGrain)
	require.Zero(t, d.Size()%int64(lim.LogicalBlock))
	require.GreaterOrEqual(t, d.Size(), int64(1<<20))
	require.NotEmpty(t, d.Name())
	_, mapper := d.(block.Mapper)
	if lim.DirectMemory {
		require.True(t, mapper, "DirectMemory without Mapper")
	}
	if !c.Dirty {
		p := bytes.Repeat([]byte{0xa5}, 1<<20)
		require.NoError(t, block.ReadAt(d, p, 0))
		require.True(t, allZero(p), "a fresh device reads as zeros")
	}
}

func testRefusals(t *testing.T, c *Config, _ uint64) {
	d := c.open(t)
	lbs := int64(d.Limits().LogicalBlock)
	one := make([]byte, lbs)
	for _, x := range []struct {
		name string
		bio  block.Bio
		want errno.Errno
	}{
		{"read at the end", block.Bio{Op: block.OpRead, Off: d.Size(), Vecs: [][]byte{one}}, errno.IO},
		{"read across the end", block.Bio{Op: block.OpRead, Off: d.Size() - lbs, Vecs: [][]byte{one, one}}, errno.IO},
		{"write across the end", block.Bio{Op: block.OpWrite, Off: d.Size() - lbs, Vecs: [][]byte{one, one}}, errno.IO},
		{"negative offset", block.Bio{Op: block.OpRead, Off: -lbs, Vecs: [][]byte{one}}, errno.IO},
		{"offset that overflows", block.Bio{Op: block.OpWriteZeroes, Off: lbs, Len: math.MaxInt64 &^ (lbs - 1)}, errno.IO},
		{"negative length", block.Bio{Op: block.OpDiscard, Off: 0, Len: -lbs}, errno.IO},
		{"far away", block.Bio{Op: block.OpWrite, Off: math.MaxInt64 &^ (lbs - 1), Vecs: [][]byte{one}}, errno.IO},
	} {
		if d.Limits().ReadOnly && x.bio.Op != block.OpRead {
			x.want = errno.ROFS
		}
		err := once(t, d, &x.bio)
		require.ErrorIs(t, err, x.want, x.name)
		require.Contains(t, err.Error(), d.Name(), "the error names the device")
		y := x.bio
		y.Done, y.Err = nil, nil
		require.ErrorIs(t, block.SubmitWait(d, &y), x.want, x.name)
	}
	if lbs > 1 {
		err := once(t, d, &block.Bio{Op: block.OpRead, Off: 1, Vecs: [][]byte{one}})
		require.ErrorIs(t, err, errno.INVAL)
		err = once(t, d, &block.Bio{Op: block.OpRead, Off: 0, Vecs: [][]byte{one[:lbs-1]}})
		require.ErrorIs(t, err, errno.INVAL)
	}
	for _, op := range []block.Op{block.OpRead, block.OpWrite, block.OpWriteZeroes, block.OpFlush} {
		if d.Limits().ReadOnly && op != block.OpRead && op != block.OpFlush {
			continue
		}
		require.NoError(t, once(t, d, &block.Bio{Op: op, Off: 0}), "an empty %s", op)
	}
	if d.Limits().ReadOnly {
		require.ErrorIs(t, block.WriteAt(d, one, 0, 0), errno.ROFS)
		require.ErrorIs(t, block.WriteZeroes(d, 0, lbs), errno.ROFS)
	}
	if d.Limits().DiscardGrain == 0 {
		require.Error(t, block.Discard(d, 0, lbs))
	}
}

// once submits a bio, demands one completion and gives its error.
func once(t *testing.T, d block.Device, b *block.Bio) error {
	t.Helper()
	done := make(chan error, 4)
	b.Done = func(x *block.Bio) { done <- x.Err }
	d.Submit(b)
	err := <-done
	require.Empty(t, done, "%s completed twice", b.Op)
	return err
}

// vecs cuts n bytes into random pieces, each a multiple of lbs, at addresses with no alignment at all.
func vecs(rng *rand.Rand, n, lbs int64) [][]byte {
	var out [][]byte
	for n > 0 {
		step := n
		if rng.IntN(2) == 0 {
			step = min(n, (1+rng.Int64N(8))*lbs)
		}
		skew := rng.IntN(2) * rng.IntN(513)
		out = append(out, make([]byte, step+int64(skew))[skew:])
		n -= step
	}
	return out
}

func join(v [][]byte) []byte { return bytes.Join(v, nil) }

func fill(rng *rand.Rand, v [][]byte) {
	for _, p := range v {
		x := rng.Uint64() | 1
		for i := range p {
			p[i] = byte(x >> (i % 8 * 8))
			if i%8 == 7 {
				x = x*6364136223846793005 + 1442695040888963407
			}
		}
	}
}

func allZero(p []byte) bool {
	for _, c := range p {
		if c != 0 {
			return false
		}
	}
	return true
}

// span gives a random aligned range inside [lo, hi), short more often than long.
func span(rng *rand.Rand, lo, hi, lbs int64) (off, n int64) {
	blocks := (hi - lo) / lbs
	n = 1 + rng.Int64N(min(blocks, 1+rng.Int64N(min(blocks, 300))))
	off = rng.Int64N(blocks - n + 1)
	return lo + off*lbs, n * lbs
}
