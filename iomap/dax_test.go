package iomap_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/iomap/iomaptest"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/file"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/invariant"
)

// daxWrite stores p as a filesystem does: the gap before it zeroed, the end of the file moved afterwards.
func daxWrite(f *iomaptest.File, p []byte, pos int64) (int, error) {
	f.Rw.Lock()
	defer f.Rw.Unlock()
	if size := f.Size(); pos > size {
		if _, err := iomap.DaxZeroRange(ctx, f.Inode, size, pos-size, f.DaxWrite, &f.Dax); err != nil {
			return 0, err
		}
	}
	k := vfs.Kiocb{Inode: f.Inode, Pos: pos}
	n, err := iomap.DaxRW(ctx, &k, p, true, f.DaxWrite, &f.Dax)
	if k.Pos > f.Size() {
		f.SetSize(k.Pos)
	}
	return n, err
}

func daxRead(f *iomaptest.File, p []byte, pos int64) (int, error) {
	f.Rw.RLock()
	defer f.Rw.RUnlock()
	k := vfs.Kiocb{Inode: f.Inode, Pos: pos}
	return iomap.DaxRW(ctx, &k, p, false, f.DaxRead, &f.Dax)
}

func fault(f *iomaptest.File, pos, n int64, write bool) (*iomap.DaxWindow, error) {
	f.Pages.InvalidateLock.RLock()
	defer f.Pages.InvalidateLock.RUnlock()
	ops := f.DaxRead
	if write {
		ops = f.DaxWrite
	}
	return iomap.DaxFault(ctx, f.Inode, pos, n, write, ops, &f.Dax)
}

// Random operations on memory against bytes: poison of the device never comes into sight, and what is valid of a window is what is read.
func TestDaxModel(t *testing.T) {
	for _, bits := range []uint8{12, 10, 9, 14} {
		t.Run(fmt.Sprint("bits ", bits), func(t *testing.T) {
			o := iomaptest.Options{BlockBits: bits, Size: 96 << 20, Seed: seed(t)}
			runDaxModel(t, iomaptest.New(t, o), rand.New(rand.NewPCG(o.Seed, 3)))
		})
	}
}

