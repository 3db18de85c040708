package vfstest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// TestErrorsOnce shows an error of writing a file once to each open file of it at fsync, and once to each open file of the
// filesystem at syncfs; to those opened later only while nobody has seen it.
func TestErrorsOnce(t *testing.T) {
	ctx := context.Background()
	sb, _ := New(t, vfs.MountOptions{})
	open := func(name string) *vfs.File {
		ip, err := sb.Root.Lookup(ctx, name)
		if err != nil {
			ip, err = sb.Root.Create(ctx, vfs.Root, name, 0o644)
		}
		require.NoError(t, err)
		f, err := ip.Open(ctx, vfs.ORdwr)
		require.NoError(t, err)
		ip.Put()
		t.Cleanup(f.Close)
		return f
	}
	a, b, other := open("f"), open("f"), open("g")
	a.Inode.Pages.SetError(errno.NOSPC)
	unseen := open("f")
	require.NoError(t, other.Fsync(ctx, false), "another file's")
	for _, f := range []*vfs.File{a, b, unseen} {
		require.ErrorIs(t, f.Fsync(ctx, false), errno.NOSPC)
		require.NoError(t, f.Fsync(ctx, false))
	}
	require.NoError(t, open("f").Fsync(ctx, false), "everybody had seen it")

	require.ErrorIs(t, other.SyncFS(ctx), errno.NOSPC)
	require.NoError(t, other.SyncFS(ctx))
	require.ErrorIs(t, a.SyncFS(ctx), errno.NOSPC, "fsync's and syncfs's are seen apart")
	late := open("g")
	require.NoError(t, late.SyncFS(ctx))

	a.Inode.Pages.SetError(errno.IO)
	require.ErrorIs(t, a.Fsync(ctx, false), errno.IO)
	require.ErrorIs(t, late.SyncFS(ctx), errno.IO)
	require.ErrorIs(t, b.Fsync(ctx, false), errno.IO)
}
