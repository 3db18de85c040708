package iofs_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/iofs"
	"github.com/iomapfs/iomapfs/vfs/vfstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ctx = context.Background()

// tree makes a small filesystem with everything in it.
func tree(t *testing.T) (*iofs.FS, *vfs.SuperBlock) {
	sb, _ := vfstest.New(t, vfs.MountOptions{})
	t.Cleanup(func() { require.NoError(t, sb.Unmount(ctx)) })
	put := func(dir *vfs.Inode, name, data string) {
		ip, err := dir.Create(ctx, vfs.Root, name, 0o640)
		require.NoError(t, err)
		defer ip.Put()
		f, err := ip.Open(ctx, vfs.ORdwr)
		require.NoError(t, err)
		defer f.Close()
		_, err = f.WriteAt(ctx, []byte(data), 0)
		require.NoError(t, err)
	}
	put(sb.Root, "hello", "hello, world\n")
	put(sb.Root, "empty", "")
	dir, err := sb.Root.Mkdir(ctx, vfs.Root, "dir", 0o755)
	require.NoError(t, err)
	defer dir.Put()
	for i := range 50 {
		put(dir, fmt.Sprintf("file%d", i), fmt.Sprintf("%d", i))
	}
	sub, err := dir.Mkdir(ctx, vfs.Root, "sub", 0o700|vfs.ModeSticky)
	require.NoError(t, err)
	defer sub.Put()
	put(sub, "big", string(bytes.Repeat([]byte("0123456789"), 20_000)))
	for name, to := range map[string]string{"toHello": "/hello", "toSub": "dir/sub"} {
		ip, err := sb.Root.Symlink(ctx, vfs.Root, name, to)
		require.NoError(t, err)
		ip.Put()
	}
	fifo, err := sb.Root.Mknod(ctx, vfs.Root, "fifo", vfs.ModeFIFO|0o600, vfs.Dev{})
	require.NoError(t, err)
	fifo.Put()
	return iofs.New(ctx, sb), sb
}

func TestFS(t *testing.T) {
	fsys, _ := tree(t)
	require.NoError(t, fstest.TestFS(fsys, "hello", "empty", "dir/file7", "dir/sub/big", "toHello", "toSub", "fifo"))
}

func TestLinksAreFollowed(t *testing.T) {
	fsys, _ := tree(t)
	b, err := fs.ReadFile(fsys, "toHello")
	require.NoError(t, err)
	require.Equal(t, "hello, world\n", string(b))
	b, err = fs.ReadFile(fsys, "toSub/big")
	require.NoError(t, err)
	require.Len(t, b, 200_000)
	require.Equal(t, "890123", string(b[199_998-10:199_998-10+6]))
	to, err := fs.ReadLink(fsys, "toSub")
	require.NoError(t, err)
	require.Equal(t, "dir/sub", to)
	fi, err := fs.Lstat(fsys, "toSub")
	require.NoError(t, err)
	require.Equal(t, fs.ModeSymlink|0o777, fi.Mode())
	fi, err = fs.Stat(fsys, "toSub")
	require.NoError(t, err)
	require.Equal(t, fs.ModeDir|fs.ModeSticky|0o700, fi.Mode())
	require.NotZero(t, fi.Sys().(vfs.Stat).Ino)
}

func TestErrors(t *testing.T) {
	fsys, sb := tree(t)
	for name, to := range map[string]string{"nowhere": "x/y", "around": "around"} {
		ip, err := sb.Root.Symlink(ctx, vfs.Root, name, to)
		require.NoError(t, err)
		ip.Put()
	}
	for _, c := range []struct {
		name string
		is   error
	}{
		{"none", fs.ErrNotExist},
		{"nowhere", fs.ErrNotExist},
		{"hello/x", fs.ErrNotExist},
		{"/hello", fs.ErrInvalid},
		{"dir/../hello", fs.ErrInvalid},
		{"", fs.ErrInvalid},
		{"dir/", fs.ErrInvalid},
		{"around", errno.LOOP},
	} {
		_, err := fsys.Open(c.name)
		require.ErrorIs(t, err, c.is, c.name)
		var pe *fs.PathError
		require.ErrorAs(t, err, &pe)
		require.Equal(t, c.name, pe.Path)
	}
	_, err := fsys.ReadFile("dir")
	require.ErrorIs(t, err, errno.ISDIR)
	_, err = fsys.ReadDir("hello")
	require.ErrorIs(t, err, errno.NOTDIR)
	_, err = fsys.ReadLink("hello")
	require.ErrorIs(t, err, errno.INVAL)

	f, err := fsys.Open("hello")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = f.Read(make([]byte, 1))
	require.ErrorIs(t, err, fs.ErrClosed)
	require.ErrorIs(t, f.Close(), fs.ErrClosed)

	done, cancel := context.WithCancel(ctx)
	cancel()
	sb.Shutdown()
	_, err = iofs.New(done, sb).ReadFile("hello")
	require.ErrorIs(t, err, errno.IO)
}

func TestSeekAndReadAt(t *testing.T) {
	fsys, _ := tree(t)
	f, err := fsys.Open("hello")
	require.NoError(t, err)
	defer f.Close()
	r := io.NewSectionReader(f.(io.ReaderAt), 7, 5)
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	require.Equal(t, "world", string(b))
	at, err := f.(io.Seeker).Seek(-6, io.SeekEnd)
	require.NoError(t, err)
	require.EqualValues(t, 7, at)
	b, err = io.ReadAll(f)
	require.NoError(t, err)
	require.Equal(t, "world\n", string(b))
	_, err = f.(io.Seeker).Seek(-1, io.SeekStart)
	require.ErrorIs(t, err, fs.ErrInvalid)
}

// TestReadDirInPieces lists while names go away: what stays is seen once.
func TestReadDirInPieces(t *testing.T) {
	fsys, sb := tree(t)
	d, err := sb.Root.Lookup(ctx, "dir")
	require.NoError(t, err)
	defer d.Put()
	f, err := fsys.Open("dir")
	require.NoError(t, err)
	defer f.Close()
	seen := map[string]int{}
	for i := 0; ; i++ {
		list, err := f.(fs.ReadDirFile).ReadDir(3)
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		for _, e := range list {
			seen[e.Name()]++
		}
		if i < 25 {
			require.NoError(t, d.Unlink(ctx, fmt.Sprintf("file%d", 2*i+1)))
		}
	}
	for i := 0; i < 50; i += 2 {
		require.Equal(t, 1, seen[fmt.Sprintf("file%d", i)], i)
	}
	for name, n := range seen {
		require.Equal(t, 1, n, name)
	}
}
