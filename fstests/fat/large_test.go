package fat

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/fat"
	"github.com/iomapfs/iomapfs/fs/fat/check"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/fstests/target"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/file"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// counted counts what is asked of a device.
type counted struct {
	block.Device
	reads, written atomic.Int64 // bios; bytes
}

func (c *counted) Submit(b *block.Bio) {
	switch b.Op {
	case block.OpRead:
		c.reads.Add(1)
	case block.OpWrite:
		c.written.Add(b.Bytes())
	}
	c.Device.Submit(b)
}

// openCounted mounts an image with its device counted.
func openCounted(t *testing.T, img string, mo vfs.MountOptions) (*target.Super, *counted) {
	t.Helper()
	dev, err := file.Open(img, file.Options{ReadOnly: mo.ReadOnly})
	require.NoError(t, err)
	c := &counted{Device: dev}
	mo.Words = append(mo.Words, "tz=UTC", "nodiscard")
	sb, err := fat.Type.Mount(ctx, c, &mo)
	require.NoError(t, err)
	return &target.Super{SB: sb}, c
}

// Both sides of the largest size that a directory entry can say.
func TestLargest(t *testing.T) {
	const largest = 1<<32 - 1
	for _, word := range []string{"path=legacy", "path=iomap"} {
		t.Run(word, func(t *testing.T) {
			img := mkfs(t, 5<<10, "-F", "32", "-s", "64")
			fs, c := openCounted(t, img, vfs.MountOptions{CacheBytes: 8 << 20, Words: []string{word}})
			require.Zero(t, fs.Create("f", 0o644))
			n, e := fs.Write("f", largest-2, []byte("ab"))
			require.Zero(t, e)
			require.Equal(t, 2, n)
			n, e = fs.Write("f", largest-1, []byte("cd")) // as much of it as there is room for
			require.Zero(t, e)
			require.Equal(t, 1, n)
			_, e = fs.Write("f", largest, []byte("e"))
			require.Equal(t, errno.FBIG, e)
			_, e = fs.Append("f", []byte("e"))
			require.Equal(t, errno.FBIG, e)
			require.Equal(t, errno.FBIG, fs.Truncate("f", largest+1))
			i, e := fs.Stat("f")
			require.Zero(t, e)
			require.EqualValues(t, largest, i.Size)
			got, e := fs.Read("f", largest-4, 10)
			require.Zero(t, e)
			require.Equal(t, []byte("\x00\x00ac"), got)
			require.NoError(t, fs.SB.Unmount(ctx))
			require.Less(t, c.written.Load(), int64(64<<20), "zeros are not written one by one")
			// fsck.fat counts the bytes of a chain in 32 bits, and finds 0 here.
			f, err := os.Open(img)
			require.NoError(t, err)
			defer f.Close()
			rep, err := check.Check(ctx, f, 5<<30, check.Options{})
			require.NoError(t, err)
			require.Empty(t, rep.Problems)
		})
	}
}

const stripe = 64 << 10

// poison fills what is free of an image with 0xAA: a stripe in every few MiB.
func poison(t *testing.T, img string, every int64) (stripes []int64) {
	t.Helper()
	g := geometry(t, img)
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	b := bytes.Repeat([]byte{0xAA}, stripe)
	for at := g.BytesOf(g.SectorOf(g.RootCluster + 1)); at+stripe <= g.BytesOf(disk.Sector(g.Sectors)); at += every {
		_, err := f.WriteAt(b, at)
		require.NoError(t, err)
		stripes = append(stripes, at)
	}
	return stripes
}

func geometry(t *testing.T, img string) *disk.Geometry {
	t.Helper()
	f, err := os.Open(img)
	require.NoError(t, err)
	defer f.Close()
	sector := make([]byte, 4096)
	_, err = f.ReadAt(sector, 0)
	require.NoError(t, err)
	b, err := disk.DecodeBootSector(sector)
	require.NoError(t, err)
	g, err := disk.NewGeometry(&b, -1)
	require.NoError(t, err)
	return g
}

// zeros demands that the stripes that lie in a file of one piece read as zeros, from byte to byte of it.
func zeros(t *testing.T, fs *target.Super, p string, stripes []int64, from, to int64) {
	t.Helper()
	ip, err := fs.SB.Walk(ctx, p, true)
	require.NoError(t, err)
	defer ip.Put()
	first, err := ip.Bmap(ctx, 0)
	require.NoError(t, err)
	start := int64(first) << ip.BlockBits()
	seen := 0
	for _, at := range stripes {
		off := max(at-start, from)
		n := min(at-start+stripe, to) - off
		if n <= 0 {
			continue
		}
		got, e := fs.Read(p, off, int(n))
		require.Zero(t, e)
		require.Equal(t, int(n), len(got))
		require.Negative(t, bytes.IndexFunc(got, func(r rune) bool { return r != 0 }), "at %d", off)
		seen++
	}
	require.Positive(t, seen, "no stripe lies in the file")
}

