package minix

import (
	"errors"
	"testing"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// lay gives block fb of a file up to n zones that lie together, without data.
func (r *rig) lay(f *vfs.File, fb, n uint64) {
	r.Helper()
	e, err := inodeOf(f.Inode).allocate(background, fb, n)
	r.must(err)
	if e.n != n {
		r.Fatalf("%d zones for %d blocks", e.n, n)
	}
}

// A run that continues over the seam between the inode and an indirect zone is one extent.
func TestStep05Seams(t *testing.T) {
	r := newRig(t, step04)
	f := r.create("f")
	r.resize(f, 264<<10)
	r.lay(f, 263, 1) // indirect zones first, so that they do not lie between the others
	r.lay(f, 262, 1)
	r.lay(f, 0, 7)
	r.lay(f, 7, 255)
	zones := r.zones(f)
	if zones[7] != zones[6]+1 {
		t.Fatalf("the file is not as the test needs it: block 6 is zone %d, block 7 zone %d", zones[6], zones[7])
	}
	list := r.extents(f, 100)
	for _, e := range list {
		for off := uint64(0); off < e.Length; off += 1024 {
			b := (e.Logical + off) / 1024
			if got, want := e.Physical+off, zones[b]*1024; got != want {
				t.Fatalf("extent %s says that block %d lies at byte %d; its zone is %d, at byte %d", describe(e), b, got, zones[b], want)
			}
		}
	}
	if len(list) != 3 {
		t.Errorf("%d extents; blocks 0 to 261 lie in zones %d to %d, which is one, and 262 and 263 are two more", len(list), zones[0], zones[261])
	}
}

// A hole over many seams is one answer.
func TestStep05LongHole(t *testing.T) {
	count := func(word string) (calls int) {
		r := newRig(t, word)
		f := r.file("f", 200_001<<10, 0, 200_000)
		r.count.since()
		got, err := f.Seek(background, 1024, vfs.SeekData)
		if err != nil || got != 200_000<<10 {
			t.Fatalf("SEEK_DATA at 1024 answered %d, %v; blocks 1 to 199999 have no zone, so the data starts at %d", got, err, 200_000<<10)
		}
		n := r.count.since()
		return n[trace.GetBlock] + n[trace.Begin]
	}
	now := count("iomap=seek")
	if now > 2 {
		t.Errorf("SEEK_DATA over one hole of 199999 blocks asked begin %d times; want twice: for the hole, and for the data", now)
	}
	before := 0
	if !oneSided() {
		before = count("legacy=seek")
	}
	t.Logf("counter: %-32s before %4d, now %4d", "calls to seek over a hole", before, now)
}

// What may allocate nothing says so at a hole.
func TestStep05Over(t *testing.T) {
	r := newRig(t, step04)
	f := r.file("f", 8<<10, 2, 3)
	free := r.free()
	for b, z := range r.zones(f) {
		m := newMapping()
		err := overOps.Begin(background, f.Inode, int64(b)<<10, 1024, iomap.OpWrite|iomap.OpDirect, m, newMapping())
		switch {
		case z == 0 && !errors.Is(err, vfs.ErrNotBlock):
			t.Errorf("block %d is a hole; overBegin answered %s, %v, want vfs.ErrNotBlock", b, m, err)
		case z != 0 && (err != nil || m.Type != iomap.Mapped || m.AddrOf(int64(b)<<10) != int64(z)<<10):
			t.Errorf("block %d is zone %d; overBegin answered %s, %v", b, z, m, err)
		}
	}
	if got := r.free(); got != free {
		t.Errorf("%d zones were taken by asking", free-got)
	}
}
