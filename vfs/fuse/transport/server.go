//go:build linux

package transport

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Server serves one mount. Its methods may be called at the same time.
type Server struct {
	// immutable after Mount
	fs     fuse.RawFileSystem
	kind   Kind
	point  string
	id     mountID
	log    *slog.Logger
	gofuse *fuse.Server // Ordinary: serves; else: notifies
	conn   *conn        // nil for Ordinary

	serveOnce sync.Once
	done      chan struct{} // closed when Serve is through
}

const defaultMaxWrite = 1 << 20

// Mount mounts fs at mountpoint and answers the kernel's first request; Serve then does the rest, and nothing in the
// mount answers before. fs.Init has been called when Mount returns.
//
// Of o (nil for defaults) the mount itself uses Name (the type becomes fuse.Name), FsName (the source), Options,
// AllowOther, MaxWrite (0: 1 MiB; never above the kernel's limit) and DirectMountFlags. Options are words as of mount(8):
// ro, noatime, suid, default_permissions and the like. Root mounts by mount(2), others through fusermount3; o.DirectMount
// and o.DirectMountStrict are ignored.
//
// On an error nothing is left mounted.
func Mount(mountpoint string, fs fuse.RawFileSystem, o *fuse.MountOptions, t Options) (*Server, error) {
	s := &Server{fs: fs, log: t.Logger, done: make(chan struct{})}
	if s.log == nil {
		s.log = slog.Default()
	}
	opts := completeOptions(o, fs, s.log)

	var err error
	if s.point, err = resolveMountPoint(mountpoint); err != nil {
		return nil, err
	}
	giveBack, lent := func() error { return nil }, error(nil)
	if t.EnableRing && (t.Kind == Auto || t.Kind == Ring) {
		giveBack, lent = lendRing()
	}
	defer func() {
		if err := giveBack(); err != nil {
			s.log.Error("fuse: FUSE over io_uring stays switched on for the whole machine", "error", err)
		}
	}()
	var c *conn
	if s.kind, c, err = s.prepare(&opts, &t, lent); err != nil {
		return nil, err
	}
	spec := newMountSpec(s.point, &opts, &t)
	fd, err := spec.mount()
	if err == nil {
		if s.id, err = mountedAt(s.point); err != nil {
			s.giveUp(fd)
		}
	}
	if err != nil {
		if c != nil && c.ring != nil {
			c.ring.abandon()
		}
		return nil, err
	}
	if c == nil {
		err = s.beginOrdinary(fd, &opts)
	} else {
		err = s.beginOwn(c, fd, &opts, &t)
	}
	if err != nil {
		return nil, err
	}
	if t.ReadAheadKiB > 0 {
		// After INIT, whose answer sets the kernel's own choice.
		if err := s.id.setReadAhead(t.ReadAheadKiB, t.Block); err != nil {
			s.log.Info("fuse: readahead stays at the kernel's default", "wanted_KiB", t.ReadAheadKiB, "error", err)
		}
	}
	s.log.Debug("fuse: mounted", "at", s.point, "transport", s.kind.String())
	return s, nil
}

// completeOptions copies o and fills in what mount and go-fuse both need.
func completeOptions(o *fuse.MountOptions, fs fuse.RawFileSystem, log *slog.Logger) fuse.MountOptions {
	var opts fuse.MountOptions
	if o != nil {
		opts = *o
	}
	opts.DirectMount, opts.DirectMountStrict = false, false // go-fuse gets a mount that is made
	if opts.MaxWrite <= 0 {
		opts.MaxWrite = defaultMaxWrite
	}
	opts.MaxWrite = min(opts.MaxWrite, maxWriteLimit())
	if opts.Name == "" {
		opts.Name = strings.Map(func(r rune) rune {
			if r <= ' ' || r == ',' || r == '\\' || r > '~' {
				return '_'
			}
			return r
		}, fs.String())
	}
	if opts.Logger == nil {
		opts.Logger = slog.NewLogLogger(log.Handler(), slog.LevelWarn)
	}
	return opts
}

// withoutRing is the kind to use when it is not Ring.
func withoutRing(t *Options) Kind {
	if t.Kind != Ordinary || t.Block || t.Hooks.any() {
		return Device
	}
	return Ordinary
}

