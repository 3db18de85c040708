package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/iomapfs/iomapfs/cmd/internal/control"
	"github.com/iomapfs/iomapfs/cmd/internal/daemon"
	"github.com/iomapfs/iomapfs/cmd/internal/hostmnt"
	"github.com/iomapfs/iomapfs/cmd/internal/term"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
	"github.com/iomapfs/iomapfs/vfs/trace"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// mountStatus is one mount as status shows it.
type mountStatus struct {
	MountPoint string    `json:"mountpoint"`
	Image      string    `json:"image"`
	Type       string    `json:"type"`
	ReadOnly   bool      `json:"read_only"`
	Options    []string  `json:"options"`
	Paths      string    `json:"paths"`
	Transport  string    `json:"transport"`
	PID        int       `json:"pid"`
	Since      time.Time `json:"since"`
	Dirty      int64     `json:"dirty_bytes"`
	Log        string    `json:"log"`
}

// mountStats is what stats shows of one mount.
type mountStats struct {
	MountPoint string          `json:"mountpoint"`
	Cache      pagecache.Stats `json:"cache"`
	CacheLimit int64           `json:"cache_limit_bytes"`
	Inodes     int             `json:"inodes_in_memory"`
	Nodes      int             `json:"inodes_known_to_kernel"`
	Files      int             `json:"open_files"`
	FS         vfs.StatFS      `json:"filesystem"`
	RSS        int64           `json:"resident_bytes"`
	Heap       uint64          `json:"go_heap_bytes"`
	Goroutines int             `json:"goroutines"`
	UserTime   float64         `json:"cpu_user_seconds"`
	SystemTime float64         `json:"cpu_system_seconds"`
}

func (s *serving) status() mountStatus {
	st := mountStatus{
		MountPoint: s.r.point, Image: s.r.spec, Type: s.sb.Type.Name, ReadOnly: s.sb.ReadOnly(), Options: []string{}, Paths: s.sb.Paths.String(),
		Transport: s.srv.Transport(), PID: os.Getpid(), Since: s.since, Dirty: s.sb.Cache.Stats().Dirty, Log: s.r.opt.LogFile,
	}
	st.Options = append(st.Options, s.r.words...)
	if f := s.sb.Op.Options; f != nil {
		st.Options = append(st.Options, f()...)
	}
	return st
}

func (s *serving) stats() (mountStats, error) {
	st := mountStats{
		MountPoint: s.r.point, Cache: s.sb.Cache.Stats(), CacheLimit: s.sb.Cache.Limit(), Inodes: s.sb.InodeCount(), Nodes: s.srv.Nodes(),
		Files: s.srv.Files(), Goroutines: runtime.NumGoroutine(), RSS: residentBytes(),
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	st.Heap = m.HeapAlloc
	var ru unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &ru) == nil {
		st.UserTime = float64(ru.Utime.Nano()) / 1e9
		st.SystemTime = float64(ru.Stime.Nano()) / 1e9
	}
	var err error
	st.FS, err = s.sb.StatFS()
	return st, err
}

func residentBytes() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	var size, rss int64
	if err == nil {
		_, err = fmt.Sscan(string(b), &size, &rss)
	}
	if err != nil {
		return 0
	}
	return rss * int64(os.Getpagesize())
}

// logStats answers SIGUSR1.
func (s *serving) logStats() {
	st, err := s.stats()
	if err != nil {
		s.log.Error("statistics", "err", err)
	}
	b, err := json.Marshal(st)
	s.log.Info("statistics", "json", string(b), "err", err)
}

