package images

import (
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/diskfs/go-diskfs/backend"
	bfile "github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/fat"
	"github.com/iomapfs/iomapfs/fs/fat/mkfs"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block/file"
)

// What the benchmarks move. The image is large enough for clusters of 4 KiB, in both.
const (
	benchImage = 300 << 20
	benchFile  = 64 << 20
	benchCopy  = 32 << 10 // as io.Copy has it
	benchChunk = 1 << 20
	benchFiles = 1000
	benchReads = 2000
	benchSmall = 4096
)

// side is one library on an image that it made.
type side interface {
	open(b *testing.B) // mounts, with nothing in memory
	close(b *testing.B)
	write(b *testing.B, name string, chunk []byte, n int) // n chunks one after the other
	read(b *testing.B, name string, chunk []byte) int     // all of it, in chunks
	readAt(b *testing.B, name string, chunk []byte, offsets []int64)
}

// BenchmarkFAT does the same with our FAT32 and go-diskfs's in turn, in this process, on image files: what is written has reached
// the file, nobody waits for the disk. It reports each one's rate, and how many times theirs ours is.
func BenchmarkFAT(b *testing.B) {
	chunk := pattern(1, benchChunk)
	offsets := make([]int64, benchReads)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range offsets {
		offsets[i] = rng.Int64N(benchFile/benchSmall) * benchSmall
	}
	big := func(b *testing.B, s side) { s.write(b, "big", chunk, benchFile/benchChunk) }
	reader := func(n int) func(b *testing.B, s side) {
		return func(b *testing.B, s side) { require.Equal(b, benchFile, s.read(b, "big", chunk[:n])) }
	}
	// direct has us go past our cache, which holds no more than go-diskfs has: none.
	direct := func(f func(b *testing.B, s side)) func(b *testing.B, s side) {
		return func(b *testing.B, s side) {
			if o, ok := s.(*oursFAT); ok {
				o.flags = vfs.ODirect
			}
			f(b, s)
		}
	}
	small := func(b *testing.B, s side) {
		for i := range benchFiles {
			s.write(b, fmt.Sprintf("a small file %d", i), chunk[:benchSmall], 1)
		}
	}
	for _, w := range []struct {
		name, unit   string
		n            float64
		prepare, run func(b *testing.B, s side)
	}{
		{"write 64 MiB by 32 KiB", "MiB/s", benchFile >> 20, nil, func(b *testing.B, s side) { s.write(b, "big", chunk[:benchCopy], benchFile/benchCopy) }},
		{"write 64 MiB by 1 MiB", "MiB/s", benchFile >> 20, nil, big},
		{"write 64 MiB by 1 MiB, direct", "MiB/s", benchFile >> 20, nil, direct(big)},
		{"read 64 MiB by 32 KiB", "MiB/s", benchFile >> 20, big, reader(benchCopy)},
		{"read 64 MiB by 1 MiB", "MiB/s", benchFile >> 20, big, reader(benchChunk)},
		{"read 64 MiB by 1 MiB, direct", "MiB/s", benchFile >> 20, big, direct(reader(benchChunk))},
		{"random reads of 4 KiB", "reads/s", benchReads, big, func(b *testing.B, s side) { s.readAt(b, "big", chunk[:benchSmall], offsets) }},
		{"create small files", "files/s", benchFiles, nil, small},
		{"read small files", "files/s", benchFiles, small, func(b *testing.B, s side) {
			for i := range benchFiles {
				require.Equal(b, benchSmall, s.read(b, fmt.Sprintf("a small file %d", i), chunk))
			}
		}},
	} {
		b.Run(w.name, func(b *testing.B) {
			var took [2]time.Duration
			for range b.N {
				for i, s := range []side{newOurs(b), newTheirs(b)} {
					s.open(b)
					if w.prepare != nil {
						w.prepare(b, s)
						s.close(b)
						s.open(b)
					}
					begun := time.Now()
					w.run(b, s)
					s.close(b)
					took[i] += time.Since(begun)
				}
			}
			all := w.n * float64(b.N)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(all/took[0].Seconds(), "ours-"+w.unit)
			b.ReportMetric(all/took[1].Seconds(), "theirs-"+w.unit)
			b.ReportMetric(float64(took[1])/float64(took[0]), "times")
		})
	}
}

// oursFAT is this repository's.
type oursFAT struct {
	img   string
	sb    *vfs.SuperBlock
	flags vfs.OpenFlags // added to every open
}

