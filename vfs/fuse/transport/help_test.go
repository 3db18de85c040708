//go:build linux

package transport_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/iomapfs/iomapfs/vfs/fuse/transport"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// Children of this test binary serve a mount; see serveChild.
const childEnv = "TRANSPORT_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		serveChild()
		return
	}
	wasOn, known := transport.RingEnabled()
	code := m.Run()
	if known && !wasOn && os.Geteuid() == 0 {
		if err := transport.EnableRing(false); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

// needFUSE skips a test that cannot run here. In CI a missing /dev/fuse is a failure.
func needFUSE(tb testing.TB) {
	tb.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err == nil {
		require.NoError(tb, f.Close())
		if os.Geteuid() == 0 {
			return
		}
		err = fmt.Errorf("not root")
	}
	if os.Getenv("CI") == "true" {
		tb.Fatalf("NO FUSE HERE, and CI must have it: %v", err)
	}
	tb.Skipf("SKIPPED: NO FUSE HERE, NOTHING WAS TESTED: %v", err)
}

func needRing(tb testing.TB) {
	tb.Helper()
	needFUSE(tb)
	on, known := transport.RingEnabled()
	if !known {
		tb.Skip("SKIPPED: THIS KERNEL HAS NO FUSE OVER IO_URING, THE RING WAS NOT TESTED")
	}
	if !on {
		if err := transport.EnableRing(true); err != nil {
			tb.Skipf("SKIPPED: FUSE OVER IO_URING CANNOT BE TURNED ON, THE RING WAS NOT TESTED: %v", err)
		}
	}
}

// each runs f for every transport.
func each(t *testing.T, f func(t *testing.T, kind transport.Kind)) {
	for _, kind := range []transport.Kind{transport.Ordinary, transport.Device, transport.Ring} {
		t.Run(kind.String(), func(t *testing.T) {
			if kind == transport.Ring {
				needRing(t)
			} else {
				needFUSE(t)
			}
			f(t, kind)
		})
	}
}

// testLog collects what is logged, and fails the test for errors.
type testLog struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *testLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *testLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// mounted is a mount under test.
type mounted struct {
	*transport.Server
	fs  *memFS
	dir string
	log *testLog
}

// mount serves fs until the test ends, and then checks that nothing is left.
func mount(t testing.TB, kind transport.Kind, fs *memFS, change ...func(*fuse.MountOptions, *transport.Options)) *mounted {
	t.Helper()
	before := goleak.IgnoreCurrent()
	m := &mounted{fs: fs, dir: t.TempDir(), log: &testLog{}}
	opts := &fuse.MountOptions{Name: "memfs", FsName: "mem", MaxBackground: 64, MaxWrite: 1 << 20}
	to := transport.Options{Kind: kind, Logger: slog.New(slog.NewTextHandler(m.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	to.EnableRing = kind == transport.Ring
	for _, c := range change {
		c(opts, &to)
	}
	srv, err := transport.Mount(m.dir, fs, opts, to)
	require.NoError(t, err)
	require.Equal(t, kind, srv.Kind())
	m.Server = srv
	go srv.Serve()
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(m.log.String())
		}
		if err := srv.Unmount(); err != nil {
			t.Errorf("unmount: %v", err)
			_ = srv.Abort() //nolint:errcheck // the test has failed already
			_ = srv.Detach()
		}
		within(t, 20*time.Second, "Serve to end", srv.Wait)
		require.EqualValues(t, 1, fs.inits.Load(), "calls of Init")
		require.EqualValues(t, 1, fs.unmount.Load(), "calls of OnUnmount")
		require.NotContains(t, m.log.String(), "level=ERROR")
		goleak.VerifyNone(t, before)
	})
	require.NoError(t, srv.WaitMount())
	return m
}

// within fails the test when f does not return in time.
func within(t testing.TB, d time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatalf("waited %v for %s", d, what)
	}
}

// eventually waits for a condition that must come true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 10*time.Second, time.Millisecond, what)
}

// mountLine is the line of /proc/mounts for a directory.
func mountLine(t testing.TB, dir string) []string {
	t.Helper()
	b, err := os.ReadFile("/proc/mounts")
	require.NoError(t, err)
	for line := range strings.SplitSeq(string(b), "\n") {
		if f := strings.Fields(line); len(f) > 3 && f[1] == dir {
			return f
		}
	}
	return nil
}

// child is a mount served by another process.
type child struct {
	cmd *exec.Cmd
	dir string
}

// startChild serves a memFS from a process of its own, as a daemon would.
func startChild(t testing.TB, kind transport.Kind, env ...string) *child {
	t.Helper()
	c := &child{dir: t.TempDir()}
	self, err := os.Executable()
	require.NoError(t, err)
	c.cmd = exec.Command(self)
	c.cmd.Env = append(os.Environ(), childEnv+"="+c.dir, "TRANSPORT_TEST_KIND="+kind.String())
	c.cmd.Env = append(c.cmd.Env, env...)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.cmd.Start())
	t.Cleanup(func() {
		_ = unix.Unmount(c.dir, unix.MNT_DETACH) //nolint:errcheck // usually gone
		_ = c.cmd.Process.Kill()                 //nolint:errcheck // usually gone
		_ = c.cmd.Wait()                         //nolint:errcheck // killed
	})
	var b [6]byte
	n, err := out.Read(b[:])
	require.NoError(t, err)
	require.Equal(t, "ready\n", string(b[:n]))
	return c
}

// stop ends the child by a clean unmount.
func (c *child) stop(t testing.TB) {
	t.Helper()
	require.NoError(t, unix.Unmount(c.dir, 0))
	require.NoError(t, c.cmd.Wait())
}

// serveChild is the main function of a child process.
func serveChild() {
	fs := newMemFS()
	if os.Getenv("TRANSPORT_TEST_DIRECT") != "" {
		fs.direct = true
		fs.add("big", bytes.Repeat([]byte{0xa5}, benchFileSize))
	}
	fs.add("file", []byte("x"))
	kinds := map[string]transport.Kind{"ordinary": transport.Ordinary, "io_uring": transport.Ring, "device": transport.Device}
	srv, err := transport.Mount(os.Getenv(childEnv), fs, &fuse.MountOptions{Name: "memfs", MaxWrite: 1 << 20, MaxBackground: 64, DisableXAttrs: true},
		transport.Options{Kind: kinds[os.Getenv("TRANSPORT_TEST_KIND")], EnableRing: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go srv.Serve()
	if err := srv.WaitMount(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("ready")
	srv.Wait()
}

// ioctlBytes is ioctl(2) with a buffer.
func ioctlBytes(fd int, cmd uintptr, arg []byte) (int, error) {
	r, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), cmd, uintptr(unsafe.Pointer(&arg[0])))
	if e != 0 {
		return 0, e
	}
	return int(r), nil
}
