package ext2

import (
	"bytes"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/ext2/disk/disktest"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/faulty"
	"github.com/iomapfs/iomapfs/vfs/block/file"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// With -o dax nothing of a file is cached, what it did not write reads as zeros whatever the blocks held, and what is synced is in the image.
func TestDax(t *testing.T) {
	img := nameImage(t, "16M", "-b", "1024")
	fillFree(t, img)
	sb := nameMount(t, img, "dax", "nodiscard")
	ip, err := sb.Root.Create(tctx, vfs.Root, "f", 0o644)
	require.NoError(t, err)
	f, err := ip.Open(tctx, vfs.ORdwr|vfs.ODirect)
	require.NoError(t, err)
	want := make([]byte, 3<<20+700)
	for pos := 500; pos < len(want); pos += 300 << 10 {
		p := bytes.Repeat([]byte{byte(pos)}, min(100<<10+3, len(want)-pos))
		n, err := f.WriteAt(tctx, p, int64(pos))
		require.NoError(t, err)
		require.Equal(t, len(p), n)
		copy(want[pos:], p)
	}
	require.NoError(t, ip.SetAttr(tctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize, Size: int64(len(want))}))
	require.True(t, ip.Pages.Empty())
	require.True(t, bytes.Equal(want, readFile(t, ip)))
	require.NoError(t, f.Fsync(tctx, false))
	disktest.Must(t, "", "debugfs", "-R", "dump f "+img+".out", img)
	got, err := os.ReadFile(img + ".out")
	require.NoError(t, err)
	require.True(t, bytes.Equal(want, got), "read by debugfs from the image")
	f.Close()
	ip.Put()
	nameDone(t, sb, img)
}

// fillFree makes all free blocks of an image something that must not come into sight.
func fillFree(t *testing.T, img string) {
	sb := nameMount(t, img, "nodiscard")
	ip, err := sb.Root.Create(tctx, vfs.Root, "fill", 0o600)
	require.NoError(t, err)
	for pos := int64(0); ; pos += 1 << 20 {
		f, err := ip.Open(tctx, vfs.ORdwr)
		require.NoError(t, err)
		_, err = f.WriteAt(tctx, bytes.Repeat([]byte{0xAA}, 1<<20), pos)
		if err == nil {
			err = f.Fsync(tctx, false)
		}
		f.Close()
		if err != nil {
			require.ErrorIs(t, err, errno.NOSPC)
			break
		}
	}
	require.NoError(t, sb.Root.Unlink(tctx, "fill"))
	ip.Put()
	nameDone(t, sb, img)
}

// A device without memory refuses -o dax, and says what to do; an image cut short under a mount gives errors.
func TestDaxDevice(t *testing.T) {
	img := nameImage(t, "8M", "-b", "1024")
	dev, err := file.Open(img, file.Options{})
	require.NoError(t, err)
	_, err = Type.Mount(tctx, faulty.New(dev), &vfs.MountOptions{Words: []string{"dax"}})
	require.ErrorIs(t, err, errno.OPNOTSUPP)
	require.ErrorContains(t, err, "leave dax out")
	_, err = Type.Mount(tctx, block.ReadOnly(dev), &vfs.MountOptions{Words: []string{"dax=never"}})
	require.ErrorIs(t, err, errno.INVAL)
	require.NoError(t, dev.Close())

	sb := nameMount(t, img, "dax", "errors=continue")
	ip, err := sb.Root.Create(tctx, vfs.Root, "f", 0o644)
	require.NoError(t, err)
	writeFile(t, ip, make([]byte, 1<<20), 0)
	f, err := ip.Open(tctx, vfs.ORdwr)
	require.NoError(t, err)
	require.NoError(t, f.Fsync(tctx, false))
	require.NoError(t, os.Truncate(img, 64<<10))
	p := make([]byte, 1<<20)
	_, err = f.ReadAt(tctx, p, 0)
	require.ErrorIs(t, err, errno.IO)
	_, err = f.WriteAt(tctx, p, 0)
	require.ErrorIs(t, err, errno.IO)
	require.NoError(t, os.Truncate(img, 8<<20))
	_, err = f.ReadAt(tctx, p, 0)
	require.NoError(t, err)
	f.Close()
	ip.Put()
	_ = sb.Unmount(tctx) // what was cut off is gone
}
