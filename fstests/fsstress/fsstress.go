// Package fsstress makes random sequences of file operations and runs them on several targets at once: every answer must be
// the same everywhere, and so must the trees in the end. A seed replays a sequence.
package fsstress

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/iomapfs/iomapfs/fstests/target"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Options shape a sequence; zero values are the defaults.
type Options struct {
	Seed    uint64
	Ops     int
	MaxFile int64 // bytes; 256 KiB
	Names   int   // different names in a directory; 12
	NoXattr bool
	NoPunch bool
	NoZero  bool // zero range: the kernel's ext2 has none
	NoStore bool // stores through mappings: a process must not make them in a mount that it serves itself
	NameMax int  // bytes of a name; 255
	Small   bool // owners and device numbers below 256
	// Plain is for filesystems that have files and directories and nothing else: no links, nodes, owners, permissions. The comparison
	// leaves those out too.
	Plain bool
	// MixCase writes a name now in this case, now in that.
	MixCase bool
}

// Difference is where two targets disagreed.
type Difference struct {
	Seed uint64
	Op   int
	What string
	A, B string // names of the targets
	Got  [2]string
}

// Error names the seed that replays it.
func (d *Difference) Error() string {
	return fmt.Sprintf("seed %d, operation %d: %s\n  %s: %s\n  %s: %s", d.Seed, d.Op, d.What, d.A, d.Got[0], d.B, d.Got[1])
}

// Run runs the sequence on all targets and compares. The error is a *Difference.
func Run(o Options, targets ...target.Target) error {
	if o.MaxFile == 0 {
		o.MaxFile = 256 << 10
	}
	if o.Names == 0 {
		o.Names = 12
	}
	if o.NameMax == 0 {
		o.NameMax = 255
	}
	g := &gen{o: o, r: rand.New(rand.NewPCG(o.Seed, 77))}
	for i := range o.Ops {
		what, f := g.op()
		var first string
		for j, t := range targets {
			got := f(t)
			if j == 0 {
				first = got
			} else if got != first {
				return &Difference{o.Seed, i, what, targets[0].Name(), t.Name(), [2]string{first, got}}
			}
		}
	}
	return compareDir(&o, "", targets)
}

type gen struct {
	o    Options
	r    *rand.Rand
	dirs []string // directories that may exist
}

func (g *gen) name() string {
	n := g.r.IntN(g.o.Names)
	switch {
	case n%7 == 6:
		tail := fmt.Sprintf("-%d", n)
		return strings.Repeat("long", 64)[:min(4*(5+n%50), g.o.NameMax-len(tail))] + tail
	}
	return fmt.Sprintf("n%d", n)
}

// number is an owner or a part of a device number below n.
func (g *gen) number(n uint32) uint32 {
	if g.o.Small {
		n = min(n, 256)
	}
	return g.r.Uint32N(n)
}

func (g *gen) path() string {
	if len(g.dirs) > 0 && g.r.IntN(3) > 0 {
		return g.dirs[g.r.IntN(len(g.dirs))] + "/" + g.name()
	}
	return g.name()
}

// mix changes the case of a path.
func (g *gen) mix(p string) string {
	if g.o.MixCase && g.r.IntN(2) == 0 {
		return strings.ToUpper(p)
	}
	return p
}

func (g *gen) dir() string {
	if len(g.dirs) == 0 || g.r.IntN(4) == 0 {
		return ""
	}
	return g.dirs[g.r.IntN(len(g.dirs))]
}

func (g *gen) bytes() []byte {
	n := 1 + g.r.IntN(1<<uint(g.r.IntN(17)))
	b := make([]byte, n)
	seed := byte(1 + g.r.IntN(255))
	for i := range b {
		b[i] = seed + byte(i*7)
	}
	return b
}

func (g *gen) offset() int64 {
	switch g.r.IntN(4) {
	case 0:
		return 0
	case 1:
		return g.r.Int64N(g.o.MaxFile) &^ 1023
	}
	return g.r.Int64N(g.o.MaxFile)
}

func code(e errno.Errno) string {
	if e == 0 {
		return "ok"
	}
	return e.Error()
}

// refusal is code for operations on data: which error a fifo, a device or a directory answers is not compared.
func refusal(e errno.Errno) string {
	switch e {
	case 0, errno.NOENT, errno.NOTDIR, errno.NOSPC, errno.FBIG, errno.IO, errno.UCLEAN:
		return code(e)
	}
	return "refused"
}

