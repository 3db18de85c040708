package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/iomapfs/iomapfs/cmd/internal/daemon"
	"github.com/iomapfs/iomapfs/cmd/internal/hostmnt"
	"github.com/iomapfs/iomapfs/cmd/internal/mountopt"
	"github.com/iomapfs/iomapfs/cmd/internal/term"
	"github.com/iomapfs/iomapfs/fs/all"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/spf13/cobra"
)

// Exit status of mount(8): bits, of which a helper uses these.
const (
	mountUsage  = 1  // wrong invocation, unknown option, no permission
	mountSystem = 2  // out of memory, cannot fork …
	mountFailed = 32 // the mount did not happen
)

// serveVerb is how a background mount runs this program again.
const serveVerb = "serve-mount"

// mountRequest is what a caller wants mounted, however he said it.
type mountRequest struct {
	spec, point string
	words       []string // of -o
	fstype      string
	foreground  bool
	fake        bool // check everything, mount nothing
	sloppy      bool // ignore unknown options
	verbose     bool

	opt *mountopt.Options // words, parsed
}

func (a *app) mountCommands() []*cobra.Command {
	cmds := []*cobra.Command{
		a.mountCmd(), a.umountCmd(), a.runCmd(), a.statusCmd(), a.statsCmd(), a.logCmd(), a.doctorCmd(),
		a.freezeCmd(), a.thawCmd(), a.syncCmd(),
	}
	for _, c := range cmds {
		c.GroupID = "mount"
	}
	return append(cmds, a.serveCmd(), a.runInsideCmd())
}

func (a *app) mountCmd() *cobra.Command {
	r := &mountRequest{}
	var opts []string
	c := &cobra.Command{
		Use:   "mount [-f] [-o OPTIONS] IMAGE MOUNTPOINT",
		Short: "Mount an image through FUSE",
		Long: "mount makes the files of an image appear at a directory. It returns when the mount answers; the server goes on in\n" +
			"the background, and its log is shown by iomapfs log. umount MOUNTPOINT, or SIGTERM, writes everything back and ends it.\n\n" +
			"Options (-o, separated by commas; a double quote or a backslash protects a comma):\n" + optionHelp(),
		Example: `  iomapfs mount disk.img /mnt
  iomapfs mount -o ro,uid=1000 disk.img@2 ~/mnt
  iomapfs umount --wait /mnt`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.spec, r.point, r.fstype = args[0], args[1], a.fstype
			for _, o := range opts {
				w, err := mountopt.Split(o)
				if err != nil {
					return &exitError{mountUsage, err}
				}
				r.words = append(r.words, w...)
			}
			if a.cacheSize != "" {
				r.words = append(r.words, "cache="+a.cacheSize)
			}
			return a.mount(cmd.Context(), r)
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&opts, "options", "o", nil, "mount options")
	f.BoolVarP(&r.foreground, "foreground", "f", false, "stay in the foreground; log to stderr")
	f.BoolVarP(&r.sloppy, "sloppy", "s", false, "ignore unknown options")
	f.BoolVar(&r.fake, "fake", false, "check image and options, mount nothing")
	f.BoolVarP(&r.verbose, "verbose", "v", false, "say what was mounted")
	return a.imageFlags(c)
}

// optionHelp lists the words of iomapfs, then those of each filesystem.
func optionHelp() string {
	var b strings.Builder
	rows := [][]string{}
	for _, h := range mountopt.Help() {
		rows = append(rows, []string{"  " + h[0], h[1]})
	}
	_ = term.Table(&b, nil, rows) // a Builder takes everything
	for _, t := range all.Types() {
		rows = nil
		for _, h := range t.Help {
			rows = append(rows, []string{"  " + h.Word, h.Text})
		}
		if len(rows) > 0 {
			fmt.Fprintf(&b, "\nOptions of %s:\n", t.Name)
			_ = term.Table(&b, nil, rows)
		}
	}
	return b.String()
}

// mount does what r asks for. Errors carry the exit status of mount(8).
func (a *app) mount(ctx context.Context, r *mountRequest) error {
	if err := a.prepare(r); err != nil {
		return err
	}
	switch {
	case r.opt.Remount:
		return a.remount(r)
	case r.fake:
		return a.fakeMount(ctx, r)
	}
	if err := hostmnt.CheckPoint(r.point); err != nil {
		return &exitError{mountFailed, err}
	}
	point, err := hostmnt.Point(r.point)
	if err != nil {
		return &exitError{mountFailed, err}
	}
	r.point = point
	if r.foreground {
		return a.serve(ctx, r, nil)
	}
	log := r.opt.LogFile
	if log == "" {
		if log, err = daemon.LogFile(point); err != nil {
			return &exitError{mountSystem, fmt.Errorf("log: %w (-o log=FILE puts it elsewhere)", err)}
		}
		if err := daemon.RotateLog(log); err != nil {
			return &exitError{mountSystem, err}
		}
	}
	rep, err := daemon.Start(r.args(log), log)
	if err != nil {
		return &exitError{mountSystem, err}
	}
	for _, w := range rep.Warn {
		a.warn(errors.New(w))
	}
	if rep.Error != "" {
		return &exitError{rep.Code, errors.New(rep.Error)}
	}
	if r.verbose {
		fmt.Fprintf(a.stdout, "%s mounted on %s\n", r.spec, r.point)
	}
	return nil
}

// args are the arguments with which a background server is started: everything absolute, as it runs in /.
func (r *mountRequest) args(log string) []string {
	args := []string{serveVerb, "--log", log, "-o", mountopt.Join(r.words)}
	if r.fstype != "" {
		args = append(args, "-t", r.fstype)
	}
	if r.sloppy {
		args = append(args, "-s")
	}
	return append(args, "--", r.spec, r.point)
}

