package mkfs_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/iomapfs/iomapfs/fs/ext2/check"
	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/fs/ext2/disk/disktest"
	"github.com/iomapfs/iomapfs/fs/ext2/mkfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// pattern is a reader of size bytes that are never zero.
type pattern struct{ pos, size int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.pos >= p.size {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), p.size-p.pos))
	for done := 0; done < n; {
		k := copy(b[done:n], wheel[p.pos%251:])
		done, p.pos = done+k, p.pos+int64(k)
	}
	return n, nil
}

// wheel is the pattern, some turns of it.
var wheel = func() []byte {
	b := make([]byte, 251*64)
	for i := range b {
		b[i] = byte(i%251) + 1
	}
	return b
}()

func write(t testing.TB, path string, size int64) {
	f, err := os.Create(path)
	require.NoError(t, err)
	_, err = io.Copy(f, &pattern{size: size})
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

var past = time.Unix(1500000000, 123456789)

// sourceTree has one of everything.
func sourceTree(t testing.TB) string {
	dir := t.TempDir()
	p := func(name string) string { return filepath.Join(dir, name) }
	require.NoError(t, os.Chmod(dir, 0o751))
	write(t, p("small"), 10)
	write(t, p("empty"), 0)
	write(t, p("blocks"), 300000)
	require.NoError(t, os.Chmod(p("small"), 0o4755))
	require.NoError(t, os.Link(p("small"), p("small-link")))
	require.NoError(t, os.MkdirAll(p("a/b/c"), 0o755))
	require.NoError(t, os.Link(p("small"), p("a/b/other-link")))
	require.NoError(t, os.Symlink("target", p("fast")))
	require.NoError(t, os.Symlink(strings.Repeat("x", 59), p("fast59")))
	require.NoError(t, os.Symlink(strings.Repeat("x", 60), p("slow60")))
	require.NoError(t, os.Symlink(strings.Repeat("long/", 150), p("slow")))
	require.NoError(t, os.Chmod(p("a/b"), 0o1777))
	require.NoError(t, os.Mkdir(p("many"), 0o755))
	for i := range 1200 {
		require.NoError(t, os.WriteFile(p(fmt.Sprintf("many/a file with a rather long name so that blocks fill %d", i)), []byte(fmt.Sprint(i)), 0o600))
	}
	f, err := os.Create(p("sparse"))
	require.NoError(t, err)
	for _, at := range []int64{0, 70000, 20 << 20, 70 << 20} {
		_, err = f.WriteAt([]byte("island"), at)
		require.NoError(t, err)
	}
	require.NoError(t, f.Truncate(100<<20+5))
	require.NoError(t, f.Close())
	require.NoError(t, syscall.Mkfifo(p("fifo"), 0o640))
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer syscall.Close(fd)
	require.NoError(t, os.Mkdir(p("s"), 0o700))
	wd, err := os.Getwd()
	require.NoError(t, err)
	require.NoError(t, os.Chdir(p("s"))) // addresses of sockets are short
	require.NoError(t, syscall.Bind(fd, &syscall.SockaddrUnix{Name: "socket"}))
	require.NoError(t, os.Chdir(wd))
	if os.Geteuid() == 0 {
		require.NoError(t, unix.Mknod(p("chr"), unix.S_IFCHR|0o600, int(unix.Mkdev(5, 1))))
		require.NoError(t, unix.Mknod(p("blk"), unix.S_IFBLK|0o660, int(unix.Mkdev(300, 70000))))
		require.NoError(t, os.Chown(p("blocks"), 100000, 70000))
		require.NoError(t, os.Lchown(p("fast"), 1, 2))
	}
	for name, attrs := range map[string]map[string]string{
		"small": {"user.short": "value"},
		"empty": {"user.large": strings.Repeat("z", 700), "user.a": "", "trusted.t": "yes"},
		"a":     {"user.large": strings.Repeat("z", 700), "user.a": "", "trusted.t": "yes"},
		"a/b/c": {"user.d": "dir"},
	} {
		for k, v := range attrs {
			if err := unix.Lsetxattr(p(name), k, []byte(v), 0); err != nil && !errors.Is(err, unix.EPERM) {
				require.NoError(t, err)
			}
		}
	}
	if _, err := exec.LookPath("setfacl"); err == nil {
		require.NoError(t, exec.Command("setfacl", "-m", "u:1000:rwx,g:70000:r-x", p("blocks")).Run())
		require.NoError(t, exec.Command("setfacl", "-d", "-m", "u:1000:rwx", p("a/b/c")).Run())
	}
	require.NoError(t, filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		require.NoError(t, err)
		ts := []unix.Timespec{unix.NsecToTimespec(past.UnixNano()), unix.NsecToTimespec(past.UnixNano())}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW)
	}))
	return dir
}

