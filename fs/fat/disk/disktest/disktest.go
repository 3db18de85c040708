// Package disktest asks tools that are not ours about FAT images: mkfs.fat, fsck.fat, mtools. A missing tool fails the test in CI
// and skips loudly elsewhere.
package disktest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func init() {
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	os.Setenv("MTOOLS_SKIP_CHECK", "1")
	os.Setenv("LC_ALL", "C.UTF-8") // mtools and fsck.fat write names in it
	os.Setenv("TZ", "UTC")
}

// Run runs a program and gives its output and exit status.
func Run(t testing.TB, name string, args ...string) (string, int) {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("required in CI: %s is not installed: run make deps", name)
		}
		t.Skipf("NOT TESTED: %s is not installed: run make deps", name)
	}
	out, err := exec.Command(name, args...).CombinedOutput()
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		return string(out), ee.ExitCode()
	}
	require.NoError(t, err)
	return string(out), 0
}

// Fsck demands that fsck.fat -n finds nothing.
func Fsck(t testing.TB, img string) {
	t.Helper()
	out, rc := Run(t, "fsck.fat", "-n", "-v", "-V", img)
	require.Zero(t, rc, "fsck.fat -n:\n%s", out)
}

// Mkfs makes an image of size bytes with mkfs.fat's options and gives its path.
func Mkfs(t testing.TB, size int64, options ...string) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "fat.img")
	args := append([]string{"-C"}, options...)
	out, rc := Run(t, "mkfs.fat", append(args, img, strconv.FormatInt(size>>10, 10))...)
	require.Zero(t, rc, "mkfs.fat %v: %s", args, out)
	return img
}

// Mcopy copies files with mtools; of names that begin with "::" is meant the image.
func Mcopy(t testing.TB, img string, args ...string) {
	t.Helper()
	out, rc := Run(t, "mcopy", append([]string{"-i", img, "-s", "-m", "-Q", "-o"}, args...)...)
	require.Zero(t, rc, "mcopy %s: %s", strings.Join(args, " "), out)
}

// Empty makes a sparse file of size bytes and gives its path.
func Empty(t testing.TB, size int64) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "empty.img")
	f, err := os.Create(img)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	require.NoError(t, f.Close())
	return img
}
