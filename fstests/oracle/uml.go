package oracle

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// umlInit is what runs as process 1 under the user-mode kernel: it loads the filesystem drivers, runs the command that lies
// beside it, and leaves output and exit status there.
const umlInit = `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
here=$(dirname "$0")
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev 2>/dev/null; mount -t tmpfs tmpfs /mnt
for m in loop nls_cp437 nls_iso8859-1 nls_utf8 nls_ascii fat vfat msdos minix; do
	f=$(find /usr/lib/uml/modules -name $m.ko 2>/dev/null | head -1)
	[ -n "$f" ] && insmod "$f" 2>/dev/null
done
sh "$here/command" >"$here/out" 2>&1 </dev/null
echo $? >"$here/status"
umount -a -t vfat,minix,ext2,ext4,xfs 2>/dev/null
echo o >/proc/sysrq-trigger 2>/dev/null; poweroff -f 2>/dev/null; halt -f
`

// umlPtrace is a library that lets the user-mode kernel run on processors with more state than it knows.
//
//go:embed testdata/umlptrace.c
var umlPtrace string

// UML runs a shell command as the superuser of a user-mode Linux kernel, which sees this machine's files and has the drivers of
// ext2, vfat, minix and xfs: an ordinary process, which may die of a bad image without harm. It gives the output, and fails the
// test when the command does not exit with 0 or the kernel dies. /mnt is an empty file system to mount on.
func UML(t testing.TB, command string) string {
	t.Helper()
	Need(t, "linux.uml")
	dir, err := os.MkdirTemp("", "uml")
	require.NoError(t, err)
	defer os.RemoveAll(dir)
	write := func(name, text string, mode os.FileMode) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), mode))
	}
	write("command", command, 0o600)
	write("init", umlInit, 0o700)
	write("ptrace.c", umlPtrace, 0o600)
	out, rc := Run(t, "gcc", "-shared", "-fPIC", "-o", filepath.Join(dir, "ptrace.so"), filepath.Join(dir, "ptrace.c"))
	require.Zero(t, rc, "%s", out)
	cmd := exec.Command("linux.uml", "mem=256M", "umid="+filepath.Base(dir), "rootfstype=hostfs", "rootflags=/", "rw",
		"init="+filepath.Join(dir, "init"), "con=null", "con0=fd:0,fd:1")
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+filepath.Join(dir, "ptrace.so"))
	cmd.WaitDelay = time.Second
	timer := time.AfterFunc(6*time.Minute, func() { _ = cmd.Process.Kill() })
	console, err := cmd.CombinedOutput()
	timer.Stop()
	var ee *exec.ExitError
	if err != nil && !errors.As(err, &ee) && !errors.Is(err, exec.ErrWaitDelay) {
		require.NoError(t, err)
	}
	said, _ := os.ReadFile(filepath.Join(dir, "out"))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	require.NoError(t, err, "the user-mode kernel did not finish: %s\n%s", said, console)
	for _, bad := range []string{"Kernel panic", "BUG:", "Oops", "WARNING:"} {
		require.NotContains(t, string(console), bad)
	}
	rc, err = strconv.Atoi(strings.TrimSpace(string(status)))
	require.NoError(t, err)
	require.Zero(t, rc, "under the user-mode kernel: %s: %s", command, said)
	return string(said)
}

// UMLTrees mounts images of a filesystem type by the user-mode kernel, read-only, and lists each: one line an entry with type,
// permissions, owner, links, size, name and target, and the sums of the files. One boot serves all.
func UMLTrees(t testing.TB, fstype string, images ...string) []string {
	t.Helper()
	const between = "========\n"
	out := UML(t, fmt.Sprintf(`set -e
for i in %s; do
	mount -t %s -o ro,loop $i /mnt
	(cd /mnt
	find . -printf '%%y %%m %%U %%G %%n %%s %%p %%l\n' | LC_ALL=C sort -k7
	find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r md5sum)
	umount /mnt
	printf '%s'
done`, strings.Join(images, " "), fstype, strings.ReplaceAll(between, "\n", `\n`)))
	trees := strings.Split(out, between)
	require.Len(t, trees, len(images)+1, "%s", out)
	return trees[:len(images)]
}
