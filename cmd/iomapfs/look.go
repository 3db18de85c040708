package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/iomapfs/iomapfs/cmd/internal/term"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/spf13/cobra"
)

// entry is a file as ls, stat and tree show it.
type entry struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Mode    string `json:"mode"` // octal permission bits
	Ino     uint64 `json:"ino"`
	Links   uint32 `json:"links"`
	UID     uint32 `json:"uid"`
	GID     uint32 `json:"gid"`
	Size    int64  `json:"size"`
	Blocks  int64  `json:"blocks"` // of 512 bytes
	Target  string `json:"target,omitempty"`
	Device  string `json:"device,omitempty"` // major:minor
	Access  string `json:"access"`
	Modify  string `json:"modify"`
	Change  string `json:"change"`
	Birth   string `json:"birth,omitempty"`
	mode    uint32
	mtime   vfs.Time
	Entries []entry `json:"entries,omitempty"` // tree
}

var typeNames = map[uint32]string{
	vfs.ModeSocket: "socket", vfs.ModeSymlink: "symlink", vfs.ModeRegular: "file",
	vfs.ModeBlock: "block device", vfs.ModeDir: "directory", vfs.ModeChar: "character device", vfs.ModeFIFO: "fifo",
}

func typeName(mode uint32) string {
	if n, ok := typeNames[mode&vfs.ModeType]; ok {
		return n
	}
	return "unknown"
}

func newEntry(ctx context.Context, name string, ip *vfs.Inode) (entry, error) {
	st := ip.Stat()
	e := entry{
		Name: name, Type: typeName(st.Mode), Mode: fmt.Sprintf("%04o", st.Mode&vfs.ModePerm), Ino: st.Ino, Links: st.Nlink,
		UID: st.UID, GID: st.GID, Size: st.Size, Blocks: st.Blocks, Access: when(st.Atime), Modify: when(st.Mtime), Change: when(st.Ctime),
		mode: st.Mode, mtime: st.Mtime,
	}
	if st.HasBtime {
		e.Birth = when(st.Btime)
	}
	switch st.Mode & vfs.ModeType {
	case vfs.ModeSymlink:
		t, err := ip.Readlink(ctx)
		if err != nil {
			return e, err
		}
		e.Target = t
	case vfs.ModeBlock, vfs.ModeChar:
		e.Device = fmt.Sprintf("%d:%d", st.Rdev.Major, st.Rdev.Minor)
	}
	return e, nil
}

// when writes a time with all its digits, in UTC: an image has no zone.
func when(t vfs.Time) string { return t.Std().Format("2006-01-02T15:04:05.999999999Z") }

// long is the line of ls -l.
func (e *entry) long() []string {
	size := fmt.Sprint(e.Size)
	if e.Device != "" {
		size = strings.Replace(e.Device, ":", ", ", 1)
	}
	name := term.Printable(e.Name)
	if e.Target != "" {
		name += " -> " + term.Printable(e.Target)
	}
	return []string{
		term.Mode(e.mode), fmt.Sprint(e.Links), fmt.Sprint(e.UID), fmt.Sprint(e.GID), size,
		e.mtime.Std().In(time.Local).Format("2006-01-02 15:04"), name,
	}
}

// readDir lists a directory by name, without "." and "..". What cannot be read of one entry goes to bad.
func readDir(ctx context.Context, dir *vfs.Inode, bad func(error)) ([]entry, error) {
	f, err := dir.Open(ctx, vfs.ORdonly)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var names []string
	err = f.ReadDir(ctx, 0, func(d *vfs.DirEntry) bool {
		if d.Name != "." && d.Name != ".." {
			names = append(names, strings.Clone(d.Name))
		}
		return true
	})
	slices.Sort(names)
	var list []entry
	for _, n := range names {
		ip, err := dir.Lookup(ctx, n)
		if err == nil {
			var e entry
			e, err = newEntry(ctx, n, ip)
			ip.Put()
			list = append(list, e)
		}
		if err != nil {
			bad(fmt.Errorf("%s: %w", n, err))
		}
	}
	return list, err
}