func runDaxModel(t *testing.T, fs *iomaptest.FS, rng *rand.Rand) {
	const top = 300 << 10
	f := fs.File(t, "mapped 32k; unwritten 32k; hole 32k; shared 32k", 100<<10)
	want := make([]byte, 100<<10)
	grow := func(n int64) {
		if n > int64(len(want)) {
			want = append(want, make([]byte, n-int64(len(want)))...)
		}
	}
	buf := make([]byte, top*2)
	for op := range 600 {
		pos, n := rng.Int64N(top), 1+rng.Int64N(1<<rng.IntN(17))
		end := min(pos+n, f.Size())
		what := ""
		switch rng.IntN(11) {
		case 0:
			what = "truncate"
			locked(f, func() {
				if size := f.Size(); pos > size {
					_, err := iomap.DaxZeroRange(ctx, f.Inode, size, pos-size, f.DaxWrite, &f.Dax)
					require.NoError(t, err)
					f.SetSize(pos)
				} else {
					_, err := iomap.DaxTruncatePage(ctx, f.Inode, pos, f.DaxWrite, &f.Dax)
					require.NoError(t, err)
					require.NoError(t, f.Dax.BreakLayout(ctx, f.Inode, pos, 1<<40))
					f.Cut(pos)
				}
			})
			grow(pos)
			want = want[:pos]
		case 1, 2:
			what = "zero"
			if pos < end {
				punch := rng.IntN(2) == 0
				locked(f, func() {
					_, err := iomap.DaxZeroRange(ctx, f.Inode, pos, end-pos, f.DaxWrite, &f.Dax)
					require.NoError(t, err)
					if punch {
						what = "punch"
						require.NoError(t, f.Dax.BreakLayout(ctx, f.Inode, pos, end))
						f.Punch(pos, end)
					}
				})
				clear(want[pos:end])
			}
		case 3:
			what = "fallocate"
			locked(f, func() { require.NoError(t, f.Fallocate(pos, pos+n)) })
		case 4:
			what = "share"
			locked(f, func() { f.Share(pos, pos+n) })
		case 5:
			what = "unshare"
			locked(f, func() { require.NoError(t, iomap.DaxUnshare(ctx, f.Inode, pos, n, f.DaxWrite, &f.Dax)) })
		case 6:
			what = "window"
			if pos &^= 4095; pos < f.Size() && fs.SB.BlockBits >= 12 {
				write := rng.IntN(2) == 0
				w, err := fault(f, pos, 4096<<rng.IntN(3), write)
				require.NoError(t, err)
				k := int(min(int64(len(w.Mem)), f.Size()-pos))
				require.Equal(t, -1, diff(want[pos:][:k], w.Mem[:k]), "op %d: window at %d", op, pos)
				if write {
					for i := range k {
						w.Mem[i] = byte(1 + rng.IntN(150))
					}
					copy(want[pos:], w.Mem[:k])
				}
				w.Release()
				require.Equal(t, write, w.Writable)
			}
		case 7:
			what = "fsync"
			require.NoError(t, iomap.DaxWriteback(f.Inode, 0, 1<<40, &f.Dax))
			require.Zero(t, f.Dax.Dirty())
		case 8, 9:
			what = "write"
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(1 + rng.IntN(150))
			}
			k, err := daxWrite(f, p, pos)
			require.NoError(t, err)
			require.EqualValues(t, n, k)
			grow(pos + n)
			copy(want[pos:], p)
		default:
			what = "read"
			k, err := daxRead(f, buf[:n], pos)
			require.NoError(t, err)
			part := want[min(pos, int64(len(want))):min(pos+n, int64(len(want)))]
			require.Equal(t, -1, diff(part, buf[:k]), "op %d: read of %d at %d", op, n, pos)
		}
		require.EqualValues(t, len(want), f.Size())
		if op%17 == 0 {
			k, err := daxRead(f, buf[:len(want)+1], 0)
			require.NoError(t, err)
			require.Equal(t, -1, diff(want, buf[:k]), "after op %d, %s of %d at %d: %v", op, what, n, pos, f.Types())
		}
	}
	require.Equal(t, -1, diff(want, f.Medium(t)))
}

