//go:build linux

package transport_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/iomapfs/iomapfs/vfs/fuse/transport"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// blockedCalls starts n calls of fsync(2), each on a thread of its own, which block in the filesystem.
type blockedCalls struct {
	tids []int
	errs chan error
	fds  []int
}

func block(t *testing.T, m *mounted, n int) *blockedCalls {
	t.Helper()
	b := &blockedCalls{errs: make(chan error, n)}
	tids := make(chan int, n)
	for i := range n {
		fd, err := unix.Open(filepath.Join(m.dir, fmt.Sprintf("block%d", i)), unix.O_CREAT|unix.O_RDWR, 0o644)
		require.NoError(t, err)
		b.fds = append(b.fds, fd)
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			tids <- unix.Gettid()
			b.errs <- unix.Fsync(fd)
		}()
		b.tids = append(b.tids, <-tids)
	}
	eventually(t, "all calls to block", func() bool { return m.fs.inside.Load() == int32(n) })
	return b
}

// collect waits for the calls to end.
func (b *blockedCalls) collect(t *testing.T) []error {
	t.Helper()
	var errs []error
	for range b.fds {
		select {
		case err := <-b.errs:
			errs = append(errs, err)
		case <-time.After(10 * time.Second):
			t.Fatalf("%d of %d calls ended", len(errs), len(b.fds))
		}
	}
	return errs
}

func (b *blockedCalls) close(t *testing.T) {
	t.Helper()
	for _, fd := range b.fds {
		if err := unix.Close(fd); err != nil && err != unix.ENOTCONN && err != unix.ECONNABORTED {
			t.Errorf("close: %v", err)
		}
	}
}

func TestInterrupt(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		m := mount(t, kind, newMemFS())
		b := block(t, m, 3)
		for i := range 3 {
			// The runtime takes this signal on any thread and thinks nothing of it.
			require.NoError(t, unix.Tgkill(os.Getpid(), b.tids[i], unix.SIGURG))
			select {
			case err := <-b.errs:
				require.ErrorIs(t, err, unix.EINTR)
			case <-time.After(5 * time.Second):
				t.Fatal("an interrupted call did not end")
			}
			eventually(t, "one call less", func() bool { return m.fs.inside.Load() == int32(2-i) })
			require.EqualValues(t, i+1, m.fs.cancels.Load())
		}
		b.close(t)
	})
}

// TestInterruptAtOnce sends signals just when calls begin, so that some interrupts overtake their requests.
func TestInterruptAtOnce(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		m := mount(t, kind, newMemFS())
		fd, err := unix.Open(filepath.Join(m.dir, "f"), unix.O_CREAT|unix.O_RDWR, 0o644)
		require.NoError(t, err)
		lost := 0
		for i := range 200 {
			tid, done := make(chan int, 1), make(chan error, 1)
			go func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				tid <- unix.Gettid()
				done <- unix.Fsync(fd)
			}()
			id := <-tid
			for spin := 0; spin < i*37%2000; spin++ {
				runtime.KeepAlive(spin)
			}
			before := m.Stats().Interrupts
			var got error
			ended := false
			for try := 0; try < 20 && !ended; try++ {
				// A signal before the call began is lost, so there is another one after a while.
				require.NoError(t, unix.Tgkill(os.Getpid(), id, unix.SIGURG))
				select {
				case got = <-done:
					ended = true
				case <-time.After(20 * time.Millisecond):
				}
			}
			if ended {
				require.ErrorIs(t, got, unix.EINTR)
				continue
			}
			require.Equal(t, transport.Ring, kind, "an interrupted call did not end")
			require.Equal(t, before, m.Stats().Interrupts, "the interrupt came and had no effect")
			lost++ // in the kernel
			m.fs.letGo()
			require.NoError(t, <-done)
		}
		t.Logf("lost in the kernel: %d of 200", lost)
		require.Less(t, lost, 20)
		require.NoError(t, unix.Close(fd))
	})
}