// handlers are the commands of the control socket.
func (s *serving) handlers() map[string]control.Handler {
	none := func(f func(ctx context.Context) (any, error)) control.Handler {
		return func(ctx context.Context, _ json.RawMessage) (any, error) { return f(ctx) }
	}
	return map[string]control.Handler{
		"status": none(func(context.Context) (any, error) { return s.status(), nil }),
		"stats":  none(func(context.Context) (any, error) { return s.stats() }),
		"sync":   none(func(context.Context) (any, error) { return nil, s.syncAll() }),
		"freeze": none(func(ctx context.Context) (any, error) { return nil, s.freeze(ctx) }),
		"thaw":   none(func(context.Context) (any, error) { return nil, s.thaw() }),
		"wait":   none(s.wait),
		"remount": func(ctx context.Context, args json.RawMessage) (any, error) {
			var ro bool
			if err := json.Unmarshal(args, &ro); err != nil {
				return nil, err
			}
			s.log.Info("remount", "ro", ro)
			return nil, s.sb.Remount(ctx, ro)
		},
	}
}

// wait answers when the image is closed, with what closing it said.
func (s *serving) wait(ctx context.Context) (any, error) {
	select {
	case <-s.closed:
		return "closed", s.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (s *serving) freeze(ctx context.Context) error {
	if !s.sb.ReadOnly() {
		if err := syncfs(s.r.point); err != nil {
			return err
		}
	}
	if err := s.sb.Freeze(ctx); errors.Is(err, errno.BUSY) {
		return fmt.Errorf("%s: is frozen already (iomapfs thaw ends it)", s.r.point)
	} else if err != nil {
		return fmt.Errorf("%s: freeze: %w", s.r.point, err)
	}
	s.log.Info("frozen")
	return nil
}

func (s *serving) thaw() error {
	if err := s.sb.Thaw(); err != nil {
		return fmt.Errorf("%s: is not frozen", s.r.point)
	}
	s.log.Info("thawed")
	return nil
}

// newTraceLog writes the events of the storage stack to the log, from a goroutine of its own. When it cannot keep up
// events are dropped and counted.
func newTraceLog(log *slog.Logger) trace.Sink {
	t := &traceLog{make(chan trace.Event, 1<<14)}
	go func() {
		for e := range t.c {
			log.Debug("trace", "kind", e.Kind.String(), "ino", e.Ino, "pos", e.Pos, "len", e.Len, "addr", e.Addr, "got", e.Got, "flags", e.Flags, "err", e.Err)
		}
	}()
	return t
}

type traceLog struct{ c chan trace.Event }

// Emit takes an event, or drops it when too many wait.
func (t *traceLog) Emit(e trace.Event) {
	select {
	case t.c <- e:
	default:
	}
}

// dialMount connects to the server of the mount at a path.
func dialMount(path string) (*control.Client, string, error) {
	point, err := hostmnt.Point(path)
	if err != nil {
		return nil, path, err
	}
	name := daemon.MountID(point) + ".sock"
	for _, sock := range daemon.Sockets() {
		if filepath.Base(sock) != name {
			continue
		}
		if c, err := control.Dial(sock); err == nil {
			return c, point, nil
		}
	}
	if m, err := hostmnt.At(point); err == nil && m != nil && strings.HasSuffix(m.Type, ".iomapfs") {
		return nil, point, fmt.Errorf("%s: its server does not answer here; it is gone, another user's, or in another namespace: %w", point, control.ErrGone)
	}
	return nil, point, fmt.Errorf("%s: no iomapfs is mounted there (iomapfs status lists mounts)", point)
}

// allMounts asks every server that this user may ask. Sockets of servers that are gone are removed.
func allMounts() []mountStatus {
	list := []mountStatus{}
	for _, sock := range daemon.Sockets() {
		c, err := control.Dial(sock)
		if errors.Is(err, control.ErrGone) {
			_ = os.Remove(sock) // left over; whoever may not remove it leaves it
		}
		if err != nil {
			continue
		}
		var st mountStatus
		if c.Timeout(5*time.Second) == nil && c.Call("status", nil, &st) == nil {
			list = append(list, st)
		}
		c.Close()
	}
	return list
}

func (a *app) statusCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "status [MOUNTPOINT]",
		Short: "What is mounted",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var list []mountStatus
			if len(args) == 0 {
				list = allMounts()
			} else {
				c, _, err := dialMount(args[0])
				if err != nil {
					return err
				}
				defer c.Close()
				var st mountStatus
				if err := c.Call("status", nil, &st); err != nil {
					return err
				}
				list = append(list, st)
			}
			if asJSON {
				return printJSON(a.stdout, list)
			}
			if len(list) == 0 {
				fmt.Fprintln(a.stderr, "nothing is mounted")
				return nil
			}
			var rows [][]string
			for _, st := range list {
				mode := "rw"
				if st.ReadOnly {
					mode = "ro"
				}
				rows = append(rows, []string{
					term.Printable(st.MountPoint), term.Printable(st.Image), st.Type, mode, st.Transport, fmt.Sprint(st.PID),
					time.Since(st.Since).Round(time.Second).String(), term.Size(st.Dirty),
				})
			}
			return term.Table(a.stdout, []string{"MOUNTPOINT", "IMAGE", "TYPE", "MODE", "TRANSPORT", "PID", "UP", "DIRTY"}, rows)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

func (a *app) statsCmd() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "stats MOUNTPOINT",
		Short: "Counters of a mount: cache, inodes, memory, CPU",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, _, err := dialMount(args[0])
			if err != nil {
				return err
			}
			defer c.Close()
			var st mountStats
			if err := c.Call("stats", nil, &st); err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.stdout, st)
			}
			k := st.Cache
			return term.Table(a.stdout, nil, [][]string{
				{"page cache", fmt.Sprintf("%s of %s, %s dirty, %s being written, %d folios", term.Size(k.Bytes), term.Size(st.CacheLimit), term.Size(k.Dirty), term.Size(k.Writeback), k.Folios)},
				{"hits, misses", fmt.Sprintf("%d, %d", k.Hits, k.Misses)},
				{"inodes", fmt.Sprintf("%d in memory, %d known to the kernel, %d files open", st.Inodes, st.Nodes, st.Files)},
				{"filesystem", fmt.Sprintf("%s of %s free, %d of %d inodes free", term.Size(int64(st.FS.Free)*int64(st.FS.BlockSize)), term.Size(int64(st.FS.Blocks)*int64(st.FS.BlockSize)), st.FS.FilesFree, st.FS.Files)},
				{"memory", fmt.Sprintf("%s resident, %s of Go heap, %d goroutines", term.Size(st.RSS), term.Size(int64(st.Heap)), st.Goroutines)},
				{"CPU", fmt.Sprintf("%.2f s user, %.2f s system", st.UserTime, st.SystemTime)},
			})
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

