package bufhead_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/faulty"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// One call of get_block for each buffer that is not mapped, for just that block, and none for what is.
func TestWriteAsks(t *testing.T) {
	fs := newFS(t, options{bits: 10})
	f := fs.file(t, "hole 16k", 16<<10)
	for range 2 {
		_, err := f.write(pattern(3000, 1), 500)
		require.NoError(t, err)
	}
	require.Equal(t, []call{{0, 1024, true}, {1, 1024, true}, {2, 1024, true}, {3, 1024, true}}, f.asked())
}

// What the write does not cover of its blocks: zeros where they are new, in memory and on the medium; read where they are not, with
// zeros behind the end of the file; not touched where whole blocks are covered.
func TestWriteParts(t *testing.T) {
	for _, c := range []struct {
		spec  string
		delay bool
		reads int
	}{{"hole 8k", false, 0}, {"hole 8k", true, 0}, {"unwritten 8k", true, 0}, {"mapped 8k", false, 2}} {
		t.Run(fmt.Sprint(c.spec, c.delay), func(t *testing.T) {
			fs := newFS(t, options{bits: 10})
			f := fs.file(t, c.spec, 7000)
			f.delay = c.delay
			want := f.fill(t)
			require.NoError(t, block.WriteAt(fs.dev, poisoned(1024), int64(f.slot(6).at)<<10, 0)) // holds 856 bytes of the file
			clear(want[6144:])
			if f.slots[6].kind == mapped {
				copy(want[6144:], poisoned(1024))
			}
			n := bios(func() {
				_, err := f.write(pattern(3000, 9), 1500)
				require.NoError(t, err)
			})
			copy(want[1500:], pattern(3000, 9))
			require.Equal(t, int64(c.reads), n)
			_, err := f.write([]byte("end"), 6998)
			require.NoError(t, err)
			want = append(want[:6998], "end"...)
			fo, done := f.folio(t, 4096)
			require.Equal(t, make([]byte, 7168-7001), fo.Data()[7001-4096:7168-4096], "behind the end, also for a mapping")
			done()
			require.True(t, bytes.Equal(want, f.read(t, 0, 1<<20)))
			require.NoError(t, f.truncate(8000))
			want = append(want, make([]byte, 999)...)
			require.True(t, bytes.Equal(want, f.read(t, 0, 1<<20)))
			f.sync(t)
			require.True(t, bytes.Equal(want, f.read(t, 0, 1<<20)))
			require.True(t, bytes.Equal(want, f.medium(t)))
		})
	}
}

// A copy that falls short: in a new block what was on the medium is never seen, and no new block is left that would show it later; of
// an old one the rest stays what it was.
func TestShortCopy(t *testing.T) {
	for _, how := range []string{"at once", "delay", "unwritten", "there"} {
		for _, stop := range []int{0, 1, 700, 1024, 2000} {
			fs := newFS(t, options{bits: 10})
			spec := "hole 16k"
			if how == "there" {
				spec = "mapped 16k"
			}
			f := fs.file(t, spec, 16<<10)
			f.delay, f.unwritten = how == "delay", how == "unwritten"
			want := f.fill(t)
			p := pattern(4096, 1)
			n, err := f.writeFrom(4096, 300, func(dst []byte, off int) int { return copy(dst, p[off:stop]) })
			if stop == 0 {
				require.ErrorIs(t, err, errno.FAULT)
			} else {
				require.NoError(t, err)
			}
			require.Equal(t, stop, n)
			copy(want[300:], p[:stop])
			fo, done := f.folio(t, 0)
			for _, bh := range bufhead.BuffersOf(fo) {
				require.False(t, bh.Has(bufhead.New))
			}
			done()
			require.True(t, bytes.Equal(want, f.read(t, 0, 1<<20)), "%s, %d", how, stop)
			f.sync(t)
			require.True(t, bytes.Equal(want, f.read(t, 0, 1<<20)), "%s, %d", how, stop)
			require.True(t, bytes.Equal(want, f.medium(t)), "%s, %d", how, stop)
		}
	}
}

