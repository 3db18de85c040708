package iomap_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/iomap/iomaptest"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// writes gives what a slow device was asked to write since the last call.
func (d *slow) writes() (list []block.Bio) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.seen {
		if b.Op == block.OpWrite {
			list = append(list, b)
		}
	}
	d.seen = nil
	return list
}

// What is written through is on the device and in the cache when it returns, with the blocks it touched and no others; what else was dirty
// of their folio still is.
func TestWriteThrough(t *testing.T) {
	d := newSlow(t, mem.Options{VolatileCache: true, FUA: true}, nil)
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true, Device: d})
	f := fs.File(t, "mapped 8k; unwritten 4k", 12<<10)
	_, err := write(f, []byte{5}, 100, false)
	require.NoError(t, err)
	d.writes()
	k := vfs.Kiocb{Pos: 2048 + 10, DSync: true}
	n, err := writeThrough(f, &k, fill(1000, 7))
	require.NoError(t, err)
	require.Equal(t, 1000, n)
	require.Equal(t, int64(3058), k.Pos)
	require.True(t, k.Synced)
	w := d.writes()
	require.Len(t, w, 1)
	require.Equal(t, int64(1024), w[0].Len)
	require.NotZero(t, w[0].Flags&block.FUA)
	m := f.Medium(t)
	require.Equal(t, fill(1000, 7), m[2058:3058])
	require.Zero(t, m[100], "not its business")
	require.True(t, f.Pages.IsDirty())
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	require.Equal(t, byte(5), f.Medium(t)[100])
	w = d.writes()
	require.Len(t, w, 1)
	require.Equal(t, int64(1024), w[0].Len, "the block that was dirty before, and no other")
	p := make([]byte, 1000)
	_, err = read(f, p, 2058, false)
	require.NoError(t, err)
	require.Equal(t, fill(1000, 7), p)

	// Into unwritten space: converted when the data is there, and not durable before a sync.
	k = vfs.Kiocb{Pos: 8192, DSync: true}
	_, err = writeThrough(f, &k, fill(2048, 9))
	require.NoError(t, err)
	require.False(t, k.Synced)
	require.Equal(t, []string{"mapped", "mapped", "unwritten", "unwritten"}, f.Types()[8:])
	require.Equal(t, fill(2048, 9), f.Medium(t)[8192:10240])
}

// The end of the file moves once, when everything is on the device.
func TestWriteThroughSize(t *testing.T) {
	d := newSlow(t, mem.Options{}, func(l *block.Limits) { l.MaxBio = 4096 })
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, Device: d})
	f := fs.File(t, "mapped 64k", 100)
	var sizes []int64
	do := &iomap.DirectOps{EndIO: func(ctx context.Context, k *vfs.Kiocb, size int64, err error, r iomap.DirectResult) error {
		require.Equal(t, int64(100), f.Size())
		sizes = append(sizes, size)
		require.Equal(t, fill(40000, 3), all(t, f)[100:40100], "on the device before")
		return f.DirectOps.EndIO(ctx, k, size, err, r)
	}}
	f.Rw.Lock()
	k := vfs.Kiocb{Inode: f.Inode, Pos: 100, Done: func(int, error) { t.Error("a write that moves the end is not queued") }}
	n, err := iomap.WriteThrough(ctx, &k, fill(40000, 3), f.Direct, nil, do, nil)
	f.Rw.Unlock()
	require.NoError(t, err)
	require.Equal(t, 40000, n)
	require.Equal(t, []int64{40000}, sizes)
	require.Equal(t, int64(40100), f.Size())
	require.Greater(t, len(d.writes()), 8)
	require.Equal(t, make([]byte, 40960-40100), all(t, f)[40100:40960], "the rest of the last block")
}