// controlCmd makes a command that sends one word to the server of a mount.
func (a *app) controlCmd(word, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: word + " MOUNTPOINT", Short: short, Long: long, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			c, _, err := dialMount(args[0])
			if err != nil {
				return err
			}
			defer c.Close()
			return c.Call(word, nil, nil)
		},
	}
}

func (a *app) freezeCmd() *cobra.Command {
	return a.controlCmd("freeze", "Write everything back and hold all changes",
		`freeze makes the image a consistent whole, to be copied while it is mounted: everything is written back, and whoever
wants to change something waits until thaw. (fsfreeze(8) does not reach FUSE.)`)
}

func (a *app) thawCmd() *cobra.Command {
	return a.controlCmd("thaw", "End freeze", "thaw lets those go on who waited since freeze.")
}

func (a *app) syncCmd() *cobra.Command {
	return a.controlCmd("sync", "Write everything back", "sync writes the kernel's cache of the mount and that of iomapfs back, and makes it durable.")
}

func (a *app) logCmd() *cobra.Command {
	var path bool
	c := &cobra.Command{
		Use:   "log [MOUNTPOINT]",
		Short: "Log of the last background mount",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			file, err := logOf(args)
			if err != nil {
				return err
			}
			if path {
				fmt.Fprintln(a.stdout, file)
				return nil
			}
			b, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			_, err = a.stdout.Write(b)
			return err
		},
	}
	c.Flags().BoolVar(&path, "path", false, "print where it is")
	return c
}