// get_block fails, or the read of a part, when blocks before were allocated: they hold zeros and are dirty, and the folio with them.
func TestWriteFails(t *testing.T) {
	for _, uptodate := range []bool{false, true} {
		fs, dev := faultyFS(t, options{bits: 10})
		f := fs.file(t, "hole 3k; mapped 1k", 4096)
		if uptodate {
			f.read(t, 0, 4096)
		}
		f.fail = func(c call) error {
			if c.create && c.iblock == 2 {
				return errno.NOSPC
			}
			return nil
		}
		_, err := f.write(pattern(4000, 1), 10)
		require.ErrorIs(t, err, errno.NOSPC)
		fo, done := f.folio(t, 0)
		require.True(t, fo.Dirty(), "no dirty buffer under a clean folio")
		require.True(t, bufhead.BuffersOf(fo)[0].Has(bufhead.Dirty|bufhead.Uptodate))
		done()
		f.fail = nil
		if !uptodate {
			dev.Add(faulty.Rule{Op: block.OpRead, Err: errno.IO, Always: true})
			_, err = f.write(pattern(2000, 1), 2048)
			require.ErrorIs(t, err, errno.IO, "the part of the last block")
			dev.Clear()
		}
		f.sync(t)
		require.Equal(t, make([]byte, 4096), f.read(t, 0, 4096))
		require.Equal(t, make([]byte, 4096), f.medium(t))
	}
}

// What a failed or short write allocated behind the end is given back.
func TestWriteFailsBehindTheEnd(t *testing.T) {
	fs := newFS(t, options{bits: 10})
	f := fs.file(t, "mapped 1k", 1000)
	left := fs.left()
	f.fail = func(c call) error {
		if c.create && c.iblock == 9 {
			return errno.NOSPC
		}
		return nil
	}
	n, err := f.write(pattern(20<<10, 1), 1000)
	require.NoError(t, err)
	require.Equal(t, 7192, n, "two folios")
	require.Equal(t, int64(8192), f.Size())
	require.Equal(t, left-7, fs.left())
	require.Equal(t, 1, f.cuts)
	_, err = f.writeFrom(1000, 9000, func([]byte, int) int { return 0 })
	require.ErrorIs(t, err, errno.NOSPC)
	f.fail = nil
	_, err = f.writeFrom(1000, 9000, func([]byte, int) int { return 0 })
	require.ErrorIs(t, err, errno.FAULT)
	require.Equal(t, left-7, fs.left())
	require.Equal(t, int64(8192), f.Size())
}

// A store through a mapping: blocks up to the end are allocated, what is behind it is neither written nor kept. The second fsync has
// nothing to do.
func TestPageMkwrite(t *testing.T) {
	fs := newFS(t, options{bits: 10})
	f := fs.file(t, "hole 4k", 1500)
	f.read(t, 0, 1500)
	fo, done := f.folio(t, 0)
	require.NoError(t, bufhead.PageMkwrite(ctx, f.Inode, fo, f.getBlock))
	copy(fo.Data(), poisoned(4096))
	fo.MarkDirty() // all buffers, also those behind the end
	done()
	require.Len(t, f.slots, 4)
	require.Equal(t, []kind{mapped, mapped, hole, hole}, []kind{f.slots[0].kind, f.slots[1].kind, f.slots[2].kind, f.slots[3].kind})
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	require.Zero(t, bios(func() { require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40)) }))
	require.False(t, f.Pages.IsDirty())
	for i, bh := range bufhead.BuffersOf(fo) {
		require.False(t, bh.Has(bufhead.Dirty), "buffer %d", i)
	}
	last := make([]byte, 1024)
	require.NoError(t, block.ReadAt(fs.dev, last, int64(f.slots[1].at)<<10))
	require.Equal(t, append(poisoned(476), make([]byte, 548)...), last, "zeros behind the end on the medium")
	require.NoError(t, f.truncate(4096))
	want := append(poisoned(1500), make([]byte, 2596)...)
	require.Equal(t, want, f.read(t, 0, 4096))
	f.sync(t)
	require.Equal(t, want, f.medium(t))

	require.NoError(t, f.truncate(0))
	fo, err := f.Pages.Grab(ctx, 0, 0)
	require.NoError(t, err)
	require.ErrorIs(t, bufhead.PageMkwrite(ctx, f.Inode, fo, f.getBlock), errno.FAULT)
	fo.Unlock()
	fo.Put()
}

