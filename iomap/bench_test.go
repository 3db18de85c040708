package iomap_test

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/iomap/iomaptest"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/invariant"
)

const benchSize = 32 << 20

// plainFile is a file of one mapped extent, without what the test filesystem does for tests.
func plainFile(t testing.TB, bits uint8) *iomaptest.File {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: bits, Size: 64 << 20, Cache: 256 << 20})
	f := fs.File(t, "", benchSize)
	dev := fs.Dev
	mapper := dev.(block.Mapper)
	at := iomap.Mapping{Length: benchSize, Type: iomap.Mapped, Addr: 8 << 20, Dev: dev, Dax: mapper}
	f.Read = custom(func(_ int64, m, _ *iomap.Mapping) { *m = at })
	f.Write, f.Direct, f.DaxRead, f.DaxWrite = f.Read, f.Read, f.Read, f.Read
	f.Writeback.MapBlocks = func(_ context.Context, wc *iomap.WritebackContext, _, _ int64) error { wc.Map = at; return nil }
	f.Writeback.Submit = nil
	return f
}

// What is done over and over allocates nothing, or a constant that does not grow with the length.
func TestAllocs(t *testing.T) {
	if invariant.Enabled {
		t.Skip("the race detector empties pools at random")
	}
	for _, bits := range []uint8{10, 12} {
		f := plainFile(t, bits)
		p := make([]byte, 1<<20)
		for pos := int64(0); pos < benchSize; pos += 1 << 20 {
			_, err := f.Pages.Read(ctx, nil, p, pos, 0)
			require.NoError(t, err)
		}
		k := vfs.Kiocb{Inode: f.Inode}
		for pos := int64(1); pos < benchSize; pos += 4096 { // a folio gets its state with the first write to a part of it
			k.Pos = pos
			_, err := iomap.BufferedWrite(ctx, &k, p[:1], f.Write, nil, nil)
			require.NoError(t, err)
		}
		require.NoError(t, f.Pages.WriteAndWait(ctx, 0, benchSize))
		pos := int64(0)
		step := func() { pos = (pos + 3<<20 + 512) % (benchSize - 1<<20) &^ 511 }
		for _, c := range []struct {
			name string
			do   func()
		}{
			{"cached read", func() { _, _ = f.Pages.Read(ctx, nil, p[:100000], pos, 0) }},
			{"direct read", func() { k.Pos = pos; _, _ = iomap.Direct(ctx, &k, p[:65536], false, f.Read, nil, 0, nil, 0) }},
			{"dax read", func() { k.Pos = pos; _, _ = iomap.DaxRW(ctx, &k, p[:65536], false, f.DaxRead, &f.Dax) }},
			{"seek", func() { _, _ = iomap.Seek(ctx, f.Inode, pos, vfs.SeekHole, f.Read) }},
			{"bmap", func() { _, _ = iomap.Bmap(ctx, f.Inode, 7, f.Read) }},
			{"write", func() { k.Pos = pos; _, _ = iomap.BufferedWrite(ctx, &k, p[:100000], f.Write, nil, nil) }},
			{"zero", func() { _, _ = iomap.ZeroRange(ctx, f.Inode, pos, 10000, f.Read, nil) }},
		} {
			n := testing.AllocsPerRun(50, func() { step(); c.do() })
			require.LessOrEqual(t, n, 0.5, "%s, blocks of %d", c.name, 1<<bits)
		}
		// Writing back a megabyte costs no more allocations than a page: the folios' states are there.
		for _, size := range []int{4096, 1 << 20} {
			n := testing.AllocsPerRun(20, func() {
				k.Pos = 8 << 20
				_, _ = iomap.BufferedWrite(ctx, &k, p[:size], f.Write, nil, nil)
				_ = f.Pages.WriteAndWait(ctx, 0, benchSize)
			})
			require.LessOrEqual(t, n, 8.0, "write back %d bytes, blocks of %d", size, 1<<bits)
		}
	}
}

func BenchmarkCopy(b *testing.B) {
	src, p := make([]byte, benchSize), make([]byte, 128<<10)
	b.SetBytes(int64(len(p)))
	for i := range b.N {
		copy(p, src[(i*len(p))%benchSize:])
	}
}

func BenchmarkCopy4K(b *testing.B) {
	src, p := make([]byte, benchSize), make([]byte, 4096)
	rng := rand.New(rand.NewPCG(1, 2))
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		copy(p, src[rng.IntN(benchSize/4096)*4096:])
	}
}

func cached(b *testing.B) *iomaptest.File {
	f := plainFile(b, 12)
	p := make([]byte, 1<<20)
	for pos := int64(0); pos < benchSize; pos += 1 << 20 {
		_, err := f.Pages.Read(ctx, nil, p, pos, 0)
		require.NoError(b, err)
	}
	b.ReportAllocs()
	b.ResetTimer()
	return f
}

func BenchmarkCachedRead(b *testing.B) {
	f, p := cached(b), make([]byte, 128<<10)
	b.SetBytes(int64(len(p)))
	for i := range b.N {
		_, _ = f.Pages.Read(ctx, nil, p, int64(i*len(p))%benchSize, 0)
	}
}

func BenchmarkCachedRead4K(b *testing.B) {
	f, p := cached(b), make([]byte, 4096)
	rng := rand.New(rand.NewPCG(1, 2))
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		_, _ = f.Pages.Read(ctx, nil, p, rng.Int64N(benchSize/4096)*4096, 0)
	}
}

// A whole file written and written back.
func BenchmarkWriteAndWriteback(b *testing.B) {
	f, p := plainFile(b, 12), make([]byte, 128<<10)
	b.SetBytes(benchSize)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		k := vfs.Kiocb{Inode: f.Inode}
		for k.Pos < benchSize {
			_, err := iomap.BufferedWrite(ctx, &k, p, f.Write, nil, nil)
			require.NoError(b, err)
		}
		require.NoError(b, f.Pages.WriteAndWait(ctx, 0, benchSize))
		f.Pages.DropClean(0, benchSize)
	}
}

func BenchmarkDirectRead4K(b *testing.B) {
	f, p := plainFile(b, 12), make([]byte, 4096)
	rng := rand.New(rand.NewPCG(1, 2))
	k := vfs.Kiocb{Inode: f.Inode}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		k.Pos = rng.Int64N(benchSize/4096) * 4096
		_, _ = iomap.Direct(ctx, &k, p, false, f.Read, nil, 0, nil, 0)
	}
}

func BenchmarkDaxRead4K(b *testing.B) {
	f, p := plainFile(b, 12), make([]byte, 4096)
	rng := rand.New(rand.NewPCG(1, 2))
	k := vfs.Kiocb{Inode: f.Inode}
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		k.Pos = rng.Int64N(benchSize/4096) * 4096
		_, _ = iomap.DaxRW(ctx, &k, p, false, f.DaxRead, &f.Dax)
	}
}
