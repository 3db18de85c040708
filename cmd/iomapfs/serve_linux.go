package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/iomapfs/iomapfs/cmd/internal/control"
	"github.com/iomapfs/iomapfs/cmd/internal/daemon"
	"github.com/iomapfs/iomapfs/cmd/internal/hostmnt"
	"github.com/iomapfs/iomapfs/cmd/internal/mountopt"
	"github.com/iomapfs/iomapfs/fs/all"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
	vfsfuse "github.com/iomapfs/iomapfs/vfs/fuse"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// serving is a mount that this process serves.
type serving struct {
	r     *mountRequest
	sb    *vfs.SuperBlock
	srv   *vfsfuse.Server
	log   *slog.Logger
	level *slog.LevelVar
	since time.Time

	// closed ends when the image is closed; err is what closing it said, set before.
	closed chan struct{}
	err    error
}

// serveCmd is the background half of mount. Its arguments are mountRequest.args.
func (a *app) serveCmd() *cobra.Command {
	r := &mountRequest{}
	var log, opts string
	c := &cobra.Command{
		Use: serveVerb, Hidden: true, Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			parent := daemon.Parent()
			r.spec, r.point = args[0], args[1]
			err := func() (err error) {
				if err := daemon.OpenLog(log); err != nil {
					return err
				}
				if r.words, err = mountopt.Split(opts); err != nil {
					return err
				}
				if r.opt, err = mountopt.Parse(r.words); err != nil {
					return err
				}
				r.opt.LogFile = log
				if err := os.Chdir("/"); err != nil { // keep no other mount busy
					return err
				}
				return a.serve(cmd.Context(), r, parent)
			}()
			if err != nil {
				code := mountFailed
				var e *exitError
				if errors.As(err, &e) {
					code = e.code
				}
				// After the mount came up nobody listens any more, and the log has it from our caller.
				_ = parent.Report(daemon.Report{Error: oneLine(err), Code: code})
			}
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&log, "log", "", "")
	f.StringVarP(&opts, "options", "o", "", "")
	f.StringVarP(&r.fstype, "type", "t", "", "")
	f.BoolVarP(&r.sloppy, "sloppy", "s", false, "")
	return c
}

// serve mounts and serves until the mount is gone and the image is closed.
func (a *app) serve(ctx context.Context, r *mountRequest, parent *daemon.Child) error {
	// Threads that serve the ring each want a processor of the scheduler while they work; measured with 16 callers.
	runtime.GOMAXPROCS(runtime.NumCPU() + 2)
	rareCollections()
	s := &serving{r: r, since: time.Now(), closed: make(chan struct{}), level: new(slog.LevelVar)}
	if r.opt.Debug || r.opt.Trace {
		s.level.Set(slog.LevelDebug)
	}
	early := &collector{}
	s.log = slog.New(early.wrap(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: s.level})))
	// Signals that come while mounting wait for the mount to be up, so that it is taken down in order.
	sigs := make(chan os.Signal, 8)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1)
	defer signal.Stop(sigs)

	if err := s.open(ctx); err != nil {
		return failMount(err)
	}
	if err := s.start(); err != nil {
		return failMount(errors.Join(err, s.sb.Unmount(ctx)))
	}
	ctl, err := s.listen()
	if err != nil {
		s.log.Warn("no control socket: status, freeze and umount --wait will not find this mount", "err", err)
	}
	s.log.Info("mounted", "image", r.spec, "at", r.point, "type", s.sb.Type.Name, "ro", s.sb.ReadOnly(), "transport", s.srv.Transport())
	if err := parent.Report(daemon.Report{Warn: early.take()}); err != nil {
		s.log.Warn("whoever mounted this is gone", "err", err)
	}
	s.notify("READY=1", "STATUS=serving "+r.spec+" at "+r.point, fmt.Sprintf("MAINPID=%d", os.Getpid()))

	gone := make(chan struct{})
	go func() { s.srv.Wait(); close(gone) }()
	s.handleSignals(sigs, gone)
	s.err = s.closeImage(ctx)
	close(s.closed)
	if ctl != nil {
		ctl.Shutdown(2 * time.Second)
	}
	return s.err
}

// open opens the image and mounts what it holds inside this process.
func (s *serving) open(ctx context.Context) error {
	r, o := s.r, s.r.opt
	m := access{write: !o.ReadOnly, direct: o.DirectIO}
	dev, err := openDevice(ctx, r.spec, m)
	if e := errno.From(err); err != nil && m.write && !slices.Contains(r.words, "rw") && (e == errno.ACCES || e == errno.ROFS || e == errno.PERM) {
		// As mount(8) does with a write-protected medium.
		m.write = false
		var rerr error
		if dev, rerr = openDevice(ctx, r.spec, m); rerr == nil {
			s.log.Warn(fmt.Sprintf("%s may not be written, so it is mounted read-only", r.spec))
			err = nil
		}
	}
	if err != nil {
		return err
	}
	if s.sb, err = s.mountDevice(ctx, dev, m); err != nil {
		return errors.Join(err, dev.Close())
	}
	return nil
}

