package iomap_test

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/iomap/iomaptest"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// What is on the device is not what is in the file: neither cache nor direct I/O may show or store the one as the other, also in blocks
// of which a part is written. The device holds nothing plain.
func TestTransform(t *testing.T) {
	for _, c := range []iomaptest.Cipher{iomaptest.ByRead, iomaptest.ByRanges} {
		fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, Cipher: c})
		f := fs.File(t, "mapped 8k; hole 4k; unwritten 4k; mapped 8k", 24<<10)
		f.Store(t, 0, fill(1024, 7))
		want := make([]byte, 24<<10)
		copy(want, fill(1024, 7))
		_, err := write(f, fill(3000, 9), 500, false)
		require.NoError(t, err)
		copy(want[500:], fill(3000, 9))
		p := make([]byte, 24<<10)
		_, err = read(f, p, 0, false)
		require.NoError(t, err)
		require.Equal(t, -1, diff(want, p))
		_, err = write(f, fill(4096, 3), 16<<10, true)
		require.NoError(t, err)
		copy(want[16<<10:], fill(4096, 3))
		for range 2 {
			_, err = read(f, p, 0, true)
			require.NoError(t, err)
			require.Equal(t, -1, diff(want, p))
			f.Pages.DropClean(0, 1<<40)
			_, err = read(f, p, 0, false)
			require.NoError(t, err)
			require.Equal(t, -1, diff(want, p))
		}
		at, err := iomap.Bmap(ctx, f.Inode, 1, f.Read)
		require.NoError(t, err)
		require.NoError(t, block.ReadAt(fs.Dev, p[:1024], int64(at)<<10))
		require.NotEqual(t, want[1024:2048], p[:1024], "plain on the device")
	}
}

// The filesystem completes reads when it likes, in any order, and may find the data bad: the reader waits, and hears of it; the other
// blocks of the folio are kept.
func TestReadCompletion(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true})
	f := fs.File(t, "mapped 1k; unwritten 1k; mapped 2k", 4096)
	f.Store(t, 0, fill(1024, 1))
	f.Store(t, 2, fill(1024, 2))
	var mu sync.Mutex
	var held []*iomap.ReadIO
	come := make(chan struct{}, 10)
	f.ReadOps = &iomap.ReadOps{SubmitRead: func(r *iomap.ReadIO) {
		r.End = func(r *iomap.ReadIO, err error) {
			require.NoError(t, err)
			mu.Lock()
			held = append(held, r)
			mu.Unlock()
			come <- struct{}{}
		}
		r.Submit()
	}}
	done := make(chan error)
	p := make([]byte, 4096)
	go func() { _, err := read(f, p, 0, false); done <- err }()
	<-come
	<-come
	fo := f.Pages.Get(0)
	require.True(t, fo.Locked())
	require.False(t, fo.Uptodate())
	var firsts []int64
	for _, i := range []int{1, 0} {
		held[i].Each(func(pos int64, _ []byte) { firsts = append(firsts, pos) })
		require.Empty(t, done)
		if i == 1 {
			held[i].Finish(nil)
			require.True(t, fo.Locked(), "one of two reads is over")
		} else {
			held[i].Finish(errno.BADMSG)
		}
	}
	fo.Put()
	require.Equal(t, []int64{2048, 0}, firsts)
	<-come // the reader tries once more, what is missing only
	held[2].Each(func(pos int64, data []byte) { require.Zero(t, pos); require.Len(t, data, 1024) })
	held[2].Finish(errno.BADMSG)
	require.ErrorIs(t, <-done, errno.IO)
	held = nil
	go func() { _, err := read(f, p[:1024], 2048, false); done <- err }()
	require.NoError(t, <-done, "these blocks are good")
	require.Equal(t, byte(2), p[0])
	// Before a write to a part of the block that is not.
	go func() { _, err := write(f, []byte{9}, 10, false); done <- err }()
	<-come
	held[0].Finish(errno.BADMSG)
	require.ErrorIs(t, <-done, errno.BADMSG)
}

// A folio that takes several bios to read is locked until the last of them, whichever is first.
func TestReadSplit(t *testing.T) {
	d := newSlow(t, mem.Options{}, func(l *block.Limits) { l.MaxBio = 4096 })
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 12, Device: d})
	f := fs.File(t, "mapped 16k", 16<<10)
	hold := make(chan struct{})
	d.hold = hold
	done := make(chan error)
	go func() { _, err := f.Pages.Read(ctx, nil, make([]byte, 16<<10), 0, 0); done <- err }()
	for range 3 {
		hold <- struct{}{}
		fo := f.Pages.Get(0)
		if fo.Len() == 16<<10 {
			<-after()
			require.True(t, fo.Locked())
			require.False(t, fo.Uptodate())
		}
		fo.Put()
	}
	close(hold)
	require.NoError(t, <-done)
}