// Truncation to the middle of a block zeroes its rest, whatever state it is in, and leaves holes alone.
func TestTruncatePage(t *testing.T) {
	for _, c := range []struct {
		spec   string
		cached bool
	}{{"mapped 4k", false}, {"mapped 4k", true}, {"hole 4k", false}, {"hole 4k", true}, {"unwritten 4k", false}} {
		fs := newFS(t, options{bits: 10})
		f := fs.file(t, c.spec, 4096)
		want := f.fill(t)
		if c.cached {
			f.read(t, 0, 4096)
		}
		kinds := f.slots[1].kind
		require.NoError(t, f.truncate(1500))
		require.NoError(t, f.truncate(2048))
		clear(want[1500:])
		require.Equal(t, want[:2048], f.read(t, 0, 4096), c)
		require.Equal(t, kinds, f.slots[1].kind, "nothing is allocated")
		f.sync(t)
		require.Equal(t, want[:2048], f.medium(t), c)
	}
	// Delayed and unwritten answers, of which nothing is in the cache: all of the block is zeros, not what memory held.
	for _, state := range []bufhead.State{bufhead.Delay, bufhead.Unwritten} {
		fs := newFS(t, options{bits: 10})
		f := fs.file(t, "mapped 4k", 4096)
		fo, err := f.Pages.Grab(ctx, 0, 0)
		require.NoError(t, err)
		copy(fo.Data(), poisoned(4096))
		fo.Unlock()
		fo.Put()
		require.NoError(t, bufhead.TruncatePage(ctx, f.Inode, 1500, func(ctx ctxType, ip *vfs.Inode, i uint64, bh *bufhead.BufferHead, create bool) error {
			err := f.getBlock(ctx, ip, i, bh, create)
			bh.Set(state)
			return err
		}))
		fo, done := f.folio(t, 0)
		require.Equal(t, make([]byte, 1024), fo.Data()[1024:2048])
		require.True(t, bufhead.BuffersOf(fo)[1].Has(bufhead.Uptodate|bufhead.Dirty))
		done()
	}
}

// Invalidation discards whole buffers only; release refuses all of a folio when one is dirty, locked or referenced.
func TestInvalidateRelease(t *testing.T) {
	fs := newFS(t, options{bits: 10})
	f := fs.file(t, "mapped 4k", 4096)
	_, err := f.write(pattern(4096, 1), 0)
	require.NoError(t, err)
	fo, done := f.folio(t, 0)
	defer done()
	list := bufhead.BuffersOf(fo)
	bufhead.InvalidateFolio(fo, 1000, 2000) // covers the second block only
	for i, bh := range list {
		require.Equal(t, i != 1, bh.Has(bufhead.Mapped|bufhead.Dirty), "buffer %d", i)
	}
	require.Nil(t, list[1].Dev)
	require.False(t, bufhead.ReleaseFolio(fo), "dirty")
	for _, bh := range list {
		bh.Clear(bufhead.Dirty)
	}
	list[2].Lock()
	require.False(t, bufhead.ReleaseFolio(fo), "locked")
	list[2].Unlock()
	list[3].Get()
	require.False(t, bufhead.ReleaseFolio(fo), "referenced")
	list[3].Put()
	require.True(t, fo.Dirty())
	require.True(t, bufhead.ReleaseFolio(fo))
	require.False(t, fo.Dirty(), "or buffers attached later would all be dirty")
	require.Empty(t, bufhead.BuffersOf(fo))
}

