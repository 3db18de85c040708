package bufhead_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/faulty"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// answer is what a direct request gave.
type answer struct {
	n   int
	err error
}

// direct moves p at pos around the cache and waits, asynchronously if it can be.
func (f *file) direct(p []byte, pos int64, write, async bool, o bufhead.DirectOptions) (a answer, queued bool) {
	k := vfs.Kiocb{Inode: f.Inode, Pos: pos}
	done := make(chan answer, 2)
	if async {
		k.Done = func(n int, err error) { done <- answer{n, err} }
	}
	if write && !o.Overwrite {
		f.Rw.Lock()
		defer f.Rw.Unlock()
		f.DirectWait()
	} else {
		f.Rw.RLock()
		defer f.Rw.RUnlock()
	}
	n, err := bufhead.Direct(ctx, &k, p, write, f.getBlock, o)
	if err == vfs.ErrQueued {
		return <-done, true
	}
	return answer{n, err}, false
}

// faultyFS is a filesystem over a device that fails as it is told, with sectors of 512 bytes.
func faultyFS(t testing.TB, o options) (*fsys, *faulty.Device) {
	m, err := mem.New(4<<20, mem.Options{LogicalBlock: 512})
	require.NoError(t, err)
	d := faulty.New(m)
	o.dev = d
	return newFS(t, o), d
}

// An asynchronous request is queued, completes once through Done, and keeps truncation out until then.
func TestDirectAsync(t *testing.T) {
	for _, write := range []bool{false, true} {
		t.Run(fmt.Sprint("write ", write), func(t *testing.T) {
			fs, dev := faultyFS(t, options{bits: 12})
			f := fs.file(t, "mapped 16k; mapped 16k", 32<<10)
			gate := new(faulty.Gate)
			t.Cleanup(func() { gate.Open(false) }) // also when the test fails
			op := block.OpRead
			if write {
				op = block.OpWrite
			}
			dev.Add(faulty.Rule{Op: op, Always: true, Hold: gate})
			done := make(chan answer, 2)
			k := vfs.Kiocb{Inode: f.Inode, Pos: 4096, Done: func(n int, err error) { done <- answer{n, err} }}
			buf := pattern(8192, 1)
			f.Rw.RLock()
			n, err := bufhead.Direct(ctx, &k, buf, write, f.getBlock, bufhead.DirectOptions{Overwrite: true})
			f.Rw.RUnlock()
			require.Equal(t, vfs.ErrQueued, err)
			require.Zero(t, n)
			require.Len(t, done, 0)
			cut := make(chan error)
			go func() { cut <- f.truncate(1000) }()
			select {
			case <-cut:
				t.Fatal("truncated while a direct request was in flight")
			case <-after(20):
			}
			dev.Clear()
			gate.Open(false)
			require.Equal(t, answer{8192, nil}, <-done)
			require.NoError(t, <-cut)
			require.Equal(t, int64(4096+8192), k.Pos)
			require.Len(t, done, 0)
			if !write {
				require.Equal(t, make([]byte, 8192), buf)
			}
		})
	}
}

// What cannot be asynchronous is waited for: a write past the end, one that meets a hole.
func TestDirectWaits(t *testing.T) {
	fs, _ := faultyFS(t, options{bits: 12})
	f := fs.file(t, "mapped 8k; hole 4k; mapped 4k", 16<<10)
	a, queued := f.direct(pattern(4096, 1), 16<<10, true, true, bufhead.DirectOptions{SkipHoles: true})
	require.False(t, queued)
	require.Equal(t, answer{4096, nil}, a)
	require.Equal(t, int64(20<<10), f.Size())
	a, queued = f.direct(pattern(12<<10, 2), 4096, true, true, bufhead.DirectOptions{Overwrite: true})
	require.False(t, queued)
	require.Equal(t, answer{4096, nil}, a, "up to the hole")
	want := append(append(make([]byte, 4096), pattern(12<<10, 2)[:4096]...), make([]byte, 8192)...)
	require.True(t, bytes.Equal(append(want, pattern(4096, 1)...), f.read(t, 0, 1<<20)))
}

