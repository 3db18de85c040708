package minix

import (
	"bytes"
	"testing"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// holey is the blocks of a file with holes: direct zones, the first indirect zone, the second level.
var holey = blocks([2]int64{0, 3}, [2]int64{5, 9}, [2]int64{100, 120}, [2]int64{400, 401})

// What is written is read, through the cache and around it, with holes, and after the image was mounted again.
func TestStep00Works(t *testing.T) {
	r := newRig(t, "path=legacy")
	f := r.file("f", 500<<10+77, holey...)
	want := make([]byte, 500<<10+77)
	for _, b := range holey {
		copy(want[b<<10:], r.blockData(b))
	}
	r.same("read through the cache", r.read(f), want)
	r.same("read directly", r.direct(f, 0, 501<<10), want)
	r.close(f)
	r.unmount()
	r.mount(false, "path=legacy")
	ip, err := r.sb.Root.Lookup(background, "f")
	r.must(err)
	defer ip.Put()
	f = r.open(ip)
	r.same("read after mounting again", r.read(f), want)
	r.close(f)
}

// What operations cost on buffer heads, and whether baseline.go says so.
func TestStep00Measured(t *testing.T) {
	r := newRig(t, "path=legacy")
	measure := func(what string, says int, f func()) {
		r.count.since()
		f()
		got := r.count.since()[trace.GetBlock]
		t.Logf("counter: %-32s %4d get_block calls", what, got)
		if says != got {
			t.Errorf("%s: get_block was called %d times; baseline.go says %d", what, got, says)
		}
	}
	f := r.file("f", 500<<10, holey...)
	measure("FIEMAP, 28 blocks in 4 runs", legacyCost.fiemap, func() { r.extents(f, 1000) })
	swap := r.file("swap", 400<<10, blocks([2]int64{0, 400})...)
	measure("swapon, 400 blocks", legacyCost.swap, func() {
		r.must(swap.Inode.SwapActivate(background, 1000, func(vfs.SwapExtent) error { return nil }))
		swap.Inode.SwapDeactivate()
	})
	w := r.create("w")
	measure("write of 100 blocks, and fsync", legacyCost.write, func() {
		_, err := w.WriteAt(background, bytes.Repeat([]byte{7}, 100<<10), 0)
		r.must(err)
		r.must(w.Fsync(background, false))
	})
}
