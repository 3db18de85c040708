package iomap_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/iomap/iomaptest"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/invariant"
)

// slow is a device with one goroutine for all completions, as a ring has, and a record of writes.
type slow struct {
	*mem.Device
	lim  block.Limits
	mu   sync.Mutex
	seen []block.Bio
	fail func(b *block.Bio) error
	work chan *block.Bio
	hold chan struct{} // when set: bios wait
}

func newSlow(t *testing.T, o mem.Options, change func(*block.Limits)) *slow {
	m, err := mem.New(16<<20, o)
	require.NoError(t, err)
	d := &slow{Device: m, lim: *m.Limits(), work: make(chan *block.Bio, 1024)}
	if change != nil {
		change(&d.lim)
	}
	go func() {
		for b := range d.work {
			if h := d.hold; h != nil {
				<-h
			}
			var err error
			if d.fail != nil {
				err = d.fail(b)
			}
			if err == nil {
				c := *b
				c.Done = nil
				err = m.SubmitWait(&c)
			}
			b.End(err)
		}
	}()
	return d
}
func (d *slow) Limits() *block.Limits { return &d.lim }
func (d *slow) SubmitWait(b *block.Bio) error {
	ch := make(chan struct{})
	old, oldp := b.Done, b.Private
	b.Done = func(*block.Bio) { close(ch) }
	d.Submit(b)
	<-ch
	b.Done, b.Private = old, oldp
	return b.Err
}

func (d *slow) Submit(b *block.Bio) {
	d.mu.Lock()
	c := *b
	c.Len = b.Bytes()
	d.seen = append(d.seen, c)
	d.mu.Unlock()
	d.work <- b
}

func fill(n int, b byte) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = b
	}
	return p
}

// All pairs of 512-byte pieces of position and length, over every kind of space.
func TestDirectVectors(t *testing.T) {
	ctx := context.Background()
	for _, bits := range []uint8{9, 10, 12} {
		bs := int64(1) << bits
		for kind, spec := range map[string]string{"hole": "hole 16k", "unwritten": "unwritten 16k", "mapped": "mapped 16k", "mixed": "mapped 4k; unwritten 4k; hole 4k; mapped 4k", "prealloc": "unwritten 4k;mapped 12k"} {
			for _, size := range []int64{16 << 10, 0, 5000, 4096, 6144} {
				fs := iomaptest.New(t, iomaptest.Options{BlockBits: bits})
				step := int64(512)
				for pos := int64(0); pos < 2*max(bs, 4096); pos += step {
					for n := step; n <= 2*max(bs, 1024)+step; n += max(step, bs/4) {
						if fs.Left() < 64<<10 {
							fs = iomaptest.New(t, iomaptest.Options{BlockBits: bits})
						}
						f := fs.File(t, spec, size)
						want := make([]byte, max(size, pos+n))
						if pos > size { // the caller's duty
							f.Rw.Lock()
							f.Pages.InvalidateLock.Lock()
							_, err := iomap.ZeroRange(ctx, f.Inode, size, pos-size, f.Zero, nil)
							f.Pages.InvalidateLock.Unlock()
							f.Rw.Unlock()
							require.NoError(t, err)
						}
						k := vfs.Kiocb{Inode: f.Inode, Pos: pos}
						f.Rw.Lock()
						got, err := iomap.Direct(ctx, &k, fill(int(n), 7), true, f.Direct, f.DirectOps, iomap.DirectForceWait, nil, 0)
						f.Rw.Unlock()
						msg := fmt.Sprintf("bits %d %s size %d pos %d n %d", bits, kind, size, pos, n)
						require.NoError(t, err, msg)
						require.EqualValues(t, n, got, msg)
						require.Equal(t, pos+n, k.Pos)
						copy(want[pos:], fill(int(n), 7))
						f.SetSize(max(f.Size(), int64(len(want))))
						require.Equal(t, int64(len(want)), f.Size(), msg)
						require.Equal(t, want, f.Medium(t), msg)
						// grown: what comes into sight of the last block is zero if it has space
						end := (pos + n + bs - 1) / bs * bs
						if end > int64(len(want)) && pos+n >= size {
							f.SetSize(end)
							require.Equal(t, append(append([]byte{}, want...), make([]byte, end-int64(len(want)))...), f.Medium(t), msg)
						}
					}
				}
			}
		}
	}
}