// A device error hides the count; sizes and places stay as they were.
func TestDirectErrors(t *testing.T) {
	for _, async := range []bool{false, true} {
		fs, dev := faultyFS(t, options{bits: 12})
		f := fs.file(t, "mapped 4k; mapped 4k; mapped 4k", 12<<10)
		f.slots[1], f.slots[2] = f.slots[2], f.slots[1] // three bios
		for nth := 1; nth <= 3; nth++ {
			for _, write := range []bool{false, true} {
				op := block.OpRead
				if write {
					op = block.OpWrite
				}
				dev.Add(faulty.Rule{Op: op, Nth: nth, Err: errno.IO})
				a, _ := f.direct(make([]byte, 12<<10), 0, write, async, bufhead.DirectOptions{Overwrite: true})
				require.ErrorIs(t, a.err, errno.IO)
				require.Zero(t, a.n)
				dev.Clear()
			}
		}
		boom := errno.NOSPC
		f.fail = func(c call) error {
			if c.iblock == 1 {
				return boom
			}
			return nil
		}
		a, queued := f.direct(make([]byte, 12<<10), 0, false, async, bufhead.DirectOptions{})
		require.ErrorIs(t, a.err, boom)
		require.False(t, queued)
		a, _ = f.direct(make([]byte, 12<<10), 0, true, async, bufhead.DirectOptions{})
		require.Equal(t, answer{4096, nil}, a, "what was mapped before is written")
		f.fail = nil
	}
}

// EndIO runs once, before the size grows and the cache is dropped, and its error is the answer.
func TestDirectEndIO(t *testing.T) {
	fs, dev := faultyFS(t, options{bits: 12})
	f := fs.file(t, "mapped 4k", 4096)
	ran := 0
	o := bufhead.DirectOptions{EndIO: func(ip *vfs.Inode, pos int64, n int, err error) error {
		ran++
		require.Equal(t, int64(4096), ip.Size(), "the size grows afterwards")
		require.Equal(t, []any{int64(4096), 4096, nil}, []any{pos, n, err})
		return nil
	}}
	a, _ := f.direct(pattern(4096, 1), 4096, true, false, o)
	require.Equal(t, answer{4096, nil}, a)
	require.Equal(t, 1, ran)
	require.Equal(t, int64(8192), f.Size())
	o.EndIO = func(*vfs.Inode, int64, int, error) error { ran++; return errno.DQUOT }
	o.Overwrite = true
	dev.Add(faulty.Rule{Op: block.OpWrite, Delay: time.Millisecond})
	a, queued := f.direct(pattern(4096, 1), 0, true, true, o)
	require.True(t, queued)
	require.ErrorIs(t, a.err, errno.DQUOT)
	require.Equal(t, 2, ran)
}

// An asynchronous write that is to be durable is when Done is called.
func TestDirectAsyncDurable(t *testing.T) {
	fs, _ := faultyFS(t, options{bits: 12})
	f := fs.file(t, "mapped 8k", 8192)
	synced := 0
	f.Fop = &vfs.FileOperations{Fsync: f.fsync, Write: func(ctx ctxType, k *vfs.Kiocb, p []byte) (int, error) {
		f.Rw.RLock()
		defer f.Rw.RUnlock()
		return bufhead.Direct(ctx, k, p, true, f.getBlock, bufhead.DirectOptions{Overwrite: true})
	}}
	f.Fop.Fsync = func(ctx ctxType, _ *vfs.File, _, _ int64, _ bool) error { synced++; return nil }
	file, err := f.Open(ctx, vfs.ORdwr|vfs.ODirect|vfs.ODSync)
	require.NoError(t, err)
	defer file.Close()
	done := make(chan answer, 1)
	k := file.Kiocb(0)
	k.Done = func(n int, err error) { done <- answer{n, err} }
	_, err = k.Write(ctx, pattern(8192, 1))
	if err == vfs.ErrQueued {
		require.Equal(t, answer{8192, nil}, <-done)
	} else {
		require.NoError(t, err)
	}
	require.Equal(t, 1, synced)
}

