package bufhead_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/faulty"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// What writing costs: one bio for what lies together over folios, one for each buffer where a folio is torn.
func TestWritebackCost(t *testing.T) {
	for _, c := range []struct {
		name, spec string
		swap       [2]int
		bios       int64
	}{
		{"together", "mapped 32k", [2]int{}, 1},
		{"a boundary", "boundary 8k; mapped 24k", [2]int{}, 2},
		{"a boundary inside a folio", "boundary 6k; mapped 26k", [2]int{}, 1}, // as in the kernel: the last block of the folio decides
		{"torn", "mapped 32k", [2]int{1, 2}, 4 + 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := newFS(t, options{bits: 10})
			f := fs.file(t, c.spec, 32<<10)
			f.slots[c.swap[0]].at, f.slots[c.swap[1]].at = f.slots[c.swap[1]].at, f.slots[c.swap[0]].at
			p := pattern(32<<10, 4)
			_, err := f.write(p, 0)
			require.NoError(t, err)
			require.Equal(t, c.bios, bios(func() { require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40)) }))
			require.True(t, bytes.Equal(p, f.medium(t)))
			// One dirty buffer of a folio: only that is written.
			_, err = f.write([]byte("x"), 30<<10)
			require.NoError(t, err)
			require.Equal(t, int64(1), bios(func() { require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40)) }))
		})
	}
}

// A folio that was made dirty as a whole and has no buffers: writeback maps it, up to the end of the file, and leaves it without. Where
// it does not lie together it gets buffers.
func TestWritebackBare(t *testing.T) {
	for _, torn := range []bool{false, true} {
		fs := newFS(t, options{bits: 10})
		f := fs.file(t, "hole 4k", 2500)
		f.read(t, 0, 4096)
		fo, done := f.folio(t, 0)
		require.Empty(t, bufhead.BuffersOf(fo))
		copy(fo.Data(), poisoned(4096))
		copy(fo.Data(), pattern(2500, 1))
		fo.MarkDirty()
		done()
		if torn {
			fs.mu.Lock()
			fs.free[0], fs.free[1] = fs.free[1], fs.free[0]
			fs.mu.Unlock()
		}
		n := bios(func() { require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40)) })
		fo, done = f.folio(t, 0)
		if torn {
			require.Equal(t, int64(3), n)
			require.Len(t, bufhead.BuffersOf(fo), 4)
		} else {
			require.Equal(t, int64(1), n)
			require.Empty(t, bufhead.BuffersOf(fo))
		}
		done()
		require.Equal(t, []kind{mapped, mapped, mapped, hole}, []kind{f.slots[0].kind, f.slots[1].kind, f.slots[2].kind, f.slot(3).kind})
		require.True(t, bytes.Equal(pattern(2500, 1), f.medium(t)))
		require.NoError(t, f.truncate(4096))
		require.True(t, bytes.Equal(append(pattern(2500, 1), make([]byte, 1596)...), f.read(t, 0, 4096)))
	}
}

// get_block fails for one block of a folio: the others are written, the folio is clean, everybody is told once; what is delayed is not
// submitted as it is.
func TestWritebackRecovers(t *testing.T) {
	for _, delay := range []bool{false, true} {
		t.Run(fmt.Sprint("delay ", delay), func(t *testing.T) {
			fs := newFS(t, options{bits: 10})
			f := fs.file(t, "mapped 1k; hole 2k; mapped 1k", 4096)
			want := pattern(4096, 2)
			if f.delay = delay; delay {
				_, err := f.write(want, 0)
				require.NoError(t, err)
			} else {
				f.read(t, 0, 4096)
				fo, done := f.folio(t, 0)
				copy(fo.Data(), want)
				fo.MarkDirty()
				done()
			}
			f.fail = func(c call) error {
				if c.create && c.iblock == 1 {
					return errno.NOSPC
				}
				return nil
			}
			first, second := f.Pages.SampleError(), f.Pages.SampleError()
			require.ErrorIs(t, f.Pages.WriteAndWait(ctx, 0, 1<<40), errno.NOSPC)
			require.ErrorIs(t, f.Pages.CheckError(&first), errno.NOSPC)
			require.NoError(t, f.Pages.CheckError(&first))
			require.ErrorIs(t, f.Pages.CheckError(&second), errno.NOSPC)
			require.False(t, f.Pages.IsDirty())
			fo, done := f.folio(t, 0)
			for i, bh := range bufhead.BuffersOf(fo) {
				require.False(t, bh.Has(bufhead.Dirty), "buffer %d", i)
			}
			done()
			copy(want[1024:], make([]byte, 2048))
			require.True(t, bytes.Equal(want, f.medium(t)), "the mapped ones are written, the others given up")
			require.Zero(t, bios(func() { require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40)) }))
		})
	}
	// A filesystem that gives no block to writeback is told, and nothing is submitted.
	fs := newFS(t, options{bits: 10})
	f := fs.file(t, "hole 4k", 4096)
	f.delay = true
	_, err := f.write(pattern(4096, 1), 0)
	require.NoError(t, err)
	require.Zero(t, bios(func() {
		err := bufhead.WritePages(ctx, &f.Pages, &pagecache.WritebackControl{SyncAll: true}, f.reserve)
		require.ErrorIs(t, err, errno.IO)
	}))
}