// choose decides the kind before the mount, and says in the log why it is not io_uring. lent is why the switch could not be
// turned on, if that was wanted.
func choose(t *Options, lent error, log *slog.Logger) (Kind, error) {
	own := withoutRing(t)
	switch t.Kind {
	case Ordinary, Device:
		return own, nil
	case Auto, Ring:
	default:
		return 0, fmt.Errorf("transport kind %d: %w", t.Kind, unix.EINVAL)
	}
	on, known := RingEnabled()
	why := lent
	switch {
	case on:
		return Ring, nil
	case !known:
		why = fmt.Errorf("this kernel has no FUSE over io_uring (needs Linux 6.14 with CONFIG_FUSE_IO_URING): %w", unix.ENOSYS)
	case why == nil:
		why = fmt.Errorf("FUSE over io_uring is off (as root: echo Y > %s): %w", ringSwitch, unix.EOPNOTSUPP)
	}
	if t.Kind == Ring {
		return 0, why
	}
	log.Info("fuse: using the ordinary transport", "transport", own.String(), "because", why)
	return own, nil
}

// beginOrdinary hands the device to go-fuse's server, which answers INIT and calls fs.Init.
func (s *Server) beginOrdinary(fd int, opts *fuse.MountOptions) error {
	var err error
	// The server owns fd from here on, also when it fails.
	if s.gofuse, err = fuse.NewServer(s.fs, fmt.Sprintf("/dev/fd/%d", fd), opts); err != nil {
		s.giveUp(-1)
		return fmt.Errorf("mount at %s: %w", s.point, err)
	}
	return nil
}

// prepare decides how requests are carried and makes what that needs before the mount: nothing for Ordinary.
func (s *Server) prepare(opts *fuse.MountOptions, t *Options, lent error) (Kind, *conn, error) {
	kind, err := choose(t, lent, s.log)
	if err != nil || kind == Ordinary {
		return kind, nil, err
	}
	c := newConn(t.Hooks, s.log, opts.MaxWrite)
	c.abort, c.point = s.Abort, s.point
	if kind == Device {
		return kind, c, nil
	}
	payload := ringPayload(opts.MaxWrite)
	if t.payload > 0 {
		payload = t.payload
	}
	c.ring, err = newRingServer(c, payload, t.online)
	switch {
	case err == nil:
		return kind, c, nil
	case t.Kind == Ring:
		return kind, nil, err
	}
	kind = withoutRing(t)
	s.log.Warn("fuse: using the ordinary transport", "transport", kind.String(), "because", err)
	if kind == Ordinary {
		return kind, nil, nil
	}
	return kind, c, nil
}

// beginOwn answers INIT itself and, for Ring, registers the queues. Where that fails, Auto goes on as Device and Ring
// gives up.
func (s *Server) beginOwn(c *conn, fd int, opts *fuse.MountOptions, t *Options) (err error) {
	po := *opts
	c.fd = fd
	defer func() {
		if err != nil {
			if c.ring != nil {
				c.ring.abandon() // first: unmounting waits for the ring's threads
			}
			s.giveUp(fd)
			err = fmt.Errorf("mount at %s: %w", s.point, err)
		}
	}()
	if c.ring != nil {
		po.ExtraCapabilities |= fuse.CAP_OVER_IO_URING
	}
	c.ps = fuse.NewProtocolServer(s.fs, &po)
	c.fs, c.throughGoFuse = s.fs, po.Debug || po.DisableXAttrs || po.IgnoreSecurityLabels || po.RememberInodes
	if c.onPanic = po.PanicHandler; c.onPanic == nil {
		c.onPanic = func(what any) fuse.Status {
			c.log.Error("fuse: the filesystem panicked", "with", what, "stack", string(debug.Stack()))
			return fuse.EIO
		}
	}
	raw, agreed, err := c.initialize()
	if err != nil {
		return err
	}
	if c.ring != nil {
		if err := s.register(c, agreed); err != nil {
			if t.Kind == Ring {
				return err
			}
			c.ring.abandon()
			c.ring, s.kind = nil, Device
			s.log.Warn("fuse: using the ordinary transport", "transport", s.kind.String(), "because", err)
		}
	}
	if s.gofuse, err = newNotifier(&po, raw, fd); err != nil {
		return err
	}
	s.conn = c
	s.fs.Init(s.gofuse)
	return nil
}

func (s *Server) register(c *conn, agreed bool) error {
	if !agreed {
		return fmt.Errorf("the kernel did not agree to io_uring for this mount: %w", unix.EOPNOTSUPP)
	}
	return c.ring.register()
}