// Parts of blocks: what is not written of a new block is zeros on the medium, and of an old one what it was.
func TestDirectParts(t *testing.T) {
	for _, c := range []struct {
		spec string
		old  byte // what surrounds the write
	}{{"hole 8k", 0}, {"unwritten 8k", 0}, {"mapped 8k", 'o'}} {
		for _, at := range []int64{0, 512, 1024, 3584, 4096, 7680} {
			for _, n := range []int{512, 1024, 4096} {
				if at+int64(n) > 8192 {
					continue
				}
				fs, _ := faultyFS(t, options{bits: 12})
				f := fs.file(t, c.spec, 8192)
				want := bytes.Repeat([]byte{c.old}, 8192)
				if c.old != 0 {
					_, err := f.write(want, 0)
					require.NoError(t, err)
					f.sync(t)
				}
				p := pattern(n, 9)
				a, _ := f.direct(p, at, true, false, bufhead.DirectOptions{})
				require.Equal(t, answer{n, nil}, a)
				copy(want[at:], p)
				require.True(t, bytes.Equal(want, f.medium(t)), "%s at %d: %d bytes", c.spec, at, n)
				require.True(t, bytes.Equal(want, f.read(t, 0, 8192)))
			}
		}
	}
}

// A write drops what the cache has of its range, after writing back what lies dirty around it; a read sees what is dirty.
func TestDirectAndCache(t *testing.T) {
	fs, _ := faultyFS(t, options{bits: 10})
	f := fs.file(t, "mapped 16k", 16<<10)
	want := pattern(16<<10, 5)
	_, err := f.write(want, 0)
	require.NoError(t, err)
	got := make([]byte, 16<<10)
	a, _ := f.direct(got, 0, false, false, bufhead.DirectOptions{})
	require.Equal(t, answer{16 << 10, nil}, a)
	require.True(t, bytes.Equal(want, got))
	_, err = f.write([]byte("dirty"), 2000)
	require.NoError(t, err)
	copy(want[2000:], "dirty")
	p := pattern(1024, 7)
	a, _ = f.direct(p, 1024+2048, true, false, bufhead.DirectOptions{Overwrite: true})
	require.Equal(t, answer{1024, nil}, a)
	copy(want[1024+2048:], p)
	require.True(t, bytes.Equal(want, f.read(t, 0, 16<<10)))
	require.True(t, bytes.Equal(want, f.medium(t)))
}

// Bounds, alignment, and requests that may not wait.
func TestDirectBounds(t *testing.T) {
	fs, _ := faultyFS(t, options{bits: 10})
	f := fs.file(t, "mapped 2k", 1100)
	want := pattern(1100, 5)
	_, err := f.write(want, 0)
	require.NoError(t, err)
	buf := poisoned(4096)
	a, _ := f.direct(buf, 512, false, false, bufhead.DirectOptions{})
	require.Equal(t, answer{588, nil}, a)
	require.Equal(t, want[512:], buf[:588])
	for _, pos := range []int64{1536, 4096} {
		a, _ = f.direct(buf, pos, false, false, bufhead.DirectOptions{})
		require.Equal(t, answer{}, a)
	}
	a, _ = f.direct(buf[:100], 0, false, false, bufhead.DirectOptions{})
	require.Equal(t, vfs.ErrNotBlock, a.err)
	k := vfs.Kiocb{Inode: f.Inode, NoWait: true}
	_, err = bufhead.Direct(ctx, &k, buf, false, f.getBlock, bufhead.DirectOptions{})
	require.Equal(t, errno.AGAIN, err)
}

// One bio for what lies together, whatever get_block's runs are; a boundary, a longest bio and a change of place end one.
func TestDirectBios(t *testing.T) {
	bios := func(spec string, most int64) int64 {
		m, err := mem.New(4<<20, mem.Options{LogicalBlock: 512})
		require.NoError(t, err)
		d := &limited{Device: m, lim: *m.Limits()}
		d.lim.MaxBio = most
		fs := newFS(t, options{bits: 10, dev: d})
		f := fs.file(t, spec, 64<<10)
		buf := make([]byte, 64<<10)
		before := bufhead.ReadStats().Bios
		a, _ := f.direct(buf, 0, false, false, bufhead.DirectOptions{})
		require.Equal(t, answer{64 << 10, nil}, a)
		require.Equal(t, make([]byte, 64<<10), buf)
		return bufhead.ReadStats().Bios - before
	}
	require.Equal(t, int64(1), bios("mapped 64k", 0))
	require.Equal(t, int64(2), bios("boundary 12k; mapped 52k", 0))
	require.Equal(t, int64(2), bios("mapped 12k; hole 4k; mapped 48k", 0))
	require.Equal(t, int64(4), bios("mapped 64k", 16<<10))
}