// A byte far behind the end of a file: the gap is zeros, however much it is, and costs next to nothing where the device has zeros cheap.
func TestGap(t *testing.T) {
	for _, word := range []string{"path=legacy", "path=iomap"} {
		t.Run(word, func(t *testing.T) {
			const far = 3 << 30
			img := mkfs(t, 4<<10, "-F", "32", "-s", "8")
			stripes := poison(t, img, 32<<20)
			fs, c := openCounted(t, img, vfs.MountOptions{CacheBytes: 8 << 20, Words: []string{word}})
			require.Zero(t, fs.Create("f", 0o644))
			_, e := fs.Write("f", 0, []byte("small"))
			require.Zero(t, e)
			_, e = fs.Write("f", far, []byte("x"))
			require.Zero(t, e)
			zeros(t, fs, "f", stripes, 5, far)
			require.NoError(t, fs.SB.Unmount(ctx))
			require.Less(t, c.written.Load(), int64(64<<20), "zeros are not written one by one")
			clean(t, img)
			fs, _ = openCounted(t, img, vfs.MountOptions{ReadOnly: true})
			zeros(t, fs, "f", stripes, 5, far)
			got, e := fs.Read("f", far, 10)
			require.Zero(t, e)
			require.Equal(t, "x", string(got))
			require.NoError(t, fs.SB.Unmount(ctx))
		})
	}
}

// A gap that is larger than what is free: the file stays as it was, the space is there again, and nothing of what the clusters held
// before can be read when the file grows into them afterwards.
func TestGapNoSpace(t *testing.T) {
	for _, word := range []string{"path=legacy", "path=iomap"} {
		t.Run(word, func(t *testing.T) {
			const far = 3 << 30
			img := mkfs(t, 300, "-F", "32", "-s", "8")
			stripes := poison(t, img, 1<<20)
			fs, _ := openCounted(t, img, vfs.MountOptions{CacheBytes: 8 << 20, Words: []string{word}})
			require.Zero(t, fs.Create("f", 0o644))
			_, e := fs.Write("f", 0, []byte("small"))
			require.Zero(t, e)
			before, err := fs.SB.StatFS()
			require.NoError(t, err)
			_, e = fs.Write("f", far, []byte("x"))
			require.Equal(t, errno.NOSPC, e)
			require.Equal(t, errno.NOSPC, fs.Truncate("f", far))
			i, e := fs.Stat("f")
			require.Zero(t, e)
			require.EqualValues(t, 5, i.Size)
			got, e := fs.Read("f", 0, 100)
			require.Zero(t, e)
			require.Equal(t, "small", string(got))
			require.Zero(t, fs.Sync())
			after, err := fs.SB.StatFS()
			require.NoError(t, err)
			require.Equal(t, before.Free, after.Free)

			const less = 100 << 20
			_, e = fs.Write("f", less, []byte("x"))
			require.Zero(t, e)
			zeros(t, fs, "f", stripes, 5, less)
			require.NoError(t, fs.SB.Unmount(ctx))
			clean(t, img)
		})
	}
}

// A file of nearly 4 GiB, no two clusters of which lie together: its chain is read once, and a seek reads the data and nothing else.
func TestFragmented(t *testing.T) {
	img := mkfs(t, 9<<10, "-F", "32", "-s", "8", "-f", "1")
	g := geometry(t, img)
	const clusters = 1<<20 - 1
	// Every other cluster, backwards.
	at := func(i int) disk.Cluster { return disk.Cluster(2*(clusters-i) + 2) }
	require.LessOrEqual(t, at(0), g.Last())
	table := make([]byte, 4*(int(at(0))+1))
	for i := range clusters {
		next := uint32(0x0FFFFFFF)
		if i+1 < clusters {
			next = uint32(at(i + 1))
		}
		binary.LittleEndian.PutUint32(table[4*at(i):], next)
	}
	entry := make([]byte, disk.DirentSize)
	copy(entry, "BIG     BIN\x20")
	binary.LittleEndian.PutUint16(entry[20:], uint16(at(0)>>16))
	binary.LittleEndian.PutUint16(entry[26:], uint16(at(0)))
	binary.LittleEndian.PutUint32(entry[28:], clusters<<12)
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteAt(table[16:], g.BytesOf(g.FATStart(0))+16)
	require.NoError(t, err)
	_, err = f.WriteAt(entry, g.BytesOf(g.SectorOf(g.RootCluster)))
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(seed(t), 3))
	var places []int
	for range 300 {
		i := rng.IntN(clusters)
		places = append(places, i)
		_, err := f.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(i)+1), g.BytesOf(g.SectorOf(at(i))))
		require.NoError(t, err)
	}
	for _, word := range []string{"path=legacy", "path=iomap"} {
		t.Run(word, func(t *testing.T) {
			fs, c := openCounted(t, img, vfs.MountOptions{ReadOnly: true, CacheBytes: 4 << 20, Words: []string{word}})
			got, e := fs.Read("BIG.BIN", int64(clusters-1)<<12, 4096) // all of the chain is known from here on
			require.Zero(t, e)
			require.Len(t, got, 4096)
			ip, err := fs.SB.Walk(ctx, "BIG.BIN", true)
			require.NoError(t, err)
			o, err := ip.Open(ctx, vfs.ORdonly|vfs.ODirect)
			require.NoError(t, err)
			begun := c.reads.Load()
			b := make([]byte, 512)
			for _, i := range places {
				_, err := o.ReadAt(ctx, b, int64(i)<<12)
				require.NoError(t, err)
				require.Equal(t, uint64(i)+1, binary.LittleEndian.Uint64(b))
			}
			require.LessOrEqual(t, c.reads.Load()-begun, int64(len(places)+4), "reads of the device for %d reads of the file", len(places))
			o.Close()
			ip.Put()
			require.NoError(t, fs.SB.Unmount(ctx))
		})
	}
}