// What a write may find: unwritten or promised space is the filesystem's mistake; the rest of a shared block comes with the copy.
func TestDaxTypes(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	dev := fs.Dev.(block.Mapper)
	f := fs.File(t, "", 8192)
	put := func(typ iomap.Type, flags iomap.Flags, src iomap.Type) *iomap.Ops {
		require.NoError(t, block.WriteAt(fs.Dev, fill(8192, iomaptest.Poison), 4<<20, 0))
		require.NoError(t, block.WriteAt(fs.Dev, fill(8192, 3), 2<<20, 0))
		return custom(func(_ int64, m, s *iomap.Mapping) {
			m.Length, m.Type, m.Flags = 8192, typ, flags
			if typ == iomap.Mapped || typ == iomap.Unwritten {
				m.Addr, m.Dax = 4<<20, dev
			}
			if src != iomap.Hole {
				s.Length, s.Type, s.Addr, s.Dax = 8192, src, 2<<20, dev
			}
		})
	}
	for _, typ := range []iomap.Type{iomap.Hole, iomap.Delalloc, iomap.Unwritten} {
		k := vfs.Kiocb{Inode: f.Inode}
		_, err := iomap.DaxRW(ctx, &k, []byte{1}, true, put(typ, 0, 0), &f.Dax)
		require.ErrorIs(t, err, errno.IO, typ)
		require.Zero(t, k.Pos)
	}
	for src, rest := range map[iomap.Type]byte{iomap.Mapped: 3, iomap.Hole: 0, iomap.Unwritten: 0} {
		for _, zero := range []bool{false, true} {
			ops, want := put(iomap.Unwritten, iomap.FlagShared, src), fill(8192, rest)
			if zero {
				if src != iomap.Mapped {
					continue
				}
				did, err := iomap.DaxZeroRange(ctx, f.Inode, 5000, 10, ops, &f.Dax)
				require.NoError(t, err)
				require.True(t, did)
				clear(want[5000:5010])
			} else {
				k := vfs.Kiocb{Inode: f.Inode, Pos: 5000}
				n, err := iomap.DaxRW(ctx, &k, fill(10, 9), true, ops, &f.Dax)
				require.NoError(t, err)
				require.Equal(t, 10, n)
				copy(want[5000:], fill(10, 9))
			}
			got := make([]byte, 8192)
			require.NoError(t, block.ReadAt(fs.Dev, got, 4<<20))
			require.Equal(t, want[4096:], got[4096:], "source %s", src)
			require.Equal(t, fill(4096, iomaptest.Poison), got[:4096], "only the block that is written to")
		}
	}
	did, err := iomap.DaxZeroRange(ctx, f.Inode, 0, 8192, put(iomap.Unwritten, 0, 0), &f.Dax)
	require.NoError(t, err)
	require.False(t, did)
	require.ErrorContains(t, func() error {
		_, err := daxRead(fs.File(t, "mapped 4k", 4096), nil, 0)
		_, err2 := iomap.DaxRW(ctx, &vfs.Kiocb{Inode: f.Inode}, make([]byte, 1), false, custom(func(_ int64, m, _ *iomap.Mapping) {
			m.Length, m.Type, m.Addr, m.Dev = 4096, iomap.Mapped, 4<<20, fs.Dev
		}), &f.Dax)
		require.NoError(t, err)
		return err2
	}(), "the device is not memory")
}

// No space in the middle: what was stored counts. At the first byte: the error.
func TestDaxNoSpace(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	f := fs.File(t, "", 0)
	fs.SetLeft(64 << 10)
	n, err := daxWrite(f, fill(256<<10, 4), 0)
	require.NoError(t, err)
	require.Equal(t, 64<<10, n)
	require.Equal(t, int64(64<<10), f.Size())
	_, err = daxWrite(f, []byte{1}, 64<<10)
	require.ErrorIs(t, err, errno.NOSPC)
	require.Equal(t, fill(64<<10, 4), f.Medium(t))
}

// Windows: zeros over holes until something is stored there, one page where a mapping is too short or the file ends, none behind the end.
func TestDaxFault(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	f := fs.File(t, "mapped 4k; hole 8k; mapped 16k", 16<<10+100)
	f.Store(t, 0, fill(4096, 7))
	zero, err := fault(f, 4096, 4096, false)
	require.NoError(t, err)
	require.True(t, zero.Zero && zero.Valid() && !zero.Writable && !zero.Major)
	require.Equal(t, make([]byte, 4096), zero.Mem)
	_, err = daxWrite(f, []byte{1}, 5000)
	require.NoError(t, err)
	require.False(t, zero.Valid(), "a block is there now")
	zero.Release()
	zero, err = fault(f, 8192, 4096, false)
	require.NoError(t, err)
	w, err := fault(f, 8192, 4096, true)
	require.NoError(t, err)
	require.True(t, w.Major && w.Writable && !w.Zero)
	require.False(t, zero.Valid())
	require.Equal(t, make([]byte, 4096), w.Mem, "not what the device held")
	zero.Release()
	w.Release()
	w, err = fault(f, 0, 8192, false)
	require.NoError(t, err)
	require.Len(t, w.Mem, 4096, "the mapping ends")
	require.Equal(t, byte(7), w.Mem[0])
	w.Release()
	w, err = fault(f, 16<<10, 8192, false)
	require.NoError(t, err)
	require.Len(t, w.Mem, 4096, "the file ends")
	w.Release()
	_, err = fault(f, 20<<10, 4096, false)
	require.ErrorIs(t, err, errno.FAULT)
	_, err = fault(f, 100, 4096, false)
	require.ErrorIs(t, err, errno.INVAL)
	small := iomaptest.New(t, iomaptest.Options{BlockBits: 10}).File(t, "mapped 1k; hole 1k; mapped 2k", 4096)
	_, err = fault(small, 0, 4096, false)
	require.ErrorContains(t, err, "does not cover the page")
	require.ErrorIs(t, err, errno.IO)
	ops := *f.DaxWrite
	begin := ops.Begin
	f.DaxWrite = &ops
	ops.Begin = func(ctx context.Context, ip *vfs.Inode, pos, n int64, fl iomap.OpFlags, m, src *iomap.Mapping) error {
		require.Equal(t, iomap.OpDax|iomap.OpFault|iomap.OpWrite, fl)
		err := begin(ctx, ip, pos, n, fl, m, src)
		m.Flags |= iomap.FlagDirty
		return err
	}
	w, err = fault(f, 0, 4096, true)
	require.NoError(t, err)
	require.True(t, w.NeedSync)
	w.Release()
}

