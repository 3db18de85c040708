package ext2

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/ext2/disk/disktest"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/faulty"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// faultyMount mounts a copy of an image in memory on a device that fails as it is told.
func faultyMount(t testing.TB, clean []byte, words ...string) (*vfs.SuperBlock, *faulty.Device, *mem.Device) {
	t.Helper()
	m, err := mem.New(int64(len(clean)), mem.Options{})
	require.NoError(t, err)
	require.NoError(t, block.WriteAt(m, clean, 0, 0))
	dev := faulty.New(m)
	sb, err := Type.Mount(tctx, dev, &vfs.MountOptions{CacheBytes: 8 << 20, Words: append(words, "nodiscard"), Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(t, err)
	return sb, dev, m
}

// When metadata could not be written the filesystem turns read-only, and nobody who syncs anything from then on is told that all is
// well: neither who has the file open already nor who opens another one later, nor who syncs or unmounts the whole. What was durable
// before stays so.
func TestFsyncAfterAbort(t *testing.T) {
	clean, err := os.ReadFile(nameImage(t, "4M", "-b", "1024", "-N", "128"))
	require.NoError(t, err)
	for _, word := range []string{"path=legacy", "path=bridge", "path=iomap"} {
		for _, cause := range []errno.Errno{errno.IO, errno.NOSPC} {
			sb, dev, m := faultyMount(t, clean, word, "errors=continue")
			before, err := sb.Root.Create(tctx, vfs.Root, "before", 0o644)
			require.NoError(t, err)
			data := bytes.Repeat([]byte{7}, 30000)
			writeFile(t, before, data, 0)
			a, err := before.Open(tctx, vfs.ORdwr)
			require.NoError(t, err)
			require.NoError(t, a.Fsync(tctx, false))

			lost, err := sb.Root.Create(tctx, vfs.Root, "lost", 0o644)
			require.NoError(t, err)
			b, err := lost.Open(tctx, vfs.ORdwr)
			require.NoError(t, err)
			_, err = b.WriteAt(tctx, data, 0)
			require.NoError(t, err)
			// One write of metadata fails; the device is well again.
			dev.Add(faulty.Rule{Op: block.OpWrite, Start: 0, End: 64 << 10, Err: cause})
			for range 3 {
				require.ErrorIs(t, b.Fsync(tctx, false), errno.IO, word)
				require.ErrorIs(t, a.Fsync(tctx, true), errno.IO, word)
			}
			require.NotZero(t, dev.Hits())
			require.True(t, sb.ReadOnly())
			_, err = a.WriteAt(tctx, data, 0)
			require.ErrorIs(t, err, errno.ROFS)
			for _, ip := range []*vfs.Inode{before, lost, sb.Root} {
				later, err := ip.Open(tctx, vfs.ORdonly)
				require.NoError(t, err)
				require.ErrorIs(t, later.Fsync(tctx, false), errno.IO, word)
				require.ErrorIs(t, later.Fsync(tctx, false), errno.IO, word)
				later.Close()
			}
			require.Equal(t, errno.IO, errno.From(sb.Sync(tctx)), "whatever the cause was")
			require.ErrorIs(t, sb.Remount(tctx, false), errno.ROFS)
			require.Equal(t, data, readFile(t, lost), "memory holds it still")
			st, err := sb.StatFS()
			require.NoError(t, err)
			require.LessOrEqual(t, st.Free, st.Blocks)
			a.Close()
			b.Close()
			before.Put()
			lost.Put()
			img := t.TempDir() + "/f.img"
			require.NoError(t, block.Export(m, img))
			require.Equal(t, errno.IO, errno.From(sb.Unmount(tctx)), word)
			code, out := disktest.Run(t, "", "e2fsck", "-p", img)
			require.LessOrEqual(t, code, 1, out)
			sb = nameMount(t, img)
			ip, err := sb.Root.Lookup(tctx, "before")
			require.NoError(t, err)
			require.Equal(t, data, readFile(t, ip))
			ip.Put()
			require.NoError(t, sb.Unmount(tctx))
		}
	}
}

// A filesystem that was mounted read-only has nothing to lose, and says so.
func TestFsyncReadOnly(t *testing.T) {
	sb := nameMount(t, nameImage(t, "4M", "-b", "1024"), "errors=remount-ro")
	require.NoError(t, sb.Remount(tctx, true))
	for range 2 {
		f, err := sb.Root.Open(tctx, vfs.ORdonly)
		require.NoError(t, err)
		require.NoError(t, f.Fsync(tctx, false))
		f.Close()
		require.NoError(t, sb.Sync(tctx))
	}
	// Turned read-only by damage it answers otherwise, though what is in memory was written: until it is mounted read-write again.
	require.NoError(t, sb.Remount(tctx, false))
	ip, err := sb.Root.Create(tctx, vfs.Root, "f", 0o644)
	require.NoError(t, err)
	writeFile(t, ip, []byte("kept"), 0)
	fs := fsOf(sb)
	fs.fail(fs.corrupt("test", 12, 0, "found damage"))
	f, err := ip.Open(tctx, vfs.ORdonly)
	require.NoError(t, err)
	require.ErrorIs(t, f.Fsync(tctx, false), errno.IO)
	require.Zero(t, fs.commit.tracked.Load(), "what can be written is")
	require.ErrorIs(t, f.Fsync(tctx, false), errno.IO)
	f.Close()
	require.NoError(t, sb.Remount(tctx, false))
	f, err = ip.Open(tctx, vfs.ORdonly)
	require.NoError(t, err)
	require.NoError(t, f.Fsync(tctx, false))
	f.Close()
	ip.Put()
	require.NoError(t, sb.Unmount(tctx))
}

// A signal that comes while a file is synced neither ends that nor costs data: writeback gives up what it cannot map.
func TestFsyncInterrupted(t *testing.T) {
	clean, err := os.ReadFile(nameImage(t, "4M", "-b", "1024", "-N", "128"))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(tctx)
	cancel()
	for _, word := range []string{"path=legacy", "path=bridge", "path=iomap"} {
		sb, _, _ := faultyMount(t, clean, word)
		ip, err := sb.Root.Create(tctx, vfs.Root, "f", 0o644)
		require.NoError(t, err)
		data := bytes.Repeat([]byte{5}, 1<<20)
		writeFile(t, ip, data, 0)
		f, err := ip.Open(tctx, vfs.ORdwr)
		require.NoError(t, err)
		sb.Private.(*fsys).bd.DropClean() // so that indirect blocks must be read
		require.NoError(t, f.Fsync(ctx, false), word)
		require.False(t, ip.Pages.IsDirty())
		ip.Pages.DropClean(0, 1<<40)
		require.Equal(t, data, readFile(t, ip), word)
		writeFile(t, ip, data, 100)
		_ = ip.Pages.WriteAndWait(ctx, 0, 1<<40)
		ip.Pages.DropClean(0, 1<<40)
		require.Equal(t, data, readFile(t, ip)[100:], word)
		f.Close()
		ip.Put()
		require.NoError(t, sb.Unmount(tctx))
	}
}