// A failed write leaves its mark and the error with everybody who has the file open. What is in memory stays valid: a store to a part of
// the block must not be completed from the device.
func TestWritebackError(t *testing.T) {
	fs, dev := faultyFS(t, options{bits: 10})
	f := fs.file(t, "mapped 4k", 4096)
	f.slots[0], f.slots[1] = f.slots[1], f.slots[0]
	f.fill(t)
	p := pattern(4096, 9)
	_, err := f.write(p, 0)
	require.NoError(t, err)
	at := int64(f.slots[2].at) << 10
	dev.Add(faulty.Rule{Op: block.OpWrite, Start: at, End: at + 1, Err: errno.IO})
	since := f.Pages.SampleError()
	require.ErrorIs(t, f.Pages.WriteAndWait(ctx, 0, 1<<40), errno.IO)
	require.ErrorIs(t, f.Pages.CheckError(&since), errno.IO)
	fo, done := f.folio(t, 0)
	list := bufhead.BuffersOf(fo)
	require.True(t, fo.Uptodate())
	for i, bh := range list {
		require.Equal(t, i == 2, bh.Has(bufhead.WriteEIO), i)
		require.True(t, bh.Has(bufhead.Uptodate), i)
		require.False(t, bh.Has(bufhead.Dirty))
	}
	done()
	require.True(t, bytes.Equal(p, f.read(t, 0, 4096)))
	dev.Clear()
	_, err = f.write(p, 0)
	require.NoError(t, err)
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	require.False(t, list[2].Has(bufhead.WriteEIO))
}

// A buffer that is made dirty while an earlier write of it is failing stays valid: its newest bytes are in memory alone.
func TestWritebackErrorWhileDirty(t *testing.T) {
	fs, dev := faultyFS(t, options{bits: 10})
	f := fs.file(t, "mapped 4k", 4096)
	f.slots[0], f.slots[1] = f.slots[1], f.slots[0]
	_, err := f.write(pattern(4096, 1), 0)
	require.NoError(t, err)
	gate := new(faulty.Gate)
	t.Cleanup(func() { gate.Open(false) }) // also when the test fails
	dev.Add(faulty.Rule{Op: block.OpWrite, Always: true, Hold: gate, Err: errno.IO})
	since := f.Pages.SampleError()
	require.NoError(t, f.Pages.WriteRange(ctx, 0, 1<<40))
	p := pattern(4096, 7)
	_, err = f.write(p, 0)
	require.NoError(t, err)
	gate.Open(false)
	_ = f.Pages.WaitRange(ctx, 0, 1<<40)
	require.ErrorIs(t, f.Pages.CheckError(&since), errno.IO)
	dev.Clear()
	require.True(t, bytes.Equal(p, f.read(t, 0, 4096)))
	require.NoError(t, f.Pages.WriteRange(ctx, 0, 1<<40))
	_ = f.Pages.WaitRange(ctx, 0, 1<<40)
	require.True(t, bytes.Equal(p, f.medium(t)))
}

