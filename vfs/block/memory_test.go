package block_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/file"
	"github.com/iomapfs/iomapfs/vfs/block/part"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Memory of an image that was cut short is an error to who touches it, not the end of the process.
func TestTouch(t *testing.T) {
	img := filepath.Join(t.TempDir(), "i")
	require.NoError(t, os.WriteFile(img, make([]byte, 1<<20), 0o600))
	d, err := file.Open(img, file.Options{})
	require.NoError(t, err)
	defer d.Close()
	if !d.Limits().DirectMemory {
		t.Skip("no direct memory here")
	}
	mem, err := d.DirectAccess(0, 1<<20)
	require.NoError(t, err)
	require.NoError(t, block.Touch(func() { copy(mem[512<<10:], "here") }))
	require.NoError(t, d.FlushMemory(512<<10+1, 7))
	require.ErrorIs(t, d.FlushMemory(1<<20-1, 2), errno.IO)
	p, err := part.New(d, 512<<10, 512<<10, "part")
	require.NoError(t, err)
	require.NoError(t, p.FlushMemory(0, 4096))
	require.NoError(t, os.Truncate(img, 4096))
	buf := make([]byte, 8192)
	n := 0
	for _, f := range []func(){
		func() { n = copy(buf, mem[512<<10:]) },
		func() { copy(mem[512<<10:], buf) },
		func() { clear(mem) },
		func() { n = int(mem[1<<20-1]) },
	} {
		require.ErrorIs(t, block.Touch(f), errno.IO)
	}
	require.Zero(t, n)
	require.NoError(t, block.Touch(func() { copy(mem, "still there") }))
	require.Panics(t, func() { _ = block.Touch(func() { panic("its own") }) })
	var none *int
	require.Panics(t, func() { _ = block.Touch(func() { *none = 1 }) })
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = block.Touch(func() { copy(mem, buf[:10]) }) }))
}