func (a *app) lsCmd() *cobra.Command {
	var long, dirItself, inode, asJSON bool
	c := &cobra.Command{
		Use:     "ls [-l] IMAGE [PATH…]",
		Short:   "List files of an image",
		Args:    cobra.MinimumNArgs(1),
		Example: "  iomapfs ls -l disk.img@2 /etc",
		RunE: func(cmd *cobra.Command, args []string) error {
			paths := args[1:]
			if len(paths) == 0 {
				paths = []string{"/"}
			}
			return a.withFS(cmd.Context(), args[0], func(ctx context.Context, sb *vfs.SuperBlock) error {
				var failed error
				bad := func(err error) { a.warn(err); failed = &exitError{1, nil} }
				all, files, dirs := []entry{}, []entry{}, []listing{}
				for _, p := range paths {
					list, isDir, err := lsPath(ctx, sb, p, dirItself, bad)
					if err != nil {
						bad(err)
						continue
					}
					all = append(all, list...)
					if isDir {
						dirs = append(dirs, listing{p, list})
					} else {
						files = append(files, list...)
					}
				}
				if asJSON {
					if err := printJSON(a.stdout, all); err != nil {
						return err
					}
					return failed
				}
				if err := a.printLs(files, long, inode); err != nil {
					return err
				}
				for i, d := range dirs {
					if len(paths) > 1 {
						if i > 0 || len(files) > 0 {
							fmt.Fprintln(a.stdout)
						}
						fmt.Fprintf(a.stdout, "%s:\n", term.Printable(d.path))
					}
					if err := a.printLs(d.list, long, inode); err != nil {
						return err
					}
				}
				return failed
			})
		},
	}
	c.Flags().BoolVarP(&long, "long", "l", false, "type, permissions, links, owner, size, time")
	c.Flags().BoolVarP(&dirItself, "directory", "d", false, "a directory itself, not what is in it")
	c.Flags().BoolVarP(&inode, "inode", "i", false, "inode numbers")
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return a.imageFlags(c)
}

// listing is a directory that ls was asked for.
type listing struct {
	path string
	list []entry
}

// lsPath lists a directory, or gives a file as the only entry.
func lsPath(ctx context.Context, sb *vfs.SuperBlock, path string, itself bool, bad func(error)) (list []entry, isDir bool, err error) {
	ip, err := walk(ctx, sb, path, !itself)
	if err != nil {
		return nil, false, err
	}
	defer ip.Put()
	if ip.IsDir() && !itself {
		if list, err = readDir(ctx, ip, bad); err != nil {
			err = fmt.Errorf("%s: %s: %w", sb.Dev.Name(), path, err)
		}
		return list, true, err
	}
	e, err := newEntry(ctx, path, ip)
	return []entry{e}, false, err
}

func (a *app) printLs(list []entry, long, inode bool) error {
	var rows [][]string
	for _, e := range list {
		row := []string{term.Printable(e.Name)}
		if long {
			row = e.long()
		}
		if inode {
			row = append([]string{fmt.Sprint(e.Ino)}, row...)
		}
		rows = append(rows, row)
	}
	return alignNumbers(a.stdout, rows)
}

// alignNumbers prints a table whose columns, but for the first and last, are flush right.
func alignNumbers(w io.Writer, rows [][]string) error {
	var width []int
	for _, r := range rows {
		for i, c := range r {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len(c))
		}
	}
	for _, r := range rows {
		for i, c := range r {
			sep := " "
			if i == len(r)-1 {
				sep = "\n"
			}
			n := width[i]
			if sep == "\n" || i == 0 && len(r) > 2 && !isNumber(c) {
				n = 0
			}
			if _, err := fmt.Fprintf(w, "%*s%s", n, c, sep); err != nil {
				return err
			}
		}
	}
	return nil
}

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

