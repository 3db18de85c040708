package iomap_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/iomap/iomaptest"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// custom makes operations of a function that fills the mapping.
func custom(fill func(pos int64, m, src *iomap.Mapping)) *iomap.Ops {
	return &iomap.Ops{Begin: func(_ context.Context, _ *vfs.Inode, pos, _ int64, _ iomap.OpFlags, m, src *iomap.Mapping) error {
		fill(pos, m, src)
		return nil
	}}
}

func poisoned(b []byte) bool { return bytes.IndexByte(b, iomaptest.Poison) >= 0 }

// What a write does not cover of a new block reads as zeros, not as what the device held.
func TestNewBlocksAreZeroed(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, NoLarge: true})
	f := fs.File(t, "", 0)
	ops := custom(func(pos int64, m, _ *iomap.Mapping) {
		m.Offset, m.Length, m.Type, m.Flags, m.Addr, m.Dev = pos&^4095, 4096, iomap.Mapped, iomap.FlagNew, 1<<20+uint64(pos&^4095), fs.Dev
	})
	k := vfs.Kiocb{Inode: f.Inode, Pos: 2048}
	n, err := iomap.BufferedWrite(ctx, &k, []byte{1}, ops, nil, nil)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	p := make([]byte, 4096)
	fo := f.Pages.Get(0)
	copy(p, fo.Data())
	fo.Put()
	require.Equal(t, byte(1), p[2048])
	require.False(t, poisoned(p))
}

// Likewise for a direct write inside the file that one bio could serve.
func TestNewBlocksAreZeroedDirect(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	f := fs.File(t, "", 0)
	f.SetSize(4096)
	require.NoError(t, block.WriteAt(fs.Dev, bytes.Repeat([]byte{iomaptest.Poison}, 4096), 1<<20, 0))
	ops := custom(func(pos int64, m, _ *iomap.Mapping) {
		m.Offset, m.Length, m.Type, m.Flags, m.Addr, m.Dev = 0, 4096, iomap.Mapped, iomap.FlagNew, 1<<20, fs.Dev
	})
	k := vfs.Kiocb{Inode: f.Inode, Pos: 2048}
	n, err := iomap.Direct(ctx, &k, bytes.Repeat([]byte{1}, 512), true, ops, nil, 0, nil, 0)
	require.NoError(t, err)
	require.Equal(t, 512, n)
	p := make([]byte, 4096)
	require.NoError(t, block.ReadAt(fs.Dev, p, 1<<20))
	require.Equal(t, byte(1), p[2048])
	require.False(t, poisoned(p))
}

// The stale mapping of 2022: between begin and the lock of the last folio, that folio is written back and its memory taken. The mapping
// still says that nothing is on the device there.
func TestStaleMapping(t *testing.T) {
	for _, bits := range []uint8{10, 12} {
		fs := iomaptest.New(t, iomaptest.Options{BlockBits: bits, NoLarge: true})
		f := fs.File(t, "", 0)
		_, err := write(f, []byte{77}, 8192+500, false)
		require.NoError(t, err)
		gets := 0
		hook := &iomap.FolioOps{
			GetFolio: func(ctx context.Context, it *iomap.Iter, pos, n int64) (*pagecache.Folio, error) {
				if gets++; pos >= 8192 && gets == 3 {
					require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
					f.Pages.DropClean(8192, 12288)
					require.Nil(t, f.Pages.Get(2))
				}
				return it.GetFolio(ctx, pos, n)
			},
		}
		begin := f.Write.Begin
		ops := &iomap.Ops{End: f.Write.End, Begin: func(ctx context.Context, ip *vfs.Inode, pos, n int64, fl iomap.OpFlags, m, src *iomap.Mapping) error {
			err := begin(ctx, ip, pos, n, fl, m, src)
			if m.FolioOps != nil {
				hook.Valid, m.FolioOps = m.FolioOps.Valid, hook
			}
			return err
		}}
		f.Rw.Lock()
		k := vfs.Kiocb{Inode: f.Inode}
		n, err := iomap.BufferedWrite(ctx, &k, bytes.Repeat([]byte{5}, 8192+100), ops, nil, nil)
		f.Rw.Unlock()
		require.NoError(t, err)
		require.Equal(t, 8192+100, n)
		p := make([]byte, 8192+501)
		_, err = read(f, p, 0, false)
		require.NoError(t, err)
		require.Equal(t, byte(77), p[8192+500], "block size %d", 1<<bits)
	}
}

