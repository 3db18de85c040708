package blocktest

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// testRandom runs one bio after another, by Submit or by the helpers, against a model.
func testRandom(t *testing.T, c *Config, seed uint64) {
	d := c.open(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	lbs := int64(d.Limits().LogicalBlock)
	model := make([]byte, d.Size())
	require.NoError(t, block.ReadAt(d, model, 0))
	for step := range c.Steps {
		off, n := span(rng, 0, d.Size(), lbs)
		if rng.IntN(20) == 0 {
			off = d.Size() - n // the last block matters
		}
		op := pickOp(rng, d)
		b := &block.Bio{Op: op, Off: off, Flags: pickFlags(rng, op)}
		switch op {
		case block.OpRead:
			b.Vecs = vecs(rng, n, lbs)
			fill(rng, b.Vecs)
		case block.OpWrite:
			b.Vecs = vecs(rng, n, lbs)
			fill(rng, b.Vecs)
			copy(model[off:], join(b.Vecs))
		case block.OpDiscard, block.OpWriteZeroes:
			b.Len = n
			clear(model[off : off+n])
		}
		var err error
		if rng.IntN(2) == 0 {
			err = once(t, d, b)
		} else {
			err = block.SubmitWait(d, b)
		}
		require.NoError(t, err, "step %d", step)
		switch op {
		case block.OpRead:
			require.True(t, string(model[off:off+n]) == string(join(b.Vecs)), "step %d: read of %d at %d differs", step, n, off)
		case block.OpDiscard:
			require.NoError(t, block.ReadAt(d, model[off:off+n], off), "what a discarded range holds is the device's choice")
		}
	}
	got := make([]byte, d.Size())
	require.NoError(t, block.ReadAt(d, got, 0))
	require.True(t, string(model) == string(got), "the device differs from the model at the end")
}

func pickOp(rng *rand.Rand, d block.Device) block.Op {
	if d.Limits().ReadOnly {
		return block.OpRead
	}
	for {
		op := [...]block.Op{
			block.OpRead, block.OpRead, block.OpRead, block.OpWrite, block.OpWrite, block.OpWrite, block.OpWrite,
			block.OpFlush, block.OpDiscard, block.OpWriteZeroes,
		}[rng.IntN(10)]
		if op == block.OpFlush && rng.IntN(4) != 0 || op == block.OpDiscard && d.Limits().DiscardGrain == 0 {
			continue
		}
		return op
	}
}

func pickFlags(rng *rand.Rand, op block.Op) (f block.Flags) {
	if rng.IntN(2) == 0 {
		f |= block.Sync
	}
	if rng.IntN(4) == 0 {
		f |= block.Meta
	}
	if op == block.OpWrite && rng.IntN(25) == 0 {
		f |= block.FUA
	}
	if op == block.OpWrite && rng.IntN(25) == 0 {
		f |= block.PreFlush
	}
	if op == block.OpWriteZeroes && rng.IntN(2) == 0 {
		f |= block.NoUnmap
	}
	if op == block.OpRead && rng.IntN(8) == 0 {
		f |= block.Polled
	}
	return f
}

// testQueue has many neighbouring bios in flight at once, so that devices which merge them do.
func testQueue(t *testing.T, c *Config, seed uint64) {
	d := c.open(t)
	rng := rand.New(rand.NewPCG(seed, 2))
	lbs := int64(d.Limits().LogicalBlock)
	model := make([]byte, d.Size())
	require.NoError(t, block.ReadAt(d, model, 0))
	for round := range 12 {
		writing := !d.Limits().ReadOnly && round%2 == 0
		var bios []*block.Bio
		start := rng.Int64N(d.Size()/lbs/2) * lbs
		for off := start; off < d.Size() && len(bios) < 200; {
			n := min(d.Size()-off, (1+rng.Int64N(8))*lbs)
			b := &block.Bio{Op: block.OpRead, Off: off, Vecs: vecs(rng, n, lbs)}
			if writing {
				b.Op = block.OpWrite
				fill(rng, b.Vecs)
				copy(model[off:], join(b.Vecs))
			} else if rng.IntN(4) == 0 {
				b.Flags |= [...]block.Flags{block.NoWait, block.ReadAhead}[rng.IntN(2)]
			}
			bios = append(bios, b)
			off += n
			if rng.IntN(10) == 0 {
				off += rng.Int64N(4) * lbs
			}
		}
		if round%3 == 2 {
			rng.Shuffle(len(bios), func(i, j int) { bios[i], bios[j] = bios[j], bios[i] })
		}
		runAll(t, d, bios)
		for _, b := range bios {
			n := b.Bytes()
			if b.Err != nil && b.Flags&(block.NoWait|block.ReadAhead) != 0 {
				require.ErrorIs(t, b.Err, errno.AGAIN)
				continue
			}
			require.NoError(t, b.Err)
			require.True(t, string(model[b.Off:b.Off+n]) == string(join(b.Vecs)), "%s of %d at %d differs", b.Op, n, b.Off)
		}
	}
	got := make([]byte, d.Size())
	require.NoError(t, block.ReadAt(d, got, 0))
	require.True(t, string(model) == string(got))
}

// runAll submits all and waits for all; each must complete once.
func runAll(t *testing.T, d block.Device, bios []*block.Bio) {
	t.Helper()
	counts := make([]atomic.Int32, len(bios))
	var wg sync.WaitGroup
	for i, b := range bios {
		wg.Add(1)
		b.Done = func(*block.Bio) {
			if counts[i].Add(1) == 1 {
				wg.Done()
			}
		}
	}
	for _, b := range bios {
		d.Submit(b)
	}
	wg.Wait()
	for i := range counts {
		require.EqualValues(t, 1, counts[i].Load(), "completions of bio %d", i)
	}
}

// testStripes has goroutines at work on interleaved stripes with several bios in flight each: what one does must not be seen in
// the stripes of another, however close they lie.
func testStripes(t *testing.T, c *Config, seed uint64) {
	d := c.open(t)
	if d.Limits().ReadOnly {
		t.Skip("read-only")
	}
	lbs := int64(d.Limits().LogicalBlock)
	const workers = 6
	width := 4 * lbs
	stripes := min(d.Size()/(width*workers), 64)
	var wg sync.WaitGroup
	for w := range int64(workers) {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 100+uint64(w)))
			at := func(i int64) int64 { return (i*workers + w) * width }
			mine := make([][]byte, stripes)
			for i := range mine {
				mine[i] = make([]byte, width)
				if err := block.WriteAt(d, mine[i], at(int64(i)), 0); err != nil {
					t.Errorf("worker %d: %v", w, err)
					return
				}
			}
			for range c.Steps / 12 {
				bios, pick := stripeBios(rng, d, stripes, lbs, at, mine)
				var bg sync.WaitGroup
				bg.Add(len(bios))
				for _, b := range bios {
					b.Done = func(*block.Bio) { bg.Done() }
				}
				for _, b := range bios {
					d.Submit(b)
				}
				bg.Wait()
				for k, b := range bios {
					i := pick[k]
					in := b.Off - at(i)
					if b.Err != nil {
						t.Errorf("worker %d: %v", w, b.Err)
						return
					}
					if b.Op == block.OpRead && string(join(b.Vecs)) != string(mine[i][in:in+b.Bytes()]) {
						t.Errorf("worker %d: stripe %d at %d changed under it", w, i, at(i))
						return
					}
					if b.Op == block.OpDiscard {
						if err := block.ReadAt(d, mine[i][in:in+b.Len], b.Off); err != nil {
							t.Errorf("worker %d: %v", w, err)
							return
						}
					}
				}
			}
			for i := range mine {
				got := make([]byte, width)
				if err := block.ReadAt(d, got, at(int64(i))); err != nil || string(got) != string(mine[i]) {
					t.Errorf("worker %d: stripe %d differs at the end: %v", w, i, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// stripeBios makes a batch of bios on different stripes and changes the model with them.
func stripeBios(rng *rand.Rand, d block.Device, stripes, lbs int64, at func(int64) int64, mine [][]byte) ([]*block.Bio, []int64) {
	var bios []*block.Bio
	var pick []int64
	used := map[int64]bool{}
	for range 1 + rng.IntN(8) {
		i := rng.Int64N(stripes)
		if used[i] {
			continue
		}
		used[i] = true
		off, n := span(rng, at(i), at(i)+int64(len(mine[i])), lbs)
		in := off - at(i)
		b := &block.Bio{Op: pickOp(rng, d), Off: off}
		switch b.Op {
		case block.OpRead:
			b.Vecs = vecs(rng, n, lbs)
		case block.OpWrite:
			b.Vecs = vecs(rng, n, lbs)
			fill(rng, b.Vecs)
			copy(mine[i][in:], join(b.Vecs))
			b.Flags = pickFlags(rng, b.Op)
		case block.OpDiscard, block.OpWriteZeroes:
			b.Len = n
			clear(mine[i][in : in+n])
		}
		bios, pick = append(bios, b), append(pick, i)
	}
	return bios, pick
}
