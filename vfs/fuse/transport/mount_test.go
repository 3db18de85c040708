//go:build linux

package transport_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/iomapfs/iomapfs/vfs/fuse/transport"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

func seed(t testing.TB) *rand.Rand {
	s := rand.Uint64()
	t.Logf("seed %d", s)
	return rand.New(rand.NewPCG(s, s))
}

func noise(r *rand.Rand, n int) []byte {
	b := make([]byte, n+8)
	for i := 0; i < n; i += 8 {
		binary.NativeEndian.PutUint64(b[i:], r.Uint64())
	}
	return b[:n]
}

func TestFilesAndFolders(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		m := mount(t, kind, newMemFS())
		r := seed(t)
		want := map[string][]byte{}
		for i := range 100 {
			name := fmt.Sprintf("file%03d", i)
			want[name] = noise(r, r.IntN(20000))
			require.NoError(t, os.WriteFile(filepath.Join(m.dir, name), want[name], 0o644))
		}
		require.NoError(t, os.Mkdir(filepath.Join(m.dir, "folder"), 0o755))
		require.NoError(t, os.Symlink("folder/x", filepath.Join(m.dir, "link")))
		target, err := os.Readlink(filepath.Join(m.dir, "link"))
		require.NoError(t, err)
		require.Equal(t, "folder/x", target)
		require.NoError(t, os.Rename(filepath.Join(m.dir, "file000"), filepath.Join(m.dir, "folder", "moved")))

		list, err := os.ReadDir(m.dir)
		require.NoError(t, err)
		require.Len(t, list, 101)
		for _, e := range list {
			info, err := e.Info()
			require.NoError(t, err)
			if b, ok := want[e.Name()]; ok {
				require.EqualValues(t, len(b), info.Size(), e.Name())
			}
		}
		for name, b := range want {
			if name == "file000" {
				name = "folder/moved"
			}
			got, err := os.ReadFile(filepath.Join(m.dir, name))
			require.NoError(t, err)
			require.True(t, bytes.Equal(b, got), name)
			require.NoError(t, os.Remove(filepath.Join(m.dir, name)))
		}
		_, err = os.Stat(filepath.Join(m.dir, "file001"))
		require.ErrorIs(t, err, os.ErrNotExist)
		require.ErrorIs(t, unix.Rmdir(filepath.Join(m.dir, "link")), unix.ENOTDIR)
		require.NoError(t, os.Remove(filepath.Join(m.dir, "folder")))
		if kind == transport.Ring {
			require.Greater(t, m.Stats().Ring, uint64(500), "requests through io_uring")
		}
	})
}

// TestBigTransfers reads and writes 1 MiB in one request, byte exact, also at odd sizes and places.
func TestBigTransfers(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		fs := newMemFS()
		fs.direct = true
		m := mount(t, kind, fs)
		r := seed(t)
		const size = 4 << 20
		model := make([]byte, size)
		f, err := os.OpenFile(filepath.Join(m.dir, "f"), os.O_CREATE|os.O_RDWR, 0o644)
		require.NoError(t, err)
		_, err = f.WriteAt(model, 0)
		require.NoError(t, err)
		for i := range 30 {
			n := 1 << 20
			if i%3 > 0 {
				n = 1 + r.IntN(1<<20)
			}
			at := r.IntN(size - n + 1)
			b := noise(r, n)
			got, err := f.WriteAt(b, int64(at))
			require.NoError(t, err)
			require.Equal(t, n, got)
			copy(model[at:], b)

			n = 1 + r.IntN(1<<20)
			at = r.IntN(size - n + 1)
			got, err = f.ReadAt(b[:min(n, len(b))], int64(at))
			require.NoError(t, err)
			require.True(t, bytes.Equal(model[at:at+got], b[:got]), "read of %d at %d", got, at)
		}
		require.NoError(t, f.Close())
		all, err := os.ReadFile(filepath.Join(m.dir, "f"))
		require.NoError(t, err)
		require.True(t, bytes.Equal(model, all))
		fs.mu.Lock()
		defer fs.mu.Unlock()
		require.True(t, bytes.Equal(model, fs.nodes[1].kids["f"].data))
	})
}