// A mapping that is stale always makes no progress and is mapped afresh, until it holds.
func TestStaleWithoutProgress(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	f := fs.File(t, "", 0)
	stale := 5
	f.Invalid = func(*iomap.Mapping) bool { stale--; return stale >= 0 }
	n, err := write(f, make([]byte, 9000), 0, false)
	require.NoError(t, err)
	require.Equal(t, 9000, n)
	begins, ends := 0, 0
	for _, c := range f.Calls() {
		if c.Begin {
			begins++
		} else {
			ends++
		}
	}
	require.Equal(t, begins, ends, "every begin has its end")
	require.GreaterOrEqual(t, begins, 6)
}

// A direct write that ends in a block past the end of the file zeroes the rest of it, also of a block that is not new.
func TestDirectTail(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	f := fs.File(t, "mapped 8k", 4096)
	f.Store(t, 1, bytes.Repeat([]byte{iomaptest.Poison}, 4096))
	n, err := write(f, bytes.Repeat([]byte{3}, 512), 4096, true)
	require.NoError(t, err)
	require.Equal(t, 512, n)
	f.SetSize(8192)
	require.Equal(t, make([]byte, 4096-512), f.Medium(t)[4096+512:])
}

// What a store through a mapping left behind the end of the file reaches neither the medium nor a longer file.
func TestPastTheEnd(t *testing.T) {
	for _, grow := range []string{"write", "size"} {
		fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true})
		f := fs.File(t, "", 0)
		_, err := write(f, bytes.Repeat([]byte{9}, 1500), 0, false)
		require.NoError(t, err)
		store := func() {
			fo := f.Pages.GetLocked(0)
			require.NoError(t, iomap.PageMkwrite(ctx, f.Inode, fo, f.Fault))
			copy(fo.Data()[1500:], bytes.Repeat([]byte{iomaptest.Poison}, 4096-1500))
			fo.Unlock()
			fo.Put()
		}
		store()
		require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
		f.SetSize(2048)
		require.False(t, poisoned(f.Medium(t)), "on the medium")
		f.SetSize(1500)
		store()
		if grow == "write" {
			f.Rw.Lock()
			k := vfs.Kiocb{Inode: f.Inode, Pos: 6000}
			_, err = iomap.BufferedWrite(ctx, &k, []byte{1}, f.Write, nil, nil)
			f.Rw.Unlock()
			require.NoError(t, err)
		} else {
			f.SetSize(6000)
			f.Pages.Extended(1500, 6000)
		}
		p := make([]byte, 4096)
		_, err = read(f, p, 0, false)
		require.NoError(t, err)
		require.False(t, poisoned(p), "after growth by %s", grow)
	}
}

// The bytes of the last page behind the end of the file are zeros, whatever its blocks hold.
func TestReadAtEnd(t *testing.T) {
	for _, bits := range []uint8{10, 12, 14} {
		for _, size := range []int64{1, 1023, 1024, 1025, 2047, 2048, 2049, 4095, 4096, 4097, 16383, 16384, 16385} {
			fs := iomaptest.New(t, iomaptest.Options{BlockBits: bits})
			bs := int64(1) << bits
			n := (size + bs - 1) / bs
			f := fs.File(t, fmt.Sprintf("mapped %d", (n+2)*bs), size)
			for i := n; i < n+2; i++ {
				f.Store(t, int(i), bytes.Repeat([]byte{iomaptest.Poison}, int(bs)))
			}
			fo, err := f.Pages.ReadFolio(ctx, uint64(size-1)>>pagecache.PageShift)
			require.NoError(t, err)
			require.False(t, poisoned(fo.Data()), "blocks of %d, size %d", bs, size)
			fo.Put()
		}
	}
}

