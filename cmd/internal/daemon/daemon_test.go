//go:build linux

package daemon

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMain plays the child when Start runs the test binary again.
func TestMain(m *testing.M) {
	if c := Parent(); c != nil {
		child(c, os.Args[1])
	}
	os.Exit(m.Run())
}

func child(c *Child, part string) {
	if sid, err := os.Readlink("/proc/self/fd/0"); err != nil || sid != os.DevNull {
		fmt.Println("standard input is", sid, err)
	}
	switch part {
	case "serve":
		fmt.Println("serving")
		if err := c.Report(Report{Warn: []string{"slow"}}); err != nil {
			os.Exit(3)
		}
		os.Exit(0)
	case "refuse":
		_ = c.Report(Report{Error: "no such image", Code: 32})
		os.Exit(32)
	}
	fmt.Println("panic: something")
	os.Exit(2)
}

func TestStart(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	rep, err := Start([]string{"serve"}, log)
	require.NoError(t, err)
	require.Empty(t, rep.Error)
	require.Equal(t, []string{"slow"}, rep.Warn)

	rep, err = Start([]string{"refuse"}, log)
	require.NoError(t, err)
	require.Equal(t, Report{Error: "no such image", Code: 32}, rep)

	_, err = Start([]string{"die"}, log)
	require.ErrorContains(t, err, "exit status 2")
	require.ErrorContains(t, err, log)
	b, err := os.ReadFile(log)
	require.NoError(t, err)
	require.Equal(t, "serving\npanic: something\n", string(b))
}

func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	require.NoError(t, Notify("READY=1"))

	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	require.NoError(t, Notify("READY=1", "STATUS=serving"))
	b := make([]byte, 100)
	n, err := l.Read(b)
	require.NoError(t, err)
	require.Equal(t, "READY=1\nSTATUS=serving\n", string(b[:n]))
}

func TestMountID(t *testing.T) {
	a, b := MountID("/mnt/a b"), MountID("/srv/a b")
	require.NotEqual(t, a, b)
	require.True(t, strings.HasPrefix(a, "a_b-"))
	require.Less(t, len(MountID("/mnt/"+strings.Repeat("x", 300))), 40, "it becomes part of a socket's path")
	require.NotEqual(t, byte('.'), MountID("/mnt/.hidden")[0])
	require.NotEmpty(t, MountID("/"))
}

func TestDirs(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("IOMAPFS_RUNTIME_DIR", filepath.Join(dir, "run"))
	t.Setenv("XDG_STATE_HOME", dir)
	r, err := RuntimeDir()
	require.NoError(t, err)
	fi, err := os.Stat(r)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), fi.Mode().Perm())
	l, err := LogFile("/mnt/x")
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "iomapfs", MountID("/mnt/x")+".log"), l)

	sock := filepath.Join(r, "x.sock")
	require.NoError(t, os.WriteFile(sock, nil, 0o600))
	require.Contains(t, Sockets(), sock)

	require.NoError(t, os.WriteFile(l, []byte("old"), 0o600))
	require.NoError(t, RotateLog(l))
	require.NoError(t, RotateLog(l), "no log yet is fine")
	b, err := os.ReadFile(l + ".1")
	require.NoError(t, err)
	require.Equal(t, "old", string(b))
}
