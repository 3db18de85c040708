// Package disktest runs the e2fsprogs tools for the tests of disk, mkfs and check: makers of golden images and judges of ours.
//
// A tool that is not installed skips the test and says so; where the environment variable CI is set, it fails the test.
package disktest

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Need skips the test, or fails it under CI, unless all tools are installed. It looks in sbin too.
func Need(tb testing.TB, tools ...string) {
	tb.Helper()
	for _, t := range tools {
		if find(t) == "" {
			if os.Getenv("CI") != "" {
				tb.Fatalf("%s is missing: install e2fsprogs", t)
			}
			tb.Skipf("SKIPPED, NOTHING CHECKED: %s is missing: install e2fsprogs", t)
		}
	}
}

func find(tool string) string {
	if p, err := exec.LookPath(tool); err == nil {
		return p
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if p := filepath.Join(dir, tool); exec.Command(p).Path == p {
			if _, err := os.Stat(p); err == nil {
				return p
			}
		}
	}
	return ""
}

// Run runs a tool and gives its exit status and what it printed, both streams.
func Run(tb testing.TB, stdin, tool string, args ...string) (int, string) {
	tb.Helper()
	Need(tb, tool)
	cmd := exec.Command(find(tool), args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "E2FSPROGS_FAKE_TIME=1600000000", "MKE2FS_CONFIG=/etc/mke2fs.conf")
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		tb.Fatalf("%s %s: %v", tool, strings.Join(args, " "), err)
	}
	return cmd.ProcessState.ExitCode(), out.String()
}

// Must runs a tool that has to succeed.
func Must(tb testing.TB, stdin, tool string, args ...string) string {
	tb.Helper()
	code, out := Run(tb, stdin, tool, args...)
	if code != 0 {
		tb.Fatalf("%s %s: exit %d\n%s", tool, strings.Join(args, " "), code, out)
	}
	return out
}

// Image makes a sparse file of size bytes.
func Image(tb testing.TB, size int64) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "img")
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(f.Truncate(size), f.Close())
	}
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// Mke2fs makes an ext2 image of size bytes by mke2fs with the arguments.
func Mke2fs(tb testing.TB, size int64, args ...string) string {
	tb.Helper()
	path := Image(tb, size)
	Must(tb, "", "mke2fs", append(append([]string{"-q", "-F", "-t", "ext2"}, args...), path)...)
	return path
}

// E2fsck runs e2fsck -fn: exit status 0 is clean, 4 or more is not.
func E2fsck(tb testing.TB, image string) (int, string) {
	tb.Helper()
	return Run(tb, "", "e2fsck", "-fn", image)
}

// Clean fails the test unless e2fsck -fn finds nothing.
func Clean(tb testing.TB, image string) {
	tb.Helper()
	if code, out := E2fsck(tb, image); code != 0 {
		tb.Fatalf("e2fsck -fn %s: exit %d\n%s", image, code, out)
	}
}

// Header gives dumpe2fs -h as a map from "Block count" to "64".
func Header(tb testing.TB, image string) map[string]string {
	tb.Helper()
	m := map[string]string{}
	for line := range strings.Lines(Must(tb, "", "dumpe2fs", "-h", image)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			m[k] = strings.TrimSpace(v)
		}
	}
	return m
}

// Number gives a field of Header as a number; 0 when absent.
func Number(tb testing.TB, h map[string]string, field string) uint64 {
	tb.Helper()
	v := h[field]
	if v == "" {
		return 0
	}
	n, err := strconv.ParseUint(strings.Fields(v)[0], 0, 64)
	if err != nil {
		tb.Fatalf("%s: %v", field, err)
	}
	return n
}

// Debugfs runs commands of debugfs, writing when write is set, and gives their output without the echoes.
func Debugfs(tb testing.TB, image string, write bool, commands ...string) string {
	tb.Helper()
	args := []string{"-f", "-"}
	if write {
		args = append(args, "-w")
	}
	out := Must(tb, strings.Join(commands, "\n")+"\n", "debugfs", append(args, image)...)
	var kept strings.Builder
	for line := range strings.Lines(out) {
		if !strings.HasPrefix(line, "debugfs") {
			kept.WriteString(line)
		}
	}
	return kept.String()
}
