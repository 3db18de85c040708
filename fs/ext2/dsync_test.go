package ext2

import (
	"io"
	"log/slog"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/block/record"
)

// An O_DSYNC overwrite of blocks whose map is not on the medium yet needs more than FUA.
func TestDSyncOverWhatIsNotDurable(t *testing.T) {
	img := nameImage(t, "4M", "-b", "1024", "-N", "128")
	clean, err := os.ReadFile(img)
	require.NoError(t, err)
	for _, word := range []string{"path=iomap", "path=legacy"} {
		m, err := mem.New(int64(len(clean)), mem.Options{VolatileCache: true, FUA: true})
		require.NoError(t, err)
		require.NoError(t, block.WriteAt(m, clean, 0, 0))
		dev := record.New(m)
		sb, err := Type.Mount(tctx, dev, &vfs.MountOptions{CacheBytes: 8 << 20, Words: []string{word, "nodiscard"}, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
		require.NoError(t, err)
		ip, err := sb.Root.Create(tctx, vfs.Root, "f", 0o644)
		require.NoError(t, err)
		f, err := ip.Open(tctx, vfs.ORdwr)
		require.NoError(t, err)
		p := make([]byte, 64<<10)
		k := vfs.Kiocb{File: f, Inode: ip}
		_, err = ip.Fop.Write(tctx, &k, p)
		require.NoError(t, err)
		require.NoError(t, ip.Pages.WriteAndWait(tctx, 0, 64<<10)) // as a background flusher does: data only
		for i := range p {
			p[i] = 7
		}
		k = vfs.Kiocb{File: f, Inode: ip, Direct: true, DSync: true}
		n, err := k.Write(tctx, p)
		require.NoError(t, err)
		require.Equal(t, len(p), n)
		require.False(t, k.Synced, word)
		require.NoError(t, f.Fsync(tctx, false))
		k = vfs.Kiocb{File: f, Inode: ip, Direct: true, DSync: true}
		_, err = k.Write(tctx, p)
		require.NoError(t, err)
		require.Equal(t, word == "path=iomap", k.Synced, "%s: what is durable is overwritten by FUA alone", word)
		f.Close()
		ip.Put()
		require.NoError(t, sb.Unmount(tctx))
	}
}
