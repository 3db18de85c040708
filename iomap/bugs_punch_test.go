package iomap_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/iomap/iomaptest"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// shortWrite stores have of n bytes at pos, since the source gives no more.
func shortWrite(f *iomaptest.File, pos int64, n, have int) (int, error) {
	f.Rw.Lock()
	defer f.Rw.Unlock()
	k := vfs.Kiocb{Inode: f.Inode, Pos: pos}
	return iomap.BufferedWriteFrom(ctx, &k, n, func(dst []byte, off int) int {
		return copy(dst, fill(max(min(have-off, len(dst)), 0), 8))
	}, f.Write, nil, nil)
}

// mkwrite stores through a mapping of the page at index.
func mkwrite(t *testing.T, f *iomaptest.File, index uint64, store func(page []byte)) {
	t.Helper()
	fo, err := f.Pages.ReadFolio(ctx, index)
	require.NoError(t, err)
	fo.Lock()
	require.NoError(t, iomap.PageMkwrite(ctx, f.Inode, fo, f.Fault))
	store(fo.Data())
	fo.Unlock()
	fo.Put()
}

func TestShortWriteThenDirect(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10})
	f := fs.File(t, "hole 64k", 64<<10)
	n, err := shortWrite(f, 0, 32<<10, 5000)
	require.NoError(t, err)
	require.Equal(t, 5000, n)
	require.EqualValues(t, 5<<10, f.Delalloc(), "no more than what is dirty")
	p := make([]byte, 64<<10)
	_, err = read(f, p, 0, true)
	require.NoError(t, err, "no promise is in the way")
	require.Equal(t, append(fill(5000, 8), make([]byte, 64<<10-5000)...), p)
}

// While a write fails, stores through mappings dirty pages of its range: their promises stay.
func TestPunchKeepsDirty(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true})
	f := fs.File(t, "hole 64k", 64<<10)
	var other sync.Once
	f.Rw.Lock()
	k := vfs.Kiocb{Inode: f.Inode}
	_, err := iomap.BufferedWriteFrom(ctx, &k, 64<<10, func([]byte, int) int {
		other.Do(func() {
			done := make(chan struct{})
			go func() {
				defer close(done)
				mkwrite(t, f, 8, func(p []byte) { p[5] = 77 })
			}()
			<-done
		})
		return 0
	}, f.Write, nil, nil)
	f.Rw.Unlock()
	require.ErrorIs(t, err, errno.FAULT)
	require.EqualValues(t, 4096, f.Delalloc())
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	require.Equal(t, byte(77), f.Medium(t)[8*4096+5])
	require.Zero(t, f.Delalloc())
}

// Promises behind the end of the file go, whatever the cache holds there: it is never written.
func TestPunchPastEnd(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true})
	f := fs.File(t, "mapped 1k", 1000)
	mkwrite(t, f, 0, func(p []byte) { p[0] = 1 })
	n, err := shortWrite(f, 1024, 8192, 0)
	require.ErrorIs(t, err, errno.FAULT)
	require.Zero(t, n)
	require.Zero(t, f.Delalloc())
	require.Equal(t, int64(1000), f.Size())
}

// The punch of a mapping that is a copy's is told so.
func TestPunchCow(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	f := fs.File(t, "mapped 16k", 16<<10)
	m := iomap.Mapping{Length: 16 << 10, Type: iomap.Delalloc, Flags: iomap.FlagNew | iomap.FlagShared, Addr: iomap.NullAddr}
	var got []iomap.Flags
	locked(f, func() {
		require.NoError(t, iomap.ReleaseDelalloc(ctx, f.Inode, 4096, 16<<10, iomap.OpWrite, &m, func(_ *vfs.Inode, pos, n int64, m *iomap.Mapping) {
			require.Equal(t, [2]int64{4096, 12288}, [2]int64{pos, n})
			got = append(got, m.Flags)
		}))
	})
	require.Equal(t, []iomap.Flags{iomap.FlagNew | iomap.FlagShared}, got)
}

// Zeroing and unsharing are called with the invalidate lock held, so End may release promises as it is.
func TestEndUnderInvalidateLock(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	f := fs.File(t, "delalloc 8k; mapped 8k", 16<<10)
	defer locked(f, func() { f.Cut(0) })
	ends, punched := 0, 0
	ops := &iomap.Ops{Begin: f.Zero.Begin, End: func(ctx context.Context, ip *vfs.Inode, pos, length, _ int64, fl iomap.OpFlags, m *iomap.Mapping) error {
		ends++
		require.False(t, f.Pages.InvalidateLock.TryRLock(), "the caller holds it")
		if m.Type != iomap.Delalloc {
			return nil
		}
		return iomap.ReleaseDelalloc(ctx, ip, pos, pos+length, fl, m, func(*vfs.Inode, int64, int64, *iomap.Mapping) { punched++ })
	}}
	locked(f, func() {
		_, err := iomap.ZeroRange(ctx, f.Inode, 0, 16<<10, ops, nil)
		require.NoError(t, err)
		require.NoError(t, iomap.Unshare(ctx, f.Inode, 0, 16<<10, ops, nil))
	})
	require.Greater(t, ends, 2)
	require.Zero(t, punched, "what was zeroed is dirty")
}

func TestPunchBlocks(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true})
	f := fs.File(t, "hole 4k", 4096)
	_, err := write(f, []byte{1}, 2048, false)
	require.NoError(t, err)
	_, err = shortWrite(f, 0, 2000, 0)
	require.ErrorIs(t, err, errno.FAULT)
	_, err = shortWrite(f, 3072, 1024, 0)
	require.ErrorIs(t, err, errno.FAULT)
	require.EqualValues(t, 1024, f.Delalloc(), "the dirty block's only")
}

