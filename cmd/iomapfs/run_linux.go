package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/iomapfs/iomapfs/cmd/internal/hostmnt"
	"github.com/iomapfs/iomapfs/cmd/internal/mountopt"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// Exit status of run when the command did not decide it, as env(1) and timeout(1) have them.
const (
	runFailed   = 125
	runNoExec   = 126
	runNotFound = 127
)

const runVerb = "run-inside"

// Environment of the command.
const runMountEnv = "IOMAPFS_MOUNT"

func (a *app) runCmd() *cobra.Command {
	var opts []string
	c := &cobra.Command{
		Use:   "run [-o OPTIONS] IMAGE -- COMMAND [ARG…]",
		Short: "Run a command inside an image, mounted for it alone",
		Long: `run mounts an image in a mount namespace of its own, runs COMMAND in its top directory, and unmounts. Nobody else sees
the mount. Without root it uses a user namespace, in which the command believes to be root; neither fusermount3 nor
any privilege is needed, but /dev/fuse must be accessible. The directory is in $IOMAPFS_MOUNT.

Exit status: that of the command; 125 when the image could not be mounted or written back, 126 and 127 when the command
could not be run.`,
		Example: "  iomapfs run disk.img -- ls -l\n  iomapfs run -o ro disk.img@2 -- tar cf - . > backup.tar",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.run(opts, args)
		},
	}
	c.Flags().StringArrayVarP(&opts, "options", "o", nil, "mount options")
	c.Flags().SetInterspersed(true)
	return a.imageFlags(c)
}

// run starts this program again in new namespaces.
func (a *app) run(opts, args []string) error {
	r := &mountRequest{spec: args[0], fstype: a.fstype}
	for _, o := range opts {
		w, err := mountopt.Split(o)
		if err != nil {
			return &exitError{mountUsage, err}
		}
		r.words = append(r.words, w...)
	}
	if err := a.prepare(r); err != nil {
		return err
	}
	exe, err := os.Executable()
	if err != nil {
		return &exitError{runFailed, err}
	}
	inside := []string{runVerb, "-o", mountopt.Join(r.words)}
	if r.fstype != "" {
		inside = append(inside, "-t", r.fstype)
	}
	if a.quiet {
		inside = append(inside, "-q")
	}
	cmd := exec.Command(exe, append(append(inside, "--", r.spec), args[1:]...)...)
	cmd.Args[0] = "iomapfs"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stdout, a.stderr
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	cmd.SysProcAttr = attr
	// A terminal sends SIGINT to all of us: the command decides. SIGTERM comes to us alone and is passed on.
	sigs := make(chan os.Signal, 4)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(sigs)
	if err := cmd.Start(); err != nil {
		return &exitError{runFailed, fmt.Errorf("namespaces: %w (iomapfs doctor tells whether you may have them)", err)}
	}
	go func() {
		for s := range sigs {
			if s == syscall.SIGTERM || s == syscall.SIGHUP {
				_ = cmd.Process.Signal(s) // gone already: Wait tells
			}
		}
	}()
	err = cmd.Wait()
	var ee *exec.ExitError
	if errors.As(err, &ee) {
		return &exitError{exitStatus(ee.ProcessState), nil}
	}
	if err != nil {
		return &exitError{runFailed, err}
	}
	return nil
}

// exitStatus is what a shell would say: 128 and the signal for a command that was killed.
func exitStatus(ps *os.ProcessState) int {
	if ws, ok := ps.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ps.ExitCode()
}

// runInsideCmd is the half of run that lives in the namespaces.
func (a *app) runInsideCmd() *cobra.Command {
	r := &mountRequest{}
	var opts string
	c := &cobra.Command{
		Use: runVerb, Hidden: true, Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.spec = args[0]
			r.fstype = a.fstype
			var err error
			if r.words, err = mountopt.Split(opts); err == nil {
				r.opt, err = mountopt.Parse(r.words)
			}
			if err != nil {
				return &exitError{mountUsage, err}
			}
			code, err := a.runInside(cmd.Context(), r, args[1:])
			if code == 0 && err == nil {
				return nil
			}
			return &exitError{code, err}
		},
	}
	c.Flags().StringVarP(&opts, "options", "o", "", "")
	c.Flags().SetInterspersed(false)
	return a.imageFlags(c)
}

func (a *app) runInside(ctx context.Context, r *mountRequest, command []string) (code int, err error) {
	// What we mount is not to appear outside.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return runFailed, fmt.Errorf("private mount namespace: %w", err)
	}
	if r.point, err = os.MkdirTemp("", "iomapfs-run-"); err != nil {
		return runFailed, err
	}
	defer func() { err = errors.Join(err, os.Remove(r.point)) }()
	s := &serving{r: r, since: time.Now(), closed: make(chan struct{}), level: new(slog.LevelVar), log: a.logger(slog.LevelWarn)}
	if r.opt.Debug || r.opt.Trace {
		s.log = a.logger(slog.LevelDebug)
	}
	sigs := make(chan os.Signal, 4)
	signal.Notify(sigs, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP)
	if err := s.open(ctx); err != nil {
		return runFailed, err
	}
	if err := s.start(); err != nil {
		return runFailed, errors.Join(err, s.sb.Unmount(ctx))
	}
	code, err = a.runCommand(r.point, command, sigs)
	if uerr := a.runUnmount(ctx, s); uerr != nil {
		return runFailed, errors.Join(err, uerr)
	}
	return code, err
}

func (a *app) runCommand(point string, command []string, sigs <-chan os.Signal) (int, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = point
	cmd.Env = append(os.Environ(), runMountEnv+"="+point, "PWD="+point)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = a.stdin, a.stdout, a.stderr
	if cmd.Err != nil {
		return runNotFound, fmt.Errorf("%s: command not found", command[0])
	}
	if err := cmd.Start(); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return runNotFound, fmt.Errorf("%s: command not found", command[0])
		}
		return runNoExec, err
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case s := <-sigs:
				if s == syscall.SIGTERM || s == syscall.SIGHUP {
					_ = cmd.Process.Signal(s) // gone already: Wait tells
				}
			case <-done:
				return
			}
		}
	}()
	err := cmd.Wait()
	var ee *exec.ExitError
	switch {
	case errors.As(err, &ee):
		return exitStatus(ee.ProcessState), nil
	case err != nil:
		return runFailed, err
	}
	return 0, nil
}

// runUnmount ends the mount. Processes that the command left behind keep it for a while, and lose it then.
func (a *app) runUnmount(ctx context.Context, s *serving) error {
	var err error
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if err = s.srv.Unmount(ctx, false); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		a.warn(fmt.Errorf("still in use after the command ended: %s; cut off", strings.Join(hostmnt.Holders(s.r.point, 5), ", ")))
		err = errors.Join(s.srv.Unmount(ctx, true), s.srv.Abort())
	}
	s.srv.Wait()
	return errors.Join(err, s.closeImage(ctx))
}
