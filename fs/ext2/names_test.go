package ext2

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/ext2/disk/disktest"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block/file"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

var tctx = context.Background()

// nameImage makes an image with mke2fs and gives its path.
func nameImage(t testing.TB, size string, args ...string) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "t.img")
	code, out := disktest.Run(t, "", "mke2fs", append(append([]string{"-q", "-F", "-t", "ext2"}, args...), img, size)...)
	require.Zero(t, code, out)
	return img
}

// nameMount mounts an image.
func nameMount(t testing.TB, img string, words ...string) *vfs.SuperBlock {
	t.Helper()
	dev, err := file.Open(img, file.Options{})
	require.NoError(t, err)
	sb, err := Type.Mount(tctx, dev, &vfs.MountOptions{Words: append(pathWords(), words...), CacheBytes: 64 << 20, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(t, err)
	return sb
}

// nameDone unmounts and wants e2fsck to find nothing.
func nameDone(t testing.TB, sb *vfs.SuperBlock, img string) {
	t.Helper()
	require.NoError(t, sb.Unmount(tctx))
	code, out := disktest.Run(t, "", "e2fsck", "-fn", img)
	require.Zero(t, code, out)
}

// nameVariants are the kinds of filesystem that names must work on.
var nameVariants = []struct {
	name string
	args []string
}{
	{"1k", []string{"-b", "1024", "-I", "128"}},
	{"2k", []string{"-b", "2048", "-I", "256"}},
	{"4k", []string{"-b", "4096", "-I", "256"}},
	{"4k-nofiletype", []string{"-b", "4096", "-O", "^filetype"}},
	{"1k-noindex", []string{"-b", "1024", "-O", "^dir_index", "-I", "256"}},
	{"rev0", []string{"-b", "1024", "-r", "0"}},
	{"ext3", []string{"-b", "1024", "-j"}},
}

// node is a file of the model tree.
type node struct {
	mode   uint32
	kids   map[string]*node // of a directory
	target string
	dev    vfs.Dev
	nlink  int // of files
	parent *node
}

func (n *node) isDir() bool { return n.kids != nil }

func (n *node) below(top *node) bool {
	for ; n != nil; n = n.parent {
		if n == top {
			return true
		}
	}
	return false
}

// treeOf reads a mounted tree as lines.
func treeOf(t testing.TB, sb *vfs.SuperBlock) []string {
	t.Helper()
	var lines []string
	var walk func(dir *vfs.Inode, at string)
	walk = func(dir *vfs.Inode, at string) {
		f, err := dir.Open(tctx, vfs.ORdonly)
		require.NoError(t, err)
		defer f.Close()
		type ent struct {
			name string
			ino  uint64
			typ  uint8
		}
		var list []ent
		pos := int64(0)
		for {
			n := 0
			require.NoError(t, f.ReadDir(tctx, pos, func(de *vfs.DirEntry) bool {
				if n == 7 {
					return false
				}
				n++
				pos = de.Next
				list = append(list, ent{strings.Clone(de.Name), de.Ino, de.Type})
				return true
			}))
			if n == 0 {
				break
			}
		}
		require.Equal(t, ".", list[0].name)
		require.Equal(t, "..", list[1].name)
		require.Equal(t, dir.Ino(), list[0].ino)
		for _, e := range list[2:] {
			ip, err := dir.Lookup(tctx, e.name)
			require.NoError(t, err, "%s/%s", at, e.name)
			require.Equal(t, e.ino, ip.Ino())
			st := ip.Stat()
			if e.typ != vfs.DTUnknown {
				require.Equal(t, vfs.DType(st.Mode), e.typ)
			}
			p := path.Join(at, e.name)
			line := fmt.Sprintf("%s %o", p, st.Mode)
			switch {
			case ip.IsDir():
				up, err := ip.Parent(tctx)
				require.NoError(t, err)
				require.Equal(t, dir.Ino(), up.Ino(), p)
				up.Put()
				line += fmt.Sprintf(" links %d", st.Nlink)
				walk(ip, p)
			case ip.IsSymlink():
				target, err := ip.Readlink(tctx)
				require.NoError(t, err)
				line += " -> " + target
			default:
				line += fmt.Sprintf(" links %d dev %v", st.Nlink, st.Rdev)
			}
			lines = append(lines, line)
			ip.Put()
		}
	}
	walk(sb.Root, "/")
	sort.Strings(lines)
	return lines
}

func (n *node) lines(at string, out *[]string) {
	for name, k := range n.kids {
		p := path.Join(at, name)
		line := fmt.Sprintf("%s %o", p, k.mode)
		switch {
		case k.isDir():
			links := 2
			for _, c := range k.kids {
				if c.isDir() {
					links++
				}
			}
			line += fmt.Sprintf(" links %d", links)
			k.lines(p, out)
		case k.mode&vfs.ModeType == vfs.ModeSymlink:
			line += " -> " + k.target
		default:
			line += fmt.Sprintf(" links %d dev %v", k.nlink, k.dev)
		}
		*out = append(*out, line)
	}
}

// namer runs random operations on a mount and a model at once.
type namer struct {
	t    testing.TB
	rng  *rand.Rand
	sb   *vfs.SuperBlock
	root *node
	dirs []*node
	bs   int
}

func (m *namer) name() string {
	switch m.rng.Intn(12) {
	case 0:
		return strings.Repeat(string(rune('a'+m.rng.Intn(26))), 1+m.rng.Intn(255))
	case 1:
		return fmt.Sprintf("ü%d\xff", m.rng.Intn(40))
	}
	return fmt.Sprintf("n%d", m.rng.Intn(60))
}

func (n *node) path() string {
	if n.parent == nil {
		return "/"
	}
	for name, k := range n.parent.kids {
		if k == n {
			return path.Join(n.parent.path(), name)
		}
	}
	return "gone"
}

func (m *namer) inode(n *node) *vfs.Inode {
	ip, err := m.sb.Walk(tctx, n.path(), false)
	require.NoError(m.t, err)
	return ip
}

func (m *namer) dir() *node { return m.dirs[m.rng.Intn(len(m.dirs))] }

func (m *namer) check(what string, want errno.Errno, err error) {
	m.t.Helper()
	require.Equal(m.t, want, errno.From(err), "%s: %v", what, err)
}

func (m *namer) step() {
	d := m.dir()
	dip := m.inode(d)
	defer dip.Put()
	name := m.name()
	old := d.kids[name]
	add := func(ip *vfs.Inode, err error, k *node) {
		want := errno.Errno(0)
		if old != nil {
			want = errno.EXIST
		}
		m.check("create "+name, want, err)
		if err == nil {
			ip.Put()
			k.parent = d
			d.kids[name] = k
			if k.isDir() {
				m.dirs = append(m.dirs, k)
			}
		}
	}
	cred := &vfs.Cred{Umask: 0o022}
	switch m.rng.Intn(16) {
	case 0, 1, 2, 3:
		ip, err := dip.Create(tctx, cred, name, 0o666)
		add(ip, err, &node{mode: vfs.ModeRegular | 0o644, nlink: 1})
	case 4:
		ip, err := dip.Mkdir(tctx, cred, name, 0o777)
		add(ip, err, &node{mode: vfs.ModeDir | 0o755, kids: map[string]*node{}})
	case 5:
		target := strings.Repeat("t", 1+m.rng.Intn(min(m.bs-1, 300)))
		if m.rng.Intn(2) == 0 {
			target = target[:min(len(target), 1+m.rng.Intn(60))]
		}
		ip, err := dip.Symlink(tctx, cred, name, target)
		add(ip, err, &node{mode: vfs.ModeSymlink | 0o777, target: target})
	case 6:
		dev := vfs.Dev{Major: uint32(m.rng.Intn(4096)), Minor: uint32(m.rng.Intn(1 << 20))}
		if m.rng.Intn(2) == 0 {
			dev = vfs.Dev{Major: 8, Minor: uint32(m.rng.Intn(256))}
		}
		ip, err := dip.Mknod(tctx, cred, name, vfs.ModeBlock|0o660, dev)
		add(ip, err, &node{mode: vfs.ModeBlock | 0o640, nlink: 1, dev: dev})
	case 7:
		ip, err := dip.Mknod(tctx, cred, name, vfs.ModeFIFO|0o600, vfs.Dev{})
		add(ip, err, &node{mode: vfs.ModeFIFO | 0o600, nlink: 1})
	case 8: // link
		from := m.dir()
		for _, n := range m.shuffled(from) {
			k := from.kids[n]
			if k.isDir() || k.mode&vfs.ModeType == vfs.ModeSymlink {
				continue
			}
			ip, err := m.sb.Walk(tctx, path.Join(from.path(), n), false)
			require.NoError(m.t, err)
			err = dip.Link(tctx, name, ip)
			want := errno.Errno(0)
			if old != nil {
				want = errno.EXIST
			}
			m.check("link", want, err)
			if err == nil {
				k.nlink++
				d.kids[name] = k
			}
			ip.Put()
			break
		}
	case 9, 10: // unlink or rmdir something
		for _, n := range m.shuffled(d) {
			k := d.kids[n]
			if n == "lost+found" {
				continue
			}
			if k.isDir() {
				want := errno.Errno(0)
				if len(k.kids) > 0 {
					want = errno.NOTEMPTY
				}
				err := dip.Rmdir(tctx, n)
				m.check("rmdir", want, err)
				if err == nil {
					delete(d.kids, n)
					m.forget(k)
				}
			} else {
				m.check("unlink", 0, dip.Unlink(tctx, n))
				delete(d.kids, n)
				k.nlink--
			}
			break
		}
	default:
		m.rename(d, dip, name)
	}
}

// shuffled gives the names of a directory in an order that the seed decides.
func (m *namer) shuffled(d *node) []string {
	names := make([]string, 0, len(d.kids))
	for n := range d.kids {
		names = append(names, n)
	}
	sort.Strings(names)
	m.rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	return names
}

func (m *namer) forget(k *node) {
	for i, d := range m.dirs {
		if d == k {
			m.dirs = append(m.dirs[:i], m.dirs[i+1:]...)
			return
		}
	}
}

func (m *namer) rename(to *node, tip *vfs.Inode, newName string) {
	from := m.dir()
	fip := m.inode(from)
	defer fip.Put()
	if m.rng.Intn(2) == 0 {
		for _, n := range m.shuffled(to) {
			newName = n
			break
		}
	}
	for _, name := range m.shuffled(from) {
		k := from.kids[name]
		if name == "lost+found" || newName == "lost+found" {
			continue
		}
		target := to.kids[newName]
		flags := uint32(0)
		want := errno.Errno(0)
		switch m.rng.Intn(4) {
		case 0:
			flags = vfs.RenameNoReplace
		case 1:
			flags = vfs.RenameExchange
		}
		swap := flags == vfs.RenameExchange
		switch {
		case target == nil && swap:
			want = errno.NOENT
		case target != nil && flags == vfs.RenameNoReplace:
			want = errno.EXIST
		case target == k:
		case !swap && target != nil && k.isDir() && !target.isDir():
			want = errno.NOTDIR
		case !swap && target != nil && !k.isDir() && target.isDir():
			want = errno.ISDIR
		case k.isDir() && to.below(k):
			want = errno.INVAL
		case target != nil && target.isDir() && from.below(target) && from != to:
			want = errno.NOTEMPTY
			if swap {
				want = errno.INVAL
			}
		case target != nil && target.isDir() && !swap && len(target.kids) > 0:
			want = errno.NOTEMPTY
		}
		err := fip.RenameTo(tctx, name, tip, newName, flags)
		if want != 0 {
			// Which of several reasons is named is not fixed.
			require.Error(m.t, err)
			return
		}
		m.check(fmt.Sprintf("rename %s/%s to %s/%s flags %d", from.path(), name, to.path(), newName, flags), want, err)
		if err != nil || target == k {
			return
		}
		delete(from.kids, name)
		to.kids[newName] = k
		if k.isDir() {
			k.parent = to
		}
		switch {
		case swap:
			from.kids[name] = target
			if target.isDir() {
				target.parent = from
			}
		case target != nil && target.isDir():
			m.forget(target)
		case target != nil:
			target.nlink--
		}
		return
	}
}

func (m *namer) compare() {
	var want []string
	m.root.lines("/", &want)
	sort.Strings(want)
	require.Equal(m.t, want, treeOf(m.t, m.sb))
}

func TestNamesModel(t *testing.T) {
	for _, v := range nameVariants {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel() // most of the time is spent in flushes
			seed := rand.Int63()
			if s := os.Getenv("SEED"); s != "" {
				_, err := fmt.Sscan(s, &seed)
				require.NoError(t, err)
			}
			t.Logf("SEED=%d", seed)
			img := nameImage(t, "32M", append([]string{"-N", "8192"}, v.args...)...)
			root := &node{mode: vfs.ModeDir, kids: map[string]*node{"lost+found": {mode: vfs.ModeDir | 0o700, kids: map[string]*node{}}}}
			root.kids["lost+found"].parent = root
			m := &namer{t: t, rng: rand.New(rand.NewSource(seed)), root: root, dirs: []*node{root}}
			for round := range 3 {
				var words []string
				if round > 0 {
					words = []string{"nobarrier"}
				}
				m.sb = nameMount(t, img, words...)
				m.bs = 1 << m.sb.BlockBits
				for step := range 1200 {
					m.step()
					if step%400 == 0 {
						m.compare()
						if round == 2 {
							require.NoError(t, m.sb.Sync(tctx))
						}
					}
				}
				m.compare()
				nameDone(t, m.sb, img)
			}
			m.sb = nameMount(t, img)
			m.compare()
			nameDone(t, m.sb, img)
			if os.Geteuid() == 0 {
				var want []string
				m.root.lines("/", &want)
				sort.Strings(want)
				dir, umount := kernelMount(t, img, "ro")
				require.Equal(t, want, kernelTree(t, dir))
				umount()
			}
		})
	}
}

// kernelTree reads a tree mounted by the kernel as treeOf reads ours.
func kernelTree(t testing.TB, top string) []string {
	var lines []string
	require.NoError(t, filepath.Walk(top, func(p string, fi os.FileInfo, err error) error {
		if err != nil || p == top {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%s %o", strings.TrimPrefix(p, top), st.Mode)
		switch st.Mode & syscall.S_IFMT {
		case syscall.S_IFDIR:
			line += fmt.Sprintf(" links %d", st.Nlink)
		case syscall.S_IFLNK:
			target, err := os.Readlink(p)
			require.NoError(t, err)
			line += " -> " + target
		default:
			line += fmt.Sprintf(" links %d dev %v", st.Nlink, vfs.MakeDev(uint32(st.Rdev)))
		}
		lines = append(lines, line)
		return nil
	}))
	sort.Strings(lines)
	return lines
}

// pathWords are mount words that put all tests on other paths: IOMAPFS_PATHS="path=iomap legacy=dio-read".
func pathWords() []string { return strings.Fields(os.Getenv("IOMAPFS_PATHS")) }