// TestManyBlocked blocks more calls than a queue has threads; everything else must go on.
func TestManyBlocked(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		m := mount(t, kind, newMemFS())
		const n = 40
		b := block(t, m, n)
		within(t, 10*time.Second, "other work", func() {
			for i := range 200 {
				name := filepath.Join(m.dir, fmt.Sprintf("other%d", i))
				if err := os.WriteFile(name, []byte("x"), 0o644); err != nil {
					t.Error(err)
				}
			}
		})
		if kind == transport.Ring {
			require.GreaterOrEqual(t, m.Stats().Threads, n)
		}
		m.fs.letGo()
		for _, err := range b.collect(t) {
			require.NoError(t, err)
		}
		b.close(t)
	})
}

func TestAbort(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		m := mount(t, kind, newMemFS())
		b := block(t, m, 5)
		require.NoError(t, m.Abort())
		for _, err := range b.collect(t) {
			require.Error(t, err)
			require.NotErrorIs(t, err, unix.EINTR)
		}
		b.close(t)
		within(t, 10*time.Second, "Serve to end", m.Wait)
		require.EqualValues(t, 5, m.fs.cancels.Load(), "every operation was cancelled")
		_, err := os.Stat(m.dir + "/x")
		require.ErrorIs(t, err, unix.ENOTCONN)
		require.NotNil(t, mountLine(t, m.dir), "the mount stays")
		require.NoError(t, m.Unmount())
		require.Nil(t, mountLine(t, m.dir))
	})
}

// TestDetach is umount -l: what is open goes on.
func TestDetach(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		m := mount(t, kind, newMemFS())
		f, err := os.Create(filepath.Join(m.dir, "f"))
		require.NoError(t, err)
		b := block(t, m, 2)
		require.NoError(t, m.Detach())
		require.Nil(t, mountLine(t, m.dir))
		_, err = f.WriteString("still served")
		require.NoError(t, err)
		m.fs.letGo()
		b.collect(t)
		b.close(t)
		require.Zero(t, m.fs.unmount.Load())
		require.NoError(t, f.Close())
		within(t, 10*time.Second, "Serve to end", m.Wait)
	})
}

// TestDetachUnderLoad takes the mount away while it is hammered.
func TestDetachUnderLoad(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		m := mount(t, kind, newMemFS())
		var g errgroup.Group
		var once sync.Once
		gone := make(chan struct{})
		for w := range 8 {
			g.Go(func() error {
				for i := 0; ; i++ {
					select {
					case <-gone:
						return nil
					default:
					}
					// With the mount gone these happen in the empty folder under it.
					name := filepath.Join(m.dir, fmt.Sprintf("w%d", w))
					_ = os.WriteFile(name, make([]byte, 5000), 0o644) //nolint:errcheck // may fail halfway
					_, _ = os.ReadDir(m.dir)                          //nolint:errcheck // as above
					_ = os.Remove(name)                               //nolint:errcheck // as above
					if i == 100 {
						once.Do(func() {
							if err := m.Detach(); err != nil {
								t.Error(err)
							}
							close(gone)
						})
					}
				}
			})
		}
		require.NoError(t, g.Wait())
		within(t, 20*time.Second, "Serve to end", m.Wait)
	})
}

// TestAbortUnderLoad cuts the connection while it is hammered.
func TestAbortUnderLoad(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		m := mount(t, kind, newMemFS())
		var g errgroup.Group
		for w := range 8 {
			g.Go(func() error {
				for i := 0; i < 1e6; i++ {
					name := filepath.Join(m.dir, fmt.Sprintf("w%d", w))
					if os.WriteFile(name, make([]byte, 50000), 0o644) != nil {
						return nil
					}
					if os.Remove(name) != nil {
						return nil
					}
				}
				return fmt.Errorf("never failed")
			})
		}
		time.Sleep(100 * time.Millisecond)
		require.NoError(t, m.Abort())
		within(t, 20*time.Second, "callers to fail", func() { require.NoError(t, g.Wait()) })
		within(t, 20*time.Second, "Serve to end", m.Wait)
	})
}

