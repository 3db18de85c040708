//go:build linux

package copytree

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

var ctx = context.Background()

// run copies the host path from to the name in the host directory to, and gives what was warned of.
func run(t *testing.T, c *Copier, from, to, name string) []string {
	t.Helper()
	var warned []string
	c.Warn = func(err error) { warned = append(warned, err.Error()) }
	n, err := HostNode(from, false)
	require.NoError(t, err)
	defer n.Close()
	d, err := HostDir(to)
	require.NoError(t, err)
	defer d.Close()
	require.NoError(t, c.Copy(ctx, n, from, d, name))
	return warned
}

func lstat(t *testing.T, p string) *unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Lstat(p, &st), p)
	return &st
}

func TestTreeIsKeptWhole(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "src"), t.TempDir()
	old := time.Unix(1e9, 123456789)
	require.NoError(t, os.MkdirAll(filepath.Join(src, "sub", "deep"), 0o755))
	data := bytes.Repeat([]byte("data"), 1<<10)
	f, err := os.Create(filepath.Join(src, "sparse"))
	require.NoError(t, err)
	_, err = f.WriteAt(data, 8<<20)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(64<<20))
	require.NoError(t, f.Close())
	require.NoError(t, os.WriteFile(filepath.Join(src, "one"), []byte("links"), 0o640))
	require.NoError(t, os.Link(filepath.Join(src, "one"), filepath.Join(src, "sub", "two")))
	require.NoError(t, os.Symlink("../nowhere", filepath.Join(src, "sub", "sym")))
	require.NoError(t, unix.Mkfifo(filepath.Join(src, "fifo"), 0o622))
	require.NoError(t, os.Chmod(filepath.Join(src, "fifo"), 0o622))
	require.NoError(t, os.WriteFile(filepath.Join(src, "suid"), nil, 0o755))
	root := os.Geteuid() == 0
	if root {
		require.NoError(t, os.Lchown(filepath.Join(src, "suid"), 12, 34))
	}
	require.NoError(t, os.Chmod(filepath.Join(src, "suid"), 0o755|os.ModeSetuid))
	require.NoError(t, os.WriteFile(filepath.Join(src, "locked"), []byte("x"), 0o400))
	xattr := unix.Lsetxattr(filepath.Join(src, "locked"), "user.note", []byte("hello"), 0) == nil
	require.NoError(t, os.Chtimes(filepath.Join(src, "one"), old, old))
	require.NoError(t, os.Chtimes(filepath.Join(src, "sub"), old, old))

	c := &Copier{Recursive: true}
	require.Empty(t, run(t, c, src, dst, "copy"))
	require.Zero(t, c.Failed())
	dst = filepath.Join(dst, "copy")

	sparse := lstat(t, filepath.Join(dst, "sparse"))
	require.Equal(t, int64(64<<20), sparse.Size)
	require.Equal(t, lstat(t, filepath.Join(src, "sparse")).Blocks, sparse.Blocks, "holes stay holes")
	got, err := os.ReadFile(filepath.Join(dst, "sparse"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got[8<<20:8<<20+len(data)]))
	require.Equal(t, int64(len(data)+len("links")+1), c.Bytes.Load(), "only data is copied, and hard links once")

	one, two := lstat(t, filepath.Join(dst, "one")), lstat(t, filepath.Join(dst, "sub", "two"))
	require.Equal(t, one.Ino, two.Ino, "hard links stay links")
	require.Equal(t, uint32(0o640), one.Mode&0o777)
	require.Equal(t, unix.Timespec{Sec: 1e9, Nsec: 123456789}, one.Mtim)
	require.Equal(t, unix.Timespec{Sec: 1e9, Nsec: 123456789}, lstat(t, filepath.Join(dst, "sub")).Mtim, "directories get their time last")
	link, err := os.Readlink(filepath.Join(dst, "sub", "sym"))
	require.NoError(t, err)
	require.Equal(t, "../nowhere", link)
	require.Equal(t, uint32(unix.S_IFIFO|0o622), lstat(t, filepath.Join(dst, "fifo")).Mode)
	require.Equal(t, uint32(unix.S_IFREG|0o4755), lstat(t, filepath.Join(dst, "suid")).Mode)
	if root {
		st := lstat(t, filepath.Join(dst, "suid"))
		require.Equal(t, [2]uint32{12, 34}, [2]uint32{st.Uid, st.Gid})
	}
	if xattr {
		b := make([]byte, 10)
		n, err := unix.Lgetxattr(filepath.Join(dst, "locked"), "user.note", b)
		require.NoError(t, err)
		require.Equal(t, "hello", string(b[:n]), "attributes of a file that may not be written")
	}
}