// Asynchronous, it is queued, and truncation waits for it; a failure is told to the writer and to who syncs.
func TestWriteThroughAsync(t *testing.T) {
	d := newSlow(t, mem.Options{}, nil)
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, Device: d})
	f := fs.File(t, "mapped 64k", 64<<10)
	file, err := f.Open(ctx, vfs.ORdwr)
	require.NoError(t, err)
	defer file.Close()
	_, err = read(f, make([]byte, 64<<10), 0, false)
	require.NoError(t, err)
	hold := make(chan struct{})
	d.hold = hold
	done := make(chan error, 1)
	k := vfs.Kiocb{Pos: 1000, Done: func(n int, err error) { require.Equal(t, 5000, n); done <- err }}
	_, err = writeThroughOnly(f, &k, fill(5000, 4))
	require.ErrorIs(t, err, vfs.ErrQueued)
	require.Empty(t, done)
	close(hold)
	require.NoError(t, <-done)
	f.DirectWait()
	require.Equal(t, fill(5000, 4), f.Medium(t)[1000:6000])
	d.fail = func(b *block.Bio) error {
		if b.Op == block.OpWrite {
			return errno.IO
		}
		return nil
	}
	_, err = writeThroughOnly(f, &vfs.Kiocb{}, fill(100, 1))
	require.ErrorIs(t, err, errno.IO)
	d.fail = nil
	require.ErrorIs(t, file.Fsync(ctx, false), errno.IO)
	require.NoError(t, file.Fsync(ctx, false))
	_, err = iomap.WriteThrough(ctx, &vfs.Kiocb{Inode: f.Inode}, []byte{1}, custom(func(_ int64, m, _ *iomap.Mapping) {
		m.Length, m.Type = 4096, iomap.Delalloc
	}), nil, nil, nil)
	require.ErrorContains(t, err, "delalloc")
}

const (
	wait = 20 * time.Second
	tick = time.Millisecond
)

// all gives what the device holds of the file's blocks, also behind its end.
func all(t *testing.T, f *iomaptest.File) []byte {
	size := f.Size()
	f.SetSize(64 << 10)
	defer f.SetSize(size)
	return f.Medium(t)
}

func writeThroughOnly(f *iomaptest.File, k *vfs.Kiocb, p []byte) (int, error) {
	f.Rw.Lock()
	defer f.Rw.Unlock()
	k.Inode = f.Inode
	return iomap.WriteThrough(ctx, k, p, f.Direct, nil, f.DirectOps, nil)
}

// Untorn by the device: one bio, marked so, as long as the device promises; everything else is refused.
func TestAtomicDevice(t *testing.T) {
	d := newSlow(t, mem.Options{AtomicMax: 16 << 10}, nil)
	fs := iomaptest.New(t, iomaptest.Options{Device: d})
	f := fs.File(t, "mapped 64k", 64<<10)
	flags := iomap.FlagAtomicBio
	f.Direct = custom(func(pos int64, m, _ *iomap.Mapping) {
		m.Offset, m.Length, m.Type, m.Flags, m.Addr, m.Dev = 0, 64<<10, iomap.Mapped, flags, 1<<20, d
		if pos >= 48<<10 {
			m.Offset, m.Length, m.Addr = 48<<10, 4096, 2<<20
		}
	})
	try := func(pos int64, n int) error {
		d.writes()
		_, err := direct(f, &vfs.Kiocb{Pos: pos}, fill(n, 1), true, nil, iomap.DirectAtomic)
		return err
	}
	require.NoError(t, try(16<<10, 16<<10))
	w := d.writes()
	require.Len(t, w, 1)
	require.NotZero(t, w[0].Flags&block.Atomic)
	require.ErrorIs(t, try(0, 32<<10), errno.INVAL, "more than the device promises")
	require.ErrorIs(t, try(0, 12<<10), errno.INVAL, "no power of two")
	require.ErrorIs(t, try(4096, 8192), errno.INVAL, "not aligned to its length")
	require.ErrorIs(t, try(48<<10, 8192), errno.INVAL, "two mappings")
	flags = 0
	require.ErrorIs(t, try(0, 4096), errno.INVAL, "nobody promises")
	require.Empty(t, d.writes())
	require.ErrorIs(t, block.WriteAt(d, make([]byte, 32<<10), 0, block.Atomic), errno.INVAL)
}

// Untorn by the filesystem: all of it is written elsewhere and put in at once. Whatever write of the device fails, the old bytes are there.
func TestAtomicShared(t *testing.T) {
	for fail := 1; ; fail++ {
		m, err := mem.New(16<<20, mem.Options{})
		require.NoError(t, err)
		dev := &limited{sick: sick{Device: m}, lim: *m.Limits()}
		dev.lim.MaxBio = 4096
		fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, Device: dev})
		f := fs.File(t, "mapped 4k; hole 4k; unwritten 8k", 16<<10)
		f.Store(t, 0, fill(4096, 1))
		want := append(fill(4096, 1), make([]byte, 12<<10)...)
		dev.failWrite.Store(int64(fail))
		f.Rw.Lock()
		k := vfs.Kiocb{Inode: f.Inode}
		n, err := iomap.Direct(ctx, &k, fill(16<<10, 8), true, f.Atomic, f.AtomicOps, iomap.DirectAtomic, nil, 0)
		f.Rw.Unlock()
		dev.failWrite.Store(0)
		done := dev.failWrite.Load() > 0 || err == nil
		if done {
			require.NoError(t, err)
			require.Equal(t, 16<<10, n)
			want = fill(16<<10, 8)
		} else {
			require.ErrorIs(t, err, errno.IO)
		}
		require.Equal(t, -1, diff(want, f.Medium(t)), "write %d failed", fail)
		p := make([]byte, 16<<10)
		_, err = read(f, p, 0, false)
		require.NoError(t, err)
		require.Equal(t, -1, diff(want, p))
		if done {
			require.Greater(t, fail, 4)
			return
		}
	}
}

