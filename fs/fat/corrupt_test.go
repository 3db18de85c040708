package fat

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/fs/fat/mkfs"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
)

// use does whatever can be done with a filesystem, and takes any error for an answer.
func use(sb *vfs.SuperBlock, dir *vfs.Inode, depth int) {
	f, err := dir.Open(tctx, vfs.ORdonly)
	if err != nil || depth > 6 {
		return
	}
	defer f.Close()
	var names []string
	_ = f.ReadDir(tctx, 0, func(e *vfs.DirEntry) bool {
		names = append(names, string([]byte(e.Name)))
		return len(names) < 200
	})
	for i, n := range names {
		ip, err := dir.Lookup(tctx, n)
		if err != nil || n == "." || n == ".." {
			continue
		}
		if ip.IsDir() {
			use(sb, ip, depth+1)
		} else if fl, err := ip.Open(tctx, vfs.ORdwr); err == nil {
			buf := make([]byte, 64<<10)
			_, _ = fl.ReadAt(tctx, buf, 0)
			if ip.Size() < 1<<20 {
				_, _ = fl.WriteAt(tctx, buf[:5000], ip.Size())
			}
			fl.Close()
		}
		ip.Put()
		switch i % 3 {
		case 0:
			_ = dir.Unlink(tctx, n)
		case 1:
			_ = dir.RenameTo(tctx, n, sb.Root, n+" moved", 0)
		}
	}
	if ip, err := dir.Create(tctx, vfs.Root, "a new file with a long name", 0o644); err == nil {
		ip.Put()
	}
	if ip, err := dir.Mkdir(tctx, vfs.Root, "new", 0o755); err == nil {
		ip.Put()
	}
}

// Whatever a few bytes of the metadata say, mounting and using the filesystem ends, and nothing panics.
func TestCorruptImages(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("IOMAPFS_SEED"); s != "" {
		_, err := fmt.Sscan(s, &seed)
		require.NoError(t, err)
	}
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 3))
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	for i := range 150 {
		w := []disk.Width{disk.FAT12, disk.FAT16, disk.FAT32}[i%3]
		size := int64(6 << 20)
		m, err := mem.New(size, mem.Options{NoDirect: true})
		require.NoError(t, err)
		dw := deviceWriter{m}
		b, err := mkfs.Format(dw, size, mkfs.Options{
			Width: w, ClusterSize: map[disk.Width]uint32{disk.FAT12: 4096, disk.FAT16: 1024, disk.FAT32: 512}[w], Zeroed: true,
			Fill: func(bu *mkfs.Builder) error {
				for k := range 12 {
					n := &mkfs.Node{Path: fmt.Sprintf("d%d/e/some file %d", k%3, k), Size: int64(k) * 1500}
					if err := bu.Add(n, io.LimitReader(zeroReader{}, n.Size)); err != nil {
						return err
					}
				}
				return nil
			},
		})
		require.NoError(t, err)
		g, err := disk.NewGeometry(b, size)
		require.NoError(t, err)
		for range 1 + rng.IntN(12) {
			at := rng.Int64N(600)
			switch rng.IntN(4) {
			case 0, 1:
				at = g.BytesOf(g.FATStart(0)) + rng.Int64N(400)
			case 2:
				at = g.BytesOf(g.RootStart) + rng.Int64N(120<<10)
			}
			_, err := dw.WriteAt([]byte{byte(rng.Uint32() >> rng.IntN(8))}, at)
			require.NoError(t, err)
		}
		words := []string{"tz=UTC", "errors=continue", []string{"path=legacy", "path=iomap"}[i%2]}
		done := make(chan struct{})
		go func() {
			defer close(done)
			sb, err := Type.Mount(tctx, m, &vfs.MountOptions{CacheBytes: 4 << 20, Words: words, Log: quiet})
			if err != nil {
				_ = m.Close()
				return
			}
			use(sb, sb.Root, 0)
			_, _ = sb.StatFS()
			_ = sb.Unmount(tctx)
		}()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatalf("seed %d, image %d: it hangs", seed, i)
		}
	}
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// deviceWriter writes to a device at any offset.
type deviceWriter struct{ dev block.Device }

func (w deviceWriter) WriteAt(p []byte, off int64) (int, error) {
	from, to := off&^511, (off+int64(len(p))+511)&^511
	b := make([]byte, to-from)
	if err := block.ReadAt(w.dev, b, from); err != nil {
		return 0, err
	}
	copy(b[off-from:], p)
	return len(p), block.WriteAt(w.dev, b, from, 0)
}
