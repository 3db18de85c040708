package minix

import (
	"errors"
	"testing"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

const step03 = "iomap=fiemap+seek+bmap+swap"

// From every byte around each border.
func TestStep03Seek(t *testing.T) {
	r := newRig(t, step03)
	f := r.file("f", 20<<10+100, blocks([2]int64{0, 3}, [2]int64{5, 9}, [2]int64{15, 16})...)
	zones, size := r.zones(f), f.Inode.Size()
	data := func(pos int64) bool { return pos < size && zones[pos>>10] != 0 }
	for b := int64(0); b <= size>>10+1; b++ {
		for d := int64(-2); d <= 2; d++ {
			pos := b<<10 + d
			if pos < 0 {
				continue
			}
			for whence, name := range map[int]string{vfs.SeekData: "SEEK_DATA", vfs.SeekHole: "SEEK_HOLE"} {
				want := pos
				for want < size && data(want) != (whence == vfs.SeekData) {
					want++
				}
				got, err := f.Seek(background, pos, whence)
				if pos >= size || whence == vfs.SeekData && want >= size {
					if !errors.Is(err, errno.NXIO) {
						t.Fatalf("%s at %d answered %d, %v; there is none, which is ENXIO", name, pos, got, err)
					}
					continue
				}
				if err != nil || got != want {
					t.Fatalf("%s at %d answered %d, %v; want %d (block %d has zone %d)", name, pos, got, err, want, pos>>10, zones[pos>>10])
				}
			}
		}
	}
}

// Every block by itself.
func TestStep03Bmap(t *testing.T) {
	r := newRig(t, step03)
	f := r.file("f", 500<<10, holey...)
	r.count.since()
	for b, z := range r.zones(f) {
		got, err := f.Inode.Bmap(background, uint64(b))
		r.must(err)
		if got != z {
			t.Fatalf("bmap of block %d is %d; its zone is %d", b, got, z)
		}
	}
	if n := r.count.since()[trace.GetBlock]; n != 0 {
		t.Errorf("get_block was called %d times", n)
	}
}

// Whole pages only, none twice; a hole is refused.
func TestStep03Swap(t *testing.T) {
	r := newRig(t, step03)
	f := r.file("swap", 400<<10, blocks([2]int64{0, 400})...)
	zones := r.zones(f)
	r.count.since()
	pages := uint64(0)
	r.must(f.Inode.SwapActivate(background, 1000, func(e vfs.SwapExtent) error {
		if e.Addr%4096 != 0 {
			t.Errorf("pages %d… lie at byte %d, which is no page's boundary", e.Page, e.Addr)
		}
		if e.Page != pages {
			t.Errorf("the run begins with page %d, want %d", e.Page, pages)
		}
		pages += e.Pages
		return nil
	}))
	f.Inode.SwapDeactivate()
	n := r.count.since()
	r.changed("get_block calls", len(zones), n[trace.GetBlock])
	r.changed("begins", 0, n[trace.Begin])
	if n[trace.GetBlock] != 0 {
		t.Errorf("get_block was called %d times", n[trace.GetBlock])
	}
	if pages < 90 {
		t.Errorf("%d pages of 100 are usable", pages)
	}
	holes := r.file("holes", 40<<10, 0, 1, 2, 3, 30)
	if err := holes.Inode.SwapActivate(background, 1000, func(vfs.SwapExtent) error { return nil }); !errors.Is(err, errno.INVAL) {
		t.Errorf("a swap file with a hole: %v; want EINVAL", err)
	}
}
