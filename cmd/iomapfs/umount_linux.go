package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/iomapfs/iomapfs/cmd/internal/control"
	"github.com/iomapfs/iomapfs/cmd/internal/hostmnt"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func (a *app) umountCmd() *cobra.Command {
	var wait, lazy bool
	c := &cobra.Command{
		Use:     "umount [--wait] MOUNTPOINT",
		Aliases: []string{"unmount"},
		Short:   "Unmount",
		Long: `umount takes a mount away. The server then writes back what is left and closes the image; with --wait the command
returns when that is done, and fails when it failed. A mount whose server is gone is taken away too.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.umount(args[0], wait, lazy) },
	}
	c.Flags().BoolVarP(&wait, "wait", "w", false, "return when the image is closed")
	c.Flags().BoolVarP(&lazy, "lazy", "l", false, "detach now; those who use it may go on")
	return c
}

func (a *app) umount(path string, wait, lazy bool) error {
	c, point, err := dialMount(path)
	if c != nil {
		defer c.Close()
		_ = c.Call("thaw", nil, nil) // a frozen mount could not be written back; most are not frozen, which is an error
	} else if !errors.Is(err, control.ErrGone) {
		return err
	}
	dead := hostmnt.Dead(point)
	if err := detach(point, lazy || dead); err != nil {
		if errors.Is(err, unix.EBUSY) {
			who := strings.Join(hostmnt.Holders(point, 5), ", ")
			if who == "" {
				who = "a process that you may not see, or a mount inside it"
			}
			return fmt.Errorf("%s: is in use: %s (end that, or umount --lazy)", point, who)
		}
		return err
	}
	if dead {
		a.warn(fmt.Errorf("%s: the server was gone already; check the image (iomapfs check, e2fsck -p)", point))
		return nil
	}
	if !wait || c == nil {
		return nil
	}
	if err := c.Call("wait", nil, nil); err != nil && !errors.Is(err, control.ErrGone) {
		return err
	} else if err != nil {
		return fmt.Errorf("%s: the server ended before it said that the image is closed (iomapfs log %s)", point, point)
	}
	return nil
}

// detach unmounts: itself where it may, else by fusermount3.
func detach(point string, lazy bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if lazy {
		flags |= unix.MNT_DETACH
	}
	err := unix.Unmount(point, flags)
	if err == nil || !errors.Is(err, unix.EPERM) {
		if err != nil {
			err = fmt.Errorf("%s: unmount: %w", point, err)
		}
		return err
	}
	args := []string{"-u", "--", point}
	if lazy {
		args = []string{"-u", "-z", "--", point}
	}
	helper, err := hostmnt.Fusermount()
	if err != nil {
		return fmt.Errorf("%s: unmounting without root needs fusermount3 (apt install fuse3)", point)
	}
	out, err := exec.Command(helper, args...).CombinedOutput()
	switch said := strings.TrimSpace(string(out)); {
	case err == nil:
		return nil
	case strings.Contains(said, "busy"):
		return fmt.Errorf("%s: %w", point, unix.EBUSY)
	default:
		return fmt.Errorf("%s: %s", point, said)
	}
}

// umountHelper is umount.iomapfs: {directory|device} [-flnrv] [-N ns] [-t type], as umount(8) calls external helpers. It
// waits until the image is closed, so that umount(8) does.
func (a *app) umountHelper(name string, args []string) error {
	lazy := false
	var pos []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if !strings.HasPrefix(arg, "-") {
			pos = append(pos, arg)
			continue
		}
		for _, c := range arg[1:] {
			switch c {
			case 'l':
				lazy = true
			case 'f', 'n', 'r', 'v', 'c', 'i': // force, mtab, remount read-only when busy: nothing to do for FUSE
			case 't', 'N':
				i++
			default:
				return &exitError{mountUsage, fmt.Errorf("unknown option -%c (usage: %s DIRECTORY [-flnrv])", c, name)}
			}
		}
	}
	if len(pos) != 1 {
		return &exitError{mountUsage, fmt.Errorf("%d arguments, want 1 (usage: %s DIRECTORY [-flnrv])", len(pos), name)}
	}
	if os.Getenv("PATH") == "" {
		os.Setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
	}
	if err := a.umount(pos[0], true, lazy); err != nil {
		return &exitError{mountFailed, err}
	}
	return nil
}

// remount changes between ro and rw: the kernel's side first when it becomes read-only, so that nothing is left to
// write, ours first when it becomes writable.
func (a *app) remount(r *mountRequest) error {
	c, point, err := dialMount(r.point)
	if err != nil {
		return &exitError{mountFailed, err}
	}
	defer c.Close()
	kernel := func() error {
		flags := uintptr(unix.MS_REMOUNT | unix.MS_NOSUID | unix.MS_NODEV)
		if m, err := hostmnt.At(point); err == nil && m != nil {
			flags = unix.MS_REMOUNT
			for _, o := range m.Options {
				flags |= map[string]uintptr{
					"nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC, "noatime": unix.MS_NOATIME,
					"nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME, "nosymfollow": unix.MS_NOSYMFOLLOW,
				}[o]
			}
		}
		if r.opt.ReadOnly {
			flags |= unix.MS_RDONLY
		}
		if err := unix.Mount("", point, "", flags, ""); err != nil {
			return fmt.Errorf("%s: remount: %w", point, err)
		}
		return nil
	}
	steps := []func() error{kernel, func() error { return c.Call("remount", r.opt.ReadOnly, nil) }}
	if !r.opt.ReadOnly {
		steps[0], steps[1] = steps[1], steps[0]
	}
	for _, f := range steps {
		if err := f(); err != nil {
			return &exitError{mountFailed, err}
		}
	}
	return nil
}
