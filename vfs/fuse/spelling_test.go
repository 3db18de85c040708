//go:build linux

package fuse_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	vfsfuse "github.com/iomapfs/iomapfs/vfs/fuse"
	"github.com/iomapfs/iomapfs/vfs/vfstest"
)

// TestSpellings has names in several spellings: what one spelling does, the others see, though the kernel remembers names.
func TestSpellings(t *testing.T) {
	each(t, func(t *testing.T, tr string) {
		m := mount(t, vfsfuse.Options{Transport: tr}, nil, (*vfstest.FS).FoldNames)
		p := func(name string) string { return filepath.Join(m.dir, name) }
		gone := func(name string) {
			t.Helper()
			_, err := os.Lstat(p(name))
			require.ErrorIs(t, err, unix.ENOENT, name)
		}
		holds := func(name, data string) {
			t.Helper()
			b, err := os.ReadFile(p(name))
			require.NoError(t, err)
			require.Equal(t, data, string(b), name)
		}
		put := func(name, data string) { require.NoError(t, os.WriteFile(p(name), []byte(data), 0o644)) }

		gone("file")
		put("File", "1")
		holds("file", "1")
		put("FILE", "2")
		holds("File", "2")
		require.NoError(t, os.Remove(p("fILE")))
		gone("File")
		gone("file")
		put("file", "3") // and not into what was File
		holds("File", "3")

		put("other", "4")
		holds("Other", "4")
		require.NoError(t, os.Rename(p("other"), p("FILE")))
		gone("Other")
		gone("other")
		holds("file", "4")
		holds("File", "4")

		require.NoError(t, os.Mkdir(p("Dir"), 0o755))
		put("dir/x", "5")
		holds("Dir/X", "5")
		require.NoError(t, os.Rename(p("DIR/X"), p("dir/Y")))
		gone("Dir/x")
		holds("Dir/y", "5")
		require.NoError(t, os.Remove(p("dIR/y")))
		require.NoError(t, os.Remove(p("dIR")))
		gone("Dir")
		require.ErrorIs(t, os.Mkdir(p("FILE"), 0o755), unix.EEXIST)
	})
}