// op draws an operation: what it is, and the function that runs it and gives its answer in words.
func (g *gen) op() (string, func(t target.Target) string) {
	p, q := g.mix(g.path()), g.mix(g.path())
	do := func(name string, f func(t target.Target) errno.Errno) (string, func(t target.Target) string) {
		return name, func(t target.Target) string { return code(f(t)) }
	}
	k := g.r.IntN(100)
	if g.o.Plain && (k >= 17 && k < 26 || k >= 79 && k < 90) || g.o.NoPunch && k >= 76 && k < 79 { // nodes, links; modes, owners, attributes
		k = 43
	}
	switch {
	case k < 12:
		mode := []uint32{0o644, 0o600, 0o755}[g.r.IntN(3)]
		return do("create "+p, func(t target.Target) errno.Errno { return t.Create(p, mode) })
	case k < 17:
		if len(g.dirs) < 30 && strings.Count(p, "/") < 4 {
			g.dirs = append(g.dirs, p)
		}
		return do("mkdir "+p, func(t target.Target) errno.Errno { return t.Mkdir(p, 0o755) })
	case k < 19:
		mode := []uint32{vfs.ModeFIFO | 0o644, vfs.ModeChar | 0o600, vfs.ModeBlock | 0o600, vfs.ModeSocket | 0o755}[g.r.IntN(4)]
		dev := vfs.Dev{Major: g.number(300), Minor: g.number(70000)}
		return do("mknod "+p, func(t target.Target) errno.Errno { return t.Mknod(p, mode, dev) })
	case k < 22:
		to := strings.Repeat("t", 1+g.r.IntN(min(120, g.o.NameMax)))
		return do("symlink "+p, func(t target.Target) errno.Errno { return t.Symlink(to, p) })
	case k < 26:
		return do("link "+p+" "+q, func(t target.Target) errno.Errno { return t.Link(p, q) })
	case k < 33:
		return do("unlink "+p, func(t target.Target) errno.Errno { return t.Unlink(p) })
	case k < 36:
		if d := g.dir(); d != "" {
			p = d
		}
		return do("rmdir "+p, func(t target.Target) errno.Errno { return t.Rmdir(p) })
	case k < 43:
		if g.o.MixCase && strings.EqualFold(p, q) { // a host does not pass on what names the same file twice
			q += "x"
		}
		fl := []uint32{0, 0, 0, vfs.RenameNoReplace, vfs.RenameExchange}[g.r.IntN(5)]
		return do(fmt.Sprintf("rename %s %s %d", p, q, fl), func(t target.Target) errno.Errno { return t.Rename(p, q, fl) })
	case k < 58:
		off, b := g.offset(), g.bytes()
		return fmt.Sprintf("write %s %d+%d", p, off, len(b)), func(t target.Target) string {
			n, e := t.Write(p, off, b)
			return fmt.Sprint(n, refusal(e))
		}
	case k < 60 && !g.o.NoStore:
		off, b := g.offset(), g.bytes()
		return fmt.Sprintf("store %s %d+%d", p, off, len(b)), func(t target.Target) string {
			n, e := t.Store(p, off, b)
			return fmt.Sprint(n, refusal(e))
		}
	case k < 62:
		b := g.bytes()
		return fmt.Sprintf("append %s %d", p, len(b)), func(t target.Target) string {
			n, e := t.Append(p, b)
			return fmt.Sprint(n, refusal(e))
		}
	case k < 70:
		off, n := g.offset(), 1+g.r.IntN(100000)
		return fmt.Sprintf("read %s %d+%d", p, off, n), func(t target.Target) string {
			b, e := t.Read(p, off, n)
			return fmt.Sprintf("%d %x %s", len(b), sum(b), refusal(e))
		}
	case k < 76:
		size := g.offset()
		return fmt.Sprintf("truncate %s %d", p, size), func(t target.Target) string { return refusal(t.Truncate(p, size)) }
	case k < 79:
		off, n := g.offset(), 1+g.r.Int64N(50000)
		if g.r.IntN(3) == 0 && !g.o.NoZero {
			return fmt.Sprintf("zero %s %d+%d", p, off, n), func(t target.Target) string { return refusal(t.ZeroRange(p, off, n)) }
		}
		return fmt.Sprintf("punch %s %d+%d", p, off, n), func(t target.Target) string { return refusal(t.Punch(p, off, n)) }
	case k < 82:
		mode := g.r.Uint32N(0o7777)
		return do(fmt.Sprintf("chmod %s %o", p, mode), func(t target.Target) errno.Errno {
			if i, _ := t.Stat(p); i.Mode&vfs.ModeType == vfs.ModeSymlink {
				return 0 // chmod follows links on a host
			}
			return t.Chmod(p, mode)
		})
	case k < 84:
		uid, gid := g.number(100000), g.number(100000)
		return do("chown "+p, func(t target.Target) errno.Errno { return t.Chown(p, uid, gid) })
	case k < 88 && !g.o.NoXattr:
		name := fmt.Sprintf("%s.x%d", []string{"user", "trusted", "security"}[g.r.IntN(3)], g.r.IntN(4))
		v := bytes.Repeat([]byte{byte(g.r.IntN(256))}, g.r.IntN(40)) // twelve fit into a block of 1 KiB
		fl := []int{0, 0, vfs.XattrCreate, vfs.XattrReplace}[g.r.IntN(4)]
		return do("setxattr "+p+" "+name, func(t target.Target) errno.Errno { return t.SetXattr(p, name, v, fl) })
	case k < 90 && !g.o.NoXattr:
		name := fmt.Sprintf("%s.x%d", []string{"user", "trusted", "security"}[g.r.IntN(3)], g.r.IntN(4))
		return do("removexattr "+p+" "+name, func(t target.Target) errno.Errno { return t.RemoveXattr(p, name) })
	case k < 94:
		d := g.dir()
		return "readdir " + d, func(t target.Target) string {
			names, e := t.ReadDir(d)
			return fmt.Sprint(slices.DeleteFunc(names, func(n string) bool { return n == "lost+found" }), code(e))
		}
	case k < 98:
		return "stat " + p, func(t target.Target) string { return describe(&g.o, t, p) }
	default:
		return do("fsync "+p, func(t target.Target) errno.Errno {
			if i, e := t.Stat(p); e != 0 || i.Mode&vfs.ModeType != vfs.ModeRegular {
				return 0
			}
			return t.Fsync(p)
		})
	}
}

