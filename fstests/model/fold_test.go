package model

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// A model that folds case finds a name in any case and keeps the one it was made with.
func TestFold(t *testing.T) {
	fs := New(false)
	fs.Fold = strings.ToUpper
	list := func(p string) []string {
		names, e := fs.ReadDir(p)
		require.Zero(t, e)
		return names
	}
	require.Zero(t, fs.Mkdir("Dir", 0o755))
	require.Zero(t, fs.Create("dIR/File", 0o644))
	require.Equal(t, errno.EXIST, fs.Create("Dir/FILE", 0o644))
	require.Equal(t, []string{"File"}, list("dir"))
	require.Zero(t, fs.Rename("dir/file", "DIR/FILE", 0))
	require.Equal(t, []string{"FILE"}, list("dir"))
	require.Zero(t, fs.Create("dir/other", 0o644))
	require.Zero(t, fs.Rename("dir/file", "dir/OTHER", 0))
	require.Equal(t, []string{"OTHER"}, list("dir"))
	require.Zero(t, fs.Create("x", 0o644))
	require.Zero(t, fs.Rename("X", "Dir/Other", vfs.RenameExchange))
	require.Equal(t, []string{"OTHER"}, list("dir")) // an exchange leaves the names where they are
	require.Zero(t, fs.Unlink("DIR/OTHER"))
	require.Empty(t, list("dir"))
	require.Equal(t, []string{"Dir", "x"}, list(""))
}