// Copy on write with one new extent over several old ones: each step ends where its source does.
func TestShortSource(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, NoLarge: true})
	f := fs.File(t, "", 8192)
	at := func(p byte, addr int64) {
		require.NoError(t, block.WriteAt(fs.Dev, bytes.Repeat([]byte{p}, 4096), addr, 0))
	}
	at(1, 2<<20)
	at(2, 3<<20)
	ops := custom(func(pos int64, m, src *iomap.Mapping) {
		m.Length, m.Type, m.Flags, m.Addr, m.Dev = 8192, iomap.Unwritten, iomap.FlagShared, 4<<20, fs.Dev
		src.Offset, src.Length, src.Type, src.Addr, src.Dev = pos&^4095, 4096, iomap.Mapped, 2<<20, fs.Dev
		if pos >= 4096 {
			src.Addr = 3 << 20
		}
	})
	k := vfs.Kiocb{Inode: f.Inode, Pos: 4000}
	n, err := iomap.BufferedWrite(ctx, &k, bytes.Repeat([]byte{7}, 200), ops, nil, nil)
	require.NoError(t, err)
	require.Equal(t, 200, n)
	p := make([]byte, 8192)
	_, err = read(f, p, 0, false)
	require.NoError(t, err)
	want := append(bytes.Repeat([]byte{1}, 4000), bytes.Repeat([]byte{7}, 200)...)
	want = append(want, bytes.Repeat([]byte{2}, 8192-4200)...)
	require.Equal(t, -1, diff(want, p))
}

// A source that gives fewer bytes at every place: what counts is there, nothing else changed, and no promise is left over.
func TestShortCopies(t *testing.T) {
	for _, bits := range []uint8{10, 12} {
		for cut := 0; cut < 9000; cut += 619 {
			fs := iomaptest.New(t, iomaptest.Options{BlockBits: bits, Size: 4 << 20, Cache: 8 << 20})
			f := fs.File(t, fmt.Sprintf("hole %d; mapped 4k", 4096), 20000)
			f.Rw.Lock()
			k := vfs.Kiocb{Inode: f.Inode, Pos: 700}
			n, err := iomap.BufferedWriteFrom(ctx, &k, 9000, func(dst []byte, off int) int {
				n := min(len(dst), max(cut-off, 0))
				for i := range n {
					dst[i] = 8
				}
				return n
			}, f.Write, nil, nil)
			f.Rw.Unlock()
			require.Equal(t, cut, n, "%v", err)
			if cut == 0 {
				require.ErrorIs(t, err, errno.FAULT)
			}
			require.Equal(t, int64(700+cut), k.Pos)
			require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
			require.Zero(t, f.Delalloc(), "cut %d: promises left over", cut)
			p := make([]byte, 20000)
			_, err = read(f, p, 0, false)
			require.NoError(t, err)
			want := make([]byte, 20000)
			copy(want[700:], bytes.Repeat([]byte{8}, cut))
			require.Equal(t, -1, diff(want, p), "cut %d", cut)
		}
	}
}

// No space after some blocks: what was stored counts, the rest is given back, and can be had again.
func TestNoSpace(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10})
	f := fs.File(t, "", 0)
	fs.SetLeft(300 << 10)
	n, err := write(f, bytes.Repeat([]byte{4}, 1<<20), 0, false)
	require.NoError(t, err)
	require.Equal(t, 300<<10, n)
	require.Equal(t, int64(300<<10), f.Size())
	_, err = write(f, []byte{1}, 400<<10, false)
	require.ErrorIs(t, err, errno.NOSPC)
	require.Equal(t, int64(300<<10), f.Size())
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	require.Zero(t, f.Delalloc())
	require.Equal(t, bytes.Repeat([]byte{4}, 300<<10), f.Medium(t))
}

