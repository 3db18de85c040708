package ext2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// reported is what a path says of where a file lies.
type reported struct {
	fiemap []vfs.FiemapExtent
	seeks  []string
	bmap   []uint64
}

func report(t *testing.T, ip *vfs.Inode, positions []int64) (r reported) {
	t.Helper()
	ctx := context.Background()
	require.NoError(t, ip.Fiemap(ctx, &vfs.FiemapInfo{Len: math.MaxUint64, Max: math.MaxInt, Emit: func(e vfs.FiemapExtent) error {
		r.fiemap = append(r.fiemap, e)
		return nil
	}}))
	f, err := ip.Open(ctx, vfs.ORdonly)
	require.NoError(t, err)
	defer f.Close()
	for _, pos := range positions {
		for _, whence := range []int{vfs.SeekData, vfs.SeekHole} {
			n, err := f.Seek(ctx, pos, whence)
			r.seeks = append(r.seeks, fmt.Sprint(pos, whence, n, errno.From(err)))
		}
	}
	for b := uint64(0); b < uint64(ip.Size())>>ip.BlockBits()+2; b++ {
		n, err := ip.Bmap(ctx, b)
		require.NoError(t, err)
		r.bmap = append(r.bmap, n)
	}
	return r
}

// merge puts extents together that lie together, and leaves the flags out.
func merge(in []vfs.FiemapExtent) (out []vfs.FiemapExtent) {
	for _, e := range in {
		e.Flags = 0
		if n := len(out); n > 0 && out[n-1].Logical+out[n-1].Length == e.Logical && out[n-1].Physical+out[n-1].Length == e.Physical {
			out[n-1].Length += e.Length
			continue
		}
		out = append(out, e)
	}
	return out
}

var filefragLine = regexp.MustCompile(`(?m)^\s*\d+:\s*(\d+)\.\.\s*(\d+):\s*(\d+)\.\.\s*\d+:`)

// FIEMAP, SEEK_DATA, SEEK_HOLE and bmap of random sparse files: the same on every path, and what the kernel's driver says.
func TestReports(t *testing.T) {
	oracle.NeedRoot(t)
	oracle.Need(t, "filefrag")
	for _, bs := range []int{1024, 4096} {
		t.Run(fmt.Sprint(bs), func(t *testing.T) {
			img := oracle.Mke2fs(t, "64M", "-b", fmt.Sprint(bs))
			s := seed(t)
			t.Logf("seed %d", s)
			rng := rand.New(rand.NewPCG(s, 3))
			sb := open(t, img, vfs.MountOptions{})
			ctx := context.Background()
			positions := map[string][]int64{}
			for i := range 12 {
				name := fmt.Sprint("f", i)
				ip, err := sb.Root.Create(ctx, vfs.Root, name, 0o644)
				require.NoError(t, err)
				f, err := ip.Open(ctx, vfs.ORdwr)
				require.NoError(t, err)
				for range 1 + rng.IntN(40) {
					pos := rng.Int64N(int64(bs) << uint(2+rng.IntN(9)))
					n := 1 + rng.Int64N(int64(bs)*6)
					if rng.IntN(4) == 0 && ip.Size() > 0 {
						require.NoError(t, f.Fallocate(ctx, vfs.FallocPunchHole|vfs.FallocKeepSize, pos, n))
						continue
					}
					_, err := f.WriteAt(ctx, make([]byte, n), pos)
					require.NoError(t, err)
				}
				for range 200 {
					positions[name] = append(positions[name], rng.Int64N(ip.Size()+2))
				}
				f.Close()
				ip.Put()
			}
			require.NoError(t, sb.Unmount(ctx))

			all := map[string]map[string]reported{}
			for _, words := range [][]string{{"path=legacy"}, {"path=bridge"}, {"iomap=fiemap+seek+bmap+swap"}} {
				sb := open(t, img, vfs.MountOptions{ReadOnly: true, Words: words})
				all[words[0]] = map[string]reported{}
				for name, at := range positions {
					ip, err := sb.Root.Lookup(ctx, name)
					require.NoError(t, err)
					all[words[0]][name] = report(t, ip, at)
					ip.Put()
				}
				require.NoError(t, sb.Unmount(ctx))
			}
			legacy, bridge, mapped := all["path=legacy"], all["path=bridge"], all["iomap=fiemap+seek+bmap+swap"]
			dir, umount := oracle.KernelMount(t, img, "ro")
			defer umount()
			for name, want := range mapped {
				require.Equal(t, want.bmap, legacy[name].bmap, name)
				require.Equal(t, want.bmap, bridge[name].bmap, name)
				require.Equal(t, merge(want.fiemap), merge(legacy[name].fiemap), name)
				require.Equal(t, merge(want.fiemap), merge(bridge[name].fiemap), name)
				require.Equal(t, want.seeks, legacy[name].seeks, name)
				if n := len(want.fiemap); n > 0 {
					require.NotZero(t, want.fiemap[n-1].Flags&vfs.ExtentLast, name)
				}

				p := filepath.Join(dir, name)
				out, rc := oracle.Run(t, "filefrag", "-v", "-b1024", p)
				require.Zero(t, rc, out)
				var kernel []vfs.FiemapExtent
				for _, m := range filefragLine.FindAllStringSubmatch(out, -1) {
					var n [3]uint64
					for i := range n {
						n[i], _ = strconv.ParseUint(m[i+1], 10, 64)
					}
					kernel = append(kernel, vfs.FiemapExtent{Logical: n[0] << 10, Length: (n[1] - n[0] + 1) << 10, Physical: n[2] << 10})
				}
				require.Equal(t, merge(want.fiemap), merge(kernel), "%s: the kernel's\n%s", name, out)
				f, err := os.Open(p)
				require.NoError(t, err)
				var seeks []string
				for _, pos := range positions[name] {
					for _, whence := range []int{vfs.SeekData, vfs.SeekHole} {
						n, err := f.Seek(pos, whence)
						if err != nil {
							n = 0
						}
						e := errno.From(err)
						if err == nil || errors.Is(err, io.EOF) {
							e = 0
						}
						seeks = append(seeks, fmt.Sprint(pos, whence, n, e))
					}
				}
				f.Close()
				require.Equal(t, want.seeks, seeks, name)
			}
		})
	}
}
