//go:build linux

package main

import (
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/stretchr/testify/require"
)

// As systemd runs a Type=notify service: foreground, told when it is ready and when it stops.
func TestNotify(t *testing.T) {
	oracle.NeedFuse(t)
	oracle.Need(t, "mke2fs")
	s := newSandbox(t)
	out, code := s.run(t, "mke2fs -q -t ext2 disk.img 4M && mkdir mnt")
	require.Zero(t, code, out)
	sock := filepath.Join(s.dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: sock, Net: "unixgram"})
	require.NoError(t, err)
	defer l.Close()
	next := func() string {
		b := make([]byte, 1000)
		require.NoError(t, l.SetReadDeadline(time.Now().Add(20*time.Second)))
		n, err := l.Read(b)
		require.NoError(t, err)
		return string(b[:n])
	}

	cmd := exec.Command(filepath.Join(filepath.Dir(s.dir), "bin", "iomapfs"), "mount", "-f", "disk.img", "mnt")
	cmd.Dir, cmd.Env = s.dir, append(s.env, "NOTIFY_SOCKET="+sock)
	require.NoError(t, cmd.Start())
	ready := next()
	require.Contains(t, ready, "READY=1\n")
	require.Contains(t, ready, "STATUS=serving "+s.dir+"/disk.img at "+s.dir+"/mnt")
	out, code = s.run(t, "echo x > mnt/f && sync mnt/f")
	require.Zero(t, code, out)

	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	stopping := next()
	require.Contains(t, stopping, "STOPPING=1\n")
	require.Contains(t, stopping, "EXTEND_TIMEOUT_USEC=")
	require.NoError(t, cmd.Wait(), "status 0 after a clean end")
	out, _ = s.run(t, "iomapfs cat disk.img /f")
	require.Equal(t, "x", strings.TrimSpace(out))
}
