package iomap_test

import (
	"bytes"
	"context"
	"sync/atomic"
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

// direct runs one synchronous request with the lock that a filesystem would hold.
func direct(f *iomaptest.File, k *vfs.Kiocb, p []byte, write bool, do *iomap.DirectOps, fl iomap.DirectFlags) (int, error) {
	f.Rw.Lock()
	defer f.Rw.Unlock()
	k.Inode = f.Inode
	return iomap.Direct(ctx, k, p, write, f.Direct, do, fl, nil, 0)
}

// The order at the end of a write: the filesystem converts, then the cache goes, then who waits for direct I/O goes on. A reader that
// comes before the conversion has cached zeros: they must not stay.
func TestDirectOrder(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{})
	f := fs.File(t, "unwritten 8k", 8192)
	waited := make(chan struct{})
	do := &iomap.DirectOps{EndIO: func(ctx context.Context, k *vfs.Kiocb, size int64, err error, r iomap.DirectResult) error {
		require.Equal(t, iomap.DirectUnwritten, r)
		require.Equal(t, int64(8192), size)
		go func() { f.DirectWait(); close(waited) }()
		p := make([]byte, 8192)
		_, rerr := f.Pages.Read(ctx, nil, p, 0, 0)
		require.NoError(t, rerr)
		require.Equal(t, make([]byte, 8192), p, "not converted yet")
		select {
		case <-waited:
			t.Error("the request is not over, but truncation may go on")
		case <-time.After(20 * time.Millisecond):
		}
		return f.DirectOps.EndIO(ctx, k, size, err, r)
	}}
	k := vfs.Kiocb{}
	n, err := direct(f, &k, fill(8192, 7), true, do, 0)
	require.NoError(t, err)
	require.Equal(t, 8192, n)
	<-waited
	p := make([]byte, 8192)
	_, err = read(f, p, 0, false)
	require.NoError(t, err)
	require.Equal(t, fill(8192, 7), p)
}

// The cache that cannot be dropped after a write: the write stands, and a sync tells, once.
func TestDirectCacheOutlives(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{})
	f := fs.File(t, "mapped 8k", 8192)
	file, err := f.Open(ctx, vfs.ORdwr)
	require.NoError(t, err)
	defer file.Close()
	f.Pages.Ops().ReleaseFolio = func(*pagecache.Folio) bool { return false }
	var fo *pagecache.Folio
	do := &iomap.DirectOps{EndIO: func(ctx context.Context, _ *vfs.Kiocb, _ int64, err error, _ iomap.DirectResult) error {
		var rerr error
		fo, rerr = f.Pages.ReadFolio(ctx, 0)
		require.NoError(t, rerr)
		fo.Lock()
		fo.SetPrivate("held")
		fo.Unlock()
		return err
	}}
	k := vfs.Kiocb{}
	n, err := direct(f, &k, fill(8192, 7), true, do, 0)
	require.NoError(t, err)
	require.Equal(t, 8192, n)
	require.Equal(t, fill(8192, 7), f.Medium(t))
	require.ErrorIs(t, file.Fsync(ctx, false), errno.IO)
	require.NoError(t, file.Fsync(ctx, false))
	fo.Lock()
	fo.SetPrivate(nil)
	fo.Unlock()
	fo.Put()
}

// Who must not wait is told so: by a read over dirty data, by a write over anything cached; Begin hears of it.
func TestDirectNoWait(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{})
	f := fs.File(t, "mapped 16k", 16384)
	f.Pages.SetOrders(0, 0)
	_, err := write(f, []byte{1}, 0, false)
	require.NoError(t, err)
	f.Calls()
	p := make([]byte, 4096)
	_, err = direct(f, &vfs.Kiocb{NoWait: true}, p, false, nil, 0)
	require.ErrorIs(t, err, errno.AGAIN)
	_, err = direct(f, &vfs.Kiocb{NoWait: true}, p, true, nil, 0)
	require.ErrorIs(t, err, errno.AGAIN)
	require.Empty(t, f.Calls(), "before Begin")
	require.True(t, f.Pages.IsDirty(), "nothing was written back")
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	_, err = direct(f, &vfs.Kiocb{NoWait: true}, p, true, nil, 0)
	require.ErrorIs(t, err, errno.AGAIN, "clean, but cached")
	n, err := direct(f, &vfs.Kiocb{NoWait: true}, p, false, nil, 0)
	require.NoError(t, err)
	require.Equal(t, 4096, n)
	require.Equal(t, iomap.OpDirect|iomap.OpNoWait, f.Calls()[0].Flags)
	n, err = direct(f, &vfs.Kiocb{NoWait: true, Pos: 8192}, p, true, nil, 0)
	require.NoError(t, err)
	require.Equal(t, 4096, n)
	require.Equal(t, iomap.OpDirect|iomap.OpNoWait|iomap.OpWrite, f.Calls()[0].Flags)
}

