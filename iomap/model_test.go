package iomap_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/iomap/iomaptest"
	"github.com/iomapfs/iomapfs/vfs"
)

var ctx = context.Background()

func seed(t testing.TB) uint64 {
	s := uint64(time.Now().UnixNano())
	if v, err := strconv.ParseUint(os.Getenv("IOMAPFS_SEED"), 10, 64); err == nil {
		s = v
	}
	t.Logf("IOMAPFS_SEED=%d", s)
	return s
}

// write stores p at pos as a filesystem does, buffered or directly with the rest buffered.
func write(f *iomaptest.File, p []byte, pos int64, direct bool) (int, error) {
	f.Rw.Lock()
	defer f.Rw.Unlock()
	if size := f.Size(); pos > size {
		f.Pages.InvalidateLock.Lock()
		_, err := iomap.ZeroRange(ctx, f.Inode, size, pos-size, f.Zero, f.ReadOps)
		f.Pages.InvalidateLock.Unlock()
		if err != nil {
			return 0, err
		}
	}
	k := vfs.Kiocb{Inode: f.Inode, Pos: pos}
	done := 0
	if direct {
		n, err := iomap.Direct(ctx, &k, p, true, f.Direct, f.DirectOps, iomap.DirectForceWait, nil, 0)
		if err != nil && !errors.Is(err, vfs.ErrNotBlock) {
			return 0, err
		}
		if done = n; done == len(p) {
			return done, nil
		}
	}
	n, err := iomap.BufferedWrite(ctx, &k, p[done:], f.Write, f.ReadOps, nil)
	if done+n > 0 {
		err = nil
	}
	return done + n, err
}

// writeThrough stores p at pos in the cache and on the device, the rest in the cache.
func writeThrough(f *iomaptest.File, k *vfs.Kiocb, p []byte) (int, error) {
	f.Rw.Lock()
	defer f.Rw.Unlock()
	k.Inode = f.Inode
	if size := f.Size(); k.Pos > size {
		f.Pages.InvalidateLock.Lock()
		_, err := iomap.ZeroRange(ctx, f.Inode, size, k.Pos-size, f.Zero, f.ReadOps)
		f.Pages.InvalidateLock.Unlock()
		if err != nil {
			return 0, err
		}
	}
	n, err := iomap.WriteThrough(ctx, k, p, f.Direct, f.ReadOps, f.DirectOps, nil)
	if err != nil || n == len(p) {
		return n, err
	}
	m, err := iomap.BufferedWrite(ctx, k, p[n:], f.Write, f.ReadOps, nil)
	return n + m, err
}

// read reads through the cache or around it.
func read(f *iomaptest.File, p []byte, pos int64, direct bool) (int, error) {
	if !direct {
		return f.Pages.Read(ctx, nil, p, pos, 0)
	}
	f.Rw.RLock()
	defer f.Rw.RUnlock()
	k := vfs.Kiocb{Inode: f.Inode, Pos: pos}
	var do *iomap.DirectOps
	if f.DirectOps.SubmitIO != nil {
		do = &iomap.DirectOps{SubmitIO: f.DirectOps.SubmitIO}
	}
	return iomap.Direct(ctx, &k, p, false, f.Read, do, 0, nil, 0)
}

// locked runs f with the file as truncation wants it.
func locked(f *iomaptest.File, fn func()) {
	f.Rw.Lock()
	f.Pages.InvalidateLock.Lock()
	fn()
	f.Pages.InvalidateLock.Unlock()
	f.Rw.Unlock()
}

// Random operations of one file against bytes in memory: mappings cut at random, stale at random, written back and dropped at the
// same time. Poison of the device must never come into sight, and no promise may be left over.
func TestModel(t *testing.T) {
	for _, c := range []iomaptest.Options{
		{BlockBits: 12},
		{BlockBits: 10},
		{BlockBits: 9},
		{BlockBits: 14},
		{BlockBits: 10, NoLarge: true},
		{BlockBits: 12, NoLarge: true},
		{BlockBits: 10, StaleOdds: 2},
		{BlockBits: 12, StaleOdds: 2},
		{BlockBits: 12, Cache: 2 << 20},
		{BlockBits: 10, MaxOrder: 2, Cache: 1 << 20},
		{BlockBits: 10, Cipher: iomaptest.ByRead},
		{BlockBits: 12, Cipher: iomaptest.ByRanges},
		{BlockBits: 9, StaleOdds: 3, Cipher: iomaptest.ByRanges},
		{BlockBits: 10, NoUnwritten: true},
		{BlockBits: 10, NoLarge: true, NoUnwritten: true},
		{BlockBits: 12, NoLarge: true, NoUnwritten: true},
		{BlockBits: 10, MaxOrder: 2, Cache: 1 << 20, NoUnwritten: true},
	} {
		name := fmt.Sprintf("bits %d order %d nolarge %v stale %d cache %d cipher %d nounwritten %v",
			c.BlockBits, c.MaxOrder, c.NoLarge, c.StaleOdds, c.Cache>>20, c.Cipher, c.NoUnwritten)
		t.Run(name, func(t *testing.T) {
			c.Size = 64 << 20
			c.Seed = seed(t)
			runModel(t, iomaptest.New(t, c), c)
		})
	}
}