// D1: a write that got nowhere, or is short, is not durable yet.
func TestDirectSyncedAfterShort(t *testing.T) {
	d := newSlow(t, mem.Options{VolatileCache: true, FUA: true}, nil)
	fs := iomaptest.New(t, iomaptest.Options{Device: d, Size: 16 << 20})
	f := fs.File(t, "mapped 4k; shared 4k", 8<<10)
	k := vfs.Kiocb{Inode: f.Inode, DSync: true, Direct: true}
	n, err := iomap.Direct(context.Background(), &k, fill(8<<10, 7), true, f.Direct, f.DirectOps, 0, nil, 0)
	require.NoError(t, err)
	require.Equal(t, 4096, n)
	require.False(t, k.Synced, "4 KiB still go the buffered way, and VFS will skip their sync")
}

func TestDirectSyncedAfterNothing(t *testing.T) {
	d := newSlow(t, mem.Options{VolatileCache: true, FUA: true}, nil)
	fs := iomaptest.New(t, iomaptest.Options{Device: d, Size: 16 << 20})
	f := fs.File(t, "shared 4k", 4<<10)
	k := vfs.Kiocb{Inode: f.Inode, DSync: true, Direct: true}
	n, err := iomap.Direct(context.Background(), &k, fill(4<<10, 7), true, f.Direct, f.DirectOps, 0, nil, 0)
	require.NoError(t, err)
	require.Zero(t, n)
	require.False(t, k.Synced)
}

func TestDirectSyncedInline(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{})
	f := fs.File(t, "inline", 100)
	k := vfs.Kiocb{Inode: f.Inode, DSync: true, Direct: true}
	_, err := iomap.Direct(context.Background(), &k, fill(512, 7), true, f.Direct, f.DirectOps, 0, nil, 0)
	require.NoError(t, err)
	require.False(t, k.Synced, "the bytes are in memory only")
}

// D2: completion in the device's only goroutine must not wait for a folio that the same goroutine would unlock.
func TestDirectCompletionWaits(t *testing.T) {
	d := newSlow(t, mem.Options{}, nil)
	fs := iomaptest.New(t, iomaptest.Options{Device: d, Size: 16 << 20})
	f := fs.File(t, "mapped 16k", 16<<10)
	h := make(chan struct{})
	time.Sleep(10 * time.Millisecond)
	d.hold = h
	done := make(chan error, 1)
	k := vfs.Kiocb{Inode: f.Inode, Done: func(n int, err error) { done <- err }}
	_, err := iomap.Direct(context.Background(), &k, fill(4096, 7), true, f.Direct, nil, 0, nil, 0)
	require.ErrorIs(t, err, vfs.ErrQueued)
	rd := make(chan struct{})
	go func() { _, _ = f.Pages.Read(context.Background(), nil, make([]byte, 4096), 0, 0); close(rd) }()
	require.Eventually(t, func() bool { return f.Pages.HasPages(0, 4096) }, time.Second, time.Millisecond)
	time.Sleep(20 * time.Millisecond) // its bio is queued behind
	close(h)
	select {
	case <-done:
	case <-time.After(3 * time.Second):
		t.Fatal("completion of the direct write waits for the folio of a read whose bio is behind it in the same goroutine")
	}
	<-rd
}

// D3: untorn means one bio.
func TestDirectAtomicOneBio(t *testing.T) {
	d := newSlow(t, mem.Options{}, func(l *block.Limits) { l.MaxBio = 4096 })
	fs := iomaptest.New(t, iomaptest.Options{Device: d, Size: 16 << 20})
	f := fs.File(t, "mapped 16k", 16<<10)
	d.mu.Lock()
	d.seen = nil
	d.mu.Unlock()
	k := vfs.Kiocb{Inode: f.Inode}
	_, err := iomap.Direct(context.Background(), &k, fill(16384, 7), true, f.Direct, f.DirectOps, iomap.DirectAtomic, nil, 0)
	require.ErrorIs(t, err, errno.INVAL, "%d bios", len(d.seen))
}