func (a *app) statCmd() *cobra.Command {
	var asJSON, follow bool
	c := &cobra.Command{
		Use:   "stat IMAGE PATH…",
		Short: "All that an image knows of a file",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withFS(cmd.Context(), args[0], func(ctx context.Context, sb *vfs.SuperBlock) error {
				list := []statEntry{}
				for _, p := range args[1:] {
					ip, err := walk(ctx, sb, p, follow)
					if err != nil {
						return err
					}
					e, err := newStat(ctx, p, ip)
					ip.Put()
					if err != nil {
						return fmt.Errorf("%s: %s: %w", sb.Dev.Name(), p, err)
					}
					list = append(list, e)
				}
				if asJSON {
					return printJSON(a.stdout, list)
				}
				for i := range list {
					if i > 0 {
						fmt.Fprintln(a.stdout)
					}
					if err := list[i].print(a.stdout); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	c.Flags().BoolVarP(&follow, "dereference", "L", false, "follow a symbolic link")
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return a.imageFlags(c)
}

// statEntry is what stat shows beyond ls.
type statEntry struct {
	entry
	Generation uint32            `json:"generation"`
	BlockSize  uint32            `json:"block_size"`
	Flags      uint32            `json:"flags"` // numbers of FS_IOC_GETFLAGS
	Xattrs     map[string]string `json:"xattrs,omitempty"`
}

func newStat(ctx context.Context, path string, ip *vfs.Inode) (statEntry, error) {
	e, err := newEntry(ctx, path, ip)
	if err != nil {
		return statEntry{}, err
	}
	st := ip.Stat()
	s := statEntry{entry: e, Generation: st.Generation, BlockSize: st.BlockSize, Flags: uint32(st.Flags)}
	names, err := ip.ListXattr(ctx, vfs.Root)
	if err != nil && !errors.Is(err, errno.OPNOTSUPP) {
		return s, err
	}
	for _, n := range names {
		v, err := ip.GetXattr(ctx, n)
		if err != nil {
			return s, err
		}
		if s.Xattrs == nil {
			s.Xattrs = map[string]string{}
		}
		s.Xattrs[n] = xattrText(v)
	}
	return s, nil
}

// xattrText shows a value as getfattr does: as text, or base64 behind 0s.
func xattrText(v []byte) string {
	s := string(v)
	if term.Printable(s) == s && !strings.HasPrefix(s, "0s") {
		return s
	}
	return "0s" + base64.StdEncoding.EncodeToString(v)
}

func (s *statEntry) print(w io.Writer) error {
	name := term.Printable(s.Name)
	if s.Target != "" {
		name += " -> " + term.Printable(s.Target)
	}
	rows := [][]string{
		{"file:", name},
		{"type:", s.Type},
		{"inode:", fmt.Sprintf("%d, generation %d, links %d", s.Ino, s.Generation, s.Links)},
		{"mode:", fmt.Sprintf("%s (%s)", s.Mode, term.Mode(s.mode))},
		{"owner:", fmt.Sprintf("%d:%d", s.UID, s.GID)},
		{"size:", fmt.Sprintf("%d bytes, %d allocated, blocks of %d", s.Size, s.Blocks*512, s.BlockSize)},
	}
	if s.Device != "" {
		rows = append(rows, []string{"device:", s.Device})
	}
	rows = append(rows, []string{"access:", s.Access}, []string{"modify:", s.Modify}, []string{"change:", s.Change})
	if s.Birth != "" {
		rows = append(rows, []string{"birth:", s.Birth})
	}
	if s.Flags != 0 {
		rows = append(rows, []string{"flags:", fmt.Sprintf("%#x %s", s.Flags, flagLetters(s.Flags))})
	}
	var names []string
	for n := range s.Xattrs {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		rows = append(rows, []string{"xattr:", term.Printable(n) + "=" + s.Xattrs[n]})
	}
	return term.Table(w, nil, rows)
}

// flagLetters writes chattr's letters.
func flagLetters(f uint32) string {
	var b strings.Builder
	for _, l := range []struct {
		bit    uint32
		letter byte
	}{{1, 's'}, {2, 'u'}, {8, 'S'}, {0x10000, 'D'}, {0x10, 'i'}, {0x20, 'a'}, {0x40, 'd'}, {0x80, 'A'}, {4, 'c'}, {0x1000, 'I'}, {0x4000, 'j'}, {0x8000, 't'}, {0x20000, 'T'}} {
		if f&l.bit != 0 {
			b.WriteByte(l.letter)
		}
	}
	return b.String()
}

func (a *app) catCmd() *cobra.Command {
	c := &cobra.Command{
		Use:   "cat IMAGE PATH…",
		Short: "Contents of files",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withFS(cmd.Context(), args[0], func(ctx context.Context, sb *vfs.SuperBlock) error {
				buf := make([]byte, 1<<20)
				for _, p := range args[1:] {
					if err := cat(ctx, sb, p, a.stdout, buf); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	return a.imageFlags(c)
}

func cat(ctx context.Context, sb *vfs.SuperBlock, path string, w io.Writer, buf []byte) error {
	ip, err := walk(ctx, sb, path, true)
	if err != nil {
		return err
	}
	defer ip.Put()
	if !ip.IsRegular() {
		return fmt.Errorf("%s: %s: is a %s, not a file", sb.Dev.Name(), path, typeName(ip.Mode()))
	}
	f, err := ip.Open(ctx, vfs.ORdonly)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", sb.Dev.Name(), path, err)
	}
	defer f.Close()
	for pos := int64(0); pos < math.MaxInt64; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.ReadAt(ctx, buf, pos)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return werr
			}
			pos += int64(n)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: %s at byte %d: %w", sb.Dev.Name(), path, pos, err)
		}
		if n == 0 {
			return nil
		}
	}
	return nil
}

func (a *app) treeCmd() *cobra.Command {
	var depth int
	var long, asJSON bool
	c := &cobra.Command{
		Use:   "tree IMAGE [PATH]",
		Short: "Files and directories, as a tree",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			path := "/"
			if len(args) == 2 {
				path = args[1]
			}
			return a.withFS(cmd.Context(), args[0], func(ctx context.Context, sb *vfs.SuperBlock) error {
				ip, err := walk(ctx, sb, path, true)
				if err != nil {
					return err
				}
				t := &tree{app: a, depth: depth, long: long, json: asJSON, seen: map[uint64]bool{}}
				root, err := newEntry(ctx, path, ip)
				if err == nil {
					err = t.run(ctx, ip, &root)
				} else {
					ip.Put()
				}
				if err != nil {
					return fmt.Errorf("%s: %w", sb.Dev.Name(), err)
				}
				if t.failed {
					return &exitError{1, nil}
				}
				return nil
			})
		},
	}
	c.Flags().IntVarP(&depth, "depth", "L", math.MaxInt, "levels to go down")
	c.Flags().BoolVarP(&long, "long", "l", false, "permissions and sizes")
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	c.Flag("depth").DefValue = "all"
	return a.imageFlags(c)
}

// tree walks and draws.
type tree struct {
	app         *app
	depth       int
	long, json  bool
	dirs, files int
	failed      bool
	seen        map[uint64]bool // directories on the way down: a corrupt image may hold a loop
}

// run takes over the reference of ip.
func (t *tree) run(ctx context.Context, ip *vfs.Inode, root *entry) error {
	defer ip.Put()
	if !t.json {
		fmt.Fprintln(t.app.stdout, t.label(root))
	}
	if err := t.walk(ctx, ip, root, "", 0); err != nil {
		return err
	}
	if t.json {
		return printJSON(t.app.stdout, root)
	}
	_, err := fmt.Fprintf(t.app.stdout, "\n%s, %s\n", dirs(t.dirs), count(t.files, "file"))
	return err
}

func (t *tree) label(e *entry) string {
	s := term.Printable(e.Name)
	if e.Target != "" {
		s += " -> " + term.Printable(e.Target)
	}
	if t.long {
		s = fmt.Sprintf("[%s %6s]  %s", term.Mode(e.mode), term.Size(e.Size), s)
	}
	return s
}

func (t *tree) walk(ctx context.Context, dir *vfs.Inode, e *entry, indent string, level int) error {
	if level >= t.depth || !dir.IsDir() {
		return nil
	}
	if t.seen[dir.Ino()] {
		return &errno.CorruptError{Struct: "directory", Ino: dir.Ino(), Why: "is its own ancestor"}
	}
	t.seen[dir.Ino()] = true
	defer delete(t.seen, dir.Ino())
	bad := func(err error) { t.app.warn(fmt.Errorf("%s: %w", e.Name, err)); t.failed = true }
	list, err := readDir(ctx, dir, bad)
	if err != nil {
		bad(err)
	}
	for i := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		sub := &list[i]
		arm, cont := "├── ", "│   "
		if i == len(list)-1 {
			arm, cont = "└── ", "    "
		}
		if !t.json {
			if _, err := fmt.Fprintln(t.app.stdout, indent+arm+t.label(sub)); err != nil {
				return err
			}
		}
		if sub.mode&vfs.ModeType != vfs.ModeDir {
			t.files++
			continue
		}
		t.dirs++
		ip, err := dir.Lookup(ctx, sub.Name)
		if err != nil {
			bad(err)
			continue
		}
		err = t.walk(ctx, ip, sub, indent+cont, level+1)
		ip.Put()
		if err != nil {
			if errno.From(err) != errno.UCLEAN {
				return err
			}
			bad(err)
		}
	}
	if t.json {
		e.Entries = list
	}
	return nil
}
