package compare

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/all"
	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/file"
)

// open opens a fresh image, and makes sure at the end that nobody changed it.
func open(t *testing.T, size, bs string) block.Device {
	name := oracle.Mke2fs(t, size, "-b", bs)
	before, err := os.ReadFile(name)
	require.NoError(t, err)
	dev, err := file.Open(name, file.Options{ReadOnly: true})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, dev.Close())
		after, err := os.ReadFile(name)
		require.NoError(t, err)
		require.True(t, string(before) == string(after), "the image was changed")
	})
	return dev
}

// Every operation and workload on legacy, bridge and iomap: proved to be the same, judged by e2fsck too; and who is asked is who
// should be.
func TestCompare(t *testing.T) {
	for _, bs := range []string{"1024", "4096"} {
		o := Options{
			Runs: 1, Size: 512 << 10, Ops: append(append([]Op{}, Ops...), Workloads...), Trace: 50,
			Paths: []vfs.Path{vfs.Legacy, vfs.Bridge, vfs.Iomap},
		}
		if bs == "1024" {
			o.Inspect = func(_ string, path vfs.Path, image block.Device) error {
				if path != vfs.Bridge {
					e2fsck(t, image)
				}
				return nil
			}
		}
		results, err := Run(context.Background(), open(t, "24M", bs), o)
		require.NoError(t, err)
		require.Len(t, results, len(Ops)+len(Workloads))
		for _, r := range results {
			require.True(t, r.Same, r.Op)
			require.Zero(t, r.Sides[0].Median.Begin, "%s: begin on the legacy path", r.Op)
			require.Zero(t, r.Sides[2].Median.GetBlock, "%s: get_block on the iomap path", r.Op)
			require.Len(t, r.Calls, 3)
			for _, s := range r.Sides {
				require.Positive(t, s.Done, r.Op)
			}
		}
		var page strings.Builder
		require.NoError(t, WriteHTML(&page, "a test", results))
		require.Equal(t, len(results), strings.Count(page.String(), "<svg"))
		require.NotContains(t, page.String(), "ZgotmplZ")
		require.NotContains(t, page.String(), "http")
	}
}

// e2fsck has the image judged by e2fsprogs.
func e2fsck(t *testing.T, image block.Device) {
	name := filepath.Join(t.TempDir(), "img")
	f, err := os.Create(name)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(image.Size()))
	p, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	for off := int64(0); off < image.Size(); off += int64(len(p)) {
		require.NoError(t, block.ReadAt(image, p, off))
		if !bytes.Equal(p, zeros) {
			_, err := f.WriteAt(p, off)
			require.NoError(t, err)
		}
	}
	require.NoError(t, f.Close())
	oracle.E2fsck(t, name)
	require.NoError(t, os.Remove(name))
}

// What the paths must not do is found: wrong bytes, a wrong map, a lost block, a tree that changed after it was seen.
func TestCompareFinds(t *testing.T) {
	dev := open(t, "8M", "1024")
	run := func(change func(e *env) error) error {
		_, err := Run(context.Background(), dev, Options{Runs: 1, Size: 256 << 10, Ops: []Op{{"op", "", (*env).fill, func(e *env) error {
			e.n++
			if e.sb.Paths[vfs.OpSeek] != vfs.Iomap {
				return nil
			}
			return change(e)
		}, nil}}})
		return err
	}
	require.NoError(t, run(func(*env) error { return nil }))
	at := func(e *env) int64 {
		b, err := e.f.Inode.Bmap(e.ctx, 7)
		require.NoError(t, err)
		return int64(b) << 10
	}
	require.ErrorContains(t, run(func(e *env) error { e.say("another answer"); return nil }), "answers")
	require.ErrorContains(t, run(func(e *env) error {
		_, err := e.f.WriteAt(e.ctx, []byte("x"), 5000)
		return err
	}), "different contents")
	require.ErrorContains(t, run(func(e *env) error {
		return e.f.Fallocate(e.ctx, vfs.FallocPunchHole|vfs.FallocKeepSize, 4096, 4096)
	}), "blocks")
	require.ErrorContains(t, run(func(e *env) error { // the cache has it, the device has not
		return errors.Join(e.read(), block.WriteAt(e.sb.Dev, make([]byte, 1024), at(e), 0))
	}), "where FIEMAP says")

	copy, err := newReplica(dev)
	require.NoError(t, err)
	require.NoError(t, copy.restore())
	kind, err := all.Which(copy, "")
	require.NoError(t, err)
	tree, err := readExt2(copy)
	require.NoError(t, err)
	require.NoError(t, judge(t.Context(), kind, copy, tree))
	tree[0].links++
	require.ErrorContains(t, judge(t.Context(), kind, copy, tree), "another tree")
	require.ErrorContains(t, judge(t.Context(), kind, copy, tree[:0]), "names")
	require.NoError(t, block.WriteAt(copy, make([]byte, 1024), inodeBitmap(t, copy), 0))
	require.ErrorContains(t, judge(t.Context(), kind, copy, tree), "damaged")
	require.NoError(t, copy.restore())
	tree, err = readExt2(copy)
	require.NoError(t, err)
	require.NoError(t, judge(t.Context(), kind, copy, tree), "restore undoes what was written")
}

// inodeBitmap is where group 0 has it.
func inodeBitmap(t *testing.T, dev block.Device) int64 {
	p := make([]byte, 1024)
	require.NoError(t, block.ReadAt(dev, p, 2048))
	desc, err := disk.DecodeGroupDesc(p)
	require.NoError(t, err)
	return int64(desc.InodeBitmap) << 10
}

// A filesystem that cannot be mounted, and an operation that fails, are errors.
func TestCompareErrors(t *testing.T) {
	dev := open(t, "4M", "1024")
	_, err := Run(context.Background(), dev, Options{Runs: 1, Size: 64 << 20})
	require.ErrorContains(t, err, "no space left")
	_, err = Run(context.Background(), dev, Options{Type: "nosuchfs"})
	require.Error(t, err)
}