// Blocks punched inside a large dirty folio are not written to where they lay: somebody else may own that place now.
func TestPunchedBlocksAreNotWritten(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10})
	f := fs.File(t, "mapped 64k", 64<<10)
	_, err := write(f, bytes.Repeat([]byte{6}, 64<<10), 0, false)
	require.NoError(t, err)
	f.Rw.Lock()
	f.Pages.InvalidateLock.Lock()
	// Only the cache: the map still has the blocks, as it does between the two steps of punching.
	f.Pages.TruncateRange(8<<10, 16<<10)
	f.Pages.InvalidateLock.Unlock()
	f.Rw.Unlock()
	for i := 8; i < 16; i++ {
		f.Store(t, i, bytes.Repeat([]byte{9}, 1024))
	}
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	require.Equal(t, bytes.Repeat([]byte{9}, 8<<10), f.Medium(t)[8<<10:16<<10])
}

// A page that comes into the cache while a direct write is under way does not outlive it.
func TestDirectWriteDropsTheCacheAgain(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	f := fs.File(t, "mapped 8k", 8192)
	do := &iomap.DirectOps{SubmitIO: func(_ *iomap.Iter, bio *block.Bio, _ int64) {
		p := make([]byte, 8192)
		_, err := read(f, p, 0, false)
		require.NoError(t, err)
		fs.Dev.Submit(bio)
	}}
	f.Rw.Lock()
	k := vfs.Kiocb{Inode: f.Inode}
	n, err := iomap.Direct(ctx, &k, bytes.Repeat([]byte{5}, 8192), true, f.Direct, do, 0, nil, 0)
	f.Rw.Unlock()
	require.NoError(t, err)
	require.Equal(t, 8192, n)
	p := make([]byte, 8192)
	_, err = read(f, p, 0, false)
	require.NoError(t, err)
	require.Equal(t, bytes.Repeat([]byte{5}, 8192), p)
}

// A cached folio that somebody holds sends a direct write to the buffered path.
func TestDirectWriteOverBusyFolio(t *testing.T) {
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
	f.Rw.Lock()
	k := vfs.Kiocb{Inode: f.Inode}
	_, err = iomap.Direct(ctx, &k, make([]byte, 8192), true, f.Direct, nil, 0, nil, 0)
	f.Rw.Unlock()
	require.ErrorIs(t, err, vfs.ErrNotBlock)
	require.Zero(t, k.Pos)
}

// One byte written into a page that is valid goes to the medium as one block.
func TestOneBlockIsWritten(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true})
	f := fs.File(t, "mapped 4k", 4096)
	fo, err := f.Pages.ReadFolio(ctx, 0)
	require.NoError(t, err)
	fo.Put()
	_, err = write(f, []byte{1}, 1500, false)
	require.NoError(t, err)
	for i := range 4 {
		if i != 1 {
			f.Store(t, i, bytes.Repeat([]byte{9}, 1024)) // seen if the block is written
		}
	}
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	m := f.Medium(t)
	require.Equal(t, byte(1), m[1500])
	require.Equal(t, byte(9), m[0])
	require.Equal(t, byte(9), m[2048])
}

// When one block cannot be mapped the others of its folio are written, the folio is clean, and each open file hears of it once.
func TestMapError(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true})
	f := fs.File(t, "mapped 1k; hole 1k; mapped 2k", 4096)
	a, err := f.Open(ctx, vfs.ORdwr)
	require.NoError(t, err)
	defer a.Close()
	b, err := f.Open(ctx, vfs.ORdwr)
	require.NoError(t, err)
	defer b.Close()
	_, err = write(f, bytes.Repeat([]byte{3}, 4096), 0, false)
	require.NoError(t, err)
	fs.FailMap = func(pos int64) error {
		if pos == 1024 {
			return errno.IO
		}
		return nil
	}
	require.ErrorIs(t, a.Fsync(ctx, false), errno.IO)
	require.NoError(t, a.Fsync(ctx, false))
	require.ErrorIs(t, b.Fsync(ctx, false), errno.IO)
	require.NoError(t, b.Fsync(ctx, false))
	require.Equal(t, bytes.Repeat([]byte{3}, 1024), f.Medium(t)[:1024])
	require.False(t, f.Pages.IsDirty())
	c, err := f.Open(ctx, vfs.ORdwr)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.Fsync(ctx, false), "opened after everybody knew")
	fs.FailMap = nil
	locked(f, func() { f.Cut(0) })
}

// sick is a device that fails what it is told to.
type sick struct {
	block.Device
	failWrite atomic.Int64 // the n-th from now
	badRead   atomic.Int64 // reads of this byte
}

