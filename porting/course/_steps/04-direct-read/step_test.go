package minix

import (
	"testing"

	"github.com/iomapfs/iomapfs/vfs/trace"
)

const step04 = step03 + "+dio-read"

// Around every border of a file with holes, and its end.
func TestStep04Bytes(t *testing.T) {
	r := newRig(t, step04)
	f := r.file("f", 20<<10+600, blocks([2]int64{0, 3}, [2]int64{5, 9}, [2]int64{15, 21})...)
	zones, size := r.zones(f), f.Inode.Size()
	for b := int64(0); b < 22; b++ {
		for n := int64(1); n < 6; n++ {
			pos := b << 10
			p := r.direct(f, pos, int(n<<10))
			if want := max(min(n<<10, size-pos), 0); int64(len(p)) != want {
				t.Fatalf("a read of %d bytes at %d gave %d; the file ends at %d", n<<10, pos, len(p), size)
			}
			for i, c := range p {
				at := (pos + int64(i)) >> 10
				want := byte(0)
				if zones[at] != 0 {
					want = byte(at%100 + 1)
				}
				if c != want {
					t.Fatalf("byte %d is %d; block %d has zone %d and holds %d", pos+int64(i), c, at, zones[at], want)
				}
			}
		}
	}
}

// What was just written through the cache is read.
func TestStep04DirtyCache(t *testing.T) {
	r := newRig(t, step04)
	f := r.file("f", 8<<10, 0, 1, 2)
	_, err := f.WriteAt(background, []byte("dirty"), 1030)
	r.must(err)
	if p := r.direct(f, 1024, 1024); string(p[6:11]) != "dirty" {
		t.Errorf("the direct read saw %q where the cache holds \"dirty\"", p[6:11])
	}
}

// As few calls as there are runs.
func TestStep04Calls(t *testing.T) {
	r := newRig(t, step04)
	f := r.file("f", 256<<10, blocks([2]int64{0, 256})...)
	r.direct(f, 0, 256<<10)
	r.count.since()
	r.direct(f, 0, 256<<10)
	n := r.count.since()
	r.changed("begins", 0, n[trace.Begin])
	r.changed("bios", 0, n[trace.BioSubmit])
	if n[trace.GetBlock] != 0 {
		t.Errorf("get_block was called %d times", n[trace.GetBlock])
	}
	if n[trace.Begin] > 8 {
		t.Errorf("%d begins for a file that lies nearly in one piece", n[trace.Begin])
	}
}
