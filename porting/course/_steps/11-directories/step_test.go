package minix

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// list gives the names of a directory, sorted.
func (r *rig) list(dir *vfs.Inode) (names []string) {
	r.Helper()
	f, err := dir.Open(background, vfs.ORdonly)
	r.must(err)
	defer f.Close()
	r.must(f.ReadDir(background, 0, func(e *vfs.DirEntry) bool {
		if e.Name != "." && e.Name != ".." {
			names = append(names, e.Name)
		}
		return true
	}))
	slices.Sort(names)
	return names
}

// fill makes n files in a new directory d.
func (r *rig) fill(n int) (dir *vfs.Inode, names []string) {
	r.Helper()
	dir, err := r.sb.Root.Mkdir(background, vfs.Root, "d", 0o755)
	r.must(err)
	r.Cleanup(dir.Put)
	for i := range n {
		name := fmt.Sprintf("name%04d", i)
		ip, err := dir.Create(background, vfs.Root, name, 0o644)
		r.must(err)
		ip.Put()
		names = append(names, name)
	}
	return dir, names
}

// Names come and go, directories move, symbolic links keep their target, and all is there after mounting again.
func TestStep11Names(t *testing.T) {
	r := newRig(t)
	root := r.sb.Root
	dir, err := root.Mkdir(background, vfs.Root, "d", 0o755)
	r.must(err)
	var want []string
	for i := range 100 {
		name := fmt.Sprintf("name%04d", i)
		ip, err := dir.Create(background, vfs.Root, name, 0o644)
		r.must(err)
		ip.Put()
		if i%3 == 0 {
			r.must(dir.Unlink(background, name))
		} else {
			want = append(want, name)
		}
	}
	target := strings.Repeat("t", 700)
	link, err := dir.Symlink(background, vfs.Root, "link", target)
	r.must(err)
	link.Put()
	want = append([]string{"link"}, want...)
	sub, err := root.Mkdir(background, vfs.Root, "sub", 0o755)
	r.must(err)
	sub.Put()
	r.must(root.RenameTo(background, "sub", dir, "moved", 0))
	want = append(want, "moved")
	slices.Sort(want)
	if got := r.list(dir); !slices.Equal(got, want) {
		t.Fatalf("the directory has %d names, want %d: %v", len(got), len(want), got)
	}
	dir.Put()
	r.unmount()
	r.mount(true)
	dir, err = r.sb.Root.Lookup(background, "d")
	r.must(err)
	if got := r.list(dir); !slices.Equal(got, want) {
		t.Fatalf("mounted again, the directory has %d names, want %d", len(got), len(want))
	}
	link, err = dir.Lookup(background, "link")
	r.must(err)
	if got, err := link.Readlink(background); err != nil || got != target {
		t.Errorf("the target has %d bytes, want %d: %v", len(got), len(target), err)
	}
	link.Put()
	dir.Put()
}

// What directories and symbolic links hold lies in their own page cache.
func TestStep11Cached(t *testing.T) {
	r := newRig(t)
	dir, _ := r.fill(20)
	if dir.Pages.Empty() {
		t.Error("a directory was filled, and nothing of it is in its page cache: it still lies in buffers")
	}
	link, err := r.sb.Root.Symlink(background, vfs.Root, "link", "target")
	r.must(err)
	defer link.Put()
	if _, err := link.Readlink(background); err != nil || link.Pages.Empty() {
		t.Errorf("a symbolic link was made and read (%v), and nothing of it is in its page cache", err)
	}
}

// A hole in a directory is damage, not a block of free slots.
func TestStep11Hole(t *testing.T) {
	r := newRig(t)
	dir, names := r.fill(60)
	r.must(dir.Pages.WriteAndWait(background, 0, 1<<40))
	dir.Pages.DropClean(0, 1<<40)
	ip := inodeOf(dir)
	set := func(z uint32) (old uint32) {
		ip.mapMu.Lock()
		defer ip.mapMu.Unlock()
		old, ip.zone[1] = ip.zone[1], z
		ip.mapSeq.Add(1)
		return old
	}
	old := set(0)
	_, err := dir.Lookup(background, "nobody")
	set(old)
	dir.Pages.DropClean(0, 1<<40)
	if !errors.Is(err, errno.UCLEAN) {
		t.Errorf("block 1 of a directory is a hole; looking a name up said %v, want EUCLEAN", err)
	}
	if got := r.list(dir); !slices.Equal(got, names) {
		t.Errorf("the directory has %d names, want %d", len(got), len(names))
	}
}

// A page at a time.
func TestStep11Calls(t *testing.T) {
	cost := func(words ...string) int {
		r := newRig(t, words...)
		dir, names := r.fill(300)
		r.must(dir.Pages.WriteAndWait(background, 0, 1<<40))
		dir.Pages.DropClean(0, 1<<40)
		fs := r.sb.Private.(*fsys)
		r.must(fs.bd.Sync(background))
		fs.bd.DropClean()
		r.dev.bios.Store(0)
		if got := r.list(dir); len(got) != len(names) {
			t.Errorf("the directory has %d names, want %d", len(got), len(names))
		}
		return int(r.dev.bios.Load())
	}
	now := cost()
	before := 0
	if !oneSided() {
		before = cost("legacy=dir")
		if now >= before {
			t.Errorf("%d bios to list 300 names, and %d from buffers", now, before)
		}
	}
	t.Logf("counter: %-32s before %4d, now %4d", "bios to list 300 names", before, now)
}