func (d *sick) Submit(b *block.Bio) {
	if b.Op == block.OpWrite && d.failWrite.Add(-1) == 0 || b.Op == block.OpRead && d.badRead.Load() >= b.Off && d.badRead.Load() < b.Off+b.Bytes() {
		b.End(b.Fail("sick", "told to", errno.IO))
		return
	}
	d.Device.Submit(b)
}

// Errors of the device: a failed write is told once per open file and leaves the page valid, a failed read only its own blocks.
func TestDeviceErrors(t *testing.T) {
	m, err := mem.New(16<<20, mem.Options{})
	require.NoError(t, err)
	d := &sick{Device: m}
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true, Device: d})
	f := fs.File(t, "mapped 1k; unwritten 1k; mapped 2k", 4096) // two bios
	f.Store(t, 0, bytes.Repeat([]byte{1}, 1024))
	f.Store(t, 2, bytes.Repeat([]byte{2}, 1024))
	third, err := iomap.Bmap(ctx, f.Inode, 2, f.Read)
	require.NoError(t, err)
	d.badRead.Store(int64(third << 10))
	p := make([]byte, 4096)
	_, err = read(f, p, 0, false)
	require.ErrorIs(t, err, errno.IO)
	n, err := read(f, p[:1024], 0, false)
	require.NoError(t, err, "the block that could be read is there")
	require.Equal(t, bytes.Repeat([]byte{1}, 1024), p[:n])
	d.badRead.Store(-1)
	n, err = read(f, p, 0, false)
	require.NoError(t, err, "and the others when the device is well")
	require.Equal(t, byte(2), p[:n][2048])

	a, err := f.Open(ctx, vfs.ORdwr)
	require.NoError(t, err)
	defer a.Close()
	_, err = write(f, bytes.Repeat([]byte{5}, 1024), 0, false)
	require.NoError(t, err)
	d.failWrite.Store(1)
	require.ErrorIs(t, a.Fsync(ctx, false), errno.IO)
	require.NoError(t, a.Fsync(ctx, false))
	n, err = read(f, p[:1024], 0, false)
	require.NoError(t, err)
	require.Equal(t, bytes.Repeat([]byte{5}, 1024), p[:n], "the page keeps the new contents")

	// Direct: the error hides the bytes.
	for i := int64(1); i < 3; i++ {
		d.failWrite.Store(i)
		f.Rw.Lock()
		k := vfs.Kiocb{Inode: f.Inode}
		n, err := iomap.Direct(ctx, &k, make([]byte, 1024), true, f.Direct, f.DirectOps, 0, nil, 0)
		f.Rw.Unlock()
		if i == 1 {
			require.ErrorIs(t, err, errno.IO)
			require.Zero(t, n)
			require.Zero(t, k.Pos)
		} else {
			require.NoError(t, err)
		}
	}
}

// Asynchronous direct I/O: queued, completed once, with the result.
func TestAsyncDirect(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	f := fs.File(t, "mapped 4k; hole 4k; unwritten 4k; mapped 4k", 16384)
	for i := range 200 {
		done := make(chan error, 2)
		k := vfs.Kiocb{Inode: f.Inode}
		var moved int
		k.Done = func(n int, err error) { moved = n; done <- err }
		write := i%2 == 0
		p := bytes.Repeat([]byte{byte(i)}, 16384)
		f.Rw.RLock()
		ops := f.Read
		if write {
			ops = f.Direct
		}
		n, err := iomap.Direct(ctx, &k, p, write, ops, f.DirectOps, 0, nil, 0)
		f.Rw.RUnlock()
		if errors.Is(err, vfs.ErrQueued) {
			require.NoError(t, <-done)
			n = moved
		} else {
			require.NoError(t, err)
		}
		require.Equal(t, 16384, n)
		f.DirectWait()
		require.Empty(t, done)
		if !write {
			require.Equal(t, bytes.Repeat([]byte{byte(i - 1)}, 16384), p)
		}
	}
	require.Equal(t, []string{"mapped", "mapped", "mapped", "mapped"}, f.Types())
}