// listing describes a tree, one line a file, so that two can be compared.
func listing(t testing.TB, dir string, opaque func(rel string) bool) []string {
	var lines []string
	groups := map[uint64]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		require.NoError(t, err)
		rel, _ := filepath.Rel(dir, path)
		if rel == "lost+found" {
			return fs.SkipDir
		}
		info, err := e.Info()
		require.NoError(t, err)
		st := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%s %o %d:%d", rel, st.Mode, st.Uid, st.Gid)
		if !opaque(rel) {
			line += fmt.Sprintf(" %d.%09d", st.Mtim.Sec, st.Mtim.Nsec)
		}
		if !e.IsDir() {
			line += fmt.Sprintf(" links=%d size=%d rdev=%d", st.Nlink, st.Size, st.Rdev)
			if first, ok := groups[st.Ino]; ok {
				line += " = " + first
			} else if st.Nlink > 1 {
				groups[st.Ino] = rel
			}
		}
		switch {
		case info.Mode().IsRegular():
			f, err := os.Open(path)
			require.NoError(t, err)
			h := sha256.New()
			_, err = io.Copy(h, f)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			line += fmt.Sprintf(" %x", h.Sum(nil)[:8])
		case info.Mode()&fs.ModeSymlink != 0:
			l, err := os.Readlink(path)
			require.NoError(t, err)
			line += " -> " + l
		}
		buf := make([]byte, 65536)
		if n, err := unix.Llistxattr(path, buf); err == nil && n > 0 {
			names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
			sort.Strings(names)
			for _, name := range names {
				v := make([]byte, 65536)
				n, err := unix.Lgetxattr(path, name, v)
				require.NoError(t, err)
				line += fmt.Sprintf(" %s=%x", name, sha256.Sum256(v[:n]))
			}
		}
		lines = append(lines, line)
		return nil
	}))
	return lines
}

// mount mounts an image by the kernel, read-only, or skips the test.
func mount(t testing.TB, image string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOTHING CHECKED: the kernel's ext2 needs root to mount")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "ext2", "-o", "loop,ro", image, dir).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED, NOTHING CHECKED: mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return dir
}

// The kernel goes on writing in what mkfs made: indexed directories split, blocks are found and freed, attributes unshared; all
// stays clean for e2fsck and for our own checker.
func TestKernelWrites(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED, NOTHING CHECKED: the kernel's ext2 needs root to mount")
	}
	src := sourceTree(t)
	for _, bs := range []uint32{1024, 4096} {
		img := format(t, 64<<20, fixed(t, mkfs.Options{BlockSize: bs, Inodes: 8000, Fill: mkfs.FromDir(src, mkfs.DirOptions{})}))
		dir := t.TempDir()
		if out, err := exec.Command("mount", "-t", "ext2", "-o", "loop", img, dir).CombinedOutput(); err != nil {
			t.Skipf("SKIPPED, NOTHING CHECKED: mount: %v: %s", err, out)
		}
		work := func() error {
			for i := range 1500 {
				if err := os.WriteFile(fmt.Sprintf("%s/many/written by the kernel, number %d", dir, i), make([]byte, i%9000), 0o644); err != nil {
					return err
				}
			}
			for i := 0; i < 1200; i += 3 {
				if err := os.Remove(fmt.Sprintf("%s/many/a file with a rather long name so that blocks fill %d", dir, i)); err != nil {
					return err
				}
			}
			return errors.Join(
				os.Truncate(dir+"/sparse", 30<<20), os.Truncate(dir+"/blocks", 5), os.Rename(dir+"/a/b", dir+"/s/b"),
				unix.Setxattr(dir+"/empty", "user.more", bytes.Repeat([]byte("m"), 200), 0), os.Remove(dir+"/slow"), os.RemoveAll(dir+"/s"),
				os.Symlink(strings.Repeat("k", 70), dir+"/lost+found/link"),
			)
		}
		err := work()
		out, uerr := exec.Command("umount", dir).CombinedOutput()
		require.NoError(t, uerr, string(out))
		require.NoError(t, err)
		disktest.Clean(t, img)
		f, err := os.Open(img)
		require.NoError(t, err)
		rep, err := check.Check(t.Context(), f, 64<<20, check.Options{})
		require.NoError(t, err)
		require.Empty(t, rep.Problems)
		require.NoError(t, f.Close())
	}
}