// A write that may only overwrite: inside the file, over one written mapping.
func TestDirectOverwriteOnly(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{})
	f := fs.File(t, "mapped 8k; unwritten 4k; mapped 4k", 16384-512)
	try := func(pos int64, n int) error {
		_, err := direct(f, &vfs.Kiocb{Pos: pos}, make([]byte, n), true, f.DirectOps, iomap.DirectOverwriteOnly)
		return err
	}
	require.ErrorIs(t, try(12288, 4096), errno.AGAIN)
	require.Empty(t, f.Calls(), "past the end: before Begin")
	require.NoError(t, try(512, 4096))
	require.Equal(t, iomap.OpDirect|iomap.OpWrite|iomap.OpOverwriteOnly, f.Calls()[0].Flags)
	require.ErrorIs(t, try(4096, 8192), errno.AGAIN)
	require.ErrorIs(t, try(8192, 4096), errno.AGAIN)
	require.NoError(t, try(12288, 4096-512), "to the last byte")
}

// Bios are as large as mappings: one for each, the zeros around a part of a block included.
func TestDirectBios(t *testing.T) {
	d := newSlow(t, mem.Options{}, nil)
	fs := iomaptest.New(t, iomaptest.Options{Device: d})
	for _, c := range []struct {
		spec   string
		pos, n int64
		write  bool
		lens   []int64
	}{
		{"mapped 1m", 0, 1 << 20, false, []int64{1 << 20}},
		{"mapped 1m", 0, 1 << 20, true, []int64{1 << 20}},
		{"unwritten 64k", 512, 8192, true, []int64{12288}},
		{"unwritten 64k", 512, 512, true, []int64{4096}},
		{"mapped 64k", 512, 512, true, []int64{512}},
		{"mapped 8k; hole 4k; mapped 4k", 512, 16384 - 512, false, []int64{8192 - 512, 4096}},
	} {
		f := fs.File(t, c.spec, 1<<20)
		d.mu.Lock()
		d.seen = nil
		d.mu.Unlock()
		_, err := direct(f, &vfs.Kiocb{Pos: c.pos}, make([]byte, c.n), c.write, f.DirectOps, 0)
		require.NoError(t, err)
		var lens []int64
		d.mu.Lock()
		for _, b := range d.seen {
			lens = append(lens, b.Len)
		}
		d.mu.Unlock()
		require.ElementsMatch(t, c.lens, lens, c.spec)
	}
}

// Bios cut short by the device's limit end at whole blocks of the filesystem when it asks so.
func TestDirectFsBlockAligned(t *testing.T) {
	d := newSlow(t, mem.Options{}, func(l *block.Limits) { l.MaxBio = 6144 })
	fs := iomaptest.New(t, iomaptest.Options{Device: d})
	f := fs.File(t, "mapped 64k", 64<<10)
	d.mu.Lock()
	d.seen = nil
	d.mu.Unlock()
	_, err := direct(f, &vfs.Kiocb{}, make([]byte, 16384), true, f.DirectOps, iomap.DirectFsBlockAligned)
	require.NoError(t, err)
	d.mu.Lock()
	defer d.mu.Unlock()
	require.Len(t, d.seen, 4)
	for _, b := range d.seen {
		require.Zero(t, (b.Off|b.Len)%4096)
	}
	_, err = direct(f, &vfs.Kiocb{Pos: 512}, make([]byte, 4096), true, f.DirectOps, iomap.DirectFsBlockAligned)
	require.ErrorIs(t, err, errno.INVAL)
}

// After the first failure nothing more is sent, and what was sent is what EndIO and End are told of.
func TestDirectStopsAfterError(t *testing.T) {
	m, err := mem.New(16<<20, mem.Options{})
	require.NoError(t, err)
	bad := &limited{sick: sick{Device: m}, lim: *m.Limits()}
	bad.lim.MaxBio = 4096
	fs := iomaptest.New(t, iomaptest.Options{Device: bad})
	f := fs.File(t, "mapped 64k", 64<<10)
	f.Calls()
	told := int64(-1)
	do := &iomap.DirectOps{EndIO: func(_ context.Context, _ *vfs.Kiocb, size int64, err error, _ iomap.DirectResult) error {
		told = size
		return err
	}}
	bad.failWrite.Store(1)
	n, err := direct(f, &vfs.Kiocb{}, make([]byte, 64<<10), true, do, 0)
	require.ErrorIs(t, err, errno.IO)
	require.Zero(t, n)
	require.Positive(t, told)
	require.Less(t, told, int64(64<<10))
	calls := f.Calls()
	require.Equal(t, told, calls[len(calls)-1].Done)
}