// Writes of O_DSYNC over what exists carry FUA and need no sync; into new space they need one.
func TestFUA(t *testing.T) {
	for _, c := range []struct {
		spec   string
		synced bool
	}{{"mapped 8k", true}, {"unwritten 8k", false}, {"mapped 4k; unwritten 4k", false}, {"hole 8k", false}} {
		m, err := mem.New(16<<20, mem.Options{VolatileCache: true, FUA: true})
		if err != nil {
			m, err = mem.New(16<<20, mem.Options{VolatileCache: true})
		}
		require.NoError(t, err)
		fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, Device: m})
		f := fs.File(t, c.spec, 8192)
		f.Rw.Lock()
		k := vfs.Kiocb{Inode: f.Inode, DSync: true}
		_, err = iomap.Direct(ctx, &k, make([]byte, 8192), true, f.Direct, f.DirectOps, 0, nil, 0)
		f.Rw.Unlock()
		require.NoError(t, err)
		require.Equal(t, c.synced && m.Limits().FUA, k.Synced, c.spec)
	}
}

// Answers of a filesystem that break the contract are errors, and each begin has its end.
func TestBadMappings(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	f := fs.File(t, "", 1<<20)
	for what, bad := range map[string]func(m *iomap.Mapping){
		"begins after": func(m *iomap.Mapping) { m.Offset, m.Length = 8192, 4096 },
		"empty":        func(m *iomap.Mapping) { m.Length = 0 },
		"ends before":  func(m *iomap.Mapping) { m.Offset, m.Length = 0, 4096 },
		"not aligned":  func(m *iomap.Mapping) { m.Offset, m.Length = 4096, 4097 },
		"unknown type": func(m *iomap.Mapping) { m.Offset, m.Length, m.Type = 4096, 4096, 9 },
		"no device":    func(m *iomap.Mapping) { m.Offset, m.Length, m.Type, m.Addr = 4096, 4096, iomap.Mapped, 0 },
		"past the device": func(m *iomap.Mapping) {
			m.Offset, m.Length, m.Type, m.Addr, m.Dev = 4096, 4096, iomap.Mapped, 1<<40, fs.Dev
		},
		"out of range": func(m *iomap.Mapping) {
			m.Offset, m.Length, m.Type, m.Addr, m.Dev = 4096, 4096, iomap.Mapped, 1<<63, fs.Dev
		},
		"stale already":    func(m *iomap.Mapping) { m.Offset, m.Length, m.Flags = 4096, 4096, iomap.FlagStale },
		"an address where": func(m *iomap.Mapping) { m.Offset, m.Length, m.Addr = 4096, 4096, 5 },
		"more inline bytes": func(m *iomap.Mapping) {
			m.Offset, m.Length, m.Type, m.InlineData = 4096, 4096, iomap.Inline, make([]byte, 10)
		},
		"past the largest": func(m *iomap.Mapping) { m.Offset, m.Length = 4096, 1<<63-1 },
	} {
		begins, ends := 0, 0
		ops := &iomap.Ops{
			Begin: func(_ context.Context, _ *vfs.Inode, _, _ int64, _ iomap.OpFlags, m, _ *iomap.Mapping) error {
				begins++
				bad(m)
				return nil
			},
			End: func(_ context.Context, _ *vfs.Inode, _, _, done int64, _ iomap.OpFlags, _ *iomap.Mapping) error {
				ends++
				require.Zero(t, done)
				return nil
			},
		}
		_, err := iomap.Seek(ctx, f.Inode, 4096, vfs.SeekHole, ops)
		require.ErrorIs(t, err, errno.IO, what)
		require.ErrorContains(t, err, what)
		require.ErrorContains(t, err, "iomaptest: inode")
		require.Equal(t, 1, begins)
		require.Equal(t, 1, ends)
	}
}