func (s *serving) mountDevice(ctx context.Context, dev block.Device, m access) (*vfs.SuperBlock, error) {
	o := s.r.opt
	k, err := all.Which(dev, s.r.fstype)
	if err != nil {
		return nil, err
	}
	if err := s.r.checkWords(k); err != nil {
		return nil, err
	}
	mo := &vfs.MountOptions{
		ReadOnly: !m.write, Words: o.Words, CacheBytes: o.Cache, NoAtime: o.NoAtime, NoDirAtime: o.NoDirAtime,
		StrictAtime: o.StrictAtime, DirSync: o.DirSync, Log: s.log, MountPoint: s.r.point,
	}
	if s.r.sloppy {
		mo.Words = slices.DeleteFunc(slices.Clone(o.Words), func(w string) bool { return mountopt.Unknown([]string{w}, helpWords(k.Type)) != nil })
	}
	mo.Words = append(mo.Words, o.Paths...) // which paths there are is the filesystem's to say
	if o.Trace {
		mo.Trace = newTraceLog(s.log)
	}
	return k.Type.Mount(ctx, dev, mo)
}

// checkWords refuses options that the filesystem does not know.
func (r *mountRequest) checkWords(k *all.Kind) error {
	if r.sloppy {
		return nil
	}
	if err := mountopt.Unknown(r.opt.Words, helpWords(k.Type)); err != nil {
		return &exitError{mountUsage, fmt.Errorf("%s: %w", k.Type.Name, err)}
	}
	return nil
}

// helpWords are the mount words of a filesystem: "errors=continue|remount-ro" counts once, "acl, noacl" twice.
func helpWords(t *vfs.FileSystem) []string {
	var list []string
	for _, h := range t.Help {
		list = append(list, strings.FieldsFunc(h.Word, func(r rune) bool { return r == ',' || r == ' ' })...)
	}
	return list
}

// start mounts at the directory. On error nothing is mounted.
func (s *serving) start() (err error) {
	o := s.r.opt
	vo := vfsfuse.Options{
		AllowOther: o.AllowOther, ReadOnly: s.sb.ReadOnly(), FsName: o.FSName, Subtype: o.Subtype, MaxWrite: o.MaxWrite, ReadaheadKiB: o.Readahead,
		NoWritebackCache: o.NoWriteback, Transport: o.Transport, Squash: squash(o), Debug: o.Debug, Log: s.log,
		KernelOptions: slices.DeleteFunc(slices.Clone(o.Kernel), func(w string) bool { return w == "ro" || w == "rw" }),
	}
	if vo.FsName == "" {
		vo.FsName = s.r.spec
	}
	for _, t := range []struct {
		from *time.Duration
		to   *time.Duration
	}{{o.EntryTTL, &vo.EntryTimeout}, {o.AttrTTL, &vo.AttrTimeout}} {
		if t.from != nil {
			if *t.to = *t.from; *t.to == 0 {
				*t.to = -1 // not at all
			}
		}
	}
	s.srv, err = vfsfuse.Serve(s.sb, s.r.point, vo)
	return err
}

// squash decides whose the files appear to be: for a mounter who is not root his own, unless he says otherwise.
func squash(o *mountopt.Options) *vfsfuse.Squash {
	q := &vfsfuse.Squash{UID: o.UID, GID: o.GID}
	if os.Getuid() != 0 && !o.Preserve || inUserNamespace() && !o.Preserve {
		uid, gid := uint32(os.Getuid()), uint32(os.Getgid())
		if q.UID == nil {
			q.UID = &uid
		}
		if q.GID == nil {
			q.GID = &gid
		}
	}
	for _, m := range []struct{ all, one, to *uint32 }{{o.Umask, o.Fmask, &q.FileMask}, {o.Umask, o.Dmask, &q.DirMask}} {
		switch {
		case m.one != nil:
			*m.to = *m.one
		case m.all != nil:
			*m.to = *m.all
		}
	}
	if *q == (vfsfuse.Squash{}) {
		return nil
	}
	return q
}

// inUserNamespace reports whether our root is somebody else outside.
func inUserNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(b)), " ") != "0 0 4294967295"
}

