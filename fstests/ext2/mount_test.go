package ext2

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/iomapfs/iomapfs/fstests/fsstress"
	"github.com/iomapfs/iomapfs/fstests/model"
	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/fstests/target"
	"github.com/iomapfs/iomapfs/vfs"
	vfsfuse "github.com/iomapfs/iomapfs/vfs/fuse"
)

// mount serves an image through FUSE until the end of the test, or the call of umount.
func mount(t testing.TB, img string, mo vfs.MountOptions, o vfsfuse.Options) (dir string, umount func()) {
	t.Helper()
	oracle.NeedFuse(t)
	dir = t.TempDir()
	sb := open(t, img, mo)
	o.AllowOther = true
	var srv *vfsfuse.Server
	var err error
	for range 40 {
		// Another test may have the machine's switch for io_uring off for a moment.
		if srv, err = vfsfuse.Serve(sb, dir, o); !errors.Is(err, unix.EOPNOTSUPP) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		_ = sb.Unmount(context.Background())
	}
	require.NoError(t, err)
	done := false
	umount = func() {
		if done {
			return
		}
		done = true
		var err error
		for range 200 {
			if err = srv.Unmount(context.Background(), false); err == nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err != nil {
			t.Errorf("unmount: %v", err)
			_ = srv.Unmount(context.Background(), true)
		}
		srv.Wait()
		if err := sb.Unmount(context.Background()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(umount)
	return dir, umount
}

// transports are the ways that requests come.
var transports = []string{"fuse", "uring"}

// notExt2 are the POSIX tests that ask for what ext2 does not have, on the kernel's driver either.
var notExt2 = map[string]string{
	"FallocateKeepSize":   "space behind the end of a file needs unwritten extents",
	"FcntlFlockLocksFile": "wants two descriptors of one process to conflict: POSIX locks belong to the process",
}

// TestMountedModel runs the random operations through the kernel.
func TestMountedModel(t *testing.T) {
	for _, tr := range transports {
		t.Run(tr, func(t *testing.T) {
			img := oracle.Mke2fs(t, "64M", "-b", "1024")
			s := seed(t)
			t.Logf("seed %d", s)
			dir, umount := mount(t, img, vfs.MountOptions{CacheBytes: 8 << 20}, vfsfuse.Options{Transport: tr})
			m := model.New(true)
			require.NoError(t, fsstress.Run(fsstress.Options{Seed: s, Ops: ops(5000), NoStore: true}, m, &target.Host{Root: dir, Label: "mount"}))
			umount()
			oracle.E2fsck(t, img)
			kdir, kum := oracle.KernelMount(t, img, "ro")
			require.NoError(t, fsstress.Compare(s, m, &target.Host{Root: kdir, Label: "kernel"}))
			kum()
		})
	}
}

// hashTree sums up names, types, modes and contents below a directory.
func hashTree(t testing.TB, root string) (string, int) {
	t.Helper()
	h := sha256.New()
	n := 0
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		if rel == "." {
			return nil
		}
		if rel == "lost+found" {
			return fs.SkipDir
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		n++
		fmt.Fprintf(h, "%s %v\n", rel, fi.Mode())
		switch {
		case fi.Mode().IsRegular():
			f, err := os.Open(p)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(h, f)
			return err
		case fi.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(p)
			fmt.Fprintln(h, to)
			return err
		}
		return nil
	})
	require.NoError(t, err)
	return fmt.Sprintf("%x", h.Sum(nil)), n
}

// TestSourceTree takes Go's own source tree in and out, for each block size: made by mke2fs -d and read through our mount
// and the kernel's, and copied in through our mount and read by the kernel.
func TestSourceTree(t *testing.T) {
	out, rc := oracle.Run(t, "go", "env", "GOROOT")
	require.Zero(t, rc, out)
	src := strings.TrimSpace(out)
	if _, err := os.Stat(filepath.Join(src, "src")); err != nil {
		oracle.Missing(t, "Go's source tree at "+src)
	}
	// Twenty thousand files: src, test, and what else there is.
	tree := t.TempDir()
	for i, sub := range []string{"src", "test", "api", "doc", "misc", "lib", "src"} {
		if _, err := os.Stat(filepath.Join(src, sub)); err == nil {
			out, err := exec.Command("cp", "-r", filepath.Join(src, sub), filepath.Join(tree, fmt.Sprint(i, sub))).CombinedOutput()
			require.NoError(t, err, string(out))
		}
	}
	want, n := hashTree(t, tree)
	require.GreaterOrEqual(t, n, 20000)
	for _, bs := range []string{"1024", "2048", "4096"} {
		t.Run(bs, func(t *testing.T) {
			made := oracle.Mke2fs(t, "600M", "-b", bs, "-N", "60000", "-d", tree)
			dir, umount := mount(t, made, vfs.MountOptions{ReadOnly: true}, vfsfuse.Options{})
			got, _ := hashTree(t, dir)
			require.Equal(t, want, got, "read through our mount")
			umount()
			kdir, kum := oracle.KernelMount(t, made, "ro")
			got, _ = hashTree(t, kdir)
			require.Equal(t, want, got, "read by the kernel")
			kum()

			img := oracle.Mke2fs(t, "600M", "-b", bs, "-N", "60000")
			dir, umount = mount(t, img, vfs.MountOptions{}, vfsfuse.Options{})
			begun := time.Now()
			out, err := exec.Command("cp", "-a", tree+"/.", dir).CombinedOutput()
			require.NoError(t, err, string(out))
			t.Logf("%d files in %v", n, time.Since(begun).Round(time.Millisecond))
			got, _ = hashTree(t, dir)
			require.Equal(t, want, got, "written and read through our mount")
			umount()
			oracle.E2fsck(t, img)
			kdir, kum = oracle.KernelMount(t, img, "ro")
			got, _ = hashTree(t, kdir)
			require.Equal(t, want, got, "read back by the kernel")
			kum()
		})
	}
}

// TestUnprivileged uses the mount as somebody else.
func TestUnprivileged(t *testing.T) {
	img := oracle.Mke2fs(t, "64M")
	dir, umount := mount(t, img, vfs.MountOptions{}, vfsfuse.Options{})
	oracle.Need(t, "setpriv", "sh")
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "theirs"), 0o777))
	require.NoError(t, os.Chmod(filepath.Join(dir, "theirs"), 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "secret"), []byte("x"), 0o600))
	for p := dir; p != "/"; p = filepath.Dir(p) {
		if fi, err := os.Stat(p); err == nil && fi.Mode().Perm()&0o005 != 0o005 && p != dir {
			require.NoError(t, os.Chmod(p, fi.Mode().Perm()|0o005))
		}
	}
	out, err := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c",
		"cd "+dir+" && echo hello > theirs/f && cat theirs/f && mkdir theirs/d && chmod 700 theirs/d && rm theirs/f && ! cat secret 2>/dev/null && ! touch here 2>/dev/null && stat -c %u theirs/d").CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, "hello\n65534", strings.TrimSpace(string(out)))
	umount()
	oracle.E2fsck(t, img)
}
