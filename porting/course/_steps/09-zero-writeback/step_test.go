package minix

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// cached is a rig whose regular files have their cache on iomap, except for buffered writes: a test that keeps to direct writes can
// have it before all of it is ported.
func cached(t *testing.T) *rig {
	r := newRig(t, step07)
	fs := r.sb.Private.(*fsys)
	fs.iomapCache(&fs.tables)
	return r
}

// onDevice reads a block of a file past everything, 0xAA for a hole.
func (r *rig) onDevice(f *vfs.File, b uint64) []byte {
	r.Helper()
	p := bytes.Repeat([]byte{oldByte}, 1024)
	e, err := inodeOf(f.Inode).resolve(background, b, 1)
	r.must(err)
	if e.first != 0 {
		r.must(block.ReadAt(r.dev.Device, p, int64(e.first)<<10))
	}
	return p
}

// What is cut off does not come back, neither from the cache nor from the device.
func TestStep09Cut(t *testing.T) {
	r := cached(t)
	f := r.create("f")
	_, err := r.directWrite(f, 0, bytes.Repeat([]byte{7}, 4096))
	r.must(err)
	r.resize(f, 1500)
	r.resize(f, 4096)
	want := make([]byte, 4096)
	copy(want, bytes.Repeat([]byte{7}, 1500))
	p := make([]byte, 4096)
	_, err = f.ReadAt(background, p, 0)
	r.must(err)
	r.same("cut to 1500 bytes and grown again", p, want)
	r.must(f.Fsync(background, false))
	if d := r.onDevice(f, 1); !bytes.Equal(d, want[1024:2048]) {
		t.Fatalf("block 1 on the device has %d at byte 476, which was cut off: fsync must have written the zeros there", d[476])
	}
	r.same("read from the device", r.read(f), want)
}

// Zeroing a hole takes no zone, and makes nothing dirty.
func TestStep09Hole(t *testing.T) {
	r := cached(t)
	f := r.create("f")
	r.resize(f, 10<<10)
	r.must(f.Fsync(background, false))
	free := r.free()
	r.resize(f, 5000)
	r.resize(f, 10<<10)
	if f.Inode.Pages.IsDirty() {
		t.Error("the file is one hole: cutting it at 5000 made pages dirty")
	}
	r.must(f.Fsync(background, false))
	if got := r.free(); got != free {
		t.Errorf("the file is one hole: cutting it at 5000 took %d zones", free-got)
	}
}

// Changes of length and direct writes, in any order.
func TestStep09Bytes(t *testing.T) {
	r := cached(t)
	f := r.create("f")
	const room = 64 << 10
	want, size := make([]byte, room), int64(0)
	rnd := rand.New(rand.NewPCG(9, 9))
	for i := range 200 {
		switch rnd.IntN(3) {
		case 0:
			pos, n := min(rnd.Int64N(room-8192), size)&^1023, (1+rnd.Int64N(7))<<10 // at no hole: those go through the cache
			p := bytes.Repeat([]byte{byte(i%100 + 1)}, int(n))
			for b := pos; b < min(pos+n, size); b += 1024 {
				if e, err := inodeOf(f.Inode).resolve(background, uint64(b)>>10, 1); err != nil || e.first == 0 {
					p = nil
					break
				}
			}
			if p == nil {
				continue
			}
			_, err := r.directWrite(f, pos, p)
			r.must(err)
			copy(want[pos:], p)
			size = max(size, pos+n)
		case 1:
			size = rnd.Int64N(room)
			r.resize(f, size)
			clear(want[size:])
		case 2:
			p := make([]byte, size)
			_, err := f.ReadAt(background, p, 0)
			r.must(err)
			r.same("through the cache", p, want[:size])
		}
	}
	r.same("in the end", r.read(f), want[:size])
}

// A long file is written back by a call for a run, and the answer of before is used as long as it holds.
func TestStep09Calls(t *testing.T) {
	r := cached(t)
	f := r.create("f")
	_, err := r.directWrite(f, 0, bytes.Repeat([]byte{7}, 250<<10))
	r.must(err)
	r.read(f)
	for i := uint64(0); i < 62; i++ {
		fo, err := f.Inode.Pages.ReadFolio(background, i)
		r.must(err)
		fo.Lock()
		fo.MarkDirty()
		fo.Unlock()
		fo.Put()
	}
	asked, last := 0, uint64(0)
	r.count.on(func(e trace.Event) bool {
		if e.Kind == trace.MapBlocks && e.Addr != last {
			asked, last = asked+1, e.Addr
		}
		return false
	})
	r.dev.bios.Store(0)
	r.must(f.Inode.Pages.WriteAndWait(background, 0, 1<<40))
	n := r.count.since()
	t.Logf("counter: %-32s before %4d, now %4d", "answers to write back 248 KiB", 62, asked)
	t.Logf("counter: %-32s before %4d, now %4d", "bios", 0, int(r.dev.bios.Load()))
	if n[trace.MapBlocks] == 0 {
		t.Fatal("nothing was written back")
	}
	if asked > 8 {
		t.Errorf("mapBlocks gave %d different answers for a file that lies in 3 runs", asked)
	}
	// A file that changed meanwhile: the answer of before does not hold.
	e, err := inodeOf(f.Inode).resolve(background, 0, 1)
	r.must(err)
	m := newMapping()
	r.must(readOps.Begin(background, f.Inode, 0, 1024, 0, m, newMapping()))
	if !mapValid(f.Inode, m) {
		t.Errorf("nothing changed since begin answered %s, and mapValid says that it does not hold", m)
	}
	r.resize(f, 100<<10)
	if mapValid(f.Inode, m) {
		t.Errorf("the file was cut; %s, with zone %d first, is said to hold still", m, e.first)
	}
}
