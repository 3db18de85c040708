package iomap_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/iomap/iomaptest"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/faulty"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/invariant"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// after is long enough for something that must not happen to have happened.
func after() <-chan time.Time { return time.After(20 * time.Millisecond) }

// A folio half zeroed and half read, the read late: it is not valid before, and is read once.
func TestReadPendingAndZeroed(t *testing.T) {
	for _, spec := range []string{"mapped 2k; unwritten 2k", "unwritten 2k; mapped 2k"} {
		d := newSlow(t, mem.Options{}, nil)
		fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true, Device: d})
		f := fs.File(t, spec, 4096)
		hold := make(chan struct{})
		d.hold = hold
		d.mu.Lock()
		d.seen = nil
		d.mu.Unlock()
		done := make(chan error)
		go func() { _, err := f.Pages.Read(ctx, nil, make([]byte, 4096), 0, 0); done <- err }()
		require.Eventually(t, func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.seen) == 1 }, wait, tick)
		fo := f.Pages.Get(0)
		require.True(t, fo.Locked())
		require.False(t, fo.Uptodate())
		close(hold)
		require.NoError(t, <-done)
		require.True(t, fo.Uptodate())
		fo.Put()
		_, err := read(f, make([]byte, 4096), 0, false)
		require.NoError(t, err)
		require.Len(t, d.seen, 1, "read once")
	}
}

// The file's tail in memory, behind blocks on the device: the blocks are read whole, the tail copied, zeros behind it.
func TestInlineTail(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true})
	require.NoError(t, block.WriteAt(fs.Dev, fill(2048, 4), 2<<20, 0))
	for _, tail := range []int64{1, 700, 1024} {
		f := fs.File(t, "", 2048+tail)
		f.Read = custom(func(pos int64, m, _ *iomap.Mapping) {
			switch {
			case pos < 2048:
				m.Length, m.Type, m.Addr, m.Dev = 2048, iomap.Mapped, 2<<20, fs.Dev
			case pos < 3072:
				m.Offset, m.Length, m.Type, m.InlineData = 2048, 1024, iomap.Inline, fill(1024, 5)
			default:
				m.Offset, m.Length = 3072, 1<<20
			}
		})
		p := make([]byte, 8192)
		n, err := read(f, p, 0, false)
		require.NoError(t, err)
		require.Equal(t, append(fill(2048, 4), fill(int(tail), 5)...), p[:n])
		fo := f.Pages.Get(0)
		require.True(t, fo.Uptodate())
		require.Equal(t, make([]byte, 4096-2048-int(tail)), fo.Data()[2048+tail:])
		fo.Put()
	}
}

// Inline data of more than a page, in a folio as large as the block.
func TestInlineLarge(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 14})
	f := fs.File(t, "inline", 0)
	want := fill(9000, 1)
	want[8999] = 2
	_, err := write(f, want, 0, false)
	require.NoError(t, err)
	locked(f, func() { f.Pages.Truncate(0) })
	p := make([]byte, 16<<10)
	n, err := read(f, p, 0, false)
	require.NoError(t, err)
	require.Equal(t, want, p[:n])
}

// Data that waits in the cache over unwritten space, and over a hole, is zeroed too, and does not come back after writeback.
func TestZeroDirtyUnwritten(t *testing.T) {
	for _, spec := range []string{"unwritten 16k", "hole 16k"} {
		for _, flush := range []bool{false, true} {
			fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true})
			f := fs.File(t, spec, 16<<10)
			_, err := write(f, fill(10000, 7), 1000, false)
			require.NoError(t, err)
			locked(f, func() {
				_, err := iomap.ZeroRange(ctx, f.Inode, 2500, 5000, f.Zero, nil)
				require.NoError(t, err)
			})
			want := make([]byte, 16<<10)
			copy(want[1000:], fill(10000, 7))
			clear(want[2500:7500])
			if flush {
				require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
				f.Pages.DropClean(0, 1<<40)
			}
			p := make([]byte, 16<<10)
			_, err = read(f, p, 0, false)
			require.NoError(t, err)
			require.Equal(t, -1, diff(want, p))
		}
	}
}

func TestZeroPastEnd(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10})
	f := fs.File(t, "mapped 16k", 3000)
	locked(f, func() {
		_, err := iomap.ZeroRange(ctx, f.Inode, 2000, 6000, f.Zero, nil)
		require.NoError(t, err)
	})
	require.Equal(t, int64(3000), f.Size())
}

