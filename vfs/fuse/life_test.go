//go:build linux

package fuse_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	vfsfuse "github.com/iomapfs/iomapfs/vfs/fuse"
)

// TestReadDirWhileNamesGo lists 10,000 names while every other one is removed: what stays is listed exactly once.
func TestReadDirWhileNamesGo(t *testing.T) {
	each(t, func(t *testing.T, tr string) {
		m := mount(t, vfsfuse.Options{Transport: tr}, nil)
		ctx := context.Background()
		const names = 10_000
		for i := range names {
			ip, err := m.sb.Root.Create(ctx, vfs.Root, fmt.Sprintf("f%05d", i), 0o644)
			require.NoError(t, err)
			ip.Put()
		}
		d, err := os.Open(m.dir)
		require.NoError(t, err)
		defer d.Close()
		seen := map[string]int{}
		for next := 1; ; {
			list, err := d.Readdirnames(100)
			for _, n := range list {
				seen[n]++
			}
			if err != nil {
				break
			}
			for range 60 {
				if next < names {
					require.NoError(t, os.Remove(filepath.Join(m.dir, fmt.Sprintf("f%05d", next))))
					next += 2
				}
			}
		}
		for i := 0; i < names; i += 2 {
			require.Equal(t, 1, seen[fmt.Sprintf("f%05d", i)], "name %d", i)
		}
		for n, k := range seen {
			require.Equal(t, 1, k, n)
		}
	})
}