func sum(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

// describe gives everything about one path that all targets must agree on.
func describe(o *Options, t target.Target, p string) string {
	i, e := t.Stat(p)
	if e != 0 {
		return code(e)
	}
	i.Ino = 0
	if o.Plain {
		i.Mode, i.UID, i.GID, i.Nlink = i.Mode&vfs.ModeType, 0, 0, 0
	}
	s := fmt.Sprintf("%o %d:%d links %d size %d dev %v", i.Mode, i.UID, i.GID, i.Nlink, i.Size, i.Rdev)
	switch i.Mode & vfs.ModeType {
	case vfs.ModeSymlink:
		to, _ := t.Readlink(p)
		return s + " -> " + to
	case vfs.ModeRegular:
		b, e := t.Read(p, 0, int(i.Size))
		s += fmt.Sprintf(" sum %x %s", sum(b), code(e))
	}
	if o.Plain {
		return s
	}
	names, _ := t.ListXattr(p)
	for _, n := range names {
		if strings.HasPrefix(n, "system.") || n == "security.selinux" {
			continue
		}
		v, _ := t.GetXattr(p, n)
		s += fmt.Sprintf(" %s=%x", n, sum(v))
	}
	return s
}

// Compare walks all trees side by side.
func Compare(seed uint64, targets ...target.Target) error {
	return compareDir(&Options{Seed: seed}, "", targets)
}

// ComparePlain is Compare for filesystems that Options.Plain is for.
func ComparePlain(seed uint64, targets ...target.Target) error {
	return compareDir(&Options{Seed: seed, Plain: true}, "", targets)
}

func compareDir(o *Options, dir string, targets []target.Target) error {
	var names []string
	for j, t := range targets {
		got, e := t.ReadDir(dir)
		if dir == "" {
			got = slices.DeleteFunc(got, func(n string) bool { return n == "lost+found" })
		}
		if j == 0 {
			names = got
		} else if e != 0 || !slices.Equal(got, names) {
			return &Difference{o.Seed, -1, "final tree: names in /" + dir, targets[0].Name(), t.Name(), [2]string{fmt.Sprint(names), fmt.Sprint(got, code(e))}}
		}
	}
	for _, n := range names {
		p := strings.TrimPrefix(dir+"/"+n, "/")
		first := describe(o, targets[0], p)
		for _, t := range targets[1:] {
			if got := describe(o, t, p); got != first {
				return &Difference{o.Seed, -1, "final tree: /" + p, targets[0].Name(), t.Name(), [2]string{first, got}}
			}
		}
		if i, _ := targets[0].Stat(p); i.Mode&vfs.ModeType == vfs.ModeDir {
			if err := compareDir(o, p, targets); err != nil {
				return err
			}
		}
	}
	return nil
}
