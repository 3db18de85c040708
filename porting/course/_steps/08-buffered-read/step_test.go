package minix

import (
	"errors"
	"slices"
	"testing"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// again mounts the image of r read-only and opens a file of the root.
func (r *rig) again(name string, words ...string) *vfs.File {
	r.Helper()
	r.unmount()
	r.mount(true, words...)
	ip, err := r.sb.Root.Lookup(background, name)
	r.must(err)
	defer ip.Put()
	f, err := ip.Open(background, vfs.ORdonly)
	r.must(err)
	r.Cleanup(func() { r.close(f) })
	return f
}

// Every byte of a file with holes, in pieces of every kind.
func TestStep08Bytes(t *testing.T) {
	r := newRig(t)
	size := int64(500<<10 + 77)
	f := r.file("f", size, holey...)
	r.close(f)
	want := make([]byte, size)
	for _, b := range holey {
		copy(want[b<<10:], r.blockData(b))
	}
	f = r.again("f", "iomap=buffered-read")
	for _, n := range []int64{1 << 20, 4096, 1000, 77} {
		f.Inode.Pages.DropClean(0, 1<<40)
		var got []byte
		for pos := int64(0); pos < size; pos += n {
			p := make([]byte, n)
			k, err := f.ReadAt(background, p, pos)
			if err != nil {
				t.Fatalf("read of %d bytes at %d: %v", n, pos, err)
			}
			got = append(got, p[:k]...)
		}
		r.same("read through the cache", got, want)
	}
	f.Inode.Pages.DropClean(0, 1<<40)
	if n := f.Inode.Pages.Pages(); n > 0 {
		t.Errorf("%d clean pages cannot be dropped: what hangs on a folio must come off (ReleaseFolio)", n)
	}
	r.close(f)
}

// A call for a run, not for a page.
func TestStep08Calls(t *testing.T) {
	cost := func(word string) (calls, bios int) {
		r := newRig(t)
		r.close(r.file("f", 512<<10, blocks([2]int64{0, 512})...))
		f := r.again("f", word)
		r.count.since()
		r.dev.bios.Store(0)
		_, err := f.ReadAt(background, make([]byte, 512<<10), 0)
		r.must(err)
		n := r.count.since()
		if word == "iomap=buffered-read" && n[trace.GetBlock] > 0 {
			t.Errorf("get_block was called %d times", n[trace.GetBlock])
		}
		r.close(f)
		return n[trace.GetBlock] + n[trace.Begin], int(r.dev.bios.Load())
	}
	calls, bios := cost("iomap=buffered-read")
	if calls > 20 {
		t.Errorf("%d begins to read 512 KiB that lie in 3 runs", calls)
	}
	var calls0, bios0 int
	if !oneSided() {
		calls0, bios0 = cost("legacy=buffered-read+buffered-write+writeback+fault+zero")
	}
	t.Logf("counter: %-32s before %4d, now %4d", "calls to read 512 KiB", calls0, calls)
	t.Logf("counter: %-32s before %4d, now %4d", "bios", bios0, bios)
}

// A mixture that cannot work is refused, with the reason.
func TestStep08Mixture(t *testing.T) {
	if oneSided() {
		t.Skip("there is nothing to mix any more")
	}
	r := newRig(t)
	r.unmount()
	try := func(readOnly bool, words ...string) error {
		sb, err := Type.Mount(background, r.dev, &vfs.MountOptions{Words: words, CacheBytes: 1 << 20, ReadOnly: readOnly})
		if err == nil {
			r.must(sb.Unmount(background))
		}
		return err
	}
	if err := try(false, "path=legacy", "iomap=buffered-read"); !errors.Is(err, errno.INVAL) {
		t.Errorf("buffered-read on iomap, the rest of the cache on legacy: %v; want EINVAL", err)
	}
	if err := try(true, "path=legacy", "iomap=buffered-read"); err != nil {
		t.Errorf("the same, on a mount that writes nothing: %v; it works", err)
	}
	for _, word := range []string{"path=legacy", "path=bridge", "iomap=fiemap+dio-read"} {
		if err := try(false, word); err != nil {
			t.Errorf("%s: %v; nothing of the cache is mixed", word, err)
		}
	}
	if slices.Contains(Type.Sides(vfs.OpWriteback), vfs.Iomap) {
		for _, op := range []string{"buffered-read", "buffered-write", "writeback", "fault", "zero"} {
			if err := try(false, "path=iomap", "legacy="+op); !errors.Is(err, errno.INVAL) {
				t.Errorf("%s on legacy, the rest of the cache on iomap: %v; want EINVAL", op, err)
			}
		}
	}
	r.mount(true, "path=legacy", "iomap=buffered-read")
	if err := r.sb.Remount(background, false); !errors.Is(err, errno.INVAL) {
		t.Errorf("a read-only mount with buffered-read alone on iomap became writable: %v; want EINVAL", err)
	}
}
