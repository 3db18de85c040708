package part

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/blocktest"
	"github.com/iomapfs/iomapfs/vfs/block/file"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/stretchr/testify/require"
)

func memory(t *testing.T, size int64) block.Device {
	t.Helper()
	d, err := mem.New(size, mem.Options{})
	require.NoError(t, err)
	return d
}

func TestConformance(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		blocktest.Run(t, blocktest.Config{Open: func(t *testing.T) block.Device {
			p, err := New(memory(t, 4<<20), 1<<20, 2<<20, "mem@1")
			require.NoError(t, err)
			return p
		}})
	})
	t.Run("file", func(t *testing.T) {
		blocktest.Run(t, blocktest.Config{Open: func(t *testing.T) block.Device {
			path := filepath.Join(t.TempDir(), "disk.img")
			f, err := os.Create(path)
			require.NoError(t, err)
			require.NoError(t, f.Truncate(8<<20))
			require.NoError(t, f.Close())
			d, err := file.Open(path, file.Options{})
			require.NoError(t, err)
			p, err := New(d, 512*63, 3<<20, path+"@1")
			require.NoError(t, err)
			return p
		}})
	})
}

func TestNothingReachesOutside(t *testing.T) {
	whole := memory(t, 3<<20)
	fill := bytes.Repeat([]byte{0xaa}, 3<<20)
	require.NoError(t, block.WriteAt(whole, fill, 0, 0))
	p, err := New(whole, 1<<20, 1<<20, "mem@2")
	require.NoError(t, err)
	defer p.Close()
	require.Equal(t, int64(1<<20), p.Size())
	require.NoError(t, block.WriteZeroes(p, 0, p.Size()))
	for _, c := range []struct{ off, n int64 }{{1 << 20, 512}, {1<<20 - 512, 1024}, {-512, 512}, {1 << 62, 512}} {
		err := block.WriteAt(p, make([]byte, c.n), c.off, 0)
		require.ErrorIs(t, err, errno.IO, "%+v", c)
		require.ErrorContains(t, err, "mem@2")
		require.Error(t, block.Discard(p, c.off, c.n))
		_, err = p.DirectAccess(c.off, c.n)
		require.Error(t, err)
	}
	got := make([]byte, 3<<20)
	require.NoError(t, block.ReadAt(whole, got, 0))
	clear(fill[1<<20 : 2<<20])
	require.True(t, bytes.Equal(fill, got))
}

func TestErrorsSpeakOfTheRange(t *testing.T) {
	d, err := mem.New(1<<20, mem.Options{ReadOnly: true, Name: "disk"})
	require.NoError(t, err)
	p, err := New(d, 4096, 8192, "disk@5")
	require.NoError(t, err)
	defer p.Close()
	err = block.WriteAt(p, make([]byte, 512), 1024, 0)
	require.ErrorIs(t, err, errno.ROFS)
	require.ErrorContains(t, err, "disk@5")
	require.NotContains(t, err.Error(), "5120")
}

func TestRefusals(t *testing.T) {
	d, err := mem.New(1<<20, mem.Options{LogicalBlock: 512})
	require.NoError(t, err)
	defer d.Close()
	for _, c := range [][2]int64{{-512, 512}, {0, 0}, {0, 2 << 20}, {1 << 20, 512}, {100, 512}, {512, 100}, {1 << 62, 1 << 62}, {0, -1}} {
		_, err := New(d, c[0], c[1], "x")
		require.ErrorIs(t, err, errno.INVAL, "%v", c)
	}
}

func TestWaitingAllocatesNothing(t *testing.T) {
	p, err := New(memory(t, 1<<20), 4096, 1<<19, "mem@1")
	require.NoError(t, err)
	defer p.Close()
	b := make([]byte, 4096)
	require.Zero(t, testing.AllocsPerRun(200, func() {
		if err := block.ReadAt(p, b, 8192); err != nil {
			t.Fatal(err)
		}
	}))
}
