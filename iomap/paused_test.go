package iomap_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/iomap/iomaptest"
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

// Writeback may choose blocks while a write is on its way through a promised run, and without unwritten space they are mapped before
// they hold anything. The write that comes to a part of such a block completes it from the medium: so only blocks that are dirty may
// be chosen. A filesystem that chooses the whole run shows what the medium held.
func TestWriteOvertakenByWriteback(t *testing.T) {
	for _, greedy := range []bool{false, true} {
		fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true, NoUnwritten: true, Greedy: greedy})
		f := fs.File(t, "hole 64k", 64<<10)
		data := bytes.Repeat([]byte{1}, 4096+500) // a folio, and a part of a block in the next
		n := 0
		at := paused{ctx, func() {
			n++
			require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
		}}
		f.Rw.Lock()
		k := vfs.Kiocb{Inode: f.Inode, Pos: 12 << 10}
		done, err := iomap.BufferedWrite(at, &k, data, f.Write, nil, nil)
		f.Rw.Unlock()
		require.NoError(t, err)
		require.Equal(t, len(data), done)
		require.GreaterOrEqual(t, n, 2)
		got := make([]byte, 8192)
		_, err = read(f, got, 12<<10, false)
		require.NoError(t, err)
		want := make([]byte, 8192)
		copy(want, data)
		if greedy {
			copy(want[4096+500:5120], bytes.Repeat([]byte{iomaptest.Poison}, 1024))
		}
		require.Equal(t, want, got)
		require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
		require.Zero(t, f.Delalloc())
	}
}
