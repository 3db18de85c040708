// Package oracle asks tools that are not ours: e2fsprogs, the kernel's own drivers. A missing tool fails the test in CI and
// skips loudly elsewhere; it never passes quietly.
package oracle

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Need skips the test when a program is not installed, and fails it in CI.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			Missing(t, p+" is not installed: run make deps")
		}
	}
}

// Missing skips for want of something, and fails in CI.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("required in CI: " + what)
	}
	t.Skip("NOT TESTED: " + what)
}

// NeedRoot wants the superuser.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "needs root")
	}
}

// NeedFuse wants /dev/fuse.
func NeedFuse(t testing.TB) {
	t.Helper()
	NeedRoot(t)
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		Missing(t, "/dev/fuse: "+err.Error())
		return
	}
	f.Close()
}

// Run runs a program and gives its output and exit status.
func Run(t testing.TB, name string, args ...string) (string, int) {
	t.Helper()
	Need(t, name)
	out, err := exec.Command(name, args...).CombinedOutput()
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) {
		require.NoError(t, err)
	}
	if ee != nil {
		return string(out), ee.ExitCode()
	}
	return string(out), 0
}

// Mke2fs makes an ext2 image of that size ("64M") with mke2fs's options and gives its path.
func Mke2fs(t testing.TB, size string, options ...string) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "ext2.img")
	args := append([]string{"-q", "-F", "-t", "ext2"}, options...)
	out, rc := Run(t, "mke2fs", append(args, img, size)...)
	require.Zero(t, rc, "mke2fs %v: %s", args, out)
	return img
}

// E2fsck demands that e2fsck -fn finds nothing.
func E2fsck(t testing.TB, img string) {
	t.Helper()
	out, rc := Run(t, "e2fsck", "-fn", img)
	require.Zero(t, rc, "e2fsck -fn:\n%s", out)
}

// E2fsckPreen demands that e2fsck -p repairs the image by itself: exit status 0 or 1.
func E2fsckPreen(t testing.TB, img string) {
	t.Helper()
	out, rc := Run(t, "e2fsck", "-p", img)
	require.LessOrEqual(t, rc, 1, "e2fsck -p:\n%s", out)
}

// KernelMount mounts an image by the kernel's ext2 over a loop device, until the end of the test or the call of umount.
func KernelMount(t testing.TB, img string, options string) (dir string, umount func()) {
	t.Helper()
	NeedRoot(t)
	Need(t, "mount", "losetup")
	dir = t.TempDir()
	if options != "" {
		options = "," + options
	}
	// nodev: the random tests make device nodes with random numbers, which must lead nowhere.
	out, rc := Run(t, "mount", "-t", "ext2", "-o", "loop,nodev"+options, img, dir)
	require.Zero(t, rc, "mount: %s", out)
	done := false
	umount = func() {
		if done {
			return
		}
		done = true
		for try := 0; ; try++ {
			out, rc := Run(t, "umount", dir)
			if rc == 0 {
				return
			}
			if try == 50 || !strings.Contains(out, "busy") {
				t.Errorf("umount: %s", out)
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	t.Cleanup(umount)
	return dir, umount
}
