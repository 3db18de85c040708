package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/cmd/internal/copytree"
	"github.com/iomapfs/iomapfs/cmd/internal/term"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/spf13/cobra"
)

func (a *app) cpCmd() *cobra.Command {
	c := &copytree.Copier{}
	var verbose bool
	var owner string
	cmd := &cobra.Command{
		Use:   "cp [-r] SRC… DST",
		Short: "Copy into images, out of them, and between them",
		Long: `cp copies files and, with -r, directories. IMAGE:/path on either side is a place in an image, everything else a path
of the host (write ./a:/b for a host path that looks like the other).

Kept are contents with their holes, permissions, owner, times, symbolic links, hard links among what is copied, devices,
extended attributes and ACLs, as far as the destination stores them. An image that is written is flushed and left clean.`,
		Example: `  iomapfs cp -r disk.img@2:/etc ./etc
  iomapfs cp notes.txt disk.img:/home/user/
  iomapfs cp -r a.img:/src b.img:/`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if owner != "" {
				var err error
				if c.Owner, c.Group, err = parseOwner(owner); err != nil {
					return err
				}
			}
			return a.cp(cmd.Context(), c, verbose, args[:len(args)-1], args[len(args)-1])
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&c.Recursive, "recursive", "r", false, "copy directories")
	f.BoolVarP(&c.NoClobber, "no-clobber", "n", false, "leave files that are there alone")
	f.BoolVar(&c.Plain, "plain", false, "contents and permissions only: no owner, times, attributes")
	f.StringVar(&owner, "owner", "", "UID:GID for everything, instead of the source's")
	f.BoolVarP(&verbose, "verbose", "v", false, "print each path")
	return a.imageFlags(cmd)
}

func parseOwner(s string) (uid, gid *uint32, err error) {
	us, gs, ok := strings.Cut(s, ":")
	u, uerr := strconv.ParseUint(us, 10, 32)
	g, gerr := strconv.ParseUint(gs, 10, 32)
	if !ok || uerr != nil || gerr != nil {
		return nil, nil, usage("--owner %s: want two numbers, UID:GID", s)
	}
	u32, g32 := uint32(u), uint32(g)
	return &u32, &g32, nil
}

// place is one side of a copy.
type place struct {
	image string // "": the host
	path  string
}

func (p place) String() string {
	if p.image == "" {
		return p.path
	}
	return p.image + ":" + p.path
}

// parsePlace tells IMAGE:/path from a host path: a host path that exists is one, then the first ":/" whose left side
// names a file is it, then the first ":/" at all. A drive letter of Windows is no image.
func parsePlace(arg string) place {
	if _, err := os.Lstat(arg); err == nil {
		return place{path: arg}
	}
	first := -1
	for i := 0; i+1 < len(arg); i++ {
		if arg[i] != ':' || arg[i+1] != '/' || i == 0 || runtime.GOOS == "windows" && i == 1 {
			continue
		}
		if first < 0 {
			first = i
		}
		file, _, _ := strings.Cut(arg[:i], "@")
		if _, err := os.Stat(file); err == nil {
			return place{arg[:i], arg[i+1:]}
		}
		if _, err := os.Stat(arg[:i]); err == nil {
			return place{arg[:i], arg[i+1:]}
		}
	}
	if first < 0 || strings.HasPrefix(arg, "./") {
		return place{path: arg}
	}
	return place{arg[:first], arg[first+1:]}
}

// session keeps the images of one copy open, each once: one that is written serves reads too.
type session struct {
	a     *app
	open  map[string]*vfs.SuperBlock
	write map[string]bool
}

func (s *session) fs(ctx context.Context, image string) (*vfs.SuperBlock, error) {
	if sb := s.open[image]; sb != nil {
		return sb, nil
	}
	sb, err := s.a.openFS(ctx, image, access{write: s.write[image]})
	if err == nil {
		s.open[image] = sb
	}
	return sb, err
}

// close writes everything back. The first error of each image is told.
func (s *session) close(ctx context.Context) error {
	var errs []error
	for image, sb := range s.open {
		if err := sb.Unmount(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: write back: %w", image, err))
		}
	}
	return errors.Join(errs...)
}