// A cached folio that cannot be dropped sends no untorn write to the buffered path.
func TestAtomicNeverBuffered(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	f := fs.File(t, "mapped 8k", 8192)
	fo, err := f.Pages.ReadFolio(ctx, 0)
	require.NoError(t, err)
	defer fo.Put()
	fo.Lock()
	fo.SetPrivate("held")
	fo.Unlock()
	defer func() { fo.Lock(); fo.SetPrivate(nil); fo.Unlock() }()
	f.Pages.Ops().ReleaseFolio = func(*pagecache.Folio) bool { return false }
	_, err = direct(f, &vfs.Kiocb{}, make([]byte, 4096), true, nil, iomap.DirectAtomic)
	require.ErrorIs(t, err, errno.AGAIN)
}

// An ioend never goes on over a boundary, which only the first byte of its mapping is; at completion neither.
func TestBoundary(t *testing.T) {
	d := newSlow(t, mem.Options{}, nil)
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, Device: d, NoLarge: true})
	f := fs.File(t, "mapped 64k", 64<<10)
	wops := &iomap.WritebackOps{MapBlocks: func(_ context.Context, wc *iomap.WritebackContext, pos, _ int64) error {
		at := pos &^ (16<<10 - 1)
		wc.Map = iomap.Mapping{Offset: at, Length: 16 << 10, Type: iomap.Unwritten, Addr: 2<<20 + uint64(at), Dev: d}
		if at != 16<<10 {
			wc.Map.Flags = iomap.FlagBoundary
		}
		return nil
	}}
	var q iomap.IoendQueue
	var ends [][2]int64
	release := make(chan struct{})
	q.Handle = func(io *iomap.Ioend) error {
		<-release
		ends = append(ends, [2]int64{io.Pos, io.Size})
		return nil
	}
	var flags []iomap.Flags
	wops.Submit = func(_ *iomap.WritebackContext, io *iomap.Ioend) error {
		flags = append(flags, io.Flags)
		io.End = q.Add
		io.Submit()
		return nil
	}
	f.Writeback = wops
	_, err := write(f, fill(64<<10, 1), 0, false)
	require.NoError(t, err)
	d.writes()
	require.NoError(t, f.Pages.WriteRange(ctx, 0, 1<<40))
	require.Equal(t, []iomap.Flags{iomap.FlagBoundary, iomap.FlagBoundary, iomap.FlagBoundary}, flags)
	var lens []int64
	require.Eventually(t, func() bool { lens = append(lens, lensOf(d.writes())...); return len(lens) == 3 }, wait, tick)
	require.Equal(t, []int64{32 << 10, 16 << 10, 16 << 10}, lens)
	close(release)
	require.NoError(t, f.Pages.WaitRange(ctx, 0, 1<<40)) // the device has them all
	q.Wait()
	require.Len(t, ends, 3)
	// One that begins in the middle of a mapping is no boundary.
	flags, ends = nil, nil
	_, err = write(f, fill(4096, 1), 36<<10, false)
	require.NoError(t, err)
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	require.Equal(t, []iomap.Flags{0}, flags)
	q.Wait()
}

func lensOf(list []block.Bio) (lens []int64) {
	for i := range list {
		lens = append(lens, list[i].Len)
	}
	return lens
}