// TestManyAtOnce does everything at the same time, from more callers than there are threads.
func TestManyAtOnce(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		m := mount(t, kind, newMemFS())
		base := seed(t).Uint64()
		var g errgroup.Group
		for w := range 24 {
			g.Go(func() error {
				r := rand.New(rand.NewPCG(base, uint64(w)))
				for i := range 30 {
					name := filepath.Join(m.dir, fmt.Sprintf("w%d-%d", w, i%7))
					b := noise(r, 1+r.IntN(30000))
					if err := os.WriteFile(name, b, 0o600); err != nil {
						return err
					}
					got, err := os.ReadFile(name)
					if err != nil {
						return err
					}
					if !bytes.Equal(b, got) {
						return fmt.Errorf("%s: %d bytes written, %d other ones read", name, len(b), len(got))
					}
					if _, err := os.ReadDir(m.dir); err != nil {
						return err
					}
					if err := os.Remove(name); err != nil {
						return err
					}
				}
				return nil
			})
		}
		require.NoError(t, g.Wait())
		list, err := os.ReadDir(m.dir)
		require.NoError(t, err)
		require.Empty(t, list)
		// What was removed is forgotten, which comes through /dev/fuse whatever the transport.
		eventually(t, "forgets", func() bool { return m.fs.forgets.Load() == 24*30 })
	})
}

// TestIoctl has input and output of one request in one memory on the ring.
func TestIoctl(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		m := mount(t, kind, newMemFS())
		f, err := os.Create(filepath.Join(m.dir, "f"))
		require.NoError(t, err)
		defer f.Close() //nolint:errcheck // of a test
		const n = 64
		arg := make([]byte, n)
		for i := range arg {
			arg[i] = byte(i)
		}
		res, err := ioctlBytes(int(f.Fd()), 3<<30|n<<16|'f'<<8|200, arg)
		require.NoError(t, err)
		require.Equal(t, 7, res)
		for i := range arg {
			require.Equal(t, byte(n-1-i)^0xff, arg[i])
		}
	})
}

func TestMountTable(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		m := mount(t, kind, newMemFS(), func(o *fuse.MountOptions, _ *transport.Options) {
			o.Name, o.FsName = "iomapfs", "/tmp/an image,with\\odd name"
			o.AllowOther = true
			o.EnableAcl = true
			o.Options = []string{"default_permissions", "ro", "noexec", "suid", "noatime"}
		})
		line := mountLine(t, m.dir)
		require.Equal(t, "fuse.iomapfs", line[2])
		require.Equal(t, `/tmp/an\040image,with\134odd\040name`, line[0])
		for _, w := range []string{"ro", "noexec", "nodev", "noatime", "default_permissions", "allow_other", "max_read=1048576"} {
			require.Contains(t, ","+line[3]+",", ","+w+",")
		}
		require.NotContains(t, line[3], "nosuid")
		require.ErrorIs(t, os.WriteFile(filepath.Join(m.dir, "x"), nil, 0o644), unix.EROFS)
		require.NotZero(t, m.KernelSettings().Major)
	})
}

func TestReadAhead(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		m := mount(t, kind, newMemFS(), func(_ *fuse.MountOptions, o *transport.Options) { o.ReadAheadKiB = 1024 })
		var st unix.Stat_t
		require.NoError(t, unix.Stat(m.dir, &st))
		b, err := os.ReadFile(fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev)))
		require.NoError(t, err)
		require.Equal(t, "1024\n", string(b))
	})
}