// A store through a window to a shared page goes to a copy, and windows onto the shared one are stale.
func TestDaxFaultShared(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	f := fs.File(t, "shared 8k", 8192)
	f.Store(t, 0, fill(4096, 5))
	was, err := iomap.Bmap(ctx, f.Inode, 0, f.Read)
	require.NoError(t, err)
	r, err := fault(f, 0, 4096, false)
	require.NoError(t, err)
	w, err := fault(f, 0, 4096, true)
	require.NoError(t, err)
	require.False(t, r.Valid())
	require.Equal(t, fill(4096, 5), w.Mem)
	w.Mem[0] = 6
	require.Equal(t, byte(5), r.Mem[0])
	r.Release()
	w.Release()
	is, err := iomap.Bmap(ctx, f.Inode, 0, f.Read)
	require.NoError(t, err)
	require.NotEqual(t, was, is)
	require.Equal(t, byte(6), f.Medium(t)[0])
}

// Blocks are not freed below a window: who wants to waits, and the holder is told.
func TestDaxBreakLayout(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	f := fs.File(t, "mapped 16k; hole 4k", 20<<10)
	w, err := fault(f, 4096, 4096, true)
	require.NoError(t, err)
	zero, err := fault(f, 16<<10, 4096, false)
	require.NoError(t, err)
	defer zero.Release()
	locked(f, func() { require.NoError(t, f.Dax.BreakLayout(ctx, f.Inode, 8192, 12288), "nobody there") })
	require.True(t, w.Valid())
	done := make(chan struct{})
	go func() {
		defer close(done)
		locked(f, func() {
			if err := f.Dax.BreakLayout(ctx, f.Inode, 0, 1<<40); err != nil {
				t.Error(err)
			}
			f.Cut(0)
		})
	}()
	require.Eventually(t, func() bool { return !w.Valid() }, 10*time.Second, time.Millisecond)
	select {
	case <-done:
		t.Fatal("freed below a window")
	case <-time.After(20 * time.Millisecond):
	}
	require.Eventually(t, func() bool {
		free := f.Pages.InvalidateLock.TryRLock()
		if free {
			f.Pages.InvalidateLock.RUnlock()
		}
		return free
	}, wait, tick, "the invalidate lock is let go while it waits")
	w.Release()
	<-done
	f = fs.File(t, "mapped 4k", 4096)
	w, err = fault(f, 0, 4096, false)
	require.NoError(t, err)
	stopped, stop := context.WithCancel(ctx)
	stop()
	locked(f, func() { require.ErrorIs(t, f.Dax.BreakLayout(stopped, f.Inode, 0, 1<<40), context.Canceled) })
	w.Release()
}

// flushes notes what is made durable.
type flushes struct {
	*mem.Device
	ranges [][2]int64
	err    error
}

func (d *flushes) FlushMemory(off, n int64) error {
	d.ranges = append(d.ranges, [2]int64{off, n})
	return d.err
}