// Zeroing over unwritten space visits what is dirty in the cache, writes nothing back, and leaves alone what is not cached; more than a
// batch holds comes in several.
func TestZeroBatch(t *testing.T) {
	d := newSlow(t, mem.Options{}, nil)
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true, Device: d})
	f := fs.File(t, "unwritten 1m", 1<<20)
	zero := *f.Zero
	begin := zero.Begin
	begins := 0
	zero.Begin = func(ctx context.Context, ip *vfs.Inode, pos, n int64, fl iomap.OpFlags, m, src *iomap.Mapping) error {
		begins++
		err := begin(ctx, ip, pos, n, fl, m, src)
		iomap.FillDirtyFolios(ip, m, pos, min(pos+n, m.End()))
		return err
	}
	f.Zero = &zero
	want := make([]byte, 1<<20)
	for i := int64(0); i < 1<<20; i += 12 << 10 { // 86 of 256 pages
		_, err := write(f, fill(3000, 6), i+500, false)
		require.NoError(t, err)
		copy(want[i+500:], fill(3000, 6))
	}
	d.writes()
	locked(f, func() {
		did, err := iomap.ZeroRange(ctx, f.Inode, 2000, 900<<10, f.Zero, nil)
		require.NoError(t, err)
		require.True(t, did)
	})
	clear(want[2000 : 2000+900<<10])
	require.Empty(t, d.writes(), "nothing is written back for it")
	require.Equal(t, 3, begins)
	p := make([]byte, 1<<20)
	require.EqualValues(t, 86, f.Pages.Pages(), "what was not cached still is not")
	_, err := read(f, p, 0, false)
	require.NoError(t, err)
	require.Equal(t, -1, diff(want, p))
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	f.Pages.DropClean(0, 1<<40)
	_, err = read(f, p, 0, false)
	require.NoError(t, err)
	require.Equal(t, -1, diff(want, p))
}

// Memory that faults: with DirectPartial what was moved before counts, and goes on with the sum; without, errno.FAULT hides it. The rest of
// a new block is zeroed all the same.
func TestDirectFaults(t *testing.T) {
	for _, spec := range []string{"mapped 64k", "unwritten 64k", "hole 64k"} {
		for cut := 0; cut <= 20<<10; cut += 1536 {
			m, err := mem.New(4<<20, mem.Options{})
			require.NoError(t, err)
			dev := &limited{sick: sick{Device: m}, lim: *m.Limits()}
			dev.lim.MaxBio = int64(cut&512) * 3 // every other time bios of 1536 bytes: one ends where the memory does
			fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, Size: 4 << 20, Device: dev})
			f := fs.File(t, spec, 64<<10)
			user := iomap.Memory{Bytes: fill(20<<10, 5), Pin: func(off, n int) int { return max(min(n, cut-off), 0) }}
			move := func(k *vfs.Kiocb, write bool, fl iomap.DirectFlags, done int) (int, error) {
				f.Rw.Lock()
				defer f.Rw.Unlock()
				k.Inode = f.Inode
				part := iomap.Memory{Bytes: user.Bytes[done:], Pin: func(off, n int) int { return user.Pin(off+done, n) }}
				return iomap.DirectMemory(ctx, k, part, write, f.Direct, f.DirectOps, fl|iomap.DirectForceWait, nil, done)
			}
			usable := cut &^ 511
			k := vfs.Kiocb{}
			n, err := move(&k, true, iomap.DirectPartial, 0)
			if usable == 0 {
				require.ErrorIs(t, err, errno.FAULT)
			} else {
				require.NoError(t, err)
				require.Equal(t, usable, n, spec)
			}
			require.EqualValues(t, usable, k.Pos)
			want := make([]byte, 64<<10)
			copy(want, user.Bytes[:usable])
			require.Equal(t, -1, diff(want, f.Medium(t)), "%s cut at %d", spec, cut)
			old := cut
			cut = 20 << 10
			n, err = move(&k, true, iomap.DirectPartial, n)
			cut = old
			require.NoError(t, err)
			require.Equal(t, 20<<10, n, "with what was done before")
			if usable < 20<<10 {
				_, err = move(&vfs.Kiocb{}, true, 0, 0)
				require.ErrorIs(t, err, errno.FAULT)
				_, err = move(&vfs.Kiocb{}, false, 0, 0)
				require.ErrorIs(t, err, errno.FAULT)
			}
			if usable > 0 {
				n, err = move(&vfs.Kiocb{}, false, iomap.DirectPartial, 0)
				require.NoError(t, err)
				require.Equal(t, usable, n)
			}
		}
	}
}

