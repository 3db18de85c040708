package bufhead_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/faulty"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/block/record"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// Reading and changing the metadata of a device much larger than the cache stays within the cache's limit, for blocks of any size.
func TestDeviceWithinLimit(t *testing.T) {
	const size, limit = 64 << 20, 2 << 20
	for _, bs := range []int{512, 1024, 4096, 64 << 10} {
		t.Run(fmt.Sprint(bs), func(t *testing.T) {
			dev, err := mem.New(size, mem.Options{})
			require.NoError(t, err)
			c := pagecache.New(pagecache.Options{Limit: limit, Interval: time.Hour})
			sb := vfs.NewSuperBlock(&vfs.FileSystem{Name: "bufheadtest"}, dev, &vfs.MountOptions{Cache: c, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
			sb.Op = &vfs.SuperOperations{}
			sb.Start()
			d, err := bufhead.NewDevice(dev, c, sb.WB, bs)
			require.NoError(t, err)
			live := bufhead.ReadStats().BufferHeads
			peak := int64(0)
			rng := rand.New(rand.NewPCG(1, 1))
			want := map[uint64]byte{}
			for i := range uint64(min(size/bs, 20000)) {
				blk := i
				if i%2 == 0 {
					blk = rng.Uint64N(d.Blocks())
				}
				bh, err := d.Bread(ctx, blk)
				require.NoError(t, err)
				require.Equal(t, want[blk], bh.Data[7], "block %d", blk)
				if i%16 == 0 {
					bh.Data[7] = byte(i) | 1
					want[blk] = byte(i) | 1
					d.MarkDirty(bh)
				}
				bh.Put()
				if i%256 == 0 {
					require.NoError(t, d.Sync(ctx))
				}
				peak = max(peak, c.Stats().Bytes)
			}
			require.LessOrEqual(t, peak, int64(limit+256<<10))
			require.LessOrEqual(t, (bufhead.ReadStats().BufferHeads-live)*int64(bs), int64(limit+256<<10))
			require.NoError(t, d.Sync(ctx))
			d.Close()
			require.Equal(t, live, bufhead.ReadStats().BufferHeads)
			require.NoError(t, sb.Unmount(ctx))
		})
	}
}

// Metadata on an inode's list does not pin the cache once it is written.
func TestListedMetadataIsReclaimed(t *testing.T) {
	fs := newFS(t, options{bits: 10})
	f := fs.file(t, "", 0)
	for b := range uint64(1000) {
		bh, err := fs.bd.GetZeroed(ctx, b)
		require.NoError(t, err)
		fs.bd.MarkDirtyInode(bh, f.Inode)
		bh.Put()
	}
	require.NoError(t, fs.bd.Sync(ctx))
	live := bufhead.ReadStats().BufferHeads
	fs.bd.DropClean()
	require.LessOrEqual(t, bufhead.ReadStats().BufferHeads, live-1000)
	require.NoError(t, fs.bd.SyncInode(ctx, f.Inode))
}

// Errors of the device name it, and the block; nothing that failed is taken for valid, and the next try may succeed.
func TestDeviceErrors(t *testing.T) {
	fs, dev := faultyFS(t, options{bits: 10})
	dev.Add(faulty.Rule{Op: block.OpRead, Err: errno.IO})
	_, err := fs.bd.Bread(ctx, 77)
	require.ErrorIs(t, err, errno.IO)
	require.ErrorContains(t, err, "mem: block 77")
	bh, err := fs.bd.Bread(ctx, 77)
	require.NoError(t, err)
	require.Equal(t, poisoned(1024), bh.Data)
	_, err = fs.bd.Bread(ctx, fs.bd.Blocks())
	require.ErrorIs(t, err, errno.IO)
	require.ErrorContains(t, err, "mem: block 4096 is beyond")

	f := fs.file(t, "", 0)
	for name, write := range map[string]func() error{
		"SyncBuffer": func() error { return fs.bd.SyncBuffer(ctx, bh) },
		"SyncInode":  func() error { return fs.bd.SyncInode(ctx, f.Inode) },
		"Sync then SyncInode": func() error {
			return errors.Join(fs.bd.Sync(ctx), fs.bd.SyncInode(ctx, f.Inode))
		},
	} {
		t.Run(name, func(t *testing.T) {
			bh.Set(bufhead.Uptodate | bufhead.Verified)
			fs.bd.MarkDirtyInode(bh, f.Inode)
			since := f.Pages.SampleError()
			dev.Add(faulty.Rule{Op: block.OpWrite, Err: errno.IO})
			err := write()
			require.ErrorIs(t, err, errno.IO)
			require.ErrorContains(t, err, "mem")
			require.False(t, bh.Has(bufhead.Uptodate))
			require.False(t, bh.Has(bufhead.Verified), "will be looked at again")
			require.True(t, bh.Has(bufhead.WriteEIO))
			if name != "SyncInode" { // which tells itself, and takes the buffer off the list before
				require.ErrorIs(t, f.Pages.CheckError(&since), errno.IO, "the inode whose metadata it is")
			}
			dev.Clear()
			fs.bd.DropInode(f.Inode)
		})
	}
	bh.Put()
}

// A dirty buffer under a folio that became clean (the shortcut of mark_buffer_dirty): the next change makes the folio dirty again.
func TestMarkDirtyUnderCleanFolio(t *testing.T) {
	fs := newFS(t, options{bits: 10})
	bh, err := fs.bd.GetZeroed(ctx, 5)
	require.NoError(t, err)
	defer bh.Put()
	fs.bd.MarkDirty(bh)
	fo := bh.Folio()
	fo.Lock()
	fo.CancelDirty()
	fo.Unlock()
	require.True(t, bh.Has(bufhead.Dirty))
	copy(bh.Data, "later")
	fs.bd.MarkDirty(bh)
	require.NoError(t, fs.bd.Sync(ctx))
	got := make([]byte, 1024)
	require.NoError(t, block.ReadAt(fs.dev, got, 5<<10))
	require.Equal(t, "later", string(got[:5]))
}

// fsync of an inode writes what is on its list, waits for writes that others began, and keeps what is dirtied meanwhile for the next.
func TestSyncInode(t *testing.T) {
	fs, dev := faultyFS(t, options{bits: 10})
	f, g := fs.file(t, "", 0), fs.file(t, "", 0)
	get := func(blk uint64, of *file) *bufhead.BufferHead {
		bh, err := fs.bd.GetZeroed(ctx, blk)
		require.NoError(t, err)
		copy(bh.Data, "first")
		fs.bd.MarkDirtyInode(bh, of.Inode)
		t.Cleanup(bh.Put)
		return bh
	}
	a, b, other := get(10, f), get(20, f), get(30, g)
	fs.bd.MarkDirtyInode(a, g.Inode) // stays on the first list
	gate := new(faulty.Gate)
	t.Cleanup(func() { gate.Open(false) }) // also when the test fails
	dev.Add(faulty.Rule{Op: block.OpWrite, Start: 10 << 10, End: 11 << 10, Hold: gate})
	fs.bd.StartWrite(a) // with the first contents
	copy(a.Data, "again")
	fs.bd.MarkDirty(a)
	ended := make(chan error)
	go func() { ended <- fs.bd.SyncInode(ctx, f.Inode) }()
	select {
	case <-ended:
		t.Fatal("did not wait for the write under way")
	case <-after(20):
	}
	gate.Open(false)
	require.NoError(t, <-ended)
	got := make([]byte, 1024)
	require.NoError(t, block.ReadAt(fs.dev, got, 10<<10))
	require.Equal(t, "again", string(got[:5]))
	require.False(t, a.Has(bufhead.Dirty) || b.Has(bufhead.Dirty))
	require.True(t, other.Has(bufhead.Dirty), "of another inode")
	require.Zero(t, bios(func() { require.NoError(t, fs.bd.SyncInode(ctx, f.Inode)) }))

	// Freed blocks leave the list, and are not written.
	fs.bd.MarkDirtyInode(b, f.Inode)
	b.Get()
	fs.bd.Forget(b)
	require.Zero(t, bios(func() { require.NoError(t, fs.bd.SyncInode(ctx, f.Inode)) }))
	// An inode that goes leaves its metadata dirty.
	fs.bd.DropInode(g.Inode)
	require.Zero(t, bios(func() { require.NoError(t, fs.bd.SyncInode(ctx, g.Inode)) }))
	require.NoError(t, fs.bd.Sync(ctx))
	require.False(t, other.Has(bufhead.Dirty))
}

// Fsync: data, then metadata of the inode, then the inode, then the cache of the device; the first error stops it.
func TestFsyncOrder(t *testing.T) {
	m, err := mem.New(4<<20, mem.Options{VolatileCache: true})
	require.NoError(t, err)
	rec := record.New(m)
	fs := newFS(t, options{bits: 10, dev: rec})
	f := fs.file(t, "mapped 4k", 4096)
	bh, err := fs.bd.GetZeroed(ctx, 10)
	require.NoError(t, err)
	defer bh.Put()
	fs.bd.MarkDirtyInode(bh, f.Inode)
	_, err = f.write(pattern(4096, 1), 0)
	require.NoError(t, err)
	begin := len(rec.Log())
	inode := func(context.Context, bool) error {
		return block.WriteAt(fs.dev, make([]byte, 512), 0, 0)
	}
	require.NoError(t, fs.bd.Fsync(ctx, f.Inode, 0, 1<<40, false, inode))
	var got []string
	for _, e := range rec.Log()[begin:] {
		got = append(got, fmt.Sprint(e.Op, " ", e.Off))
	}
	require.Equal(t, []string{fmt.Sprint("write ", f.slots[0].at<<10), "write 10240", "write 0", "flush 0"}, got)
	require.ErrorIs(t, fs.bd.Fsync(ctx, f.Inode, 0, 1<<40, true, func(_ context.Context, datasync bool) error {
		require.True(t, datasync)
		return errno.IO
	}), errno.IO)
}

// Changes of one block by many, beside writeback, reclaim and readers: the last one is on the medium. For the race detector too.
func TestDeviceConcurrent(t *testing.T) {
	fs := newFS(t, options{bits: 9, cache: 256 << 10})
	f := fs.file(t, "", 0)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 300 {
				bh, err := fs.bd.Bread(ctx, uint64(w)*500+uint64(i%50)*8)
				if err != nil {
					t.Error(err)
					return
				}
				bh.Lock()
				bh.Data[w] = byte(i)
				bh.Unlock()
				fs.bd.MarkDirtyInode(bh, f.Inode)
				bh.Put()
				switch i % 50 {
				case 10:
					fs.bd.DropClean()
				case 20:
					if err := fs.bd.SyncInode(ctx, f.Inode); err != nil {
						t.Error(err)
					}
				case 30:
					fs.bd.Readahead(ctx, uint64(i), 64)
				case 40:
					_ = fs.bd.Sync(ctx)
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, fs.bd.Sync(ctx))
	for w := range 4 {
		for i := range 50 {
			got := make([]byte, 512)
			require.NoError(t, block.ReadAt(fs.dev, got, int64(w*500+i*8)*512))
			require.Equal(t, byte(250+i), got[w])
		}
	}
}