// What is dirty is written once, in runs of the device, and again only after another store; a writable window stays dirty.
func TestDaxWriteback(t *testing.T) {
	m, err := mem.New(16<<20, mem.Options{})
	require.NoError(t, err)
	dev := &flushes{Device: m}
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, Device: dev})
	f := fs.File(t, "mapped 1m", 1<<20)
	at, err := iomap.Bmap(ctx, f.Inode, 0, f.Read)
	require.NoError(t, err)
	base := int64(at) << 12
	sync := func(start, end int64) (got [][2]int64) {
		t.Helper()
		dev.ranges = nil
		require.NoError(t, iomap.DaxWriteback(f.Inode, start, end, &f.Dax))
		for _, r := range dev.ranges {
			got = append(got, [2]int64{r[0] - base, r[1]})
		}
		return got
	}
	store := func(pos, n int64) {
		_, err := daxWrite(f, make([]byte, n), pos)
		require.NoError(t, err)
	}
	for i := range int64(10) {
		store(i*100, 100)
	}
	store(50000, 10)
	store(40000, 10)
	store(40005, 20)
	store(39990, 10)
	require.Equal(t, [][2]int64{{0, 1000}}, sync(500, 600))
	require.Equal(t, [][2]int64{{39990, 35}, {50000, 10}}, sync(0, 1<<40))
	require.Empty(t, sync(0, 1<<40))
	w, err := fault(f, 4096, 4096, true)
	require.NoError(t, err)
	require.Equal(t, [][2]int64{{4096, 4096}}, sync(0, 1<<40)[:1])
	require.NotEmpty(t, sync(0, 1<<40), "its holder may have stored since")
	w.Release()
	require.Equal(t, [][2]int64{{4096, 4096}}, sync(0, 1<<40))
	require.Empty(t, sync(0, 1<<40))
	for i := range int64(2000) { // every other byte of a megabyte: bounded
		store(i*512, 1)
	}
	require.NotEmpty(t, dev.ranges)
	file, err := f.Open(ctx, vfs.ORdwr)
	require.NoError(t, err)
	defer file.Close()
	dev.err = errno.IO
	store(0, 1)
	require.ErrorIs(t, iomap.DaxWriteback(f.Inode, 0, 1<<40, &f.Dax), errno.IO)
	require.ErrorIs(t, file.Fsync(ctx, false), errno.IO)
	require.NoError(t, file.Fsync(ctx, false))
}

// Random spans against a set of bytes.
func TestDaxDirtySpans(t *testing.T) {
	s := seed(t)
	rng := rand.New(rand.NewPCG(s, 9))
	m, err := mem.New(16<<20, mem.Options{})
	require.NoError(t, err)
	dev := &flushes{Device: m}
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 9, Device: dev, Seed: s})
	f := fs.File(t, "mapped 8k; hole 8k; mapped 8k", 24<<10)
	for range 300 {
		dirty := map[int64]bool{}
		for range 1 + rng.IntN(12) {
			pos, n := rng.Int64N(24<<10), 1+rng.Int64N(3000)
			n = min(n, 24<<10-pos)
			if rng.IntN(5) == 0 {
				locked(f, func() { require.NoError(t, f.Dax.BreakLayout(ctx, f.Inode, pos, pos+n)) })
				for i := pos; i < pos+n; i++ {
					delete(dirty, i)
				}
				continue
			}
			_, err := daxWrite(f, make([]byte, n), pos)
			require.NoError(t, err)
			for i := pos; i < pos+n; i++ {
				dirty[i] = true
			}
		}
		require.EqualValues(t, len(dirty), f.Dax.Dirty())
		dev.ranges = nil
		require.NoError(t, iomap.DaxWriteback(f.Inode, 0, 1<<40, &f.Dax))
		var n int64
		for _, r := range dev.ranges {
			n += r[1]
		}
		require.EqualValues(t, len(dirty), n)
	}
}