// logOf finds the log of a mount point, or the newest of all.
func logOf(args []string) (string, error) {
	if len(args) == 1 {
		if c, _, err := dialMount(args[0]); err == nil {
			defer c.Close()
			var st mountStatus
			if err := c.Call("status", nil, &st); err == nil && st.Log != "" {
				return st.Log, nil
			}
		}
		point, err := hostmnt.Point(args[0])
		if err != nil {
			return "", err
		}
		file, err := daemon.LogFile(point)
		if err != nil {
			return "", err
		}
		if _, err := os.Stat(file); err != nil {
			return "", fmt.Errorf("%s: no log of a mount there (%w)", point, err)
		}
		return file, nil
	}
	dir, err := daemon.StateDir()
	if err != nil {
		return "", err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return "", err
	}
	newest, at := "", time.Time{}
	for _, f := range files {
		if fi, err := os.Stat(f); err == nil && fi.ModTime().After(at) {
			newest, at = f, fi.ModTime()
		}
	}
	if newest == "" {
		return "", fmt.Errorf("%s: no log yet", dir)
	}
	return newest, nil
}

func (a *app) doctorCmd() *cobra.Command {
	var asJSON, allowOther bool
	c := &cobra.Command{
		Use:   "doctor [IMAGE] [MOUNTPOINT]",
		Short: "What keeps you from mounting",
		Long:  "doctor looks at the kernel, /dev/fuse, fusermount3, /etc/fuse.conf, and at IMAGE and MOUNTPOINT when given.\nExit status 1 when something would make a mount fail.",
		Args:  cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			point := ""
			if n := len(args); n > 0 {
				if fi, err := os.Stat(args[n-1]); n == 2 || hostmnt.Dead(args[n-1]) || err == nil && fi.IsDir() {
					point, args = args[n-1], args[:n-1]
				}
			}
			list := hostmnt.Doctor(point, allowOther)
			if len(args) > 0 {
				list = append(list, a.doctorImage(cmd.Context(), args[0]))
			}
			bad := false
			var rows [][]string
			for _, f := range list {
				bad = bad || f.State == "bad"
				text := f.Text
				if f.Do != "" {
					text += " → " + f.Do
				}
				rows = append(rows, []string{f.State, f.What, text})
			}
			var err error
			if asJSON {
				err = printJSON(a.stdout, list)
			} else {
				err = term.Table(a.stdout, nil, rows)
			}
			if err == nil && bad {
				err = &exitError{1, nil}
			}
			return err
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	c.Flags().BoolVar(&allowOther, "allow-other", false, "mounting with allow_other is what you want")
	return a.imageFlags(c)
}

// doctorImage looks at an image.
func (a *app) doctorImage(ctx context.Context, spec string) hostmnt.Finding {
	sb, err := a.openFS(ctx, spec, access{})
	if err != nil {
		return hostmnt.Finding{What: spec, State: "bad", Text: oneLine(err), Do: "iomapfs list and iomapfs probe show what is in it"}
	}
	text := "holds " + sb.Type.Name
	if err := sb.Unmount(ctx); err != nil {
		return hostmnt.Finding{What: spec, State: "bad", Text: oneLine(err)}
	}
	dev, err := openDevice(ctx, spec, access{write: true})
	if err != nil {
		return hostmnt.Finding{What: spec, State: "note", Text: text + ", readable only: " + oneLine(err), Do: "mount it with -o ro"}
	}
	if err := dev.Close(); err != nil {
		return hostmnt.Finding{What: spec, State: "bad", Text: oneLine(err)}
	}
	return hostmnt.Finding{What: spec, State: "ok", Text: text + ", readable and writable"}
}
