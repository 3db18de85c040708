package bufhead_test

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/faulty"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// fill stores a pattern on the device behind the layer's back, and gives what the file then holds.
func (f *file) fill(t testing.TB) []byte {
	t.Helper()
	bs := 1 << f.fs.o.bits
	want := pattern(int(f.Size())+bs, 3)[:(int(f.Size())+bs-1)/bs*bs]
	for i := range f.slots {
		if (i+1)*bs > len(want) {
			break
		}
		if s := f.slots[i]; s.kind == mapped {
			require.NoError(t, block.WriteAt(f.fs.dev, want[i*bs:(i+1)*bs], int64(s.at)<<f.fs.o.bits, 0))
		} else {
			clear(want[i*bs : (i+1)*bs])
		}
	}
	return want[:f.Size()]
}

// folio gives the folio over byte pos, locked; buffers its buffers.
func (f *file) folio(t testing.TB, pos int64) (fo *pagecache.Folio, done func()) {
	t.Helper()
	fo = f.Pages.GetLocked(uint64(pos) >> pagecache.PageShift)
	require.NotNil(t, fo)
	done = sync.OnceFunc(func() { fo.Unlock(); fo.Put() })
	t.Cleanup(done) // also when the test fails
	return fo, done
}

// bios counts those that f sends.
func bios(f func()) int64 {
	before := bufhead.ReadStats().Bios
	f()
	return bufhead.ReadStats().Bios - before
}

// What reading costs: one bio for what lies together over folios, one for each buffer where a folio is torn; a call of get_block for
// each run. A folio that is read in one piece gets no buffers.
func TestReadCost(t *testing.T) {
	for _, c := range []struct {
		name, spec  string
		swap        [2]int // blocks that change places
		bios, calls int
		buffers     int // of the first folio
	}{
		{"together", "mapped 32k", [2]int{}, 1, 1, 0},
		{"a hole behind", "mapped 14k; hole 18k", [2]int{}, 1, 2, 0},
		{"all hole", "hole 32k", [2]int{}, 0, 1, 0},
		{"a boundary", "boundary 8k; mapped 24k", [2]int{}, 2, 2, 0},
		{"torn", "mapped 32k", [2]int{1, 2}, 4 + 1, 3 + 3 + 1, 4}, // asked by runs, then for each buffer, then for the rest
		{"data behind a hole", "hole 1k; mapped 31k", [2]int{}, 3 + 1, 2 + 4, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := newFS(t, options{bits: 10})
			f := fs.file(t, c.spec, 32<<10)
			f.slots[c.swap[0]].at, f.slots[c.swap[1]].at = f.slots[c.swap[1]].at, f.slots[c.swap[0]].at
			want := f.fill(t)
			ra := new(pagecache.Readahead)
			got := make([]byte, 32<<10)
			require.Equal(t, int64(c.bios), bios(func() {
				_, err := f.Pages.Read(ctx, ra, got, 0, 0)
				require.NoError(t, err)
			}))
			require.True(t, bytes.Equal(want, got))
			require.LessOrEqual(t, len(f.asked()), c.calls)
			fo, done := f.folio(t, 0)
			require.Len(t, bufhead.BuffersOf(fo), c.buffers)
			done()
		})
	}
}

// The end of the file: what the device holds behind it is not seen, not even by who looks at the folio.
func TestReadTail(t *testing.T) {
	for _, size := range []int64{1, 1023, 1024, 1025, 4095, 4096, 5000} {
		for _, torn := range []bool{false, true} {
			fs := newFS(t, options{bits: 10})
			f := fs.file(t, "mapped 8k", 8<<10)
			if torn {
				f.slots[0], f.slots[1] = f.slots[1], f.slots[0]
			}
			want := f.fill(t)[:size]
			f.SetSize(size)
			require.True(t, bytes.Equal(want, f.read(t, 0, 1<<20)))
			fo, done := f.folio(t, (size-1)&^4095)
			last := fo.Data()[:]
			tail := int(size - fo.Pos())
			require.Equal(t, make([]byte, len(last)-tail), last[tail:], "size %d torn %v", size, torn)
			done()
		}
	}
}

