//go:build linux

package fuse_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/iomapfs/iomapfs/vfs"
	vfsfuse "github.com/iomapfs/iomapfs/vfs/fuse"
	"github.com/iomapfs/iomapfs/vfs/fuse/transport"
	"github.com/iomapfs/iomapfs/vfs/vfstest"
)

// A child is this test binary again, doing one of children in the mount: as somebody else, or what a process must not do
// in a mount that it serves itself (touching a mapping, where the collector would wait for the fault and the fault for the
// server).
const (
	childName = "VFSFUSE_CHILD"
	childDir  = "VFSFUSE_DIR"
	childUID  = "VFSFUSE_UID"
)

var children = map[string]func(dir string) error{}

func TestMain(m *testing.M) {
	if id, err := strconv.Atoi(os.Getenv(childUID)); err == nil && id != 0 {
		become(id)
	}
	if name := os.Getenv(childName); name != "" {
		if f := children[name]; f != nil {
			if err := f(os.Getenv(childDir)); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
		os.Exit(m.Run())
	}
	wasOn, known := transport.RingEnabled()
	code := m.Run()
	if known && !wasOn && os.Geteuid() == 0 {
		_ = transport.EnableRing(false) // as it was
	}
	os.Exit(code)
}

// become gives up all privileges.
func become(id int) {
	for _, err := range []error{unix.Setgroups(nil), unix.Setresgid(id, id, id), unix.Setresuid(id, id, id), unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)} {
		if err != nil {
			panic(err)
		}
	}
}

// child prepares a process that runs children[name], or the tests that args name.
func child(t testing.TB, uid int, name, dir string, args ...string) *exec.Cmd {
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), childName+"="+name, childDir+"="+dir, childUID+"="+strconv.Itoa(uid))
	return cmd
}

// mounted is a mount of a filesystem in memory.
type mounted struct {
	*vfsfuse.Server
	sb   *vfs.SuperBlock
	ram  *vfstest.FS
	dir  string
	gone bool
}

// each runs f on each transport.
func each(t *testing.T, f func(t *testing.T, transport string)) {
	for _, tr := range []string{"fuse", "uring"} {
		t.Run(tr, func(t *testing.T) {
			if _, known := transport.RingEnabled(); tr == "uring" && !known {
				t.Skip("SKIPPED: THIS KERNEL HAS NO FUSE OVER IO_URING, THE RING WAS NOT TESTED")
			}
			f(t, tr)
		})
	}
}

// mount serves a fresh filesystem until the test ends, and looks then that nothing is left of it.
func mount(t testing.TB, o vfsfuse.Options, hook func(ctx context.Context, op string, ip *vfs.Inode) error, prepare ...func(*vfstest.FS)) *mounted {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatalf("NO FUSE HERE, and CI must have it: %v", err)
		}
		t.Skipf("SKIPPED: NO FUSE HERE, NOTHING WAS TESTED: %v", err)
	}
	before := goleak.IgnoreCurrent()
	dir, err := os.MkdirTemp("", "vfsfuse-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	sb, ram := vfstest.New(t, vfs.MountOptions{Log: slog.New(slog.DiscardHandler)})
	ram.Hook = hook
	for _, f := range prepare {
		f(ram)
	}
	m := &mounted{sb: sb, ram: ram, dir: dir}
	for range 40 {
		// Another test may have the machine's switch for io_uring off for a moment.
		if m.Server, err = vfsfuse.Serve(sb, dir, o); !errors.Is(err, unix.EOPNOTSUPP) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	require.NoError(t, err)
	t.Cleanup(func() {
		m.umount(t)
		require.NoError(t, os.Remove(dir))
		goleak.VerifyNone(t, before)
	})
	return m
}

// umount takes the mount away and looks that the kernel left nothing behind.
func (m *mounted) umount(t testing.TB) {
	t.Helper()
	if m.gone {
		return
	}
	m.gone = true
	err := m.Unmount(context.Background(), false)
	if err != nil {
		t.Errorf("unmount: %v", err)
		_ = m.Unmount(context.Background(), true)
	}
	m.Wait()
	require.Zero(t, m.Nodes(), "inodes the kernel remembers after the end")
	require.Zero(t, m.Files(), "open files after the end")
	require.NoError(t, m.sb.Unmount(context.Background()))
	require.Zero(t, m.sb.InodeCount())
}

// eventually waits for something that the kernel does in its own time.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(2 * time.Millisecond) {
		require.True(t, time.Now().Before(end), what)
	}
}