// A pass in the background goes over buffers in use, and the folio stays dirty for the next one.
func TestWritebackInUse(t *testing.T) {
	fs := newFS(t, options{bits: 10})
	f := fs.file(t, "mapped 4k", 4096)
	p := pattern(4096, 1)
	_, err := f.write(p, 0)
	require.NoError(t, err)
	fo := f.Pages.Get(0)
	defer fo.Put()
	bh := bufhead.BuffersOf(fo)[1]
	bh.Lock()
	bh.Disown() // it stands for another user's
	require.NoError(t, f.Pages.FlushStart(ctx, 0, 1<<40))
	require.True(t, fo.Dirty() && bh.Has(bufhead.Dirty))
	bh.Unlock()
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	require.True(t, bytes.Equal(p, f.medium(t)))
}

// Behind a boundary lies the metadata that leads on: it goes out with the data, if it is dirty.
func TestWritebackPushesOut(t *testing.T) {
	fs := newFS(t, options{bits: 10})
	f := fs.file(t, "boundary 4k; mapped 4k", 8<<10)
	meta, err := fs.bd.GetZeroed(ctx, f.slots[3].at+1)
	require.NoError(t, err)
	defer meta.Put()
	f.slots[4].at += 100
	copy(meta.Data, "indirect")
	fs.bd.MarkDirty(meta)
	_, err = f.write(pattern(4096, 1), 0)
	require.NoError(t, err)
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	meta.Wait()
	require.False(t, meta.Has(bufhead.Dirty))
	got := make([]byte, 1024)
	require.NoError(t, block.ReadAt(fs.dev, got, int64(meta.Block)<<10))
	require.Equal(t, "indirect", string(got[:8]))
}

// A block that was metadata becomes data: what the device's cache still has of it is never written, on every way that a block can
// become data; and a write of it that is under way is waited for.
func TestAliases(t *testing.T) {
	ways := map[string]func(f *file, p []byte) error{
		"write": func(f *file, p []byte) error { _, err := f.write(p, 0); return err },
		"uptodate": func(f *file, p []byte) error {
			f.Pages.Read(ctx, nil, make([]byte, 1), 0, 0)
			_, err := f.write(p, 0)
			return err
		},
		"delay":     func(f *file, p []byte) error { f.delay = true; _, err := f.write(p, 0); return err },
		"unwritten": func(f *file, p []byte) error { f.unwritten = true; _, err := f.write(p, 0); return err },
		"direct":    func(f *file, p []byte) error { a := directAnswer(f, p); return a.err },
		"mapping": func(f *file, p []byte) error {
			f.Pages.Read(ctx, nil, make([]byte, 1), 0, 0)
			fo := f.Pages.GetLocked(0)
			copy(fo.Data(), p)
			fo.MarkDirty()
			fo.Unlock()
			fo.Put()
			return nil
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			fs, dev := faultyFS(t, options{bits: 10})
			f := fs.file(t, "hole 4k", 4096)
			var list []*bufhead.BufferHead
			for i := range 4 { // what the file will be given
				bh, err := fs.bd.GetZeroed(ctx, fs.free[i])
				require.NoError(t, err)
				copy(bh.Data, "old metadata")
				fs.bd.MarkDirty(bh)
				list = append(list, bh)
			}
			gate := new(faulty.Gate)
			t.Cleanup(func() { gate.Open(false) }) // also when the test fails
			at := int64(list[2].Block) << 10
			dev.Add(faulty.Rule{Op: block.OpWrite, Start: at, End: at + 1, Hold: gate})
			fs.bd.StartWrite(list[2]) // under way
			ended := make(chan error)
			p := pattern(4096, 3)
			// The test's take poisons blocks itself, behind the gate: take them first.
			go func() {
				err := way(f, p)
				if err == nil {
					err = f.Pages.WriteAndWait(ctx, 0, 1<<40)
				}
				ended <- err
			}()
			select {
			case <-ended:
				t.Fatal("did not wait for the write of the alias")
			case <-after(20):
			}
			gate.Open(false)
			require.NoError(t, <-ended)
			require.NoError(t, fs.bd.Sync(ctx))
			require.True(t, bytes.Equal(p, f.medium(t)))
			for _, bh := range list {
				require.False(t, bh.Has(bufhead.Dirty))
				bh.Put()
			}
		})
	}
}

func directAnswer(f *file, p []byte) answer {
	a, _ := f.direct(p, 0, true, false, bufhead.DirectOptions{})
	return a
}
