package minix

import (
	"testing"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// Every block is where the extents say.
func TestStep01Extents(t *testing.T) {
	r := newRig(t, "iomap=fiemap")
	f := r.file("f", 500<<10, holey...)
	zones := r.zones(f)
	seen := map[uint64]bool{}
	for _, e := range r.extents(f, 1000) {
		if e.Flags&vfs.ExtentMerged == 0 {
			t.Errorf("extent %s: put together from zone numbers, so FlagMerged must be set", describe(e))
		}
		for off := uint64(0); off < e.Length; off += 1024 {
			b := (e.Logical + off) / 1024
			seen[b] = true
			if b >= uint64(len(zones)) || zones[b] == 0 {
				t.Fatalf("extent %s covers block %d, which is a hole", describe(e), b)
			}
			if got, want := e.Physical+off, zones[b]*1024; got != want {
				t.Fatalf("extent %s says that block %d lies at byte %d; its zone is %d, at byte %d", describe(e), b, got, zones[b], want)
			}
		}
	}
	for b, z := range zones {
		if z != 0 && !seen[uint64(b)] {
			t.Fatalf("block %d is zone %d, and no extent covers it", b, z)
		}
	}
}

// The last extent is marked, and only when there was room for it.
func TestStep01LastExtent(t *testing.T) {
	r := newRig(t, "iomap=fiemap")
	f := r.file("f", 500<<10, holey...)
	all := r.extents(f, 1000)
	if len(all) == 0 {
		t.Fatal("no extent at all")
	}
	if all[len(all)-1].Flags&vfs.ExtentLast == 0 {
		t.Errorf("the last of %d extents is not marked as the last", len(all))
	}
	if some := r.extents(f, 1); some[0].Flags&vfs.ExtentLast != 0 {
		t.Error("with room for one extent of several, the one is marked as the last")
	}
}

// A file without blocks, and the largest file there can be.
func TestStep01Ends(t *testing.T) {
	r := newRig(t, "iomap=fiemap")
	if list := r.extents(r.file("empty", 0), 10); len(list) != 0 {
		t.Errorf("an empty file has %d extents", len(list))
	}
	if list := r.extents(r.file("sparse", r.sb.MaxBytes), 10); len(list) != 0 {
		t.Errorf("a file without zones has %d extents", len(list))
	}
	m, src := newMapping(), newMapping()
	pos := int64(inodeOf(r.sb.Root).fs.super.MaxBlocks()) << r.sb.BlockBits
	if err := readBegin(background, r.sb.Root, pos, 4096, 0, m, src); err != nil {
		t.Errorf("begin behind the largest file: %v; want a hole", err)
	}
}

// The same as the legacy path, for fewer calls.
func TestStep01Calls(t *testing.T) {
	var before, after int
	for _, path := range []string{"legacy=fiemap", "iomap=fiemap"} {
		r := newRig(t, path)
		f := r.file("f", 500<<10, holey...)
		r.count.since()
		r.extents(f, 1000)
		n := r.count.since()
		if path == "legacy=fiemap" {
			before = n[trace.GetBlock]
			continue
		}
		after = n[trace.Begin]
		if n[trace.GetBlock] != 0 {
			t.Errorf("get_block was called %d times on the iomap path; want 0", n[trace.GetBlock])
		}
		r.changed("get_block calls", before, n[trace.GetBlock])
		r.changed("begins", 0, after)
		if after > before {
			t.Errorf("begin was called %d times, get_block %d on the legacy path: mappings are shorter than the runs and holes", after, before)
		}
	}
}
