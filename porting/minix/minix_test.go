package minix_test

import (
	"context"
	"crypto/md5"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fstests/fsstress"
	"github.com/iomapfs/iomapfs/fstests/model"
	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/fstests/target"
	"github.com/iomapfs/iomapfs/porting/minix"
	"github.com/iomapfs/iomapfs/porting/minix/mkfs"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block/file"
)

var versions = []struct{ name, flags string }{{"v1", "-1 -n 14"}, {"v1-30", "-1 -n 30"}, {"v2", "-2 -n 30"}, {"v3", "-3"}}

// image makes one with the system's mkfs.minix.
func image(t *testing.T, flags string, mib int64) string {
	t.Helper()
	oracle.Need(t, "mkfs.minix", "fsck.minix")
	img := filepath.Join(t.TempDir(), "minix.img")
	require.NoError(t, os.WriteFile(img, nil, 0o600))
	require.NoError(t, os.Truncate(img, mib<<20))
	out, rc := oracle.Run(t, "sh", "-c", fmt.Sprintf("mkfs.minix %s %s", flags, img))
	require.Zero(t, rc, out)
	return img
}

func mount(t *testing.T, img string, words ...string) *vfs.SuperBlock {
	t.Helper()
	dev, err := file.Open(img, file.Options{})
	require.NoError(t, err)
	sb, err := minix.Type.Mount(context.Background(), dev, &vfs.MountOptions{CacheBytes: 4 << 20, Words: words})
	if err != nil {
		_ = dev.Close()
	}
	require.NoError(t, err)
	return sb
}

// fsck demands that fsck.minix finds nothing.
func fsck(t *testing.T, img string) {
	t.Helper()
	out, rc := oracle.Run(t, "fsck.minix", "-f", "-s", img)
	require.Zero(t, rc, out)
}

func seed(t *testing.T) uint64 {
	s := uint64(time.Now().UnixNano())
	if v, err := strconv.ParseUint(os.Getenv("IOMAPFS_SEED"), 10, 64); err == nil {
		s = v
	}
	t.Logf("IOMAPFS_SEED=%d", s)
	return s
}

// Random operations against the model; fsck.minix has the last word.
func TestModel(t *testing.T) {
	for _, v := range versions {
		t.Run(v.name, func(t *testing.T) {
			img := image(t, v.flags, 60)
			sb := mount(t, img)
			m := model.New(false)
			err := fsstress.Run(fsstress.Options{Seed: seed(t), Ops: 4000, MaxFile: 1 << 20, NoXattr: true, NoPunch: true, NoZero: true, NoStore: true, NameMax: sb.NameMax, Small: true}, m, &target.Super{SB: sb, Label: "minix"})
			uerr := sb.Unmount(context.Background())
			require.NoError(t, err)
			require.NoError(t, uerr)
			fsck(t, img)
			sb = mount(t, img)
			err = fsstress.Compare(0, m, &target.Super{SB: sb, Label: "minix, mounted again"})
			require.NoError(t, err)
			require.NoError(t, sb.Unmount(context.Background()))
			fsck(t, img)
		})
	}
}

// tree lists a mounted filesystem as oracle.UMLTrees does.
func tree(t *testing.T, sb *vfs.SuperBlock) string {
	t.Helper()
	ctx := context.Background()
	var lines, sums []string
	var walk func(ip *vfs.Inode, p string)
	walk = func(ip *vfs.Inode, p string) {
		st := ip.Stat()
		link := ""
		letter := map[uint32]string{
			vfs.ModeRegular: "f", vfs.ModeDir: "d", vfs.ModeSymlink: "l", vfs.ModeFIFO: "p", vfs.ModeSocket: "s",
			vfs.ModeChar: "c", vfs.ModeBlock: "b",
		}[st.Mode&vfs.ModeType]
		f, err := ip.Open(ctx, vfs.ORdonly)
		require.NoError(t, err)
		defer f.Close()
		switch letter {
		case "l":
			link, err = ip.Readlink(ctx)
			require.NoError(t, err)
		case "f":
			data := make([]byte, st.Size)
			n, err := f.ReadAt(ctx, data, 0)
			require.NoError(t, err)
			require.EqualValues(t, st.Size, n)
			sums = append(sums, fmt.Sprintf("%x  %s\n", md5.Sum(data), p))
		case "d":
			var names []string
			require.NoError(t, f.ReadDir(ctx, 0, func(e *vfs.DirEntry) bool {
				if e.Name != "." && e.Name != ".." {
					names = append(names, e.Name)
				}
				return true
			}))
			for _, name := range names {
				kid, err := ip.Lookup(ctx, name)
				require.NoError(t, err)
				walk(kid, p+"/"+name)
				kid.Put()
			}
		}
		size := st.Size
		if letter == "b" || letter == "c" || letter == "p" || letter == "s" {
			size = 0
		}
		lines = append(lines, fmt.Sprintf("%s %o %d %d %d %d %s %s\n", letter, st.Mode&vfs.ModePerm, st.UID, st.GID, st.Nlink, size, p, link))
	}
	walk(sb.Root, ".")
	slices.SortFunc(lines, func(a, b string) int {
		return strings.Compare(strings.SplitN(a, " ", 7)[6], strings.SplitN(b, " ", 7)[6])
	})
	slices.SortFunc(sums, func(a, b string) int { return strings.Compare(a[34:], b[34:]) })
	return strings.Join(lines, "") + strings.Join(sums, "")
}

// What we write, Linux's own minix reads as we do.
func TestKernelReads(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a kernel")
	}
	var images []string
	var want []string
	for _, v := range versions {
		img := image(t, v.flags, 60)
		sb := mount(t, img)
		require.NoError(t, fsstress.Run(fsstress.Options{Seed: seed(t), Ops: 1500, NoXattr: true, NoPunch: true, NoZero: true, NoStore: true, NameMax: sb.NameMax, Small: true},
			&target.Super{SB: sb, Label: "minix"}))
		want = append(want, tree(t, sb))
		require.NoError(t, sb.Unmount(context.Background()))
		images = append(images, img)
	}
	for i, got := range oracle.UMLTrees(t, "minix", images...) {
		require.Equal(t, want[i], got, versions[i].name)
	}
}

// What our mkfs makes, fsck.minix accepts, and our own mount.
func TestMkfs(t *testing.T) {
	for _, o := range []mkfs.Options{{}, {Version: 1}, {Version: 1, NameMax: 14}, {Version: 2, NameMax: 14}, {Version: 2}, {Inodes: 40}} {
		for _, kib := range []int64{100, 8 << 10, 70 << 10} {
			img := filepath.Join(t.TempDir(), "minix.img")
			require.NoError(t, os.WriteFile(img, nil, 0o600))
			require.NoError(t, os.Truncate(img, kib<<10))
			dev, err := file.Open(img, file.Options{})
			require.NoError(t, err)
			require.NoError(t, mkfs.Format(dev, o))
			require.NoError(t, dev.Close())
			fsck(t, img)
			sb := mount(t, img)
			f, err := sb.Root.Create(context.Background(), vfs.Root, "f", 0o644)
			require.NoError(t, err)
			f.Put()
			require.NoError(t, sb.Unmount(context.Background()))
			fsck(t, img)
		}
	}
}