func TestSecondCopyReplacesFiles(t *testing.T) {
	src, dst := filepath.Join(t.TempDir(), "s"), t.TempDir()
	require.NoError(t, os.MkdirAll(src, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(src, "a"), []byte("new"), 0o600))
	require.NoError(t, os.MkdirAll(filepath.Join(dst, "s"), 0o755))
	outside := filepath.Join(t.TempDir(), "outside")
	require.NoError(t, os.WriteFile(outside, []byte("keep"), 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(dst, "s", "a")), "a link in the file's place is replaced, not followed")
	require.NoError(t, os.WriteFile(filepath.Join(dst, "s", "other"), []byte("stays"), 0o600))

	require.Empty(t, run(t, &Copier{Recursive: true}, src, dst, "s"))
	b, err := os.ReadFile(filepath.Join(dst, "s", "a"))
	require.NoError(t, err)
	require.Equal(t, "new", string(b))
	b, err = os.ReadFile(outside)
	require.NoError(t, err)
	require.Equal(t, "keep", string(b))
	require.FileExists(t, filepath.Join(dst, "s", "other"))

	require.NoError(t, os.WriteFile(filepath.Join(src, "a"), []byte("newer"), 0o600))
	require.Empty(t, run(t, &Copier{Recursive: true, NoClobber: true}, src, dst, "s"))
	b, err = os.ReadFile(filepath.Join(dst, "s", "a"))
	require.NoError(t, err)
	require.Equal(t, "new", string(b))
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	require.NoError(t, os.MkdirAll(filepath.Join(src, "in"), 0o755))

	c := &Copier{}
	w := run(t, c, src, dir, "x")
	require.Len(t, w, 1)
	require.Contains(t, w[0], "-r copies directories")
	require.Equal(t, 1, c.Failed())

	c = &Copier{Recursive: true}
	w = run(t, c, src, filepath.Join(src, "in"), "x")
	require.Len(t, w, 1)
	require.Contains(t, w[0], "cannot be copied into itself")

	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("precious"), 0o600))
	w = run(t, &Copier{}, file, dir, "file")
	require.Contains(t, w[0], "is the file to be written too")
	b, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "precious", string(b))

	w = run(t, &Copier{}, file, dir, "src")
	require.Contains(t, w[0], "in its place")
	w = run(t, &Copier{Recursive: true}, src, dir, "file")
	require.Contains(t, w[0], "no directory")
}

func TestNamesCannotLeadOut(t *testing.T) {
	d, err := HostDir(t.TempDir())
	require.NoError(t, err)
	for _, bad := range []string{"", ".", "..", "../x", "a/b", "/etc/passwd", "a\x00b"} {
		_, err := d.Create(ctx, bad)
		require.ErrorIs(t, err, errno.INVAL, "%q", bad)
		_, err = d.Mkdir(ctx, bad)
		require.ErrorIs(t, err, errno.INVAL, "%q", bad)
		require.ErrorIs(t, d.Symlink(ctx, bad, "x"), errno.INVAL)
		require.ErrorIs(t, d.SetMode(ctx, bad, 0o777), errno.INVAL)
	}
	// An image may hold the same name twice: first a link to elsewhere, then a directory.
	require.NoError(t, d.Symlink(ctx, "twice", t.TempDir()))
	_, err = d.Mkdir(ctx, "twice")
	require.ErrorIs(t, err, errno.NOTDIR)
}

func TestStopsWhenCancelled(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	require.NoError(t, os.WriteFile(src, make([]byte, 1<<20), 0o600))
	n, err := HostNode(src, false)
	require.NoError(t, err)
	d, err := HostDir(t.TempDir())
	require.NoError(t, err)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	c := &Copier{Warn: func(error) {}}
	require.ErrorIs(t, c.Copy(gone, n, src, d, "x"), context.Canceled)
}

func TestModeOfEveryType(t *testing.T) {
	for std, want := range map[os.FileMode]uint32{
		0o644:                             vfs.ModeRegular | 0o644,
		os.ModeDir | 0o755:                vfs.ModeDir | 0o755,
		os.ModeSymlink | 0o777:            vfs.ModeSymlink | 0o777,
		os.ModeSetuid | 0o755:             vfs.ModeRegular | 0o4755,
		os.ModeDevice:                     vfs.ModeBlock,
		os.ModeDevice | os.ModeCharDevice: vfs.ModeChar,
	} {
		require.Equal(t, want, modeOf(std))
	}
	fi, err := os.Lstat(os.DevNull)
	require.NoError(t, err)
	a := attrOf(fi)
	require.Equal(t, vfs.Dev{Major: 1, Minor: 3}, a.Rdev)
	require.Equal(t, fi.Sys().(*syscall.Stat_t).Ino, a.Key.Ino)
}