// TestNotifications changes a file behind the kernel's back, and tells it.
func TestNotifications(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		fs := newMemFS()
		n := fs.add("f", []byte("before"))
		m := mount(t, kind, fs)
		name := filepath.Join(m.dir, "f")
		read := func() string {
			b, err := os.ReadFile(name)
			require.NoError(t, err)
			return string(b)
		}
		require.Equal(t, "before", read())
		fs.mu.Lock()
		copy(n.data, "behind")
		fs.mu.Unlock()
		require.Equal(t, "before", read(), "the kernel's cache, as the timeouts are an hour")
		require.Equal(t, fuse.OK, m.Notifier().InodeNotify(n.ino, 0, 0))
		require.Equal(t, "behind", read())

		// The server that Init was given works as well.
		fs.mu.Lock()
		copy(n.data, "AFTER!")
		fs.mu.Unlock()
		require.NotNil(t, fs.server)
		require.Equal(t, fuse.OK, fs.server.InodeNotify(n.ino, 0, 0))
		require.Equal(t, "AFTER!", read())

		require.Equal(t, fuse.OK, m.Notifier().InodeNotifyStoreCache(n.ino, 0, []byte("stored")))
		require.Equal(t, "stored", read())

		// A name.
		fs.mu.Lock()
		delete(fs.nodes[1].kids, "f")
		fs.mu.Unlock()
		_, err := os.Stat(name)
		require.NoError(t, err, "the kernel's cache")
		require.Equal(t, fuse.OK, m.Notifier().EntryNotify(1, "f"))
		_, err = os.Stat(name)
		require.ErrorIs(t, err, os.ErrNotExist)
		require.Equal(t, fuse.ENOENT, m.Notifier().EntryNotify(1, "never there"))
		require.Equal(t, fuse.ENOENT, m.Notifier().InodeNotify(1<<40, 0, 0))
	})
}

func TestNotifyAfterUnmount(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		m := mount(t, kind, newMemFS())
		require.NoError(t, m.Unmount())
		require.NotEqual(t, fuse.OK, m.Notifier().InodeNotify(1, 0, 0))
	})
}

func TestUnmountOfBusyMount(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		m := mount(t, kind, newMemFS())
		f, err := os.Create(filepath.Join(m.dir, "f"))
		require.NoError(t, err)
		require.ErrorIs(t, m.Unmount(), unix.EBUSY)
		_, err = f.WriteString("still served")
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.NoError(t, m.Unmount())
		require.NoError(t, m.Unmount(), "once more")
		require.Nil(t, mountLine(t, m.dir))
	})
}

func TestUnmountWithoutServe(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		fs := newMemFS()
		srv, err := transport.Mount(t.TempDir(), fs, nil, transport.Options{Kind: kind})
		require.NoError(t, err)
		// A request that nobody answers yet.
		var wg sync.WaitGroup
		wg.Go(func() {
			var st unix.Stat_t
			_ = unix.Stat(srv.MountPoint()+"/x", &st) //nolint:errcheck // whatever comes
		})
		time.Sleep(20 * time.Millisecond)
		within(t, 10*time.Second, "unmount", func() {
			for srv.Unmount() != nil { // busy while the other looks
				time.Sleep(time.Millisecond)
			}
		})
		wg.Wait()
		require.EqualValues(t, 1, fs.unmount.Load())
	})
}

// TestForeignUnmount is umount(8) by somebody else, and another mount at the same place since.
func TestForeignUnmount(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		m := mount(t, kind, newMemFS())
		require.NoError(t, unix.Unmount(m.dir, 0))
		within(t, 10*time.Second, "Serve to end", m.Wait)
		require.NoError(t, unix.Mount("tmpfs", m.dir, "tmpfs", 0, ""))
		require.NoError(t, m.Unmount())
		require.Equal(t, "tmpfs", mountLine(t, m.dir)[2], "not ours to unmount")
		require.NoError(t, unix.Unmount(m.dir, 0))
	})
}

func TestMountErrors(t *testing.T) {
	needFUSE(t)
	fs := newMemFS()
	_, err := transport.Mount(filepath.Join(t.TempDir(), "absent"), fs, nil, transport.Options{})
	require.ErrorIs(t, err, os.ErrNotExist)
	dir := t.TempDir()
	for _, kind := range []transport.Kind{transport.Ordinary, transport.Auto} {
		_, err = transport.Mount(dir, fs, &fuse.MountOptions{Options: []string{"no_such_option"}}, transport.Options{Kind: kind})
		require.ErrorIs(t, err, unix.EINVAL)
		require.ErrorContains(t, err, "no_such_option")
	}
	_, err = transport.Mount(dir, fs, &fuse.MountOptions{FsName: "/etc/passwd"}, transport.Options{Block: true})
	require.ErrorIs(t, err, unix.ENOTBLK)
	require.Nil(t, mountLine(t, dir))
	require.Zero(t, fs.inits.Load())
	_, err = transport.Mount(dir, fs, nil, transport.Options{Kind: 77})
	require.ErrorIs(t, err, unix.EINVAL)
}