// What completion may store as the size of the file ends where the file did when its data was taken, though it has grown since.
func TestIoendEndsAtSize(t *testing.T) {
	d := newSlow(t, mem.Options{}, nil)
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, NoLarge: true, Device: d})
	f := fs.File(t, "mapped 16k", 0)
	_, err := write(f, fill(5000, 1), 0, false)
	require.NoError(t, err)
	hold := make(chan struct{})
	d.hold = hold
	ends := make(chan int64, 10)
	f.Writeback.Submit = func(_ *iomap.WritebackContext, io *iomap.Ioend) error {
		io.End = func(io *iomap.Ioend) { ends <- io.Pos + io.Size; io.Finish(io.Err) }
		io.Submit()
		return nil
	}
	require.NoError(t, f.Pages.FlushStart(ctx, 0, 1<<40))
	done := make(chan error)
	go func() { _, err := write(f, fill(3000, 2), 5000, false); done <- err }()
	close(hold)
	require.NoError(t, <-done)
	require.EqualValues(t, 5000, <-ends)
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	require.EqualValues(t, 8000, <-ends)
}

// No ioend has more folios than can be completed in one go.
func TestIoendFolios(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, NoLarge: true, Size: 64 << 20, Cache: 256 << 20})
	f := fs.File(t, "mapped 20m", 20<<20)
	var sizes []int64
	f.Writeback.Submit = func(_ *iomap.WritebackContext, io *iomap.Ioend) error {
		sizes = append(sizes, io.Size)
		io.Submit()
		return nil
	}
	_, err := write(f, make([]byte, 20<<20), 0, false)
	require.NoError(t, err)
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	require.Equal(t, []int64{16 << 20, 4 << 20}, sizes)
}

// Completions that continue each other in the file and on the device are handled once; others are not.
func TestIoendMerge(t *testing.T) {
	d := newSlow(t, mem.Options{}, func(l *block.Limits) { l.MaxBio = 4096 })
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, NoLarge: true, Device: d})
	f := fs.File(t, "mapped 16k", 32<<10)
	f.Writeback.MapBlocks = func(_ context.Context, wc *iomap.WritebackContext, pos, _ int64) error {
		wc.Map = iomap.Mapping{Length: 16 << 10, Type: iomap.Unwritten, Addr: 2 << 20, Dev: d}
		if pos >= 16<<10 {
			wc.Map.Offset, wc.Map.Addr = 16<<10, 3<<20
		}
		return nil
	}
	var q iomap.IoendQueue
	var got [][2]int64
	first := make(chan struct{})
	q.Handle = func(io *iomap.Ioend) error {
		<-first
		got = append(got, [2]int64{io.Pos, io.Size})
		return nil
	}
	f.Writeback.Submit = func(_ *iomap.WritebackContext, io *iomap.Ioend) error {
		io.End = q.Add
		io.Submit()
		return nil
	}
	_, err := write(f, fill(32<<10, 1), 0, false)
	require.NoError(t, err)
	hold := make(chan struct{})
	d.hold = hold
	require.NoError(t, f.Pages.FlushStart(ctx, 0, 1<<40))
	close(hold)
	require.Eventually(t, func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.work) == 0 }, wait, tick)
	<-after() // the last is over too
	close(first)
	q.Wait()
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	var sum int64
	for _, g := range got {
		sum += g[1]
		require.Equal(t, g[0] < 16<<10, g[0]+g[1] <= 16<<10, "over a border of the device")
	}
	require.EqualValues(t, 32<<10, sum)
	require.Less(t, len(got), 5, "eight ioends")
}

// Only blocks that were written are converted, not those between them.
func TestConvertGaps(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10})
	f := fs.File(t, "unwritten 8k", 8192)
	for _, b := range []int64{1, 2, 5, 6} {
		_, err := write(f, fill(1024, 5), b<<10, false)
		require.NoError(t, err)
	}
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	require.Equal(t, []string{"unwritten", "mapped", "mapped", "unwritten", "unwritten", "mapped", "mapped", "unwritten"}, f.Types())
	f.Pages.DropClean(0, 1<<40)
	p := make([]byte, 8192)
	_, err := read(f, p, 0, false)
	require.NoError(t, err)
	require.False(t, poisoned(p))
}

