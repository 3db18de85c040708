// Command iomapfs mounts filesystem images through FUSE, and looks into them and copies in and out without mounting.
//
// The same binary is the mount helper: called as mount.iomapfs or mount.fuse.iomapfs it reads its arguments as mount(8)
// gives them, called as umount.iomapfs or umount.fuse.iomapfs as umount(8) does.
//
// Exit status: 0 success, 1 failure, 2 wrong usage. mount and the helpers: 1 wrong usage or option, 2 system error, 32
// mount failure. probe: as blkid(8). check: 1 problems found, 8 could not check. run: the command's own, 125 when it
// could not be started on the image.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/iomapfs/iomapfs/cmd/internal/mountopt"
	"github.com/iomapfs/iomapfs/cmd/internal/term"
	"github.com/spf13/cobra"
)

// version is set by the Makefile.
var version = "development"

func main() {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(a.main(os.Args))
}

// app is one run of the command.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	quiet          bool
	fstype         string // -t
	cacheSize      string // --cache
}

// exitError carries an exit status. A nil err prints nothing.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit status %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usage is an error in how the command was called.
func usage(format string, args ...any) error {
	return &exitError{2, fmt.Errorf(format, args...)}
}

// main runs the command that args[0] stands for and gives the exit status.
func (a *app) main(args []string) int {
	name := strings.TrimSuffix(filepath.Base(args[0]), ".exe")
	var err error
	switch {
	case name == "mount.iomapfs" || name == "mount.fuse.iomapfs":
		err = a.mountHelper(name, args[1:])
	case name == "umount.iomapfs" || name == "umount.fuse.iomapfs":
		err = a.umountHelper(name, args[1:])
	default:
		name = "iomapfs"
		root := a.root()
		rest := args[1:]
		if a.isHelperCall(root, rest) {
			err = a.mountHelper(name, rest)
			break
		}
		root.SetArgs(rest)
		err = root.ExecuteContext(context.Background())
	}
	return a.finish(name, err)
}

// finish prints the one line of an error and gives the exit status.
func (a *app) finish(name string, err error) int {
	if err == nil {
		return 0
	}
	code := 1
	var e *exitError
	if errors.As(err, &e) {
		code = e.code
		if e.err == nil {
			return code
		}
	}
	fmt.Fprintf(a.stderr, "%s: %s\n", name, oneLine(err))
	return code
}

// oneLine joins the lines of an error, and keeps what a medium says from driving the terminal.
func oneLine(err error) string {
	if pe := (*os.PathError)(nil); errors.As(err, &pe) && err.Error() == pe.Error() {
		err = fmt.Errorf("%s: %w", pe.Path, pe.Err) // without the system call
	}
	return term.Printable(strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; "))
}

// warn prints a line that does not end the command.
func (a *app) warn(err error) { fmt.Fprintf(a.stderr, "iomapfs: %s\n", oneLine(err)) }

// root makes the tree of commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "iomapfs",
		Short: "Filesystem images: mount them through FUSE, look into them, copy in and out",
		Long: `iomapfs mounts filesystem images (ext2) through FUSE, read-write, and looks into them without mounting.

IMAGE is a file or block device, with a partition where it has several:
  disk.img@2   disk.img@LABEL=root   disk.img@UUID=…   disk.img@offset=1M,size=64M`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return usage("there is no command %q%s (iomapfs --help lists them)", args[0], suggestion(cmd, args[0]))
		},
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetIn(a.stdin)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage("%s: %w (%s --help)", cmd.Name(), err, cmd.CommandPath())
	})
	root.AddGroup(
		&cobra.Group{ID: "mount", Title: "Mounting:"},
		&cobra.Group{ID: "look", Title: "Looking into images (needs neither root nor FUSE, writes nothing):"},
		&cobra.Group{ID: "change", Title: "Making, changing, checking:"},
		&cobra.Group{ID: "layout", Title: "Where the bytes lie:"},
		&cobra.Group{ID: "learn", Title: "Comparing and learning:"},
	)
	root.AddCommand(a.mountCommands()...)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add("look", a.listCmd(), a.probeCmd(), a.infoCmd(), a.lsCmd(), a.treeCmd(), a.statCmd(), a.catCmd())
	add("change", a.cpCmd(), a.mkfsCmd(), a.checkCmd())
	add("layout", a.mapCmd(), a.fiemapCmd(), a.seekCmd(), a.swapCmd())
	add("learn", a.compareCmd(), a.portCmd())
	root.AddCommand(a.manCmd())
	for _, c := range root.Commands() {
		wrapArgs(c)
	}
	return root
}

// wrapArgs makes a wrong number of arguments a usage error that shows the right one.
func wrapArgs(c *cobra.Command) {
	c.DisableFlagsInUseLine = true
	if check := c.Args; check != nil {
		c.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usage("usage: %s", cmd.UseLine())
			}
			return nil
		}
	}
	for _, sub := range c.Commands() {
		wrapArgs(sub)
	}
}

func suggestion(cmd *cobra.Command, name string) string {
	var known []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			known = append(known, c.Name())
		}
	}
	if n := mountopt.Nearest(name, known); n != "" {
		return ", did you mean " + n + "?"
	}
	return ""
}

// isHelperCall recognises how mount.fuse3 runs us for "mount -t fuse.iomapfs": IMAGE MOUNTPOINT -o OPTIONS, with no verb.
func (a *app) isHelperCall(root *cobra.Command, args []string) bool {
	if len(args) < 2 || strings.HasPrefix(args[0], "-") || strings.HasPrefix(args[1], "-") {
		return false
	}
	if c, _, err := root.Find(args[:1]); err == nil && c != root {
		return false
	}
	fi, err := os.Stat(args[1])
	return filepath.IsAbs(args[1]) && (err != nil || fi.IsDir()) && (len(args) == 2 || args[2] == "-o")
}