func runModel(t *testing.T, fs *iomaptest.FS, c iomaptest.Options) {
	const top = 600 << 10
	rng := rand.New(rand.NewPCG(c.Seed, 2))
	spec := "mapped 32k; unwritten 32k; hole 32k; shared 32k"
	if c.NoUnwritten {
		spec = "mapped 32k; hole 64k"
	}
	f := fs.File(t, spec, 100<<10)
	want := make([]byte, 100<<10)
	bs := int64(1) << c.BlockBits
	grow := func(n int64) {
		if n > int64(len(want)) {
			want = append(want, make([]byte, n-int64(len(want)))...)
		}
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() { // writeback and reclaim at every moment
		defer wg.Done()
		for {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Microsecond):
			}
			_ = f.Pages.FlushStart(ctx, 0, 1<<40)
			f.Pages.DropClean(0, 1<<40)
		}
	}()
	defer wg.Wait()
	defer close(stop)
	buf := make([]byte, top*2)
	for op := range 700 {
		pos, n := rng.Int64N(top), 1+rng.Int64N(1<<rng.IntN(17))
		what := ""
		kind := rng.IntN(14)
		if c.NoUnwritten && (kind == 3 || kind == 4) {
			kind = 9 // no unwritten space, no shared
		}
		switch kind {
		case 0:
			what = "truncate"
			locked(f, func() {
				if pos > f.Size() {
					_, err := iomap.ZeroRange(ctx, f.Inode, f.Size(), pos-f.Size(), f.Zero, f.ReadOps)
					require.NoError(t, err)
					old := f.Size()
					f.SetSize(pos)
					f.Pages.Extended(old, pos)
				} else {
					_, err := iomap.TruncatePage(ctx, f.Inode, pos, f.Zero, f.ReadOps)
					require.NoError(t, err)
					f.Cut(pos)
				}
			})
			grow(pos)
			want = want[:pos]
		case 1:
			what = "punch"
			locked(f, func() {
				end := min(pos+n, f.Size())
				if pos < end {
					_, err := iomap.ZeroRange(ctx, f.Inode, pos, end-pos, f.Zero, f.ReadOps)
					require.NoError(t, err)
					f.Punch(pos, end)
					clear(want[pos:end])
				}
			})
		case 2:
			what = "zero range"
			locked(f, func() {
				end := min(pos+n, f.Size())
				if pos < end {
					_, err := iomap.ZeroRange(ctx, f.Inode, pos, end-pos, f.Zero, f.ReadOps)
					require.NoError(t, err)
					clear(want[pos:end])
				}
			})
		case 3:
			what = "fallocate"
			locked(f, func() { require.NoError(t, f.Fallocate(pos, pos+n)) })
		case 4:
			what = "share"
			require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
			locked(f, func() {
				require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
				f.Share(pos, pos+n)
			})
		case 5:
			what = "unshare"
			locked(f, func() { require.NoError(t, iomap.Unshare(ctx, f.Inode, pos, n, f.Write, f.ReadOps)) })
		case 6:
			what = "fsync"
			require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
		case 7, 8:
			what = "direct write"
			pos, n = pos&^511, (n+511)&^511
			fallthrough
		case 9, 10, 11:
			direct := what != ""
			if !direct {
				what = "write"
			}
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(1 + rng.IntN(150))
			}
			var k int
			var err error
			if !direct && rng.IntN(3) == 0 {
				what = "write through"
				k, err = writeThrough(f, &vfs.Kiocb{Pos: pos}, p)
			} else {
				k, err = write(f, p, pos, direct)
			}
			require.NoError(t, err)
			require.EqualValues(t, n, k)
			grow(pos + n)
			copy(want[pos:], p)
		default:
			direct := rng.IntN(2) == 0
			what = fmt.Sprint("read direct=", direct)
			if direct {
				pos, n = pos&^511, (n+511)&^511
			}
			k, err := read(f, buf[:n], pos, direct)
			require.NoError(t, err)
			wantN := max(min(n, int64(len(want))-pos), 0)
			require.EqualValues(t, wantN, k, "op %d: %s of %d at %d, size %d", op, what, n, pos, len(want))
			if i := diff(want[min(pos, int64(len(want))):][:wantN], buf[:k]); i >= 0 {
				t.Fatalf("op %d: %s of %d at %d: byte %d is %#x, want %#x", op, what, n, pos, pos+int64(i), buf[i], want[pos+int64(i)])
			}
		}
		require.EqualValues(t, len(want), f.Size(), "op %d: %s", op, what)
		if op%29 == 0 {
			k, err := read(f, buf[:len(want)+1], 0, false)
			require.NoError(t, err)
			require.Equal(t, len(want), k)
			if i := diff(want, buf[:k]); i >= 0 {
				t.Fatalf("after op %d, %s of %d at %d: byte %d is %#x, want %#x; blocks of %d: %v", op, what, n, pos, i, buf[i], want[i], bs, f.Types())
			}
		}
	}
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	require.Zero(t, f.Delalloc(), "promises left over")
	if i := diff(want, f.Medium(t)); i >= 0 {
		t.Fatalf("on the medium byte %d is wrong", i)
	}
}

// diff gives the first place where a and b differ, -1 for none.
func diff(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