// The iterator: errors of end, early ways out, progress past the mapping.
func TestIterator(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	f := fs.File(t, "mapped 4k; hole 4k; mapped 4k", 12288)
	var ended []int64
	var endErr error
	ops := &iomap.Ops{Begin: f.Read.Begin, End: func(_ context.Context, _ *vfs.Inode, _, _, done int64, _ iomap.OpFlags, _ *iomap.Mapping) error {
		ended = append(ended, done)
		return endErr
	}}
	walk := func(body func(it *iomap.Iter) bool) error {
		ended = nil
		it := iomap.NewIter(f.Inode, 100, 12000, 0, ops)
		defer it.Close(ctx)
		for it.Next(ctx) {
			if !body(it) {
				break
			}
		}
		return it.Err()
	}
	require.NoError(t, walk(func(it *iomap.Iter) bool { it.Advance(it.Usable()); return true }))
	require.Equal(t, []int64{3996, 4096, 3908}, ended)
	endErr = errno.IO
	require.NoError(t, walk(func(it *iomap.Iter) bool { it.Advance(it.Usable()); return true }), "with progress, an error of end is dropped")
	require.ErrorIs(t, walk(func(*iomap.Iter) bool { return true }), errno.IO, "without, it counts")
	endErr = nil
	require.NoError(t, walk(func(*iomap.Iter) bool { return true }), "no progress: enough")
	require.Equal(t, []int64{0}, ended)
	_ = walk(func(it *iomap.Iter) bool { it.Advance(5); return false })
	require.Equal(t, []int64{5}, ended, "an early way out ends the mapping")
	require.ErrorIs(t, walk(func(it *iomap.Iter) bool { it.Advance(it.Usable() + 1); return true }), errno.IO)
	require.ErrorIs(t, walk(func(it *iomap.Iter) bool { it.Fail(errno.NOSPC); return true }), errno.NOSPC)
	require.Equal(t, []int64{0}, ended)
}

// Seek from every byte around the borders, with nothing, clean and dirty data cached over unwritten space.
func TestSeek(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true})
	f := fs.File(t, "mapped 1k; hole 2k; unwritten 5k; mapped 1k", 9*1024+100)
	check := func(data [][2]int64) {
		t.Helper()
		for pos := int64(0); pos < f.Size()+3; pos++ {
			want, hole := int64(-1), int64(-1)
			for _, d := range data {
				if pos < d[1] && want < 0 {
					want = max(pos, d[0])
				}
			}
			if pos < f.Size() {
				hole = pos
				for _, d := range data {
					if hole >= d[0] && hole < d[1] {
						hole = d[1]
					}
				}
			}
			got, err := iomap.Seek(ctx, f.Inode, pos, vfs.SeekData, f.Read)
			if want < 0 {
				require.ErrorIs(t, err, errno.NXIO, "data from %d", pos)
			} else {
				require.NoError(t, err)
				require.Equal(t, want, got, "data from %d", pos)
			}
			got, err = iomap.Seek(ctx, f.Inode, pos, vfs.SeekHole, f.Read)
			if hole < 0 {
				require.ErrorIs(t, err, errno.NXIO, "hole from %d", pos)
			} else {
				require.NoError(t, err)
				require.Equal(t, min(hole, f.Size()), got, "hole from %d", pos)
			}
		}
	}
	check([][2]int64{{0, 1024}, {8192, 9216}})
	_, err := write(f, []byte{1}, 5*1024+7, false)
	require.NoError(t, err)
	check([][2]int64{{0, 1024}, {5 * 1024, 6 * 1024}, {8192, 9216}})
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	check([][2]int64{{0, 1024}, {5 * 1024, 6 * 1024}, {8192, 9216}})
}