// prepare reads the options and makes paths absolute.
func (a *app) prepare(r *mountRequest) error {
	opt, err := mountopt.Parse(r.words)
	if err != nil {
		return &exitError{mountUsage, err}
	}
	r.opt = opt
	if r.fstype == "" {
		r.fstype = opt.FSType
	}
	if r.fstype != "" {
		if _, err := all.Find(r.fstype); err != nil {
			return &exitError{mountUsage, err}
		}
	}
	for _, w := range opt.Paths {
		if _, err := new(vfs.Paths).Set(w); err != nil {
			return &exitError{mountUsage, fmt.Errorf("option %w", err)}
		}
	}
	// What no filesystem knows is refused before anything is opened; what this one does not know, once it is probed.
	if !r.sloppy {
		var known []string
		for _, t := range all.Types() {
			known = append(known, helpWords(t)...)
		}
		if err := mountopt.Unknown(opt.Words, known); err != nil {
			return &exitError{mountUsage, err}
		}
	}
	if opt.AllowOther && !hostmnt.AllowOtherPermitted() {
		return &exitError{mountUsage, errors.New("allow_other: only root may give it, unless /etc/fuse.conf has a line user_allow_other")}
	}
	if opt.Offset != 0 || opt.SizeLimit != 0 {
		if strings.Contains(filepath.Base(r.spec), "@") {
			return &exitError{mountUsage, fmt.Errorf("%s: offset= and sizelimit= go with a whole image; @offset=…,size=… says the same", r.spec)}
		}
		r.spec += fmt.Sprintf("@offset=%d", opt.Offset)
		if opt.SizeLimit != 0 {
			r.spec += fmt.Sprintf(",size=%d", opt.SizeLimit)
		}
	}
	if r.spec, err = absSpec(r.spec); err != nil {
		return &exitError{mountFailed, err}
	}
	if opt.LogFile != "" {
		if opt.LogFile, err = filepath.Abs(opt.LogFile); err != nil {
			return &exitError{mountSystem, err}
		}
	}
	return nil
}

// fakeMount checks that a mount would find its filesystem.
func (a *app) fakeMount(ctx context.Context, r *mountRequest) error {
	fi, err := os.Stat(r.point)
	if err == nil && !fi.IsDir() {
		err = fmt.Errorf("%s: is not a directory", r.point)
	}
	if err != nil {
		return &exitError{mountFailed, err}
	}
	dev, err := openDevice(ctx, r.spec, access{})
	if err != nil {
		return &exitError{mountFailed, err}
	}
	k, err := all.Which(dev, r.fstype)
	if err == nil {
		err = r.checkWords(k)
	}
	return failMount(errors.Join(err, dev.Close()))
}

// failMount gives an error the status of a failed mount, unless it has one.
func failMount(err error) error {
	var e *exitError
	if err == nil || errors.As(err, &e) {
		return err
	}
	if errors.Is(err, errno.NOMEM) {
		return &exitError{mountSystem, err}
	}
	return &exitError{mountFailed, err}
}

// mountHelper is mount.iomapfs: spec dir [-sfnv] [-N ns] [-o options] [-t type.subtype], in any order, as mount(8) calls
// external helpers. -f here means fake, not foreground.
func (a *app) mountHelper(name string, args []string) error {
	r := &mountRequest{}
	usage := func(format string, v ...any) error {
		return &exitError{mountUsage, fmt.Errorf(format+" (usage: "+name+" IMAGE MOUNTPOINT [-sfnv] [-o OPTIONS] [-t TYPE])", v...)}
	}
	var pos []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if arg == "" || arg == "-" || arg[0] != '-' || strings.HasPrefix(arg, "--") {
			if strings.HasPrefix(arg, "--") && arg != "--" {
				return usage("option %s: not one of mount's", arg)
			}
			if arg != "--" {
				pos = append(pos, arg)
			}
			continue
		}
		for j := 1; j < len(arg); j++ {
			switch c := arg[j]; c {
			case 's':
				r.sloppy = true
			case 'f':
				r.fake = true
			case 'v':
				r.verbose = true
			case 'n', 'i', 'c': // no mtab, no helper's helper, no canonical paths: nothing to do
			case 'r':
				r.words = append(r.words, "ro")
			case 'w':
				r.words = append(r.words, "rw")
			case 'o', 't', 'N':
				val := arg[j+1:]
				if val == "" {
					if i++; i == len(args) {
						return usage("-%c needs a value", c)
					}
					val = args[i]
				}
				if err := r.helperValue(c, val); err != nil {
					return usage("%s", err)
				}
				j = len(arg)
			default:
				return usage("unknown option -%c", c)
			}
		}
	}
	if len(pos) != 2 {
		return usage("%d arguments, want 2", len(pos))
	}
	r.spec, r.point = pos[0], pos[1]
	if os.Getenv("PATH") == "" { // systemd's mount units
		os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
	}
	return a.mount(context.Background(), r)
}

func (r *mountRequest) helperValue(c byte, val string) error {
	switch c {
	case 'o':
		w, err := mountopt.Split(val)
		r.words = append(r.words, w...)
		return err
	case 't':
		// fuse.iomapfs, iomapfs, or iomapfs.ext2
		for _, p := range []string{"fuse.", "fuseblk.", "iomapfs"} {
			val = strings.TrimPrefix(val, p)
		}
		r.fstype = strings.TrimPrefix(val, ".")
		return nil
	}
	return fmt.Errorf("-N %s: mount in that namespace with nsenter --mount=%s instead", val, val)
}