func none(string) bool { return false }

// What the kernel reads back is what was in the directory, and e2fsck has nothing to say, for each block size.
func TestFromDir(t *testing.T) {
	src := sourceTree(t)
	want := listing(t, src, none)
	for _, bs := range []uint32{1024, 2048, 4096, 16384, 65536} {
		for _, isize := range []uint32{128, 256} {
			if isize == 128 && bs != 1024 {
				continue
			}
			t.Run(fmt.Sprintf("%d/%d", bs, isize), func(t *testing.T) {
				o := fixed(t, mkfs.Options{BlockSize: bs, InodeSize: isize, Inodes: 3000, Fill: mkfs.FromDir(src, mkfs.DirOptions{})})
				img := format(t, 256<<20, o)
				disktest.Clean(t, img)
				again := format(t, 256<<20, o)
				require.EqualValues(t, -1, firstDifference(t, img, again), "the same input gives the same bytes")
				if bs > 4096 {
					return // more than the kernel mounts here
				}
				dir := mount(t, img)
				got := listing(t, dir, none)
				if isize == 128 { // no nanoseconds
					require.Equal(t, strings.ReplaceAll(strings.Join(want, "\n"), ".123456789", ".000000000"), strings.Join(got, "\n"))
				} else {
					require.Equal(t, want, got)
				}
				st, err := os.Stat(filepath.Join(dir, "sparse"))
				require.NoError(t, err)
				require.Less(t, st.Sys().(*syscall.Stat_t).Blocks, int64(400), "holes are kept")
			})
		}
	}
}