func (a *app) cp(ctx context.Context, c *copytree.Copier, verbose bool, srcs []string, dst string) (err error) {
	ctx, stop := interruptible(ctx)
	defer stop()
	to := parsePlace(dst)
	s := &session{a: a, open: map[string]*vfs.SuperBlock{}, write: map[string]bool{to.image: true}}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()

	var current atomic.Value
	current.Store("")
	c.Warn = a.warn
	c.Each = func(from string) {
		current.Store(from)
		if verbose {
			fmt.Fprintln(a.stdout, term.Printable(from))
		}
	}
	p := term.StartProgress(a.stderr, func() string {
		return fmt.Sprintf("%d files, %s  %s", c.Files.Load(), term.Size(c.Bytes.Load()), term.Printable(current.Load().(string)))
	})
	defer p.Stop()

	into, err := s.isDir(ctx, to)
	if err != nil {
		return err
	}
	if !into && (len(srcs) > 1 || strings.HasSuffix(to.path, "/")) {
		return fmt.Errorf("%s: is not a directory", to)
	}
	failed := 0
	for _, src := range srcs {
		from := parsePlace(src)
		if from.image == "" && to.image == "" {
			return usage("neither %s nor %s is in an image: cp(1) does that", src, dst)
		}
		if err := a.cpOne(ctx, s, c, from, to, into); err != nil {
			if ctx.Err() != nil || c.Failed() > failed {
				return err
			}
			a.warn(err)
			failed++
		}
	}
	if n := failed + c.Failed(); n > 0 {
		return &exitError{1, nil}
	}
	return ctx.Err()
}

// isDir reports whether the destination is a directory. One that does not exist is not.
func (s *session) isDir(ctx context.Context, p place) (bool, error) {
	if p.image == "" {
		fi, err := os.Stat(p.path)
		return err == nil && fi.IsDir(), nil
	}
	sb, err := s.fs(ctx, p.image)
	if err != nil {
		return false, err
	}
	ip, err := sb.Walk(ctx, p.path, true)
	if err != nil {
		return false, nil
	}
	defer ip.Put()
	return ip.IsDir(), nil
}

// cpOne copies one source. into says that the destination is a directory, which gets the source under its name.
func (a *app) cpOne(ctx context.Context, s *session, c *copytree.Copier, from, to place, into bool) error {
	src, base, err := s.source(ctx, from, !c.Recursive)
	if err != nil {
		return err
	}
	defer src.Close()
	if into && base != "" {
		dst, err := s.dir(ctx, to.image, to.path)
		if err != nil {
			return err
		}
		defer dst.Close()
		return c.Copy(ctx, src, from.String(), dst, base)
	}
	if into { // the contents of "/" or "x/." go into the directory itself
		return a.cpContents(ctx, s, c, src, from, to)
	}
	parent, name := splitPath(to)
	dst, err := s.dir(ctx, to.image, parent)
	if err != nil {
		return err
	}
	defer dst.Close()
	return c.Copy(ctx, src, from.String(), dst, name)
}

func (a *app) cpContents(ctx context.Context, s *session, c *copytree.Copier, src copytree.Node, from, to place) error {
	if !c.Recursive {
		return fmt.Errorf("%s: is a directory (-r copies directories)", from)
	}
	names, err := src.List(ctx)
	if err != nil {
		return err
	}
	dst, err := s.dir(ctx, to.image, to.path)
	if err != nil {
		return err
	}
	defer dst.Close()
	for _, n := range names {
		child, err := src.Child(ctx, n)
		if err != nil {
			return err
		}
		err = c.Copy(ctx, child, path.Join(from.String(), n), dst, n)
		child.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// source opens what is to be copied. base is its name, "" when its contents are meant.
func (s *session) source(ctx context.Context, p place, follow bool) (n copytree.Node, base string, err error) {
	if p.image == "" {
		base = filepath.Base(p.path)
		if base == "." || base == ".." || base == string(filepath.Separator) || strings.HasSuffix(filepath.ToSlash(p.path), "/.") {
			base = ""
		}
		n, err = copytree.HostNode(p.path, follow || strings.HasSuffix(p.path, "/"))
		return n, base, err
	}
	sb, err := s.fs(ctx, p.image)
	if err != nil {
		return nil, "", err
	}
	ip, err := walk(ctx, sb, p.path, follow || strings.HasSuffix(p.path, "/"))
	if err != nil {
		return nil, "", err
	}
	if base = path.Base(p.path); base == "/" || base == "." || base == ".." || strings.HasSuffix(p.path, "/.") {
		base = ""
	}
	return copytree.ImageNode(ip), base, nil
}

// dir opens a directory that is copied into.
func (s *session) dir(ctx context.Context, image, p string) (copytree.Dir, error) {
	if image == "" {
		return copytree.HostDir(p)
	}
	sb, err := s.fs(ctx, image)
	if err != nil {
		return nil, err
	}
	ip, err := walk(ctx, sb, p, true)
	if err != nil {
		return nil, err
	}
	if !ip.IsDir() {
		ip.Put()
		return nil, fmt.Errorf("%s:%s: is not a directory", image, p)
	}
	return copytree.ImageDir(ip), nil
}

// splitPath cuts the last name off.
func splitPath(p place) (dir, name string) {
	if p.image == "" {
		return filepath.Dir(p.path), filepath.Base(p.path)
	}
	return path.Dir(p.path), path.Base(p.path)
}