// handleSignals waits until the mount is gone.
//
//	SIGINT, SIGTERM   first: unmount. In use: write everything back, say who uses it, go on serving.
//	                  second: detach; serve those who still use it until the last is gone.
//	                  third: cut them off. What has reached us is written back.
//	SIGHUP            open the log anew        SIGUSR1   statistics to the log
func (s *serving) handleSignals(sigs <-chan os.Signal, gone <-chan struct{}) {
	asked := 0
	for {
		select {
		case <-gone:
			return
		case sig := <-sigs:
			switch sig {
			case syscall.SIGHUP:
				if s.r.opt.LogFile != "" {
					if err := daemon.OpenLog(s.r.opt.LogFile); err != nil {
						s.log.Error("open the log anew", "err", err)
					}
				}
			case syscall.SIGUSR1:
				s.logStats()
			default:
				asked++
				s.stop(sig, asked)
			}
		}
	}
}

// stop takes the mount down, more firmly each time it is asked.
func (s *serving) stop(sig os.Signal, asked int) {
	s.log.Info("unmounting", "signal", sig.String(), "asked", asked)
	s.notify("STOPPING=1", "STATUS=unmounting", "EXTEND_TIMEOUT_USEC=60000000")
	_ = s.sb.Thaw() // a frozen filesystem could not be written back; errno.INVAL says that it was not frozen
	if asked > 1 {
		err := s.srv.Unmount(context.Background(), true)
		if asked > 2 {
			err = s.srv.Abort()
		}
		if err != nil {
			s.log.Error("unmount", "err", err)
		}
		return
	}
	err := s.srv.Unmount(context.Background(), false)
	if err == nil {
		return
	}
	who := strings.Join(hostmnt.Holders(s.r.point, 5), ", ")
	if who == "" {
		who = "somebody whose processes we may not see"
	}
	// Serving goes on, so this runs beside it: writing the kernel's cache back sends requests to us.
	go func() {
		state := "everything is written back"
		if err := s.syncAll(); err != nil {
			state = "writing back: " + err.Error()
		}
		s.log.Warn(fmt.Sprintf("%s is in use (%s): %v; %s; still serving; another signal detaches it", s.r.point, who, err, state))
		s.notify("STATUS=in use by " + who)
	}()
}

// syncAll writes back the kernel's cache of this mount, then ours.
func (s *serving) syncAll() error {
	if err := syncfs(s.r.point); err != nil {
		return err
	}
	return s.sb.Sync(context.Background())
}

func syncfs(point string) error {
	fd, err := unix.Open(point, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", point, err)
	}
	defer unix.Close(fd) //nolint:errcheck // only read
	if err := unix.Syncfs(fd); err != nil {
		return fmt.Errorf("%s: syncfs: %w", point, err)
	}
	return nil
}

// closeImage writes everything back and closes the image.
func (s *serving) closeImage(ctx context.Context) error {
	s.notify("STOPPING=1", "STATUS=writing back", "EXTEND_TIMEOUT_USEC=600000000")
	_ = s.sb.Thaw() // as in stop
	began := time.Now()
	if err := s.sb.Unmount(context.WithoutCancel(ctx)); err != nil {
		err = fmt.Errorf("%s: write back at unmount: %w (check the image before using it again)", s.r.spec, err)
		s.log.Error(err.Error())
		return err
	}
	s.log.Info("image closed", "image", s.r.spec, "took", time.Since(began).Round(time.Millisecond).String())
	return nil
}

// notify tells systemd; that it is not listening is worth a line only.
func (s *serving) notify(lines ...string) {
	if err := daemon.Notify(lines...); err != nil {
		s.log.Warn("notify systemd", "err", err)
	}
}

// listen opens the control socket.
func (s *serving) listen() (*control.Server, error) {
	dir, err := daemon.RuntimeDir()
	if err != nil {
		return nil, err
	}
	return control.Listen(filepath.Join(dir, daemon.MountID(s.r.point)+".sock"), s.handlers())
}

// collector keeps warnings of the time before the mount is up, for the terminal of whoever mounts.
type collector struct {
	mu    sync.Mutex // guards the rest; leaf
	lines []string
	over  bool
}

func (c *collector) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	return c.lines
}

func (c *collector) wrap(h slog.Handler) slog.Handler { return &collecting{h, c} }

type collecting struct {
	slog.Handler
	c *collector
}

// Handle keeps warnings and passes everything on.
func (h *collecting) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		line := r.Message
		r.Attrs(func(at slog.Attr) bool { line += fmt.Sprintf(" %s=%v", at.Key, at.Value); return true })
		h.c.mu.Lock()
		if !h.c.over {
			h.c.lines = append(h.c.lines, line)
		}
		h.c.mu.Unlock()
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps collecting.
func (h *collecting) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &collecting{h.Handler.WithAttrs(attrs), h.c}
}

// WithGroup keeps collecting.
func (h *collecting) WithGroup(name string) slog.Handler {
	return &collecting{h.Handler.WithGroup(name), h.c}
}