// giveUp undoes the mount of a Mount that fails.
func (s *Server) giveUp(fd int) {
	if err := unmountPoint(s.point, true); err != nil {
		s.log.Error("fuse: the failed mount stays; unmount it by hand", "at", s.point, "error", err)
	}
	if fd >= 0 {
		unix.Close(fd) //nolint:errcheck // the connection ends with it
	}
}

// Serve answers requests until the mount is gone, by Unmount, by umount(8) or by an abort, and every operation has
// returned. Call it once; further calls wait for the first.
func (s *Server) Serve() {
	s.serveOnce.Do(func() {
		defer close(s.done)
		if s.conn == nil {
			s.gofuse.Serve() // calls fs.OnUnmount
			return
		}
		s.conn.serve()
		closeNotifier(s.gofuse)
		s.conn.close()
		s.fs.OnUnmount()
	})
	<-s.done
}

// Wait waits for Serve to be through.
func (s *Server) Wait() { <-s.done }

// WaitMount waits until the mount answers. Serve must have been called, or be called by somebody else.
//
// It also makes the kernel learn that the mount has no poll(2). Without that a Go program that opens a file in its own
// mount may block all its threads in the runtime's poller, where none is left to answer.
func (s *Server) WaitMount() error {
	// go-fuse knows this name by itself and gives it a file that does nothing.
	fd, err := unix.Open(s.point+"/.go-fuse-epoll-hack", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return nil // it answers; only not to us
	case err != nil:
		return fmt.Errorf("mount at %s does not answer: %w", s.point, err)
	}
	defer unix.Close(fd) //nolint:errcheck // opened for reading
	// What poll says does not matter, that it asked does.
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return nil
}

// Unmount takes the mount away and waits for Serve to be through; it serves itself if nobody does. While files in it
// are open or it is somebody's working directory the error is EBUSY, and the mount stays. After the mount has gone
// some other way it only waits.
func (s *Server) Unmount() error {
	go s.Serve() // umount(2) waits for requests that nobody would answer
	if err := s.unmount(false); err != nil {
		return err
	}
	<-s.done
	return nil
}

// Detach takes the mount out of the tree at once, though files in it may be open: those go on to be served, and Serve
// ends with the last of them. It does not wait.
func (s *Server) Detach() error { return s.unmount(true) }

func (s *Server) unmount(lazy bool) error {
	// Somebody who has just closed a file may not have given it up yet.
	const tries = 6
	pause := 2 * time.Millisecond
	for try := 1; ; try++ {
		// Ours, or what somebody else has mounted since?
		if now, err := mountedAt(s.point); err == nil && now != s.id {
			return nil
		}
		err := unmountPoint(s.point, lazy)
		if err == nil || errors.Is(err, unix.EINVAL) {
			return nil
		}
		if !errors.Is(err, unix.EBUSY) || try == tries {
			return err
		}
		time.Sleep(pause)
		pause *= 2
	}
}

// Abort cuts the connection: operations in the kernel fail with ENOTCONN or ECONNABORTED at once, and so does everything
// after. What the kernel had not yet written to us is lost. The mount stays in the tree until it is unmounted.
func (s *Server) Abort() error { return s.id.abort() }

// Kind says how requests are carried.
func (s *Server) Kind() Kind { return s.kind }

// MountPoint is the absolute path without symbolic links.
func (s *Server) MountPoint() string { return s.point }

// Notifier is how to tell the kernel of changes. It may be used until Serve returns, and then fails.
func (s *Server) Notifier() Notifier { return s.gofuse }

// KernelSettings is what the kernel said of itself at INIT.
func (s *Server) KernelSettings() *fuse.InitIn { return s.gofuse.KernelSettings() }

// Stats counts what was served.
type Stats struct {
	Device     uint64 // requests that came through /dev/fuse; 0 for Ordinary, where nobody counts
	Ring       uint64 // requests that came through io_uring
	Interrupts uint64 // of Device, those that ask to give an operation up
	Threads    int    // threads serving io_uring queues
}

// Stats may be called at any time.
func (s *Server) Stats() Stats {
	var st Stats
	if s.conn == nil {
		return st
	}
	st.Device, st.Interrupts = s.conn.fromDevice.Load(), s.conn.interrupted.Load()
	if s.conn.ring != nil {
		st.Threads, st.Ring = s.conn.ring.count()
	}
	return st
}
