package iomap_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/iomap/iomaptest"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// A swap file is one device, its map is on the medium, and what follows on the device is one run whatever the file calls it.
func TestSwapRuns(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10})
	other, err := mem.New(16<<20, mem.Options{})
	require.NoError(t, err)
	defer other.Close()
	f := fs.File(t, "", 16<<10)
	var list []vfs.SwapExtent
	try := func(second func(m *iomap.Mapping)) error {
		list = nil
		ops := custom(func(pos int64, m, _ *iomap.Mapping) {
			m.Length, m.Type, m.Dev, m.Addr = 6<<10, iomap.Mapped, block.Device(fs.Dev), 1<<20
			if pos >= 6<<10 {
				m.Offset, m.Length, m.Type, m.Addr = 6<<10, 10<<10, iomap.Unwritten, 1<<20+6<<10
				second(m)
			}
		})
		return iomap.SwapActivate(ctx, f.Inode, 100, func(e vfs.SwapExtent) error { list = append(list, e); return nil }, ops)
	}
	require.NoError(t, try(func(*iomap.Mapping) {}))
	require.Equal(t, []vfs.SwapExtent{{Pages: 4, Addr: 1 << 20}}, list, "one run, though the border is in the middle of a page")
	require.NoError(t, try(func(m *iomap.Mapping) { m.Addr = 2<<20 + 1024 }))
	require.Equal(t, []vfs.SwapExtent{{Pages: 1, Addr: 1 << 20}, {Page: 1, Pages: 1, Addr: 2<<20 + 4096}}, list, "parts of pages are passed over")
	err = try(func(m *iomap.Mapping) { m.Dev = other })
	require.ErrorIs(t, err, errno.INVAL)
	require.ErrorContains(t, err, "second device")
	err = try(func(m *iomap.Mapping) { m.Flags = iomap.FlagDirty })
	require.ErrorIs(t, err, errno.INVAL)
	require.ErrorContains(t, err, "not on the medium")
}

// What a read left in the cache over unwritten space is data, byte by byte up to the end of the file.
func TestSeekReadOverUnwritten(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{NoLarge: true})
	f := fs.File(t, "unwritten 12k", 12<<10)
	_, err := iomap.Seek(ctx, f.Inode, 0, vfs.SeekData, f.Read)
	require.ErrorIs(t, err, errno.NXIO)
	fo, err := f.Pages.ReadFolio(ctx, 1)
	require.NoError(t, err)
	fo.Put()
	for pos, want := range map[int64][2]int64{0: {4096, 0}, 4095: {4096, 4095}, 4096: {4096, 8192}, 5000: {5000, 8192}, 8191: {8191, 8192}} {
		got, err := iomap.Seek(ctx, f.Inode, pos, vfs.SeekData, f.Read)
		require.NoError(t, err)
		require.Equal(t, want[0], got, "data from %d", pos)
		got, err = iomap.Seek(ctx, f.Inode, pos, vfs.SeekHole, f.Read)
		require.NoError(t, err)
		require.Equal(t, want[1], got, "hole from %d", pos)
	}
	_, err = iomap.Seek(ctx, f.Inode, 8192, vfs.SeekData, f.Read)
	require.ErrorIs(t, err, errno.NXIO)
}

// FUA stands for a sync only over plain written space whose map is on the medium, and only if the sync is of data.
func TestFUAFlags(t *testing.T) {
	for _, c := range []struct {
		flags  iomap.Flags
		sync   bool
		synced bool
	}{{0, false, true}, {iomap.FlagMerged, false, true}, {0, true, false}, {iomap.FlagNew, false, false}, {iomap.FlagDirty, false, false}, {iomap.FlagShared, false, false}} {
		d := newSlow(t, mem.Options{VolatileCache: true, FUA: true}, nil)
		fs := iomaptest.New(t, iomaptest.Options{Device: d})
		f := fs.File(t, "", 8192)
		f.Direct = custom(func(_ int64, m, _ *iomap.Mapping) {
			m.Length, m.Type, m.Dev, m.Addr, m.Flags = 8192, iomap.Mapped, d, 1<<20, c.flags
		})
		d.mu.Lock()
		d.seen = nil
		d.mu.Unlock()
		k := vfs.Kiocb{DSync: true, Sync: c.sync}
		_, err := direct(f, &k, make([]byte, 8192), true, nil, 0)
		require.NoError(t, err)
		require.Equal(t, c.synced, k.Synced, "%s sync %v", c.flags, c.sync)
		d.mu.Lock()
		require.Len(t, d.seen, 1)
		require.Equal(t, c.synced, d.seen[0].Flags&block.FUA != 0, "%s sync %v", c.flags, c.sync)
		d.mu.Unlock()
	}
}
