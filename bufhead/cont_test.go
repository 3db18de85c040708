package bufhead_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

func contFile(t *testing.T, fs *fsys, spec string, size int64) *file {
	f := fs.file(t, spec, size)
	f.cont = true
	return f
}

// A write behind the end of a file without holes fills what lies between with zeros: all blocks are there, none shows what was on the
// medium.
func TestContGap(t *testing.T) {
	for _, bits := range []uint8{9, 10, 12, 16} {
		t.Run(fmt.Sprint(bits), func(t *testing.T) {
			fs := newFS(t, options{bits: bits, seed: seed(t)})
			f := contFile(t, fs, "", 0)
			want := make([]byte, 0, 1<<20)
			put := func(pos int64, n int) {
				p := pattern(n, byte(pos))
				got, err := f.write(p, pos)
				require.NoError(t, err)
				require.Equal(t, n, got)
				if int(pos)+n > len(want) {
					want = append(want, make([]byte, int(pos)+n-len(want))...)
				}
				copy(want[pos:], p)
				require.Equal(t, int64(len(want)), f.Size())
				require.GreaterOrEqual(t, f.init.Load(), f.Size())
				require.Less(t, f.init.Load(), f.Size()+1<<bits)
			}
			put(0, 100)
			put(300, 7)         // inside what is initialised
			put(3<<bits+5, 10)  // blocks between
			put(3<<bits+900, 1) // …
			put(300<<10+17, 5000)
			put(290<<10, 100)
			require.True(t, bytes.Equal(want, f.read(t, 0, 1<<20)))
			f.sync(t)
			require.True(t, bytes.Equal(want, f.read(t, 0, 1<<20)))
			require.True(t, bytes.Equal(want, f.medium(t)))
			for i, s := range f.slots[:(len(want)+1<<bits-1)>>bits] {
				require.Equal(t, mapped, s.kind, "block %d", i)
			}
		})
	}
}

// The initialised size of a file that was read from the medium ends inside a block, whose rest may hold anything.
func TestContFromMedium(t *testing.T) {
	for _, at := range []int64{1000, 1001, 1023, 1024, 1500, 4096, 9000} {
		fs := newFS(t, options{bits: 10})
		f := contFile(t, fs, "mapped 1k", 1000)
		stale := poisoned(1024)
		clear(stale[:1000])
		require.NoError(t, block.WriteAt(fs.dev, stale, int64(f.slots[0].at)<<10, 0))
		_, err := f.write([]byte("x"), at)
		require.NoError(t, err)
		want := append(make([]byte, at), 'x')
		require.True(t, bytes.Equal(want, f.read(t, 0, 1<<20)), "at %d", at)
		f.sync(t)
		require.True(t, bytes.Equal(want, f.read(t, 0, 1<<20)), "at %d", at)
		require.NoError(t, f.truncate(at+700))
		f.sync(t)
		require.True(t, bytes.Equal(append(want, make([]byte, 699)...), f.read(t, 0, 1<<20)), "at %d", at)
	}
}

// Without space for the gap nothing changes: the size stays, nothing of the medium comes into sight, all blocks are given back.
func TestContNoSpace(t *testing.T) {
	for _, grow := range []string{"write", "expand"} {
		t.Run(grow, func(t *testing.T) {
			fs := newFS(t, options{bits: 10})
			f := contFile(t, fs, "mapped 2k", 1500)
			fs.leave(20)
			run := func() error {
				if grow == "expand" {
					return f.truncate(1 << 20)
				}
				_, err := f.write([]byte("far"), 1<<20)
				return err
			}
			require.ErrorIs(t, run(), errno.NOSPC)
			require.Equal(t, int64(1500), f.Size())
			require.Equal(t, int64(1500), f.init.Load())
			require.Equal(t, 20, fs.left())
			require.Equal(t, make([]byte, 1500), f.read(t, 0, 1<<20))
			require.NoError(t, f.truncate(10<<10))
			f.sync(t)
			require.Equal(t, make([]byte, 10<<10), f.read(t, 0, 1<<20))
		})
	}
}

// A write that fails after part of it was done keeps that part, and a source that gives nothing leaves the size alone.
func TestContPartial(t *testing.T) {
	fs := newFS(t, options{bits: 10})
	f := contFile(t, fs, "", 0)
	fs.leave(16)
	n, err := f.write(pattern(40<<10, 3), 5<<10)
	require.NoError(t, err)
	require.Equal(t, 11<<10, n, "what there was space for")
	require.Equal(t, int64(16<<10), f.Size())
	_, err = f.write([]byte("more"), 20<<10)
	require.ErrorIs(t, err, errno.NOSPC)
	require.Equal(t, int64(16<<10), f.Size())
	require.Equal(t, append(make([]byte, 5<<10), pattern(40<<10, 3)[:11<<10]...), f.read(t, 0, 1<<20))

	require.NoError(t, f.truncate(100))
	_, err = f.writeFrom(50, 4000, func([]byte, int) int { return 0 })
	require.ErrorIs(t, err, errno.FAULT)
	require.Equal(t, int64(100), f.Size())
	require.Equal(t, make([]byte, 100), f.read(t, 0, 1<<20))
}

// A gap is filled until the caller gives up.
func TestContInterrupted(t *testing.T) {
	fs := newFS(t, options{bits: 12})
	f := contFile(t, fs, "", 0)
	c, cancel := context.WithCancel(ctx)
	asked := 0
	f.fail = func(call) error {
		if asked++; asked == 5 {
			cancel()
		}
		return nil
	}
	f.Rw.Lock()
	defer f.Rw.Unlock()
	err := bufhead.ContExpand(c, f.Inode, 8<<20, f.getBlock, f.opts())
	require.ErrorIs(t, err, context.Canceled)
	require.Less(t, asked, 10)
	require.Zero(t, f.Size())
	require.Zero(t, f.init.Load())
	k := vfs.Kiocb{Inode: f.Inode, Pos: 4096}
	n, err := bufhead.Write(ctx, &k, []byte("x"), f.getBlock, f.opts())
	require.NoError(t, err)
	require.Equal(t, 1, n)
}
