package minix

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// Buffer heads that allocate through begin store the same bytes: into holes, over data, behind the end, parts of blocks.
func TestStep06Bridge(t *testing.T) {
	r := newRig(t, "path=bridge")
	f := r.create("f")
	want := make([]byte, 400<<10)
	rnd := rand.New(rand.NewPCG(6, 6))
	asked := 0
	r.count.on(func(e trace.Event) bool {
		if e.Kind == trace.Begin && iomap.OpFlags(e.Flags)&iomap.OpWrite != 0 {
			asked++
		}
		return false
	})
	for i := range 60 {
		pos, n := rnd.IntN(300<<10), 1+rnd.IntN(5000)
		p := bytes.Repeat([]byte{byte(i + 1)}, n)
		copy(want[pos:], p)
		_, err := f.WriteAt(background, p, int64(pos))
		r.must(err)
	}
	r.resize(f, 400<<10)
	r.same("written through the bridge", r.read(f), want)
	if asked == 0 {
		t.Error("the file was written without a begin that writes: get_block still allocates by itself")
	}
	t.Logf("counter: %-32s before %4d, now %4d", "begins that write", 0, asked)
}

// Begin and End by themselves, as a writer behind the end of the file would call them.
func TestStep06BeginEnd(t *testing.T) {
	r := newRig(t, step04)
	f := r.create("f")
	ip := f.Inode
	rnd := rand.New(rand.NewPCG(6, 7))
	for i := range 200 {
		bs := int64(1024)
		pos, n := ip.Size()+rnd.Int64N(4*bs), 1+rnd.Int64N(20*bs)
		if ip.Size() > 400<<10 {
			r.resize(f, 0)
			pos = 0
		}
		m := newMapping()
		r.must(writeOps.Begin(background, ip, pos, n, iomap.OpWrite|iomap.OpDirect, m, newMapping()))
		if m.Type != iomap.Mapped || m.Offset > pos || m.End() <= pos {
			t.Fatalf("begin for %d bytes at %d, behind the end (%d), answered %s", n, pos, ip.Size(), m)
		}
		usable := min(n, m.End()-pos)
		done := []int64{0, usable, rnd.Int64N(usable + 1)}[i%3]
		r.must(writeOps.End(background, ip, pos, usable, done, iomap.OpWrite|iomap.OpDirect, m))
		if done > 0 {
			ip.SetSize(pos + done)
			ip.Dirty(0)
		}
		for b := (pos + bs - 1) / bs; b*bs < m.End(); b++ {
			e, err := inodeOf(ip).resolve(background, uint64(b), 1)
			r.must(err)
			switch {
			case b*bs >= ip.Size() && e.first != 0 && m.Flags&iomap.FlagNew != 0:
				t.Fatalf("%d of %d bytes at %d were written, so the file ends at %d: block %d keeps zone %d, which End was to give back", done, usable, pos, ip.Size(), b, e.first)
			case b*bs < pos+done && e.first == 0:
				t.Fatalf("%d of %d bytes at %d were written: block %d has no zone any more", done, usable, pos, b)
			}
		}
	}
	r.resize(f, 0)
}

// New is what this call allocated, and nothing else; old and new are never one mapping.
func TestStep06New(t *testing.T) {
	r := newRig(t, step04)
	f := r.create("f")
	r.resize(f, 20<<10)
	r.lay(f, 4, 3)
	begin := func(block, n int64) *iomap.Mapping {
		m := newMapping()
		r.must(writeOps.Begin(background, f.Inode, block<<10, n<<10, iomap.OpWrite, m, newMapping()))
		r.must(writeOps.End(background, f.Inode, block<<10, min(n<<10, m.End()-block<<10), min(n<<10, m.End()-block<<10), iomap.OpWrite, m))
		return m
	}
	if m := begin(5, 2); m.Flags&iomap.FlagNew != 0 {
		t.Errorf("blocks 5 and 6 had zones: %s says that they are new", m)
	}
	if m := begin(2, 8); m.Flags&iomap.FlagNew == 0 || m.End() > 4<<10 {
		t.Errorf("blocks 2 and 3 were a hole, 4 to 6 were not: %s", m)
	}
	if m := begin(2, 2); m.Flags&iomap.FlagNew != 0 {
		t.Errorf("blocks 2 and 3 have zones by now: %s says that they are new", m)
	}
	r.lay(f, 19, 1)
	if m := begin(19, 4); m.Flags&iomap.FlagDirty == 0 {
		t.Errorf("a write that ends behind the end of the file needs metadata on the medium: %s lacks FlagDirty", m)
	}
}

// The last zones are given out; then begin says that there are none, and takes nothing.
func TestStep06Full(t *testing.T) {
	r := newRig(t, step04)
	f := r.create("f")
	pos := int64(0)
	for {
		m := newMapping()
		free := r.free()
		err := writeOps.Begin(background, f.Inode, pos, 1<<30, iomap.OpWrite, m, newMapping())
		if errors.Is(err, errno.NOSPC) {
			if got := r.free(); got != free {
				t.Errorf("there was no space; %d zones are gone", free-got)
			}
			if free > 3 {
				t.Errorf("there was no space, with %d zones free", free)
			}
			break
		}
		r.must(err)
		if m.End() <= pos {
			t.Fatalf("begin at %d answered %s", pos, m)
		}
		if m.Type != iomap.Mapped {
			t.Fatalf("begin that writes answered %s", m)
		}
		pos = m.End()
		f.Inode.SetSize(pos)
	}
	f.Inode.Dirty(0)
}