// dirty_folio marks every buffer, mapped or not, and then the folio.
func TestDirtyFolio(t *testing.T) {
	fs := newFS(t, options{bits: 10})
	f := fs.file(t, "mapped 1k; hole 2k; mapped 1k", 4096)
	f.read(t, 0, 4096)
	fo, done := f.folio(t, 0)
	require.Len(t, bufhead.BuffersOf(fo), 4, "torn")
	require.True(t, fo.MarkDirty())
	for _, bh := range bufhead.BuffersOf(fo) {
		require.True(t, bh.Has(bufhead.Dirty))
	}
	copy(fo.Data(), pattern(4096, 6))
	done()
	f.sync(t)
	require.Equal(t, pattern(4096, 6), f.medium(t), "also where there was a hole")
}

// bmap, seek, FIEMAP and swap files, by get_block and by what the cache holds for holes.
func TestSeekReportSwap(t *testing.T) {
	fs := newFS(t, options{bits: 10})
	f := fs.file(t, "mapped 4k; hole 4k; unwritten 4k; mapped 5k", 17<<10)
	for i, s := range f.slots {
		b, err := bufhead.Bmap(ctx, f.Inode, uint64(i), f.getBlock)
		require.NoError(t, err)
		if s.kind != mapped {
			s.at = 0
		}
		require.Equal(t, s.at, b, "block %d", i)
	}
	seek := func(pos int64, whence int) int64 {
		at, err := bufhead.Seek(ctx, f.Inode, pos, whence, f.getBlock)
		if err != nil {
			require.ErrorIs(t, err, errno.NXIO)
			return -1
		}
		return at
	}
	require.Equal(t, []int64{5, 12 << 10, -1}, []int64{seek(5, vfs.SeekData), seek(4096, vfs.SeekData), seek(17<<10, vfs.SeekData)})
	require.Equal(t, []int64{4096, 5000, 17 << 10}, []int64{seek(5, vfs.SeekHole), seek(5000, vfs.SeekHole), seek(12<<10, vfs.SeekHole)})
	f.delay = true
	_, err := f.write([]byte("delayed"), 6000)
	require.NoError(t, err)
	require.Equal(t, []int64{5120, 6144, 5120}, []int64{seek(4096, vfs.SeekData), seek(5120, vfs.SeekHole), seek(5120, vfs.SeekData)})
	var got []vfs.FiemapExtent
	f.sync(t)
	info := &vfs.FiemapInfo{Len: 1 << 40, Max: 10, Emit: func(e vfs.FiemapExtent) error { got = append(got, e); return nil }}
	require.NoError(t, bufhead.Fiemap(ctx, f.Inode, info, f.getBlock))
	require.Len(t, got, 3)
	require.Equal(t, vfs.FiemapExtent{Logical: 12 << 10, Physical: f.slots[12].at << 10, Length: 5 << 10, Flags: vfs.ExtentMerged | vfs.ExtentLast}, got[2])

	require.ErrorIs(t, bufhead.SwapActivate(ctx, f.Inode, 100, func(vfs.SwapExtent) error { return nil }, f.getBlock), errno.INVAL, "holes")
	g := fs.file(t, "mapped 3k; mapped 21k", 24<<10)
	g.slots[0].at += 100 // the first page does not lie together
	pages := uint64(0)
	require.NoError(t, bufhead.SwapActivate(ctx, g.Inode, 100, func(e vfs.SwapExtent) error {
		require.Equal(t, pages, e.Page)
		require.Zero(t, e.Addr%pagecache.PageSize)
		pages += e.Pages
		return nil
	}, g.getBlock))
	require.GreaterOrEqual(t, pages, uint64(4))
}

// Writes that may not wait are not served: get_block may always.
func TestWriteNoWait(t *testing.T) {
	fs := newFS(t, options{bits: 10})
	f := fs.file(t, "mapped 4k", 4096)
	k := vfs.Kiocb{Inode: f.Inode, NoWait: true}
	_, err := bufhead.Write(ctx, &k, []byte("x"), f.getBlock, f.opts())
	require.Equal(t, errno.AGAIN, err)
}