// Two direct writers of the halves of one new block, each zeroing what it does not write: both halves are there.
func TestTwoHalves(t *testing.T) {
	for range 20 {
		fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, Size: 2 << 20})
		f := fs.File(t, "unwritten 4k", 4096)
		done := make(chan error)
		for half := range int64(2) {
			go func() { _, err := write(f, fill(2048, byte(half+1)), half*2048, true); done <- err }()
		}
		require.NoError(t, <-done)
		require.NoError(t, <-done)
		require.Equal(t, append(fill(2048, 1), fill(2048, 2)...), f.Medium(t))
	}
}

// Readers of a file that is appended to directly find the data of all bytes below its end.
func TestDirectAppendReaders(t *testing.T) {
	d := newSlow(t, mem.Options{}, nil)
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, Device: d})
	f := fs.File(t, "", 0)
	stop := make(chan struct{})
	bad := make(chan int64, 1)
	go func() {
		defer close(bad)
		p := make([]byte, 4096)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if size := f.Size(); size > 0 {
				n, _ := f.Pages.Read(ctx, nil, p, size-4096, 0)
				for i := range n {
					if p[i] != 7 {
						bad <- size
						return
					}
				}
			}
		}
	}()
	for pos := int64(0); pos < 1<<20; pos += 4096 {
		_, err := write(f, fill(4096, 7), pos, true)
		require.NoError(t, err)
	}
	close(stop)
	size, found := <-bad
	require.False(t, found, "zeros below the end, at %d", size)
}

// Completions in the wrong order do not move the end of the file back.
func TestCompletionsReordered(t *testing.T) {
	m, err := mem.New(16<<20, mem.Options{})
	require.NoError(t, err)
	fd := faulty.New(m)
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, Device: fd})
	f := fs.File(t, "mapped 16k", 0)
	var gate faulty.Gate
	fd.Add(faulty.Rule{Op: block.OpWrite, Always: true, Hold: &gate})
	done := make(chan error, 2)
	for pos := int64(0); pos < 8192; pos += 4096 {
		k := vfs.Kiocb{Pos: pos, Done: func(_ int, err error) { done <- err }}
		_, err := direct(f, &k, fill(4096, 1), true, f.DirectOps, 0)
		require.ErrorIs(t, err, vfs.ErrQueued)
	}
	require.Equal(t, 2, gate.Held())
	gate.Open(true)
	require.NoError(t, <-done)
	require.NoError(t, <-done)
	f.DirectWait()
	require.Equal(t, int64(8192), f.Size())
}

// FIEMAP copies out with nothing held that the file's own pages need: its buffer may be one of them.
func TestFiemapEmitUsesFile(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	f := fs.File(t, "mapped 4k; hole 4k; mapped 4k", 12<<10)
	n := 0
	info := vfs.FiemapInfo{Len: 1 << 30, Max: 10, Emit: func(vfs.FiemapExtent) error {
		n++
		f.Pages.DropClean(0, 1<<40)
		_, err := f.Pages.Read(ctx, nil, make([]byte, 12<<10), 0, 0)
		require.NoError(t, err)
		return f.Fallocate(4096, 8192)
	}}
	require.NoError(t, iomap.Fiemap(ctx, f.Inode, &info, f.Read))
	require.GreaterOrEqual(t, n, 2)
}

// Positions and addresses beyond 4 GiB and blocks beyond 2³².
func TestFarOffsets(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 9})
	const base = 1<<39 + 1<<33
	f := fs.File(t, "", base+8192)
	ops := custom(func(pos int64, m, _ *iomap.Mapping) {
		if pos < base {
			m.Length = base
			return
		}
		m.Offset, m.Length, m.Type, m.Addr, m.Dev = base, 8192, iomap.Mapped, 2<<20, fs.Dev
	})
	at, err := iomap.Seek(ctx, f.Inode, 12345, vfs.SeekData, ops)
	require.NoError(t, err)
	require.EqualValues(t, int64(base), at)
	blk, err := iomap.Bmap(ctx, f.Inode, base>>9+3, ops)
	require.NoError(t, err)
	require.EqualValues(t, 2<<20>>9+3, blk)
	var got []vfs.FiemapExtent
	info := vfs.FiemapInfo{Len: base + 8192, Max: 10, Emit: func(e vfs.FiemapExtent) error { got = append(got, e); return nil }}
	require.NoError(t, iomap.Fiemap(ctx, f.Inode, &info, ops))
	require.Len(t, got, 1)
	require.EqualValues(t, int64(base), got[0].Logical)
	f.Write, f.Read = ops, ops
	k := vfs.Kiocb{Inode: f.Inode, Pos: base + 1000}
	_, err = iomap.BufferedWrite(ctx, &k, fill(500, 6), ops, nil, nil)
	require.NoError(t, err)
	p := make([]byte, 500)
	_, err = f.Pages.Read(ctx, nil, p, base+1000, 0)
	require.NoError(t, err)
	require.Equal(t, fill(500, 6), p)
	f.Writeback.MapBlocks = func(ctx context.Context, wc *iomap.WritebackContext, pos, n int64) error {
		wc.Map = iomap.Mapping{Addr: iomap.NullAddr}
		return ops.Begin(ctx, wc.Inode, pos, n, 0, &wc.Map, nil)
	}
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<62))
	q := make([]byte, 2048)
	require.NoError(t, block.ReadAt(fs.Dev, q, 2<<20))
	require.Equal(t, fill(500, 6), q[1000:1500])
}

