package compare

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/all"
	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/file"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

const benchSize = 16 << 20

// benchMount mounts a fresh copy on a path; the cache never writes back of its own accord. done unmounts it.
func benchMount(b *testing.B, image block.Device, path vfs.Path) (e *env, done func()) {
	dev, err := copyOf(image)
	require.NoError(b, err)
	paths := vfs.AllPaths(path)
	cache := pagecache.New(pagecache.Options{Limit: 8 * benchSize, DirtyBackground: 4 * benchSize, DirtyMax: 6 * benchSize, Interval: time.Hour})
	sb, err := all.Mount(b.Context(), dev, "", &vfs.MountOptions{Cache: cache, Paths: &paths})
	require.NoError(b, err)
	e = &env{ctx: b.Context(), sb: sb, size: benchSize, buf: make([]byte, 1<<20), rnd: 42, sum: newSum()}
	return e, func() {
		if e.f != nil {
			e.f.Close()
		}
		require.NoError(b, sb.Unmount(b.Context()))
		cache.Close()
	}
}

func benchImage(b *testing.B) block.Device {
	dev, err := file.Open(oracle.Mke2fs(b, "64M", "-b", "4096"), file.Options{ReadOnly: true})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, dev.Close()) })
	return dev
}

// BenchmarkOps runs each operation on each path. Making, mounting and preparing the copy is not measured.
func BenchmarkOps(b *testing.B) {
	image := benchImage(b)
	for _, op := range Ops {
		for _, path := range []vfs.Path{vfs.Legacy, vfs.Iomap} {
			b.Run(op.Name+"/"+path.String(), func(b *testing.B) {
				b.ReportAllocs()
				for range b.N {
					b.StopTimer()
					e, done := benchMount(b, image, path)
					require.NoError(b, op.prepare(e))
					b.StartTimer()
					err := op.run(e)
					b.StopTimer()
					require.NoError(b, err)
					done()
					b.StartTimer()
				}
			})
		}
	}
}

// BenchmarkCached reads 64 KiB at a time from the cache, beside a plain copy out of as much memory.
func BenchmarkCached(b *testing.B) {
	const step = 64 << 10
	image := benchImage(b)
	dst := make([]byte, step)
	for _, path := range []vfs.Path{vfs.Legacy, vfs.Iomap} {
		b.Run(path.String(), func(b *testing.B) {
			e, done := benchMount(b, image, path)
			require.NoError(b, e.fill())
			require.NoError(b, e.read())
			b.SetBytes(step)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if _, err := e.f.ReadAt(e.ctx, dst, int64(i)*step%benchSize); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			done()
		})
	}
	b.Run("memcpy", func(b *testing.B) {
		src := make([]byte, benchSize)
		for i := range src {
			src[i] = byte(i)
		}
		b.SetBytes(step)
		b.ResetTimer()
		for i := range b.N {
			at := i * step % benchSize
			copy(dst, src[at:at+step])
		}
	})
}