func TestFromDirOptions(t *testing.T) {
	src := sourceTree(t)
	o := fixed(t, mkfs.Options{Fill: mkfs.FromDir(src, mkfs.DirOptions{
		Owner: &mkfs.Owner{UID: 7, GID: 8}, NoXattrs: true,
		Skip: func(p string, _ fs.FileInfo) bool { return p == "many" || strings.HasPrefix(p, "a/b/") },
	}), ClampTimes: true})
	o.Time = time.Unix(1400000000, 0)
	img := format(t, 64<<20, o)
	disktest.Clean(t, img)
	out := disktest.Debugfs(t, img, false, "ls -l /", "ls -l /a/b", "stat small")
	require.NotContains(t, out, "many")
	require.NotContains(t, out, "other-link")
	require.Contains(t, out, "mtime: 0x53724e00:00000000")
	require.Regexp(t, `User: +7 +Group: +8`, out)
	require.NotContains(t, out, "user.short")

	_, err := mkfs.Format(make(memory, 1<<20), 1<<20, mkfs.Options{Fill: mkfs.FromDir(src+"/small", mkfs.DirOptions{})})
	require.ErrorContains(t, err, "no directory")
	_, err = mkfs.Format(make(memory, 1<<20), 1<<20, mkfs.Options{Fill: mkfs.FromDir(src+"/nowhere", mkfs.DirOptions{})})
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// A directory of many names gets an index that e2fsck and the kernel agree with, with one and with two levels.
func TestLargeDirectory(t *testing.T) {
	for _, count := range []int{100, 2000, 20000} {
		for _, features := range []string{"", "^dir_index", "^filetype"} {
			t.Run(fmt.Sprint(count, features), func(t *testing.T) {
				o := fixed(t, mkfs.Options{BlockSize: 1024, Inodes: uint32(count) + 100, Features: features, Fill: func(b *mkfs.Builder) error {
					for i := range count {
						if err := b.Add(&mkfs.Node{Path: fmt.Sprintf("big/%d-%s", i, strings.Repeat("n", i%60)), Mode: disk.ModeRegular | 0o644}, nil); err != nil {
							return err
						}
					}
					return nil
				}})
				img := format(t, 64<<20, o)
				disktest.Clean(t, img)
				if count > 10000 && features == "" {
					require.Contains(t, disktest.Debugfs(t, img, false, "htree_dump /big"), "Indirect levels: 1")
				}
				dir := mount(t, img)
				names, err := os.ReadDir(filepath.Join(dir, "big"))
				require.NoError(t, err)
				require.Len(t, names, count)
				for i := 0; i < count; i += count / 50 {
					_, err := os.Stat(filepath.Join(dir, fmt.Sprintf("big/%d-%s", i, strings.Repeat("n", i%60))))
					require.NoError(t, err)
				}
			})
		}
	}
}

// sparseFile has data at some places of a large file.
type sparseFile struct {
	io.Reader
	size int64
	at   []int64
}

func (s *sparseFile) NextData(pos int64) (int64, int64, error) {
	for _, a := range s.at {
		if a+5 > pos {
			return max(a, pos), a + 5, nil
		}
	}
	return 0, 0, io.EOF
}

func (s *sparseFile) ReadAt(b []byte, off int64) (int, error) {
	clear(b)
	n := int(max(min(int64(len(b)), s.size-off), 0))
	for _, a := range s.at {
		for i := range int64(5) {
			if p := a + i - off; p >= 0 && p < int64(n) {
				b[p] = 'x'
			}
		}
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// Files that reach each level of indirection, up to the largest size.
func TestIndirection(t *testing.T) {
	for _, bs := range []uint32{1024, 4096} {
		o := fixed(t, mkfs.Options{BlockSize: bs})
		var limit int64
		o.Fill = func(b *mkfs.Builder) error {
			limit = map[uint32]int64{1024: 17247252480, 4096: 2196873666560}[bs]
			s := &sparseFile{size: limit, at: []int64{0, 11 * 1024, 12 * 1024, 48 * 1024, 300 * 1024, 5 << 20, 65 << 20, 68 << 20, 4<<30 - 3, 5 << 30, limit - 5}}
			if err := b.Add(&mkfs.Node{Path: "largest", Mode: disk.ModeRegular | 0o644, Size: limit}, s); err != nil {
				return err
			}
			return b.Add(&mkfs.Node{Path: "dense", Mode: disk.ModeRegular | 0o644, Size: 66 << 20}, &pattern{size: 66 << 20})
		}
		img := format(t, 160<<20, o)
		disktest.Clean(t, img)
		out := disktest.Debugfs(t, img, false, "stat largest", "stat dense")
		require.Contains(t, out, "(TIND)")
		require.Contains(t, out, fmt.Sprintf("Size: %d", limit))
		o.Fill = func(b *mkfs.Builder) error {
			return b.Add(&mkfs.Node{Path: "over", Mode: disk.ModeRegular, Size: limit + 1}, nil)
		}
		_, err := mkfs.Format(make(memory, 160<<20), 160<<20, o)
		require.ErrorIs(t, err, errno.FBIG)
		dir := mount(t, img)
		f, err := os.Open(filepath.Join(dir, "largest"))
		require.NoError(t, err)
		for _, at := range []int64{0, 48 * 1024, 4<<30 - 3, limit - 5} {
			b := make([]byte, 5)
			_, err := f.ReadAt(b, at)
			require.NoError(t, err)
			require.Equal(t, "xxxxx", string(b))
		}
		require.NoError(t, f.Close())
		got, err := os.ReadFile(filepath.Join(dir, "dense"))
		require.NoError(t, err)
		want, _ := io.ReadAll(&pattern{size: 66 << 20})
		require.True(t, bytes.Equal(want, got))
	}
}

func tarball(t testing.TB, hs ...*tar.Header) *bytes.Buffer {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range hs {
		if h.Format == 0 {
			h.Format = tar.FormatPAX
		}
		require.NoError(t, w.WriteHeader(h))
		_, err := io.Copy(w, &pattern{size: h.Size})
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return &b
}

// A tar of the tree that GNU tar made gives the same tree.
func TestFromGNUTar(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("SKIPPED, NOTHING CHECKED: no tar")
	}
	src := sourceTree(t)
	require.NoError(t, os.RemoveAll(src+"/s")) // a tar has no sockets
	require.NoError(t, os.Chtimes(src, past, past))
	cmd := exec.Command("tar", "-C", src, "--format=pax", "--sort=name", "--xattrs", "--xattrs-include=*", "--acls", "--sparse", "--numeric-owner", "-czf", "-", ".")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	require.NoError(t, cmd.Run(), errs.String())
	img := format(t, 64<<20, fixed(t, mkfs.Options{BlockSize: 1024, Inodes: 3000, Fill: mkfs.FromTar(&out, mkfs.TarOptions{})}))
	disktest.Clean(t, img)
	dir := mount(t, img)
	require.Equal(t, strings.Join(listing(t, src, none), "\n"), strings.Join(listing(t, dir, none), "\n"))
}

// Names that come twice, parents that do not come at all, and what an archive can hold that a filesystem cannot.
func TestFromTar(t *testing.T) {
	b := tarball(t,
		&tar.Header{Name: "x/y/file", Typeflag: tar.TypeReg, Mode: 0o644, Size: 500000, Uid: 5},
		&tar.Header{Name: "x/y/link", Typeflag: tar.TypeLink, Linkname: "x/y/file"},
		&tar.Header{Name: "./x/y/file", Typeflag: tar.TypeReg, Mode: 0o600, Size: 3000, PAXRecords: map[string]string{"SCHILY.xattr.user.big": strings.Repeat("b", 500)}},
		&tar.Header{Name: "x/y/gone", Typeflag: tar.TypeReg, Size: 400000, PAXRecords: map[string]string{"SCHILY.xattr.user.big": strings.Repeat("b", 500)}},
		&tar.Header{Name: "x/y/gone", Typeflag: tar.TypeSymlink, Linkname: "file"},
		&tar.Header{Name: "x/y/gone2", Typeflag: tar.TypeReg, Size: 400000, PAXRecords: map[string]string{"SCHILY.xattr.user.big": strings.Repeat("c", 500)}},
		&tar.Header{Name: "x/y/gone2", Typeflag: tar.TypeDir, Mode: 0o755},
		&tar.Header{Name: "x", Typeflag: tar.TypeDir, Mode: 0o700, Uid: 9, ModTime: past},
		&tar.Header{Name: "/", Typeflag: tar.TypeDir, Mode: 0o711},
		&tar.Header{Name: "dev", Typeflag: tar.TypeBlock, Devmajor: 8, Devminor: 300, Mode: 0o600},
		&tar.Header{Name: "acl", Typeflag: tar.TypeReg, Mode: 0o670, PAXRecords: map[string]string{
			"SCHILY.acl.access": "user::rw-,user:lisa:rwx:1000,group::r--,mask::rwx,other::---",
		}},
		&tar.Header{Name: "x/y/late", Typeflag: tar.TypeReg, Size: 800000},
	)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, err := z.Write(b.Bytes())
	require.NoError(t, err)
	require.NoError(t, z.Close())
	img := format(t, 4<<20, fixed(t, mkfs.Options{Inodes: 40, Fill: mkfs.FromTar(&packed, mkfs.TarOptions{})}))
	disktest.Clean(t, img)
	dir := mount(t, img)
	st, err := os.Stat(dir + "/x/y/file")
	require.NoError(t, err)
	require.EqualValues(t, 3000, st.Size())
	st, err = os.Stat(dir + "/x/y/link")
	require.NoError(t, err)
	require.EqualValues(t, 500000, st.Size())
	require.EqualValues(t, 1, st.Sys().(*syscall.Stat_t).Nlink)
	st, err = os.Stat(dir + "/x")
	require.NoError(t, err)
	require.EqualValues(t, 9, st.Sys().(*syscall.Stat_t).Uid)
	require.True(t, st.ModTime().Equal(past))
	st, err = os.Lstat(dir + "/dev")
	require.NoError(t, err)
	require.EqualValues(t, unix.Mkdev(8, 300), st.Sys().(*syscall.Stat_t).Rdev)
	v := make([]byte, 100)
	n, err := unix.Getxattr(dir+"/acl", "system.posix_acl_access", v)
	require.NoError(t, err)
	require.Equal(t, 4+5*8, n)

	for want, h := range map[string]*tar.Header{
		"leaves the root":     {Name: "a/../../b", Typeflag: tar.TypeReg},
		"not stored yet":      {Name: "a", Typeflag: tar.TypeLink, Linkname: "b"},
		"root has to be":      {Name: ".", Typeflag: tar.TypeSymlink, Linkname: "b"},
		"number of the user":  {Name: "a", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.acl.access": "user::rw-,user:nobody-of-that-name:rwx,group::r--,mask::rwx,other::---"}},
		"is a directory":      {Name: "lost+found", Typeflag: tar.TypeReg},
		"a name of 300 bytes": {Name: strings.Repeat("n", 300), Typeflag: tar.TypeReg},
		"of 32 bits":          {Name: "a", Typeflag: tar.TypeReg, Uid: 1 << 33},
		"device 5000":         {Name: "a", Typeflag: tar.TypeChar, Devmajor: 5000},
		"target":              {Name: "a", Typeflag: tar.TypeSymlink},
	} {
		_, err := mkfs.Format(make(memory, 1<<20), 1<<20, mkfs.Options{Fill: mkfs.FromTar(tarball(t, h), mkfs.TarOptions{})})
		require.ErrorContains(t, err, want)
		require.NotEqual(t, errno.IO, errno.From(err), "%v", err)
	}
	whole := tarball(t, &tar.Header{Name: "a", Typeflag: tar.TypeReg, Size: 5000}).Bytes()
	_, err = mkfs.Format(make(memory, 1<<20), 1<<20, mkfs.Options{Fill: mkfs.FromTar(bytes.NewReader(whole[:2000]), mkfs.TarOptions{})})
	require.ErrorContains(t, err, "contents end before")
}

func TestFromFS(t *testing.T) {
	fsys := fstest.MapFS{
		"a/b.txt": {Data: []byte("hello"), Mode: 0o640, ModTime: past},
		"a/link":  {Data: []byte("b.txt"), Mode: fs.ModeSymlink | 0o777},
	}
	img := format(t, 1<<20, fixed(t, mkfs.Options{Fill: mkfs.FromFS(fsys, mkfs.Owner{UID: 3, GID: 4})}))
	disktest.Clean(t, img)
	require.Equal(t, "hello", disktest.Debugfs(t, img, false, "cat a/b.txt"))
	require.Contains(t, disktest.Debugfs(t, img, false, "stat a/link"), "Fast link dest: \"b.txt\"")
}

// A tree that does not fit says so, whatever runs out, and leaves no filesystem.
func TestNoSpace(t *testing.T) {
	file := func(path string, size int64) func(*mkfs.Builder) error {
		return func(b *mkfs.Builder) error {
			return b.Add(&mkfs.Node{Path: path, Mode: disk.ModeRegular | 0o644, Size: size}, &pattern{size: size})
		}
	}
	for want, fill := range map[string]func(*mkfs.Builder) error{
		`"big": all 1024 blocks`: file("big", 2<<20),
		"inodes are in use": func(b *mkfs.Builder) error {
			for i := range 200 {
				if err := file(fmt.Sprint(i), 0)(b); err != nil {
					return err
				}
			}
			return nil
		},
		"contents end before": func(b *mkfs.Builder) error {
			return b.Add(&mkfs.Node{Path: "short", Mode: disk.ModeRegular, Size: 100}, strings.NewReader("x"))
		},
		"more than 31998 subdirectories": func(b *mkfs.Builder) error {
			for i := range 33000 {
				if err := b.Add(&mkfs.Node{Path: fmt.Sprint(i), Mode: disk.ModeDir | 0o755}, nil); err != nil {
					return err
				}
			}
			return nil
		},
		"attributes need": func(b *mkfs.Builder) error {
			return b.Add(&mkfs.Node{Path: "x", Mode: disk.ModeRegular, Xattrs: map[string][]byte{"user.x": make([]byte, 5000)}}, nil)
		},
		"no name space": func(b *mkfs.Builder) error {
			return b.Add(&mkfs.Node{Path: "x", Mode: disk.ModeRegular, Xattrs: map[string][]byte{"other.x": nil}}, nil)
		},
	} {
		size := int64(1 << 20)
		o := fixed(t, mkfs.Options{Fill: fill, Zeroed: true})
		if strings.Contains(want, "subdirectories") {
			size, o.Inodes = 128<<20, 40000
		}
		m := make(memory, size)
		_, err := mkfs.Format(m, size, o)
		require.ErrorContains(t, err, want)
		require.NotEqual(t, errno.From(err), errno.Errno(0))
		require.Equal(t, make([]byte, 2), []byte(m[1024+56:1024+58]), "no magic number")
	}
	path := t.TempDir() + "/img"
	_, err := mkfs.FormatFile(path, 1<<20, false, mkfs.Options{Fill: file("big", 2<<20)})
	require.ErrorIs(t, err, errno.NOSPC)
	_, err = os.Stat(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// Filled to the last block and the last inode, it is still clean.
func TestFull(t *testing.T) {
	for _, bs := range []uint32{1024, 4096} {
		size := int64(1 << 20)
		var n int64
		fill := func(b *mkfs.Builder) error {
			for i := range n {
				if err := b.Add(&mkfs.Node{Path: fmt.Sprint("f", i), Mode: disk.ModeRegular | 0o644, Size: 9000}, &pattern{size: 9000}); err != nil {
					return err
				}
			}
			return nil
		}
		o := fixed(t, mkfs.Options{BlockSize: bs, Fill: fill, Inodes: 200})
		for n = 1; ; n++ {
			if _, err := mkfs.Format(make(memory, size), size, o); err != nil {
				require.ErrorIs(t, err, errno.NOSPC)
				break
			}
			require.Less(t, n, int64(1000))
		}
		n--
		img := format(t, size, o)
		disktest.Clean(t, img)
	}
}

// failing is a device whose n-th write fails.
type failing struct {
	memory
	left int
}

func (f *failing) WriteAt(b []byte, off int64) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errno.IO
	}
	return f.memory.WriteAt(b, off)
}

// Each write that fails is reported, and no filesystem is left behind.
func TestWriteErrors(t *testing.T) {
	fill := func(b *mkfs.Builder) error {
		x := map[string][]byte{"user.x": make([]byte, 500)}
		_ = b.Add(&mkfs.Node{Path: "d/f", Mode: disk.ModeRegular, Size: 900000, Xattrs: x}, &pattern{size: 900000})
		_ = b.Add(&mkfs.Node{Path: "d/g", Mode: disk.ModeRegular, Xattrs: x}, nil)
		return b.Done("d") // the first error is kept
	}
	for n := 0; ; n++ {
		f := &failing{make(memory, 2<<20), n}
		_, err := mkfs.Format(f, 2<<20, fixed(t, mkfs.Options{Fill: fill}))
		if err == nil {
			require.Greater(t, n, 20)
			return
		}
		require.ErrorIs(t, err, errno.IO, "write %d", n)
		require.Equal(t, make([]byte, 2), []byte(f.memory[1024+56:1024+58]), "write %d: no magic number", n)
	}
}

func TestProgressStops(t *testing.T) {
	stop := errors.New("stop")
	var last mkfs.Progress
	_, err := mkfs.Format(make(memory, 8<<20), 8<<20, mkfs.Options{
		Fill: func(b *mkfs.Builder) error {
			return b.Add(&mkfs.Node{Path: "f", Mode: disk.ModeRegular, Size: 6 << 20}, &pattern{size: 6 << 20})
		},
		Progress: func(p mkfs.Progress) error {
			last = p
			if p.Bytes > 2<<20 {
				return stop
			}
			return nil
		},
	})
	require.ErrorIs(t, err, stop)
	require.Equal(t, "f", last.Path)
	require.EqualValues(t, 3<<20, last.Bytes)
}

func Example() {
	size := int64(8 << 20)
	disk := make(memory, size) // an *os.File in real life
	sb, err := mkfs.Format(disk, size, mkfs.Options{
		Label: "demo", Zeroed: true,
		Fill: mkfs.FromFS(fstest.MapFS{"hello": {Data: []byte("world")}}, mkfs.Owner{}),
	})
	fmt.Println(sb.Label(), sb.BlockSize(), sb.Blocks, err)
	// Output: demo 1024 8192 <nil>
}
