package ext2

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs"
)

// Creating, finding and removing files in one directory, through the VFS.
func BenchmarkNames(b *testing.B) {
	img := nameImage(b, "1G", "-b", "4096", "-N", "400000")
	sb := nameMount(b, img)
	const n = 100_000
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("file-%d", i)
	}
	round := 0
	dir := func() *vfs.Inode {
		round++
		d, err := sb.Root.Mkdir(tctx, vfs.Root, fmt.Sprint(round), 0o755)
		require.NoError(b, err)
		return d
	}
	each := func(b *testing.B, f func(name string) error) {
		for i := range b.N {
			if err := f(names[i]); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("create-lookup-unlink", func(b *testing.B) {
		b.ReportAllocs()
		b.N = min(b.N, n)
		d := dir()
		each(b, func(name string) error {
			ip, err := d.Create(tctx, vfs.Root, name, 0o644)
			if err == nil {
				ip.Put()
			}
			return err
		})
		each(b, func(name string) error {
			ip, err := d.Lookup(tctx, name)
			if err == nil {
				ip.Put()
			}
			return err
		})
		each(b, func(name string) error { return d.Unlink(tctx, name) })
		d.Put()
	})
	nameDone(b, sb, img)
}