// TestDeadServer kills a daemon: callers get an error at once, a new mount at the place says what to do.
func TestDeadServer(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		c := startChild(t, kind)
		f, err := os.OpenFile(filepath.Join(c.dir, "file"), os.O_RDWR, 0)
		require.NoError(t, err)
		blocked := make(chan error, 1)
		go func() { blocked <- unix.Fsync(int(f.Fd())) }()
		time.Sleep(50 * time.Millisecond)
		require.NoError(t, c.cmd.Process.Kill())
		_ = c.cmd.Wait() //nolint:errcheck // killed
		select {
		case err := <-blocked:
			require.Error(t, err)
		case <-time.After(10 * time.Second):
			t.Fatal("a call outlives the daemon")
		}
		_, err = os.Stat(filepath.Join(c.dir, "other"))
		require.ErrorIs(t, err, unix.ENOTCONN)
		_, err = transport.Mount(c.dir, newMemFS(), nil, transport.Options{Kind: kind})
		require.ErrorIs(t, err, unix.ENOTCONN)
		require.ErrorContains(t, err, "umount -l")
		_ = f.Close() //nolint:errcheck // ENOTCONN
		require.NoError(t, unix.Unmount(c.dir, 0))
	})
}

func TestDaemonEndsWithUnmount(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		c := startChild(t, kind)
		_, err := os.ReadDir(c.dir)
		require.NoError(t, err)
		c.stop(t)
	})
}

// TestServeLate has requests come before anybody serves.
func TestServeLate(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		fs := newMemFS()
		fs.add("f", []byte("early"))
		srv, err := transport.Mount(t.TempDir(), fs, nil, transport.Options{Kind: kind})
		require.NoError(t, err)
		var g errgroup.Group
		for range 10 {
			g.Go(func() error {
				var st unix.Stat_t
				return unix.Stat(srv.MountPoint()+"/f", &st)
			})
		}
		time.Sleep(20 * time.Millisecond)
		go srv.Serve()
		within(t, 10*time.Second, "early requests", func() { require.NoError(t, g.Wait()) })
		require.NoError(t, srv.WaitMount())
		require.NoError(t, srv.Unmount())
	})
}

// TestRegistrationFails has the kernel refuse the ring after INIT: Auto goes on over /dev/fuse, Ring gives up.
func TestRegistrationFails(t *testing.T) {
	needRing(t)
	dir := t.TempDir()
	o := transport.Options{Kind: transport.Ring}
	transport.SetPayload(&o, 8192)
	_, err := transport.Mount(dir, newMemFS(), nil, o)
	require.ErrorIs(t, err, unix.EINVAL)
	require.Nil(t, mountLine(t, dir))

	m := mount(t, transport.Device, newMemFS(), func(_ *fuse.MountOptions, o *transport.Options) {
		o.Kind = transport.Auto
		transport.SetPayload(o, 8192)
	})
	require.Contains(t, m.log.String(), "using the ordinary transport")
	for i := range 50 {
		name := filepath.Join(m.dir, fmt.Sprint(i))
		require.NoError(t, os.WriteFile(name, []byte("works"), 0o644))
		b, err := os.ReadFile(name)
		require.NoError(t, err)
		require.Equal(t, "works", string(b))
	}
	require.Zero(t, m.Stats().Ring)
}

// TestSwitchOff has Auto say why it does without io_uring. It touches the whole machine's switch for a moment.
func TestSwitchOff(t *testing.T) {
	needRing(t)
	require.NoError(t, transport.EnableRing(false))
	defer func() { require.NoError(t, transport.EnableRing(true)) }()
	_, err := transport.Mount(t.TempDir(), newMemFS(), nil, transport.Options{Kind: transport.Ring})
	require.ErrorIs(t, err, unix.EOPNOTSUPP)
	require.ErrorContains(t, err, "echo Y >")
	m := mount(t, transport.Device, newMemFS(), func(_ *fuse.MountOptions, o *transport.Options) { o.Kind = transport.Auto })
	require.Contains(t, m.log.String(), "FUSE over io_uring is off")
	on, _ := transport.RingEnabled()
	require.False(t, on, "without the option the switch is left alone")
}