// Polling is for a request that is one bio with nothing to do behind it.
func TestDirectPolled(t *testing.T) {
	d := newSlow(t, mem.Options{}, func(l *block.Limits) { l.MaxBio = 16 << 10 })
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, Device: d})
	f := fs.File(t, "mapped 64k; unwritten 4k", 68<<10)
	for _, c := range []struct {
		pos    int64
		n      int
		write  bool
		async  bool
		polled bool
	}{
		{0, 8192, false, true, true},
		{0, 8192, true, true, true},
		{0, 8192, false, false, false},
		{0, 32 << 10, false, true, false},
		{60 << 10, 8192, false, true, false},
		{64 << 10, 4096, true, true, false},
	} {
		d.mu.Lock()
		d.seen = nil
		d.mu.Unlock()
		done := make(chan error, 1)
		k := vfs.Kiocb{Pos: c.pos, HiPri: true}
		if c.async {
			k.Done = func(_ int, err error) { done <- err }
		}
		_, err := direct(f, &k, make([]byte, c.n), c.write, f.DirectOps, 0)
		if errors.Is(err, vfs.ErrQueued) {
			err = <-done
		}
		require.NoError(t, err)
		d.mu.Lock()
		require.NotEmpty(t, d.seen)
		for _, b := range d.seen {
			require.Equal(t, c.polled, b.Flags&block.Polled != 0, "%+v", c)
		}
		d.mu.Unlock()
	}
}

// Who waits in a place of his own completes a pure overwrite there; all others are completed for him.
func TestDirectCallerComp(t *testing.T) {
	d := newSlow(t, mem.Options{}, nil)
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, Device: d})
	f := fs.File(t, "mapped 8k; unwritten 8k", 16<<10)
	for pos, mine := range map[int64]bool{0: true, 8192: false} {
		ended := make(chan struct{}, 1)
		do := &iomap.DirectOps{EndIO: func(ctx context.Context, k *vfs.Kiocb, size int64, err error, r iomap.DirectResult) error {
			ended <- struct{}{}
			return f.DirectOps.EndIO(ctx, k, size, err, r)
		}}
		done, hold := make(chan int, 1), make(chan struct{})
		d.hold = hold
		k := vfs.Kiocb{Pos: pos, CallerComp: true, Done: func(n int, _ error) { done <- n }}
		_, err := direct(f, &k, fill(4096, 3), true, do, 0)
		require.ErrorIs(t, err, vfs.ErrQueued)
		close(hold)
		n := <-done
		require.Equal(t, mine, k.Complete != nil)
		if mine {
			require.Empty(t, ended)
			n, err = k.Complete()
			require.NoError(t, err)
		}
		<-ended
		require.Equal(t, 4096, n)
		f.DirectWait()
	}
}

// An uncached write leaves nothing behind in the cache that was not there, once it is written; what was cached stays, and so does what
// somebody dirties meanwhile.
func TestDontCache(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true})
	f := fs.File(t, "mapped 64k; hole 64k", 128<<10)
	_, err := read(f, make([]byte, 4096), 8192, false)
	require.NoError(t, err)
	held := f.Pages.Pages()
	f.Calls()
	f.Rw.Lock()
	k := vfs.Kiocb{Inode: f.Inode, DontCache: true}
	n, err := iomap.BufferedWrite(ctx, &k, fill(100<<10, 7), f.Write, nil, nil)
	f.Rw.Unlock()
	require.NoError(t, err)
	require.Equal(t, 100<<10, n)
	require.NotZero(t, f.Calls()[0].Flags&iomap.OpDontCache)
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	require.Eventually(t, func() bool { return f.Pages.Pages() <= held }, wait, tick)
	require.Equal(t, held, f.Pages.Pages(), "what was cached before still is")
	require.Equal(t, fill(100<<10, 7), f.Medium(t)[:100<<10])

	d := newSlow(t, mem.Options{}, nil)
	g := iomaptest.New(t, iomaptest.Options{BlockBits: 12, NoLarge: true, Device: d}).File(t, "mapped 4k", 4096)
	hold := make(chan struct{})
	d.hold = hold
	g.Rw.Lock()
	_, err = iomap.BufferedWrite(ctx, &vfs.Kiocb{Inode: g.Inode, DontCache: true}, fill(4096, 1), g.Write, nil, nil)
	g.Rw.Unlock()
	require.NoError(t, err)
	require.NoError(t, g.Pages.FlushStart(ctx, 0, 4096))
	_, err = write(g, []byte{9}, 100, false)
	require.NoError(t, err)
	close(hold)
	require.NoError(t, g.Pages.WaitRange(ctx, 0, 4096))
	require.EqualValues(t, 1, g.Pages.Pages())
	require.NoError(t, g.Pages.WriteAndWait(ctx, 0, 1<<40))
	require.Equal(t, byte(9), g.Medium(t)[100])
}
