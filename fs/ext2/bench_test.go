package ext2

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs"
)

// Creating, finding and removing a file in a directory of 10,000 names, through the VFS.
func BenchmarkNames(b *testing.B) {
	img := nameImage(b, "256M", "-b", "4096", "-N", "20000")
	sb := nameMount(b, img)
	dir, err := sb.Root.Mkdir(tctx, vfs.Root, "dir", 0o755)
	require.NoError(b, err)
	create := func(i int) {
		ip, err := dir.Create(tctx, vfs.Root, fmt.Sprintf("file-%d", i), 0o644)
		require.NoError(b, err)
		ip.Put()
	}
	for i := range 10_000 {
		create(i)
	}
	b.Run("create-lookup-unlink", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			create(10_000)
			ip, err := dir.Lookup(tctx, "file-10000")
			require.NoError(b, err)
			ip.Put()
			require.NoError(b, dir.Unlink(tctx, "file-10000"))
		}
	})
	dir.Put()
	nameDone(b, sb, img)
}
