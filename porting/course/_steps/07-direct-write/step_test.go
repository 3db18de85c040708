package minix

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

const step07 = step04 + "+dio-write"

// Direct and buffered writes, reads and changes of length, in any order, against an array. Nothing shows what the device held.
func TestStep07Bytes(t *testing.T) {
	r := newRig(t, step07)
	f := r.create("f")
	const room = 100 << 10
	want := make([]byte, room)
	size := int64(0)
	rnd := rand.New(rand.NewPCG(7, 7))
	for i := range 400 {
		pos, n := rnd.Int64N(room-8192), 1+rnd.Int64N(8192)
		p := bytes.Repeat([]byte{byte(i%100 + 1)}, int(n))
		switch op := rnd.IntN(5); op {
		case 0, 1, 2:
			if op < 2 {
				pos, n = pos&^511, (n+511)&^511 // what O_DIRECT wants
				p = bytes.Repeat(p[:1], int(n))
			}
			write := r.directWrite
			if op == 2 {
				write = func(_ *vfs.File, pos int64, p []byte) (int, error) { return f.WriteAt(background, p, pos) }
			}
			got, err := write(f, pos, p)
			r.must(err)
			if got != int(n) {
				t.Fatalf("a write of %d bytes at %d wrote %d", n, pos, got)
			}
			copy(want[pos:], p)
			size = max(size, pos+n)
		case 3:
			size = rnd.Int64N(room)
			r.resize(f, size)
			clear(want[size:])
		case 4:
			r.same("direct read", r.direct(f, pos&^511, int(n+511)&^511), want[min(pos&^511, size):min(pos&^511+(n+511)&^511, size)])
		}
		if f.Inode.Size() != size {
			t.Fatalf("the file has %d bytes, want %d", f.Inode.Size(), size)
		}
	}
	r.same("in the end", r.read(f), want[:size])
}

// A hole inside the file is not filled directly: whoever reads between begin and the data would see what the device held.
func TestStep07HoleIsNotSeen(t *testing.T) {
	r := newRig(t, step07)
	f := r.create("f")
	r.resize(f, 64<<10)
	for b := int64(0); b < 8; b++ {
		seen := make([]byte, 1024)
		pos := b << 13
		r.count.on(func(e trace.Event) bool {
			if e.Kind != trace.Begin || iomap.OpFlags(e.Flags)&iomap.OpDirect == 0 || e.Err != nil {
				return false
			}
			_, err := f.Inode.Pages.Read(background, nil, seen, pos, 0)
			r.must(err)
			return true
		})
		_, err := r.directWrite(f, pos, bytes.Repeat([]byte{9}, 1024))
		r.must(err)
		if bytes.IndexByte(seen, oldByte) >= 0 {
			t.Fatalf("while block %d, a hole, was written directly, another reader saw what its new zone held before", pos>>10)
		}
	}
}

// A write that fails leaves the file as long as it was, and no zone behind its end.
func TestStep07Failure(t *testing.T) {
	r := newRig(t, step07)
	f := r.file("f", 4<<10, 0, 1, 2, 3)
	broken := func(b *block.Bio) bool { return b.Op == block.OpWrite }
	r.dev.fail.Store(&broken)
	_, err := r.directWrite(f, 8<<10, bytes.Repeat([]byte{9}, 64<<10))
	r.dev.fail.Store(nil)
	if err == nil {
		t.Error("the device failed, and the write did not")
	}
	if got := f.Inode.Size(); got != 4<<10 {
		t.Errorf("the write behind the end failed; the file has %d bytes, want 4096", got)
	}
	for b := uint64(4); b < 80; b++ {
		e, err := inodeOf(f.Inode).resolve(background, b, 1)
		r.must(err)
		if e.first != 0 {
			t.Fatalf("the write failed; block %d behind the end keeps zone %d", b, e.first)
		}
	}
}

// A write that got nowhere is no error of the device.
func TestStep07Nothing(t *testing.T) {
	r := newRig(t, step07)
	f := r.create("f")
	m := newMapping()
	err := directOps.Begin(background, f.Inode, 0, 4096, iomap.OpWrite|iomap.OpDirect, m, newMapping())
	if err != nil || m.Type != iomap.Mapped || m.Flags&iomap.FlagNew == 0 {
		t.Fatalf("begin of a direct write to an empty file answered %s, %v; want new zones", m, err)
	}
	if err := directOps.End(background, f.Inode, 0, 4096, 0, iomap.OpWrite|iomap.OpDirect, m); !errors.Is(err, vfs.ErrNotBlock) {
		t.Errorf("End of a write that did nothing: %v; want vfs.ErrNotBlock", err)
	}
	if e, _ := inodeOf(f.Inode).resolve(background, 0, 1); e.first != 0 {
		t.Errorf("the write did nothing; block 0 keeps zone %d", e.first)
	}
}

// As few calls as there are runs.
func TestStep07Calls(t *testing.T) {
	cost := func(word string) (calls, bios int) {
		r := newRig(t, word)
		f := r.create("f")
		r.count.since()
		r.dev.bios.Store(0)
		_, err := r.directWrite(f, 0, bytes.Repeat([]byte{9}, 256<<10))
		r.must(err)
		n := r.count.since()
		if word == step07 && n[trace.GetBlock] > 0 {
			t.Errorf("get_block was called %d times", n[trace.GetBlock])
		}
		return n[trace.GetBlock] + n[trace.Begin], int(r.dev.bios.Load())
	}
	calls, bios := cost(step07)
	if calls > 8 {
		t.Errorf("%d begins to append 256 KiB", calls)
	}
	var calls0, bios0 int
	if !oneSided() {
		calls0, bios0 = cost("legacy=dio-write")
	}
	t.Logf("counter: %-32s before %4d, now %4d", "calls to append 256 KiB directly", calls0, calls)
	t.Logf("counter: %-32s before %4d, now %4d", "bios", bios0, bios)
}