// D4: bios are no longer than the device takes.
func TestDirectMaxBio(t *testing.T) {
	d := newSlow(t, mem.Options{}, func(l *block.Limits) { l.MaxBio = 4096 })
	fs := iomaptest.New(t, iomaptest.Options{Device: d, Size: 16 << 20})
	f := fs.File(t, "unwritten 16k", 16<<10)
	d.mu.Lock()
	d.seen = nil
	d.mu.Unlock()
	k := vfs.Kiocb{Inode: f.Inode, Pos: 512}
	_, err := iomap.Direct(context.Background(), &k, fill(8192, 7), true, f.Direct, f.DirectOps, iomap.DirectForceWait, nil, 0)
	require.NoError(t, err)
	for _, b := range d.seen {
		require.LessOrEqual(t, b.Len, int64(4096))
	}
}

// D5: an error hides the bytes, and the loop stops soon; the position stays.
func TestDirectError(t *testing.T) {
	d := newSlow(t, mem.Options{}, func(l *block.Limits) { l.MaxBio = 4096 })
	fs := iomaptest.New(t, iomaptest.Options{Device: d, Size: 16 << 20})
	f := fs.File(t, "mapped 64k", 64<<10)
	n := 0
	bad := errors.New("x")
	d.fail = func(b *block.Bio) error {
		n++
		if n == 1 {
			return fmt.Errorf("%w: %w", bad, errno.IO)
		}
		return nil
	}
	k := vfs.Kiocb{Inode: f.Inode}
	got, err := iomap.Direct(context.Background(), &k, fill(64<<10, 7), true, f.Direct, f.DirectOps, 0, nil, 0)
	require.ErrorIs(t, err, errno.IO)
	require.Zero(t, got)
	require.Zero(t, k.Pos)
	f.DirectWait()
}

// D6: wrapped control errors.
func TestDirectWrapped(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{})
	f := fs.File(t, "mapped 4k", 4<<10)
	ops := &iomap.Ops{Begin: func(context.Context, *vfs.Inode, int64, int64, iomap.OpFlags, *iomap.Mapping, *iomap.Mapping) error {
		return fmt.Errorf("because: %w", vfs.ErrNotBlock)
	}}
	k := vfs.Kiocb{Inode: f.Inode}
	n, err := iomap.Direct(context.Background(), &k, fill(4096, 7), true, ops, nil, 0, nil, 100)
	require.NoError(t, err)
	require.Equal(t, 100, n)
}

// D7: steady state allocates nothing.
func TestDirectAllocs(t *testing.T) {
	if invariant.Enabled {
		t.Skip("the race detector empties pools at random")
	}
	fs := iomaptest.New(t, iomaptest.Options{})
	f := fs.File(t, "mapped 64k", 64<<10)
	dev := f.FS.Dev
	base := uint64(1 << 20)
	ops := &iomap.Ops{Begin: func(_ context.Context, _ *vfs.Inode, pos, l int64, _ iomap.OpFlags, m, _ *iomap.Mapping) error {
		m.Offset, m.Length, m.Type, m.Dev, m.Addr = 0, 64<<10, iomap.Mapped, dev, base
		return nil
	}}
	p := make([]byte, 4096)
	k := &vfs.Kiocb{Inode: f.Inode}
	for _, w := range []bool{false, true} {
		require.Zero(t, testing.AllocsPerRun(200, func() {
			k.Pos = 4096
			if _, err := iomap.Direct(context.Background(), k, p, w, ops, nil, 0, nil, 0); err != nil {
				panic(err)
			}
		}), "write %v", w)
	}
}

// D8: reads at and past the end.
func TestDirectReadEOF(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{})
	f := fs.File(t, "mapped 4k; unwritten 4k; hole 4k", 8<<10-100)
	for _, c := range []struct{ pos, n, want int64 }{{8192, 512, 0}, {7680, 512, 412}, {0, 16384, 8092}, {4096, 4096, 3996}, {8100 &^ 511, 1024, 412}, {12288, 512, 0}} {
		k := vfs.Kiocb{Inode: f.Inode, Pos: c.pos}
		n, err := iomap.Direct(context.Background(), &k, fill(int(c.n), 9), false, f.Read, nil, 0, nil, 0)
		require.NoError(t, err)
		require.EqualValues(t, c.want, n, "%+v", c)
		require.Equal(t, c.pos+c.want, k.Pos)
	}
	k := vfs.Kiocb{Inode: f.Inode, Pos: 100}
	_, err := iomap.Direct(context.Background(), &k, make([]byte, 512), false, f.Read, nil, 0, nil, 0)
	require.ErrorIs(t, err, errno.INVAL)
}