// TestForget makes the kernel know many inodes and forget them again.
func TestForget(t *testing.T) {
	each(t, func(t *testing.T, tr string) {
		m := mount(t, vfsfuse.Options{Transport: tr}, nil)
		const dirs, files = 20, 200
		var wg sync.WaitGroup
		for d := range dirs {
			wg.Go(func() {
				dir := filepath.Join(m.dir, fmt.Sprint(d))
				if err := os.Mkdir(dir, 0o755); err != nil {
					t.Error(err)
				}
				for i := range files {
					if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte("x"), 0o644); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		require.Equal(t, dirs*(files+1)+1, m.Nodes())
		for d := range dirs / 2 { // forgotten one by one, as they go
			wg.Go(func() {
				if err := os.RemoveAll(filepath.Join(m.dir, fmt.Sprint(d))); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		eventually(t, "removed files are forgotten", func() bool { return m.Nodes() <= dirs/2*(files+1)+1 && m.Files() == 0 })
		eventually(t, "and freed", func() bool { return m.ram.Nodes() == dirs/2*(files+1)+1 })
		// And all the rest at once. The look-ups before were several a name.
		for range 3 {
			out, err := exec.Command("find", m.dir, "-newermt", "2000-01-01").Output()
			require.NoError(t, err)
			require.Equal(t, dirs/2*(files+1)+1, strings.Count(string(out), "\n"))
		}
		require.NoError(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0))
		eventually(t, "dropped inodes are forgotten", func() bool { return m.Nodes() < dirs })
		m.umount(t)
	})
}

// TestUnlinkedOpen uses files that have no name any more.
func TestUnlinkedOpen(t *testing.T) {
	each(t, func(t *testing.T, tr string) {
		m := mount(t, vfsfuse.Options{Transport: tr}, nil)
		p := filepath.Join(m.dir, "f")
		f, err := os.Create(p)
		require.NoError(t, err)
		require.NoError(t, os.Remove(p))
		_, err = f.WriteString("still here")
		require.NoError(t, err)
		require.NoError(t, f.Sync())
		var st unix.Stat_t
		require.NoError(t, unix.Fstat(int(f.Fd()), &st))
		require.Zero(t, st.Nlink)
		require.EqualValues(t, 10, st.Size)
		require.NoError(t, f.Truncate(5))
		b := make([]byte, 10)
		n, _ := f.ReadAt(b, 0)
		require.Equal(t, "still", string(b[:n]))
		require.NoError(t, unix.Fchmod(int(f.Fd()), 0o600))
		require.Equal(t, 2, m.ram.Nodes())
		require.NoError(t, f.Close())
		eventually(t, "the file is freed", func() bool { return m.ram.Nodes() == 1 && m.ram.Used() == 0 })

		// Replaced by a rename while open.
		require.NoError(t, os.WriteFile(p, []byte("old"), 0o644))
		f, err = os.Open(p)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(p+"2", []byte("new"), 0o644))
		require.NoError(t, os.Rename(p+"2", p))
		n, _ = f.ReadAt(b, 0)
		require.Equal(t, "old", string(b[:n]))
		require.NoError(t, f.Close())
		eventually(t, "the replaced file is freed", func() bool { return m.ram.Nodes() == 2 })
	})
}

// stuck is a hook whose reads of files wait until they are given up.
func stuck(waiting *atomic.Int32) func(ctx context.Context, op string, ip *vfs.Inode) error {
	return func(ctx context.Context, op string, _ *vfs.Inode) error {
		if op != "Read" {
			return nil
		}
		waiting.Add(1)
		defer waiting.Add(-1)
		select {
		case <-ctx.Done():
			return errno.From(ctx.Err())
		case <-time.After(30 * time.Second):
			return errno.IO
		}
	}
}

// TestInterrupt kills processes that wait for the server.
func TestInterrupt(t *testing.T) {
	each(t, func(t *testing.T, tr string) {
		var waiting atomic.Int32
		m := mount(t, vfsfuse.Options{Transport: tr}, stuck(&waiting))
		require.NoError(t, os.WriteFile(filepath.Join(m.dir, "f"), []byte("x"), 0o644))
		require.NoError(t, os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0))
		for range 5 {
			cmd := exec.Command("dd", "if="+filepath.Join(m.dir, "f"), "iflag=direct", "of=/dev/null")
			require.NoError(t, cmd.Start())
			eventually(t, "the read arrives", func() bool { return waiting.Load() == 1 })
			begun := time.Now()
			require.NoError(t, cmd.Process.Signal(unix.SIGINT))
			require.Error(t, cmd.Wait())
			require.Less(t, time.Since(begun), 5*time.Second)
			eventually(t, "the operation is given up", func() bool { return waiting.Load() == 0 })
		}
		require.NoError(t, os.WriteFile(filepath.Join(m.dir, "g"), []byte("x"), 0o644), "the mount goes on")
	})
}

// TestAbort cuts the connection while operations are under way.
func TestAbort(t *testing.T) {
	each(t, func(t *testing.T, tr string) {
		var waiting atomic.Int32
		m := mount(t, vfsfuse.Options{Transport: tr}, stuck(&waiting))
		p := filepath.Join(m.dir, "f")
		require.NoError(t, os.WriteFile(p, []byte("x"), 0o644))
		var fds []int
		for range 6 {
			fd, err := unix.Open(p, unix.O_RDWR|unix.O_DIRECT, 0)
			require.NoError(t, err)
			fds = append(fds, fd)
		}
		errs := make(chan error, len(fds))
		for _, fd := range fds {
			go func() {
				_, err := unix.Pread(fd, make([]byte, 4096), 0)
				errs <- err
			}()
		}
		eventually(t, "reads arrive", func() bool { return waiting.Load() == int32(len(fds)) })
		require.NoError(t, m.Abort())
		for range fds {
			require.Error(t, <-errs)
		}
		_, err := os.Stat(p + "2")
		require.ErrorIs(t, err, unix.ENOTCONN)
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		m.umount(t) // looks that no file or inode is left
	})
}

// TestFreeze holds changes back, not reads.
func TestFreeze(t *testing.T) {
	m := mount(t, vfsfuse.Options{}, nil)
	ctx := context.Background()
	require.NoError(t, os.WriteFile(filepath.Join(m.dir, "f"), []byte("x"), 0o644))
	require.NoError(t, m.sb.Freeze(ctx))
	require.ErrorIs(t, m.sb.Freeze(ctx), errno.BUSY)
	_, err := os.ReadFile(filepath.Join(m.dir, "f"))
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- os.Mkdir(filepath.Join(m.dir, "d"), 0o755) }()
	select {
	case err := <-done:
		t.Fatalf("mkdir on a frozen filesystem: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	require.Equal(t, 2, m.ram.Nodes())
	require.NoError(t, m.sb.Thaw())
	require.NoError(t, <-done)
	require.ErrorIs(t, m.sb.Thaw(), errno.INVAL)
}

// TestGeneration sees the generation number by ioctl and in file handles.
func TestGeneration(t *testing.T) {
	m := mount(t, vfsfuse.Options{}, nil)
	p := filepath.Join(m.dir, "f")
	f, err := os.Create(p)
	require.NoError(t, err)
	defer f.Close()
	ip, err := m.sb.Walk(context.Background(), "f", false)
	require.NoError(t, err)
	defer ip.Put()
	require.NotZero(t, ip.Gen)
	gen, err := unix.IoctlGetInt(int(f.Fd()), 0x80087601)
	require.NoError(t, err)
	require.EqualValues(t, ip.Gen, uint32(gen))
	h, _, err := unix.NameToHandleAt(unix.AT_FDCWD, p, 0)
	require.NoError(t, err)
	b := h.Bytes() // high and low half of the node id, generation
	require.EqualValues(t, ip.Gen, uint32(b[8])|uint32(b[9])<<8|uint32(b[10])<<16|uint32(b[11])<<24)
}

// TestACL sees that an access ACL decides for somebody else, and a default ACL instead of the umask.
func TestACL(t *testing.T) {
	each(t, func(t *testing.T, tr string) {
		m := mount(t, vfsfuse.Options{Transport: tr, AllowOther: true}, nil)
		p := filepath.Join(m.dir, "secret")
		require.NoError(t, os.WriteFile(p, []byte("x"), 0o600))
		read := func() error { return child(t, nobody, "read", p).Run() }
		require.Error(t, read(), "by its mode nobody else may")
		acl := vfs.ACL{{Tag: vfs.ACLUserObj, Perm: 6}, {Tag: vfs.ACLUser, Perm: 4, ID: nobody}, {Tag: vfs.ACLGroupObj}, {Tag: vfs.ACLMask, Perm: 4}, {Tag: vfs.ACLOther}}
		require.NoError(t, unix.Setxattr(p, vfs.XattrACLAccess, acl.Encode(), 0))
		require.NoError(t, read(), "its ACL lets them")
		require.NoError(t, os.Chmod(p, 0o600)) // the mask goes to nothing
		require.Error(t, read(), "the mask takes it back")

		dir := filepath.Join(m.dir, "dir")
		require.NoError(t, os.Mkdir(dir, 0o755))
		acl = vfs.ACL{{Tag: vfs.ACLUserObj, Perm: 7}, {Tag: vfs.ACLUser, Perm: 4, ID: nobody}, {Tag: vfs.ACLGroupObj, Perm: 5}, {Tag: vfs.ACLMask, Perm: 5}, {Tag: vfs.ACLOther}}
		require.NoError(t, unix.Setxattr(dir, vfs.XattrACLDefault, acl.Encode(), 0))
		p = filepath.Join(dir, "f")
		out, err := exec.Command("sh", "-c", "umask 077; echo x > "+p).CombinedOutput()
		require.NoError(t, err, string(out))
		fi, err := os.Stat(p)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o640), fi.Mode(), "cut to the list, not to the umask")
		require.NoError(t, read(), "inherited")
	})
}

func init() {
	children["read"] = func(p string) error {
		_, err := os.ReadFile(p)
		return err
	}
}

// TestFlags has chattr and lsattr, whose requests the kernel makes smaller than their numbers say.
func TestFlags(t *testing.T) {
	each(t, func(t *testing.T, tr string) {
		m := mount(t, vfsfuse.Options{Transport: tr}, nil)
		p := filepath.Join(m.dir, "f")
		require.NoError(t, os.WriteFile(p, []byte("x"), 0o644))
		f, err := os.Open(p)
		require.NoError(t, err)
		defer f.Close()
		flags := func() int {
			n, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
			require.NoError(t, err)
			return int(n)
		}
		require.Zero(t, flags())
		require.NoError(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, int(vfs.FlagImmutable)))
		require.Equal(t, int(vfs.FlagImmutable), flags())
		require.ErrorIs(t, os.WriteFile(p, []byte("y"), 0o644), unix.EPERM)
		require.NoError(t, unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, 0))
		require.NoError(t, os.WriteFile(p, []byte("y"), 0o644))
	})
}