func newOurs(b *testing.B) side {
	img := blank(b, benchImage)
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	require.NoError(b, err)
	_, err = mkfs.Format(f, benchImage, mkfs.Options{Width: 32, ClusterSize: 4096, Zeroed: true})
	require.NoError(b, err)
	require.NoError(b, f.Close())
	return &oursFAT{img: img}
}

func (o *oursFAT) open(b *testing.B) {
	dev, err := file.Open(o.img, file.Options{})
	require.NoError(b, err)
	o.sb, err = fat.Type.Mount(ctx, dev, &vfs.MountOptions{Words: []string{"path=iomap", "nobarrier"}})
	require.NoError(b, err)
}

func (o *oursFAT) close(b *testing.B) { require.NoError(b, o.sb.Unmount(ctx)) }

func (o *oursFAT) file(b *testing.B, name string) *vfs.File {
	ip, err := o.sb.Root.Lookup(ctx, name)
	require.NoError(b, err)
	f, err := ip.Open(ctx, vfs.ORdwr|o.flags)
	require.NoError(b, err)
	ip.Put()
	return f
}

func (o *oursFAT) write(b *testing.B, name string, chunk []byte, n int) {
	ip, err := o.sb.Root.Create(ctx, vfs.Root, name, 0o644)
	require.NoError(b, err)
	f, err := ip.Open(ctx, vfs.ORdwr|o.flags)
	require.NoError(b, err)
	ip.Put()
	for i := range n {
		_, err := f.WriteAt(ctx, chunk, int64(i*len(chunk)))
		require.NoError(b, err)
	}
	f.Close()
}

func (o *oursFAT) read(b *testing.B, name string, chunk []byte) (all int) {
	f := o.file(b, name)
	defer f.Close()
	for {
		n, err := f.ReadAt(ctx, chunk, int64(all))
		all += n
		if err == io.EOF || err == nil && n == 0 {
			return all
		}
		require.NoError(b, err)
	}
}

func (o *oursFAT) readAt(b *testing.B, name string, chunk []byte, offsets []int64) {
	f := o.file(b, name)
	defer f.Close()
	for _, off := range offsets {
		n, err := f.ReadAt(ctx, chunk, off)
		require.NoError(b, err)
		require.Equal(b, len(chunk), n)
	}
}

// theirsFAT is go-diskfs.
type theirsFAT struct {
	img string
	b   backend.Storage
	fs  *fat32.FileSystem
}

func newTheirs(b *testing.B) side {
	t := &theirsFAT{img: blank(b, benchImage)}
	s, err := bfile.OpenFromPath(t.img, false)
	require.NoError(b, err)
	_, err = fat32.Create(s, benchImage, 0, 512, "", false)
	require.NoError(b, err)
	require.NoError(b, s.Close())
	return t
}

func (t *theirsFAT) open(b *testing.B) {
	var err error
	t.b, err = bfile.OpenFromPath(t.img, false)
	require.NoError(b, err)
	t.fs, err = fat32.Read(t.b, benchImage, 0, 512)
	require.NoError(b, err)
}

func (t *theirsFAT) close(b *testing.B) {
	require.NoError(b, t.fs.Close())
	require.NoError(b, t.b.Close())
}

func (t *theirsFAT) write(b *testing.B, name string, chunk []byte, n int) {
	f, err := t.fs.OpenFile(name, os.O_CREATE|os.O_RDWR)
	require.NoError(b, err)
	for range n {
		_, err := f.Write(chunk)
		require.NoError(b, err)
	}
	require.NoError(b, f.Close())
}

func (t *theirsFAT) read(b *testing.B, name string, chunk []byte) (all int) {
	f, err := t.fs.OpenFile(name, os.O_RDONLY)
	require.NoError(b, err)
	defer f.Close()
	for {
		n, err := f.Read(chunk)
		all += n
		if err == io.EOF {
			return all
		}
		require.NoError(b, err)
	}
}

func (t *theirsFAT) readAt(b *testing.B, name string, chunk []byte, offsets []int64) {
	f, err := t.fs.OpenFile(name, os.O_RDONLY)
	require.NoError(b, err)
	defer f.Close()
	for _, off := range offsets {
		_, err := f.Seek(off, io.SeekStart)
		require.NoError(b, err)
		_, err = io.ReadFull(f, chunk)
		require.NoError(b, err)
	}
}
