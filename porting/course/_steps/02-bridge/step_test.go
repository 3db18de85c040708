package minix

import (
	"testing"

	"github.com/iomapfs/iomapfs/vfs/trace"
)

// Bytes read through the bridge are the file's.
func TestStep02Bytes(t *testing.T) {
	r := newRig(t, "path=bridge")
	f := r.file("f", 500<<10+77, holey...)
	f.Inode.Pages.DropClean(0, 1<<40)
	in := map[int64]bool{}
	for _, b := range holey {
		in[b] = true
	}
	p := make([]byte, f.Inode.Size())
	n, err := f.ReadAt(background, p, 0)
	r.must(err)
	for i, got := range p[:n] {
		want := byte(0)
		if b := int64(i) >> r.sb.BlockBits; in[b] {
			want = byte(b%100 + 1)
		}
		if got != want {
			t.Fatalf("byte %d (block %d) reads as %d, want %d", i, i>>r.sb.BlockBits, got, want)
		}
	}
}

// Begin is asked when a file is read, and not when something is allocated.
func TestStep02WhoIsAsked(t *testing.T) {
	r := newRig(t, "path=bridge")
	f := r.file("f", 300<<10, blocks([2]int64{0, 300})...)
	f.Inode.Pages.DropClean(0, 1<<40)
	r.count.since()
	_, err := f.ReadAt(background, make([]byte, 300<<10), 0)
	r.must(err)
	n := r.count.since()
	r.changed("begins", 0, n[trace.Begin])
	if n[trace.Begin] == 0 {
		t.Error("the file was read without a single begin: get_block still answers by itself")
	}
}