// A device error: the folio is not valid, what could be read of it is, and the next reader reads only the rest.
func TestReadError(t *testing.T) {
	fs, dev := faultyFS(t, options{bits: 10})
	f := fs.file(t, "mapped 4k", 4096)
	f.slots[0], f.slots[1] = f.slots[1], f.slots[0]
	want := f.fill(t)
	at := int64(f.slots[2].at) << 10
	dev.Add(faulty.Rule{Op: block.OpRead, Start: at, End: at + 1, Err: errno.IO, Always: true})
	_, err := f.Pages.Read(ctx, nil, make([]byte, 4096), 0, 0)
	require.ErrorIs(t, err, errno.IO)
	n, err := f.Pages.Read(ctx, nil, make([]byte, 1500), 0, 0)
	require.NoError(t, err, "the part that is valid")
	require.Equal(t, 1500, n)
	dev.Clear()
	require.Equal(t, int64(1), bios(func() { require.True(t, bytes.Equal(want, f.read(t, 0, 4096))) }))

	// get_block's error leaves zeros that are not valid.
	g := fs.file(t, "mapped 4k", 4096)
	want = g.fill(t)
	g.fail = func(c call) error {
		if c.iblock == 1 || c.iblock == 0 && c.size > 1024 {
			return errno.UCLEAN
		}
		return nil
	}
	_, err = g.Pages.Read(ctx, nil, make([]byte, 4096), 0, 0)
	require.ErrorIs(t, err, errno.UCLEAN)
	g.fail = nil
	require.Equal(t, int64(1), bios(func() { require.True(t, bytes.Equal(want, g.read(t, 0, 4096))) }))
}

// A folio read in parts is unlocked by the last of them, whatever their order.
func TestReadParts(t *testing.T) {
	for _, reverse := range []bool{false, true} {
		fs, dev := faultyFS(t, options{bits: 10})
		f := fs.file(t, "mapped 4k", 4096)
		f.slots[0], f.slots[3] = f.slots[3], f.slots[0]
		want := f.fill(t)
		gate, last := new(faulty.Gate), new(faulty.Gate)
		t.Cleanup(func() { gate.Open(false); last.Open(false) })
		at := int64(f.slots[1].at) << 10
		dev.Add(faulty.Rule{Op: block.OpRead, Start: at, End: at + 1, Always: true, Hold: last})
		dev.Add(faulty.Rule{Op: block.OpRead, Always: true, Hold: gate})
		got := make(chan []byte)
		go func() { got <- f.read(t, 0, 4096) }()
		for gate.Held() < 3 || last.Held() < 1 {
			<-after(1)
		}
		gate.Open(reverse)
		fo := f.Pages.Get(0)
		require.True(t, fo.Locked())
		require.False(t, fo.Uptodate())
		select {
		case <-got:
			t.Fatal("read before all parts were there")
		case <-after(10):
		}
		last.Open(false)
		require.True(t, bytes.Equal(want, <-got))
		fo.Put()
	}
}

// get_block may fill a block by itself; what is delayed or unwritten is not read, also if it is answered mapped.
func TestReadAnswers(t *testing.T) {
	fs := newFS(t, options{bits: 10})
	f := fs.file(t, "mapped 4k", 4096)
	want := f.fill(t)
	gb := func(ctx context.Context, ip *vfs.Inode, i uint64, bh *bufhead.BufferHead, create bool) error {
		err := f.getBlock(ctx, ip, i, bh, create)
		switch bh.Size = 1024; i {
		case 1:
			if bh.Data != nil {
				copy(bh.Data, bytes.Repeat([]byte{'g'}, 1024))
			}
			bh.Set(bufhead.Uptodate)
		case 2:
			bh.Set(bufhead.Unwritten)
		case 3:
			bh.Set(bufhead.Delay)
			bh.Dev = nil
		}
		return err
	}
	copy(want[1024:], bytes.Repeat([]byte{'g'}, 1024))
	clear(want[2048:])
	fo, err := f.Pages.Grab(ctx, 0, 0)
	require.NoError(t, err)
	require.NoError(t, bufhead.ReadFolio(ctx, fo, gb))
	fo.Put()
	require.Equal(t, want, f.read(t, 0, 4096))
}

// A part of a folio is valid when all buffers under it are.
func TestIsPartiallyUptodate(t *testing.T) {
	fs := newFS(t, options{bits: 10})
	f := fs.file(t, "mapped 4k", 4096)
	_, err := f.write(pattern(2048, 1), 1024)
	require.NoError(t, err)
	fo, done := f.folio(t, 0)
	defer done()
	for _, c := range []struct {
		from, n int
		ok      bool
	}{{1024, 2048, true}, {1024, 1, true}, {2047, 2, true}, {3071, 1, true}, {1023, 1, false}, {1023, 2, false}, {3071, 2, false}, {0, 4096, false}} {
		require.Equal(t, c.ok, bufhead.IsPartiallyUptodate(fo, c.from, c.n), "%v", c)
	}
}