type limited struct {
	sick
	lim block.Limits
}

func (d *limited) Limits() *block.Limits { return &d.lim }

// An asynchronous write that must be durable calls back after the sync, whoever asked for it.
func TestDirectAsyncSync(t *testing.T) {
	for _, how := range []string{"dsync", "sync", "inode", "no"} {
		d := newSlow(t, mem.Options{VolatileCache: true}, nil)
		fs := iomaptest.New(t, iomaptest.Options{Device: d})
		f := fs.File(t, "mapped 8k", 8192)
		file, err := f.Open(ctx, vfs.ORdwr)
		require.NoError(t, err)
		var syncs, data atomic.Int64
		f.Fop.Fsync = func(_ context.Context, _ *vfs.File, _, _ int64, datasync bool) error {
			syncs.Add(1)
			if datasync {
				data.Add(1)
			}
			return nil
		}
		k := file.Kiocb(0)
		k.DSync, k.Sync = how == "dsync" || how == "sync", how == "sync"
		if how == "inode" {
			f.A.Flags |= vfs.FlagSync
		}
		type result struct {
			n     int
			err   error
			syncs int64
		}
		done := make(chan result, 2)
		k.Done = func(n int, err error) { done <- result{n, err, syncs.Load()} }
		hold := make(chan struct{}) // else it may be over before it is queued
		d.hold = hold
		_, err = direct(f, &k, fill(8192, 7), true, f.DirectOps, 0)
		require.ErrorIs(t, err, vfs.ErrQueued)
		close(hold)
		r := <-done
		require.NoError(t, r.err)
		require.Equal(t, 8192, r.n)
		require.Equal(t, int64(8192), k.Pos)
		if how == "no" {
			require.Zero(t, r.syncs)
		} else {
			require.Equal(t, int64(1), r.syncs, how)
			require.Equal(t, how == "dsync", data.Load() == 1, how)
		}
		require.Empty(t, done)
		file.Close()
	}
}

// Truncation waits for an asynchronous write in flight; a forced wait gives the result at once.
func TestDirectInFlight(t *testing.T) {
	d := newSlow(t, mem.Options{}, nil)
	fs := iomaptest.New(t, iomaptest.Options{Device: d})
	f := fs.File(t, "mapped 8k", 8192)
	called := make(chan struct{}, 1)
	k := vfs.Kiocb{Done: func(int, error) { called <- struct{}{} }}
	n, err := direct(f, &k, fill(8192, 1), true, f.DirectOps, iomap.DirectForceWait)
	require.NoError(t, err)
	require.Equal(t, 8192, n)
	require.Empty(t, called)

	time.Sleep(10 * time.Millisecond)
	release := make(chan struct{})
	d.hold = release
	k.Pos = 0
	_, err = direct(f, &k, fill(8192, 2), true, f.DirectOps, 0)
	require.ErrorIs(t, err, vfs.ErrQueued)
	quiet := make(chan struct{})
	go func() {
		f.Rw.Lock()
		f.DirectWait()
		f.Rw.Unlock()
		close(quiet)
	}()
	select {
	case <-quiet:
		t.Fatal("did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	<-quiet
	<-called
	require.Equal(t, fill(8192, 2), f.Medium(t))
}

// FIEMAP: flags nobody serves, extents as they are, nothing to map, an error from who takes the answer.
func TestFiemapEdges(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{})
	f := fs.File(t, "mapped 8k; hole 4k; mapped 4k", 16384)
	var got []vfs.FiemapExtent
	ask := func(start, n uint64, flags uint32, ops *iomap.Ops, emitErr error) error {
		got = nil
		info := vfs.FiemapInfo{Start: start, Len: n, Flags: flags, Max: 10, Emit: func(e vfs.FiemapExtent) error {
			got = append(got, e)
			return emitErr
		}}
		return iomap.Fiemap(ctx, f.Inode, &info, ops)
	}
	require.ErrorIs(t, ask(0, 1<<20, vfs.FiemapXattr, f.Read, nil), errno.BADR, "attributes are in other operations")
	whole := custom(func(_ int64, m, _ *iomap.Mapping) {
		m.Length, m.Type, m.Dev, m.Addr = 16384, iomap.Mapped, fs.Dev, 1<<20
	})
	require.NoError(t, ask(5000, 100, 0, whole, nil))
	require.Equal(t, []vfs.FiemapExtent{{Logical: 0, Physical: 1 << 20, Length: 16384, Flags: vfs.ExtentLast}}, got, "not clipped")
	none := &iomap.Ops{Begin: func(context.Context, *vfs.Inode, int64, int64, iomap.OpFlags, *iomap.Mapping, *iomap.Mapping) error {
		return errno.NOENT
	}}
	require.NoError(t, ask(0, 1<<20, 0, none, nil))
	require.Empty(t, got)
	require.ErrorIs(t, ask(0, 1<<20, 0, f.Read, errno.FAULT), errno.FAULT)
	require.Len(t, got, 1)
	inline := fs.File(t, "inline", 100)
	f = inline
	require.NoError(t, ask(0, 100, 0, inline.Read, nil))
	require.Equal(t, []vfs.FiemapExtent{{Length: 4096, Flags: vfs.ExtentInline | vfs.ExtentNotAligned | vfs.ExtentLast}}, got)
}

// A body that panics does not keep its mapping.
func TestPanicEndsMapping(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{})
	f := fs.File(t, "mapped 4k", 4096)
	require.Panics(t, func() {
		it := iomap.NewIter(f.Inode, 0, 4096, 0, f.Read)
		defer it.Close(ctx)
		for it.Next(ctx) {
			it.Advance(100)
			panic("body")
		}
	})
	calls := f.Calls()
	require.Len(t, calls, 2)
	require.Equal(t, "end read [0,4096) done 100", calls[1].String())
}