// A large folio over unwritten space, some blocks of which are valid: seeking goes by blocks.
func TestSeekLargeFolio(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10})
	f := fs.File(t, "unwritten 64k", 64<<10)
	_, err := shortWrite(f, 0, 64<<10, 20<<10) // makes a large folio
	require.NoError(t, err)
	_, err = write(f, []byte{1}, 40<<10, false)
	require.NoError(t, err)
	at, err := iomap.Seek(ctx, f.Inode, 20<<10, vfs.SeekData, f.Read)
	require.NoError(t, err)
	require.EqualValues(t, 40<<10, at)
	at, err = iomap.Seek(ctx, f.Inode, 5, vfs.SeekHole, f.Read)
	require.NoError(t, err)
	require.EqualValues(t, 20<<10, at)
	at, err = iomap.Seek(ctx, f.Inode, 40<<10+7, vfs.SeekHole, f.Read)
	require.NoError(t, err)
	require.EqualValues(t, 41<<10, at)
}

// Each folio that was got is put once, with its lock held.
func TestPutFolioLocked(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, NoLarge: true})
	f := fs.File(t, "mapped 16k", 16<<10)
	gets, puts := 0, 0
	hook := &iomap.FolioOps{
		GetFolio: func(ctx context.Context, it *iomap.Iter, pos, n int64) (*pagecache.Folio, error) {
			gets++
			return it.GetFolio(ctx, pos, n)
		},
		PutFolio: func(_ *vfs.Inode, _, _ int64, fo *pagecache.Folio) {
			require.True(t, fo.Locked())
			puts++
			fo.Unlock()
			fo.Put()
		},
		Valid: func(*vfs.Inode, *iomap.Mapping) bool { return gets%3 != 0 },
	}
	begin := f.Write.Begin
	f.Write = &iomap.Ops{Begin: func(ctx context.Context, ip *vfs.Inode, pos, n int64, fl iomap.OpFlags, m, src *iomap.Mapping) error {
		err := begin(ctx, ip, pos, n, fl, m, src)
		m.FolioOps = hook
		return err
	}}
	_, err := write(f, fill(12<<10, 1), 100, false)
	require.NoError(t, err)
	_, err = shortWrite(f, 100, 100, 0)
	require.Error(t, err)
	require.Equal(t, gets, puts)
	require.Greater(t, gets, 4)
}

// A store to a page that was read whole, and so has no state, dirties all of its blocks.
func TestMkwriteWithoutState(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true})
	f := fs.File(t, "mapped 4k", 4096)
	mkwrite(t, f, 0, func(p []byte) { p[3000] = 5 })
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	require.Equal(t, byte(5), f.Medium(t)[3000])
}

// A store to the last page is written once, up to the end of the file's last block.
func TestMkwriteTwice(t *testing.T) {
	d := newSlow(t, mem.Options{}, nil)
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true, Device: d})
	f := fs.File(t, "mapped 4k", 1500)
	mkwrite(t, f, 0, func(p []byte) { p[3] = 5; p[3000] = 9 })
	d.writes()
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	w := d.writes()
	require.Len(t, w, 1)
	require.EqualValues(t, 2048, w[0].Len)
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	require.Empty(t, d.writes())
}

