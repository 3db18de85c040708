package ext2

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fstests/fsstress"
	"github.com/iomapfs/iomapfs/fstests/model"
	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/fstests/target"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// mixtures are the mount words of each path alone, and of each operation put on another path than the rest. What goes through the cache
// moves to and from iomap together.
func mixtures() (list []string) {
	const cached = "buffered-read+buffered-write+writeback+fault+zero"
	paths := []string{"legacy", "bridge", "iomap"}
	for _, base := range paths {
		list = append(list, "path="+base)
		for _, other := range paths {
			if other == base {
				continue
			}
			ops := []string{"fiemap", "seek", "bmap", "swap", "dio-read", "dio-write", "dir", cached}
			if base != "iomap" && other != "iomap" {
				ops = append(ops, strings.Split(cached, "+")...)
			}
			for _, op := range ops {
				list = append(list, "path="+base+" "+other+"="+op)
			}
		}
	}
	return list
}

// sometimesDirect reads and writes around the cache now and then.
type sometimesDirect struct {
	*target.Super
	r *rand.Rand
}

// Write goes around the cache with whole blocks, and through it with the rest.
func (s sometimesDirect) Write(p string, off int64, b []byte) (n int, e errno.Errno) {
	if s.r.IntN(2) == 0 {
		return s.Super.Write(p, off, b)
	}
	direct := *s.Super
	direct.Flags |= vfs.ODirect
	head := min(int(-off&1023), len(b))
	body := (len(b) - head) &^ 1023
	for _, part := range []struct {
		fs *target.Super
		b  []byte
	}{{s.Super, b[:head]}, {&direct, b[head : head+body]}, {s.Super, b[head+body:]}} {
		if len(part.b) == 0 {
			continue
		}
		k, err := part.fs.Write(p, off+int64(n), part.b)
		if n += k; err != 0 || k < len(part.b) {
			return n, err
		}
	}
	return n, 0
}

func (s sometimesDirect) Read(p string, off int64, n int) ([]byte, errno.Errno) {
	fs := *s.Super
	if first := off &^ 1023; s.r.IntN(2) == 0 {
		fs.Flags |= vfs.ODirect
		b, e := fs.Read(p, first, (int(off-first)+n+1023)&^1023)
		at := min(int(off-first), len(b))
		return b[at:min(at+n, len(b))], e
	}
	return fs.Read(p, off, n)
}

// TestMixtures runs random operations against the model on every mixture of paths, and compares what each then reports of where files
// lie.
func TestMixtures(t *testing.T) {
	ctx := context.Background()
	clean, err := os.ReadFile(oracle.Mke2fs(t, "32M", "-b", "1024"))
	require.NoError(t, err)
	s := seed(t)
	t.Logf("seed %d", s)
	dir := t.TempDir()
	for i, words := range mixtures() {
		t.Run(words, func(t *testing.T) {
			img := filepath.Join(dir, "m.img")
			require.NoError(t, os.WriteFile(img, clean, 0o600))
			// What IOMAPFS_PATHS says comes first: the mixture's own words win.
			sb := open(t, img, vfs.MountOptions{CacheBytes: 2 << 20, Words: append(strings.Fields(words), "commit=1")})
			m := model.New(true)
			at := sometimesDirect{&target.Super{SB: sb, Label: words}, rand.New(rand.NewPCG(s, uint64(i)))}
			err := fsstress.Run(fsstress.Options{Seed: s + uint64(i), Ops: ops(400)}, m, at)
			require.NoError(t, sb.Unmount(ctx))
			require.NoError(t, err)
			oracle.E2fsck(t, img)
			var got []map[string]reported
			for _, w := range []string{words, "path=legacy"} {
				sb := open(t, img, vfs.MountOptions{ReadOnly: true, Words: strings.Fields(w)})
				require.NoError(t, fsstress.Compare(s, m, &target.Super{SB: sb, Label: "remounted"}))
				all := map[string]reported{}
				reportAll(t, sb, "", all)
				got = append(got, all)
				require.NoError(t, sb.Unmount(ctx))
			}
			require.Equal(t, got[1], got[0])
		})
	}
}

// reportAll collects what is said of all regular files of a tree.
func reportAll(t *testing.T, sb *vfs.SuperBlock, dir string, all map[string]reported) {
	ctx := context.Background()
	fs := &target.Super{SB: sb}
	names, e := fs.ReadDir(dir)
	require.Zero(t, e)
	for _, n := range names {
		p := strings.TrimPrefix(dir+"/"+n, "/")
		ip, err := sb.Walk(ctx, p, false)
		require.NoError(t, err)
		switch {
		case ip.IsDir():
			reportAll(t, sb, p, all)
		case ip.IsRegular():
			var at []int64
			for pos := int64(0); pos < ip.Size(); pos += 1 + ip.Size()/16 {
				at = append(at, pos)
			}
			r := report(t, ip, at)
			r.fiemap = merge(r.fiemap)
			// Which pages of torn extents can be used the two ways count differently, as the kernel's do.
			err := ip.SwapActivate(ctx, math.MaxInt64, func(vfs.SwapExtent) error { return nil })
			r.seeks = append(r.seeks, errno.From(err).Error())
			ip.SwapDeactivate()
			all[p] = r
		}
		ip.Put()
	}
}