// Whatever a filesystem answers, nothing is read or written outside of the device, nobody panics, and each begin has its end.
func FuzzMapping(f *testing.F) {
	f.Add(int64(0), int64(4096), uint64(0), uint16(2), uint32(0), uint8(1), int64(0))
	f.Add(int64(0), int64(4096), uint64(1<<63), uint16(2), uint32(0), uint8(1), int64(0))
	f.Add(int64(-4096), int64(1<<62), uint64(1<<24-4096), uint16(3), uint32(1), uint8(3), int64(0))
	f.Add(int64(0), int64(4096), uint64(0), uint16(2), uint32(0), uint8(2), int64(0)) // memory, but no device
	f.Add(int64(0), int64(4096), uint64(0), uint16(2), uint32(1<<7), uint8(2), int64(0))
	f.Add(int64(0), int64(1<<63-1), ^uint64(0), uint16(0), uint32(0), uint8(0), int64(4096))
	f.Add(int64(0), int64(4096), ^uint64(0), uint16(4), uint32(0), uint8(4), int64(512))
	fs := iomaptest.New(f, iomaptest.Options{})
	file := fs.File(f, "hole 64k", 64<<10)
	inline := make([]byte, 4096)
	f.Fuzz(func(t *testing.T, off, length int64, addr uint64, typ uint16, flags uint32, devs uint8, pos int64) {
		pos = (pos & 0xffff) &^ 511
		held := 0
		ops := &iomap.Ops{
			Begin: func(_ context.Context, _ *vfs.Inode, _, _ int64, _ iomap.OpFlags, m, _ *iomap.Mapping) error {
				held++
				m.Offset, m.Length, m.Addr, m.Type, m.Flags = off, length, addr, iomap.Type(typ), iomap.Flags(flags)&^(iomap.FlagBufferHead|iomap.FlagFolioBatch)
				if devs&1 != 0 {
					m.Dev = fs.Dev
				}
				if devs&2 != 0 {
					m.Dax = fs.Dev.(block.Mapper)
				}
				if devs&4 != 0 {
					m.InlineData = inline
				}
				return nil
			},
			End: func(context.Context, *vfs.Inode, int64, int64, int64, iomap.OpFlags, *iomap.Mapping) error {
				held--
				return nil
			},
		}
		file.SetSize(64 << 10)
		p := bytes.Repeat([]byte{1}, 4096)
		for _, w := range []bool{false, true} {
			k := vfs.Kiocb{Inode: file.Inode, Pos: pos}
			_, _ = iomap.Direct(ctx, &k, p, w, ops, nil, 0, nil, 0)
			require.Zero(t, held)
		}
		_, _ = iomap.Seek(ctx, file.Inode, pos, vfs.SeekData, ops)
		_, _ = iomap.Seek(ctx, file.Inode, pos, vfs.SeekHole, ops)
		_, _ = iomap.Bmap(ctx, file.Inode, uint64(pos)>>12, ops)
		_ = iomap.Fiemap(ctx, file.Inode, &vfs.FiemapInfo{Start: uint64(pos), Len: 1 << 20}, ops)
		_ = iomap.SwapActivate(ctx, file.Inode, 100, func(e vfs.SwapExtent) error {
			require.LessOrEqual(t, uint64(e.Addr)+e.Pages*4096, uint64(fs.Dev.Size()))
			return nil
		}, ops)
		require.Zero(t, held)
	})
}