// A sync during writeback of older data waits for it and writes the newer.
func TestFsyncWritesAgain(t *testing.T) {
	d := newSlow(t, mem.Options{}, nil)
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, NoLarge: true, Device: d})
	f := fs.File(t, "mapped 4k", 4096)
	_, err := write(f, fill(4096, 1), 0, false)
	require.NoError(t, err)
	hold := make(chan struct{})
	d.hold = hold
	require.NoError(t, f.Pages.FlushStart(ctx, 0, 1<<40))
	_, err = write(f, fill(4096, 2), 0, false)
	require.NoError(t, err)
	done := make(chan error)
	go func() { done <- f.Pages.WriteAndWait(ctx, 0, 1<<40) }()
	select {
	case <-done:
		t.Fatal("it did not wait")
	case <-after():
	}
	close(hold)
	require.NoError(t, <-done)
	require.Equal(t, fill(4096, 2), f.Medium(t))
}

// State of another layer in a folio is noticed where checks are on.
func TestForeignState(t *testing.T) {
	if !invariant.Enabled {
		t.Skip("checks are off")
	}
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true})
	f := fs.File(t, "mapped 4k", 4096)
	fo, err := f.Pages.ReadFolio(ctx, 0)
	require.NoError(t, err)
	fo.Lock()
	fo.SetPrivate("buffers")
	require.Panics(t, func() { iomap.DirtyFolio(&f.Pages, fo) })
	fo.SetPrivate(nil)
	fo.Unlock()
	fo.Put()
}

func TestVectorFirstByte(t *testing.T) {
	for bits := uint8(9); bits <= 16; bits++ {
		for _, how := range []string{"buffered", "dax"} {
			fs := iomaptest.New(t, iomaptest.Options{BlockBits: bits, Size: 4 << 20})
			f := fs.File(t, "", 0)
			bs := 1 << bits
			put, get := func(p []byte, pos int64) (int, error) { return write(f, p, pos, false) }, func(p []byte) (int, error) { return read(f, p, 0, false) }
			if how == "dax" {
				put, get = func(p []byte, pos int64) (int, error) { return daxWrite(f, p, pos) }, func(p []byte) (int, error) { return daxRead(f, p, 0) }
			}
			_, err := put([]byte{1}, int64(bs/2))
			require.NoError(t, err)
			want := make([]byte, 3*bs)
			want[bs/2] = 1
			p := make([]byte, 3*bs)
			for range 2 {
				n, err := get(p)
				require.NoError(t, err)
				require.Equal(t, -1, diff(want[:bs/2+1], p[:n]))
				require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
				f.Pages.DropClean(0, 1<<40)
			}
			locked(f, func() {
				if how == "dax" {
					_, err = iomap.DaxZeroRange(ctx, f.Inode, f.Size(), int64(3*bs)-f.Size(), f.DaxWrite, &f.Dax)
				} else {
					_, err = iomap.ZeroRange(ctx, f.Inode, f.Size(), int64(3*bs)-f.Size(), f.Zero, nil)
				}
				require.NoError(t, err)
				f.SetSize(int64(3 * bs))
			})
			_, err = get(p)
			require.NoError(t, err)
			require.Equal(t, -1, diff(want, p), "blocks of %d, %s", bs, how)
		}
	}
}

func TestVectorFarByte(t *testing.T) {
	for bits := uint8(9); bits <= 14; bits++ {
		fs := iomaptest.New(t, iomaptest.Options{BlockBits: bits, Size: 4 << 20})
		f := fs.File(t, "", 0)
		pos := int64(10)<<bits + 7
		left := fs.Left()
		_, err := write(f, []byte{1}, pos, false)
		require.NoError(t, err)
		require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
		require.EqualValues(t, 1<<bits, left-fs.Left(), "one block")
		p := make([]byte, pos+1)
		_, err = read(f, p, 0, false)
		require.NoError(t, err)
		require.Equal(t, append(make([]byte, pos), 1), p)
	}
}

func TestVectorZeroUnwritten(t *testing.T) {
	for bits := uint8(9); bits <= 14; bits++ {
		fs := iomaptest.New(t, iomaptest.Options{BlockBits: bits, Size: 4 << 20})
		bs := int64(1) << bits
		f := fs.File(t, "", 0)
		require.NoError(t, f.Fallocate(0, 8*bs))
		f.SetSize(8 * bs)
		_, err := write(f, fill(int(bs/2), 7), 3*bs, false)
		require.NoError(t, err)
		locked(f, func() {
			_, err := iomap.ZeroRange(ctx, f.Inode, 2*bs, 3*bs, f.Zero, nil)
			require.NoError(t, err)
		})
		require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
		f.Pages.DropClean(0, 1<<40)
		p := make([]byte, 8*bs)
		_, err = read(f, p, 0, false)
		require.NoError(t, err)
		require.Equal(t, -1, diff(make([]byte, 8*bs), p))
	}
}