// TestSwitchLent has mounts turn the switch on for themselves: they are served by io_uring, get more threads when they need
// them, and leave the switch as it was.
func TestSwitchLent(t *testing.T) {
	needRing(t)
	require.NoError(t, transport.EnableRing(false))
	defer func() { require.NoError(t, transport.EnableRing(true)) }()
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			srv, err := transport.Mount(t.TempDir(), newMemFS(), nil, transport.Options{EnableRing: true})
			if !assert.NoError(t, err) {
				return
			}
			go srv.Serve()
			assert.NoError(t, srv.WaitMount())
			assert.Equal(t, transport.Ring, srv.Kind())
			assert.NoError(t, srv.Unmount())
		})
	}
	all.Wait()
	m := mount(t, transport.Ring, newMemFS(), func(_ *fuse.MountOptions, o *transport.Options) { o.Kind, o.EnableRing = transport.Auto, true })
	on, _ := transport.RingEnabled()
	require.False(t, on, "the switch is as it was")
	before := m.Stats().Threads
	b := block(t, m, 20)
	require.NoError(t, os.WriteFile(filepath.Join(m.dir, "x"), []byte("x"), 0o644))
	require.Greater(t, m.Stats().Threads, before)
	m.fs.letGo()
	b.collect(t)
	b.close(t)
	require.Positive(t, m.Stats().Ring)
}

// TestHelper mounts and unmounts through fusermount3.
func TestHelper(t *testing.T) {
	each(t, func(t *testing.T, kind transport.Kind) {
		transport.MountByHelper(true)
		defer transport.MountByHelper(false)
		m := mount(t, kind, newMemFS(), func(o *fuse.MountOptions, _ *transport.Options) {
			o.Name, o.FsName = "iomapfs", `a,b\c`
			o.Options = []string{"default_permissions", "noatime"}
		})
		line := mountLine(t, m.dir)
		require.Equal(t, "fuse.iomapfs", line[2])
		require.Equal(t, `a,b\134c`, line[0])
		f, err := os.Create(filepath.Join(m.dir, "f"))
		require.NoError(t, err)
		require.ErrorIs(t, m.Unmount(), unix.EBUSY)
		require.NoError(t, f.Close())
		require.NoError(t, m.Unmount())
	})
}

// TestAbsentCPU has a CPU come online after the mount.
func TestAbsentCPU(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("SKIPPED: ONE CPU ONLY")
	}
	needRing(t)
	m := mount(t, transport.Ring, newMemFS(), func(_ *fuse.MountOptions, o *transport.Options) { transport.SetOnline(o, 0) })
	const begins = 5 // four threads for CPU 0, and the keeper
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good
		var set unix.CPUSet
		set.Set(1)
		err := unix.SchedSetaffinity(0, &set)
		for i := 0; i < 1000 && err == nil; i++ {
			var st unix.Stat_t
			if e := unix.Stat(fmt.Sprintf("%s/%d", m.dir, i), &st); e != unix.ENOENT {
				err = fmt.Errorf("stat: %w", e)
			}
		}
		done <- err
	}()
	require.NoError(t, <-done)
	eventually(t, "threads for the new CPU", func() bool { return m.Stats().Threads > begins })
	b := block(t, m, 20)
	require.NoError(t, os.WriteFile(filepath.Join(m.dir, "x"), []byte("x"), 0o644))
	m.fs.letGo()
	b.collect(t)
	b.close(t)
}

func TestParseCPUList(t *testing.T) {
	for s, want := range map[string][]int{"0": {0}, "0-3": {0, 1, 2, 3}, "0-1,4,6-7": {0, 1, 4, 6, 7}} {
		got, err := transport.ParseCPUList(s)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, s := range []string{"", "x", "3-1", "-1", "0-", "0-99999999", "1,,2"} {
		_, err := transport.ParseCPUList(s)
		require.Error(t, err, s)
	}
}
