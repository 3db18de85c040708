package ext2

import (
	"bytes"
	"context"
	"math"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
)

// paused is a context that does something whenever it is asked for its error: a write asks between its mapping and the lock of each
// folio, when its view of the map may be overtaken.
type paused struct {
	context.Context
	moment func()
}

func (p paused) Err() error {
	p.moment()
	return nil
}

// poisoned gives an image whose free blocks hold 0xAA.
func poisoned(t testing.TB) []byte {
	img := nameImage(t, "4M", "-b", "1024", "-m", "0", "-N", "64")
	sb := nameMount(t, img, "nodiscard")
	ip, err := sb.Root.Create(tctx, vfs.Root, "poison", 0o644)
	require.NoError(t, err)
	f, err := ip.Open(tctx, vfs.ORdwr)
	require.NoError(t, err)
	for pos, n := int64(0), 1; n > 0; pos += int64(n) {
		n, _ = f.WriteAt(tctx, bytes.Repeat([]byte{0xAA}, 64<<10), pos) // until there is no space
	}
	f.Close()
	ip.Put()
	require.NoError(t, sb.Sync(tctx))
	require.NoError(t, sb.Root.Unlink(tctx, "poison"))
	nameDone(t, sb, img)
	data, err := os.ReadFile(img)
	require.NoError(t, err)
	return data
}

// Writeback, and the dropping of what is clean, come between the mapping of a write and each of its folios: a block whose rest nobody
// wrote is never completed from what the medium held.
func TestWriteOvertakenByWriteback(t *testing.T) {
	sb, _, _ := faultyMount(t, poisoned(t), "path=iomap")
	ip, err := sb.Root.Create(tctx, vfs.Root, "f", 0o644)
	require.NoError(t, err)
	require.NoError(t, ip.SetAttr(tctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize, Size: 64 << 10}))
	f, err := ip.Open(tctx, vfs.ORdwr)
	require.NoError(t, err)
	moments := 0
	at := paused{tctx, func() {
		moments++
		require.NoError(t, ip.Pages.WriteAndWait(tctx, 0, math.MaxInt64))
		ip.Pages.DropClean(0, math.MaxInt64)
	}}
	want := make([]byte, 64<<10)
	for _, w := range []struct{ pos, n int }{
		{12 << 10, 4096 + 500},      // a folio, and a part of a block in the next
		{28<<10 + 300, 4096 + 1500}, // from a part of a block to another
		{28 << 10, 100},
		{44<<10 - 10, 20},
	} {
		copy(want[w.pos:], bytes.Repeat([]byte{1}, w.n))
		n, err := f.WriteAt(at, want[w.pos:w.pos+w.n], int64(w.pos))
		require.NoError(t, err)
		require.Equal(t, w.n, n)
		require.Equal(t, want, readFile(t, ip), "after %d+%d", w.pos, w.n)
	}
	require.Greater(t, moments, 6)
	require.NoError(t, f.Fsync(tctx, false))
	ip.Pages.DropClean(0, math.MaxInt64)
	require.Equal(t, want, readFile(t, ip))
	f.Close()
	ip.Put()
	require.NoError(t, sb.Unmount(tctx))
}

// A pass of writeback asks again about what was a hole before: promises may have been made there, which are no change of the map.
func TestWritebackAsksAgainAboutHoles(t *testing.T) {
	sb, _, _ := faultyMount(t, poisoned(t), "path=iomap")
	ip, err := sb.Root.Create(tctx, vfs.Root, "f", 0o644)
	require.NoError(t, err)
	require.NoError(t, ip.SetAttr(tctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize, Size: 64 << 10}))
	wc := &iomap.WritebackContext{Inode: ip, Map: iomap.Mapping{Addr: iomap.NullAddr}}
	require.NoError(t, mapBlocks(tctx, wc, 8192, 4096))
	require.Equal(t, iomap.Hole, wc.Map.Type)
	writeFile(t, ip, make([]byte, 4096), 8192)
	require.NoError(t, mapBlocks(tctx, wc, 8192, 4096))
	require.Equal(t, iomap.Mapped, wc.Map.Type, "or the data is thrown away")
	ip.Put()
	require.NoError(t, sb.Unmount(tctx))
}