// Ranges are the same when their bytes are and their holes are.
func TestDaxSame(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, Seed: seed(t)})
	a := fs.File(t, "mapped 16k; hole 8k; mapped 8k", 32<<10)
	b := fs.File(t, "hole 4k; mapped 8k; mapped 8k; hole 8k; mapped 8k", 40<<10)
	same := func(apos, bpos, n int64) bool {
		t.Helper()
		ok, err := iomap.DaxSame(ctx, a.Inode, apos, a.DaxRead, b.Inode, bpos, b.DaxRead, n)
		require.NoError(t, err)
		return ok
	}
	require.True(t, same(0, 4096, 32<<10))
	require.False(t, same(0, 0, 8192), "zeros and a hole")
	_, err := daxWrite(b, []byte{1}, 4096+31<<10)
	require.NoError(t, err)
	require.False(t, same(0, 4096, 32<<10))
	require.True(t, same(0, 4096, 31<<10))
	_, err = iomap.DaxSame(ctx, a.Inode, 0, a.Read, b.Inode, 0, b.DaxRead, 8192)
	require.ErrorIs(t, err, errno.IO)
}

// An image that is cut short under a mount: errors, not the end of the process.
func TestDaxImageCutShort(t *testing.T) {
	img := filepath.Join(t.TempDir(), "i")
	require.NoError(t, os.WriteFile(img, make([]byte, 8<<20), 0o600))
	d, err := file.Open(img, file.Options{})
	require.NoError(t, err)
	if !d.Limits().DirectMemory {
		t.Skip("no direct memory here")
	}
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, Device: d, Size: 8 << 20})
	f, g := fs.File(t, "mapped 64k; hole 8k; shared 8k", 80<<10), fs.File(t, "mapped 64k", 64<<10)
	_, err = daxWrite(f, fill(64<<10, 7), 0)
	require.NoError(t, err)
	require.NoError(t, iomap.DaxWriteback(f.Inode, 0, 1<<40, &f.Dax))
	p := make([]byte, 100)
	w, err := fault(f, 0, 4096, false)
	require.NoError(t, err)
	defer w.Release()
	require.NoError(t, os.Truncate(img, 4096))
	_, err = daxRead(f, p, 0)
	require.ErrorIs(t, err, errno.IO)
	_, err = daxWrite(f, p, 0)
	require.ErrorIs(t, err, errno.IO)
	_, err = daxWrite(f, p, 72<<10)
	require.ErrorIs(t, err, errno.IO)
	_, err = iomap.DaxZeroRange(ctx, f.Inode, 0, 100, f.DaxWrite, &f.Dax)
	require.ErrorIs(t, err, errno.IO)
	_, err = iomap.DaxSame(ctx, f.Inode, 0, f.DaxRead, g.Inode, 0, g.DaxRead, 4096)
	require.ErrorIs(t, err, errno.IO)
	require.ErrorIs(t, block.Touch(func() { copy(p, w.Mem) }), errno.IO)
	require.NoError(t, os.Truncate(img, 8<<20))
	_, err = daxRead(f, p, 0)
	require.NoError(t, err)
	require.True(t, bytes.Equal(p, make([]byte, 100)))
}

// Reads and writes of memory allocate nothing.
func TestDaxAllocs(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12})
	f := fs.File(t, "mapped 1m", 1<<20)
	dev := fs.Dev.(block.Mapper)
	ops := custom(func(_ int64, m, _ *iomap.Mapping) { m.Length, m.Type, m.Addr, m.Dax = 1<<20, iomap.Mapped, 2<<20, dev })
	p := make([]byte, 4096)
	k := vfs.Kiocb{Inode: f.Inode}
	if !invariant.Enabled {
		require.Zero(t, testing.AllocsPerRun(200, func() {
			for _, write := range []bool{false, true} {
				k.Pos = 8192
				_, _ = iomap.DaxRW(ctx, &k, p, write, ops, &f.Dax)
			}
		}))
	}
}