// FIEMAP with room for 0, 1, 2, exactly all, and more.
func TestFiemap(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	f := fs.File(t, "mapped 8k; hole 4k; unwritten 4k; delalloc 4k; shared 4k", 24<<10)
	defer locked(f, func() { f.Cut(0) })
	flags := []uint32{0, vfs.ExtentUnwritten, vfs.ExtentDelalloc | vfs.ExtentUnknown, vfs.ExtentShared | vfs.ExtentLast}
	logical := []uint64{0, 12288, 16384, 20480}
	for room := 0; room <= 5; room++ {
		var got []vfs.FiemapExtent
		info := vfs.FiemapInfo{Len: 1 << 40, Max: room, Emit: func(e vfs.FiemapExtent) error { got = append(got, e); return nil }}
		require.NoError(t, iomap.Fiemap(ctx, f.Inode, &info, f.Read))
		if room == 0 {
			require.Equal(t, 4, info.Mapped)
			continue
		}
		require.Len(t, got, min(room, 4))
		for i, e := range got {
			require.Equal(t, logical[i], e.Logical)
			require.Equal(t, flags[i], e.Flags, "extent %d, room %d", i, room)
		}
	}
	info := vfs.FiemapInfo{Len: 0, Max: 1}
	require.ErrorIs(t, iomap.Fiemap(ctx, f.Inode, &info, f.Read), errno.INVAL)
	info = vfs.FiemapInfo{Start: 1 << 41, Len: 1, Max: 1}
	require.ErrorIs(t, iomap.Fiemap(ctx, f.Inode, &info, f.Read), errno.FBIG)
	info = vfs.FiemapInfo{Len: 1, Max: 1, Flags: 0x100}
	require.ErrorIs(t, iomap.Fiemap(ctx, f.Inode, &info, f.Read), errno.BADR)
	require.Equal(t, uint32(0x100), info.Flags)
}

// Swap files: whole pages that lie aligned on the device, no more than the header allows, and what is refused.
func TestSwap(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10})
	swap := func(f *iomaptest.File, most uint64) (list []vfs.SwapExtent, err error) {
		err = iomap.SwapActivate(ctx, f.Inode, most, func(e vfs.SwapExtent) error { list = append(list, e); return nil }, f.Read)
		return list, err
	}
	fs.File(t, "mapped 1k", 1024) // the next does not lie aligned
	f := fs.File(t, "mapped 16k; unwritten 8k", 24<<10)
	list, err := swap(f, 100)
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Zero(t, list[0].Addr%4096)
	require.Equal(t, uint64(5), list[0].Pages)
	list, err = swap(f, 3)
	require.NoError(t, err)
	require.Equal(t, uint64(3), list[0].Pages)
	for spec, says := range map[string]string{"mapped 4k; hole 4k": "a hole", "mapped 4k; shared 4k": "shared", "inline": "in its inode"} {
		_, err := swap(fs.File(t, spec, 8192), 100)
		require.ErrorIs(t, err, errno.INVAL)
		require.ErrorContains(t, err, says)
	}
	fs.File(t, "mapped 1k", 1024)
	_, err = swap(fs.File(t, "mapped 4k", 4096), 100)
	require.ErrorContains(t, err, "aligned")
}

// Bmap of every block.
func TestBmap(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10})
	f := fs.File(t, "mapped 3k; hole 2k; unwritten 1k; mapped 2k", 8<<10)
	var first uint64
	for i, mapped := range []bool{true, true, true, false, false, false, true, true, false} {
		b, err := iomap.Bmap(ctx, f.Inode, uint64(i), f.Read)
		require.NoError(t, err)
		require.Equal(t, mapped, b != 0, "block %d", i)
		if i == 0 {
			first = b
		}
		if i < 3 {
			require.Equal(t, first+uint64(i), b)
		}
	}
}

// A file in its inode: read, written, and left alone behind its end.
func TestInline(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	f := fs.File(t, "inline", 0)
	n, err := write(f, []byte("hello"), 10, false)
	require.NoError(t, err)
	require.Equal(t, 5, n)
	p := make([]byte, 8192)
	n, err = read(f, p, 0, false)
	require.NoError(t, err)
	require.Equal(t, append(make([]byte, 10), "hello"...), p[:n])
	require.Equal(t, append(make([]byte, 10), "hello"...), f.Medium(t))
	locked(f, func() { f.Pages.Truncate(0); f.SetSize(15) })
	n, err = read(f, p, 0, false)
	require.NoError(t, err)
	require.Equal(t, "hello", string(p[10:n]))
	n, err = write(f, []byte("direct"), 512, true)
	require.NoError(t, err)
	require.Equal(t, 6, n)
	n, err = read(f, p, 0, false)
	require.NoError(t, err)
	require.Equal(t, "direct", string(p[512:n]))
	require.Equal(t, make([]byte, 512-15), p[15:512])
}