// What could not be mapped gives its promises back, when the filesystem is told.
func TestDiscardFolio(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true})
	f := fs.File(t, "hole 4k", 4096)
	file, err := f.Open(ctx, vfs.ORdwr)
	require.NoError(t, err)
	defer file.Close()
	_, err = write(f, fill(4096, 1), 0, false)
	require.NoError(t, err)
	fs.FailMap = func(pos int64) error {
		if pos >= 2048 {
			return errno.IO
		}
		return nil
	}
	var from []int64
	f.Writeback.DiscardFolio = func(fo *pagecache.Folio, pos int64) {
		require.True(t, fo.Locked())
		from = append(from, pos)
		f.Forget(pos, fo.End())
	}
	mapped := f.Writeback.MapBlocks
	f.Writeback.MapBlocks = func(ctx context.Context, wc *iomap.WritebackContext, pos, _ int64) error {
		return mapped(ctx, wc, pos, 1024)
	}
	require.ErrorIs(t, file.Fsync(ctx, false), errno.IO)
	require.Equal(t, []int64{2048}, from)
	require.Zero(t, f.Delalloc())
	require.Equal(t, fill(2048, 1), f.Medium(t)[:2048])
	require.False(t, f.Pages.IsDirty())
}

// Unshare leaves alone what is marked shared and has no source: it is where a copy would go, over a hole.
func TestUnshareHole(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	f := fs.File(t, "", 16<<10)
	ops := custom(func(_ int64, m, _ *iomap.Mapping) {
		m.Length, m.Type, m.Flags, m.Addr, m.Dev = 16<<10, iomap.Unwritten, iomap.FlagShared, 2<<20, fs.Dev
	})
	locked(f, func() { require.NoError(t, iomap.Unshare(ctx, f.Inode, 0, 16<<10, ops, nil)) })
	require.False(t, f.Pages.IsDirty())
	require.True(t, f.Pages.Empty())
}

// Truncation waits for writeback: blocks that are still being written are not given to others. What it cut off stays zeros when the file
// grows again, and what was below the new end is written.
func TestTruncateWaits(t *testing.T) {
	d := newSlow(t, mem.Options{}, nil)
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true, Device: d})
	f := fs.File(t, "mapped 8k", 8192)
	_, err := write(f, fill(8192, 6), 0, false)
	require.NoError(t, err)
	hold := make(chan struct{})
	d.hold = hold
	require.NoError(t, f.Pages.FlushStart(ctx, 0, 1<<40))
	done := make(chan struct{})
	go func() {
		defer close(done)
		locked(f, func() {
			if _, err := iomap.TruncatePage(ctx, f.Inode, 1500, f.Zero, nil); err != nil {
				t.Error(err)
			}
			f.Cut(1500)
		})
	}()
	select {
	case <-done:
		t.Fatal("it did not wait")
	case <-after():
	}
	close(hold)
	<-done
	locked(f, func() {
		_, err := iomap.ZeroRange(ctx, f.Inode, 1500, 8192-1500, f.Zero, nil)
		require.NoError(t, err)
		f.SetSize(8192)
	})
	want := append(fill(1500, 6), make([]byte, 8192-1500)...)
	p := make([]byte, 8192)
	_, err = read(f, p, 0, false)
	require.NoError(t, err)
	require.Equal(t, -1, diff(want, p))
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	require.Equal(t, -1, diff(want, f.Medium(t)))
}

// A punch while its pages are being read: what comes later reads zeros.
func TestPunchReadRace(t *testing.T) {
	d := newSlow(t, mem.Options{}, nil)
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, NoLarge: true, Device: d})
	f := fs.File(t, "mapped 16k", 16<<10)
	f.Store(t, 1, fill(4096, 9))
	hold := make(chan struct{})
	d.hold = hold
	read1 := make(chan struct{})
	go func() {
		defer close(read1)
		_, _ = f.Pages.Read(ctx, nil, make([]byte, 4096), 4096, 0)
	}()
	require.Eventually(t, func() bool { return !f.Pages.Empty() }, wait, tick)
	punched := make(chan struct{})
	go func() { defer close(punched); locked(f, func() { f.Punch(4096, 8192) }) }()
	select {
	case <-punched:
		t.Fatal("punched while it was read")
	case <-after():
	}
	close(hold)
	<-read1
	<-punched
	p := make([]byte, 4096)
	_, err := read(f, p, 4096, false)
	require.NoError(t, err)
	require.Equal(t, make([]byte, 4096), p)
}

// Partial truncation of a large dirty folio: what is before the cut is kept and written, what is behind is gone.
func TestTruncateLargeFolio(t *testing.T) {
	for _, bits := range []uint8{10, 12} {
		fs := iomaptest.New(t, iomaptest.Options{BlockBits: bits})
		f := fs.File(t, "hole 64k", 0)
		_, err := write(f, fill(64<<10, 3), 0, false)
		require.NoError(t, err)
		fo := f.Pages.Get(0)
		require.NotZero(t, fo.Order())
		fo.Put()
		locked(f, func() {
			_, err := iomap.TruncatePage(ctx, f.Inode, 10000, f.Zero, nil)
			require.NoError(t, err)
			f.Cut(10000)
			_, err = iomap.ZeroRange(ctx, f.Inode, 10000, 50000, f.Zero, nil)
			require.NoError(t, err)
			f.SetSize(60000)
		})
		want := append(fill(10000, 3), make([]byte, 50000)...)
		p := make([]byte, 60000)
		_, err = read(f, p, 0, false)
		require.NoError(t, err)
		require.Equal(t, -1, diff(want, p))
		require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
		require.Equal(t, -1, diff(want, f.Medium(t)))
		require.Zero(t, f.Delalloc())
	}
}
