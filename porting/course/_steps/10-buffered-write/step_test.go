package minix

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// during has f called while a write is between begin and the folio's lock, once.
func (r *rig) during(f func()) {
	r.count.on(func(e trace.Event) bool {
		if e.Kind != trace.Begin || iomap.OpFlags(e.Flags) != iomap.OpWrite {
			return false
		}
		f()
		return true
	})
}

// promised is how many zones are promised.
func (r *rig) promised() int64 { return r.sb.Private.(*fsys).promised.Load() }

// Writes, changes of length, syncs and empty caches, in any order.
func TestStep10Bytes(t *testing.T) {
	r := newRig(t)
	f := r.create("f")
	const room = 300 << 10
	want, size := make([]byte, room), int64(0)
	rnd := rand.New(rand.NewPCG(10, 10))
	for i := range 500 {
		switch op := rnd.IntN(8); op {
		case 0, 1, 2, 3:
			pos, n := rnd.Int64N(room-9000), 1+rnd.Int64N(9000)
			p := bytes.Repeat([]byte{byte(i%100 + 1)}, int(n))
			_, err := f.WriteAt(background, p, pos)
			r.must(err)
			copy(want[pos:], p)
			size = max(size, pos+n)
		case 4:
			size = rnd.Int64N(room)
			r.resize(f, size)
			clear(want[size:])
		case 5:
			r.must(f.Fsync(background, false))
		case 6:
			r.drop(f)
		case 7:
			p := make([]byte, size)
			_, err := f.ReadAt(background, p, 0)
			r.must(err)
			r.same("through the cache", p, want[:size])
		}
	}
	r.same("in the end", r.read(f), want[:size])
	if n := r.promised(); n != 0 {
		t.Errorf("everything is on the device, and %d zones are still promised", n)
	}
}

// Who reads between begin and the data sees zeros; and what he saw does not stay around the data.
func TestStep10NotSeen(t *testing.T) {
	r := newRig(t)
	f := r.create("f")
	r.resize(f, 64<<10)
	seen := make([]byte, 4096)
	r.during(func() {
		_, err := f.Inode.Pages.Read(background, nil, seen, 8192, 0)
		r.must(err)
	})
	_, err := f.WriteAt(background, []byte("data"), 8192+100)
	r.must(err)
	if bytes.IndexByte(seen, oldByte) >= 0 {
		t.Error("while block 8, a hole, was being written, another reader saw what its new zone held before: begin chose a zone before its data was there")
	}
	want := make([]byte, 64<<10)
	copy(want[8192+100:], "data")
	r.same("after the write", r.read(f), want)
}

// A mapping that does not hold any more when the folio is locked is not used.
func TestStep10Stale(t *testing.T) {
	r := newRig(t)
	f := r.create("f")
	want := bytes.Repeat([]byte{5}, 1024)
	_, err := f.WriteAt(background, want, 0)
	r.must(err)
	r.during(func() {
		// Writeback chooses the zone, and memory gets short.
		r.must(f.Inode.Pages.WriteAndWait(background, 0, 1<<40))
		f.Inode.Pages.DropClean(0, 1<<40)
	})
	_, err = f.WriteAt(background, []byte("new"), 100)
	r.must(err)
	copy(want[100:], "new")
	r.same("written while the block went to the device", r.read(f), want)
}

// Promises: what a write did not use is given back, and never what another one needs; writeback chooses for dirty blocks only.
func TestStep10Promises(t *testing.T) {
	r := newRig(t)
	f := r.create("f")
	r.resize(f, 64<<10)
	ip := f.Inode
	begin := func() *iomap.Mapping {
		m := newMapping()
		r.must(bufferedOps.Begin(background, ip, 0, 16<<10, iomap.OpWrite, m, newMapping()))
		return m
	}
	end := func(m *iomap.Mapping) {
		r.must(bufferedOps.End(background, ip, 0, min(16<<10, m.End()), 0, iomap.OpWrite, m))
	}
	m := begin()
	if m.Type != iomap.Delalloc || m.Flags&iomap.FlagNew == 0 || r.promised() == 0 {
		t.Fatalf("begin of a write to a hole answered %s, with %d zones promised; want a new promise", m, r.promised())
	}
	_, err := f.WriteAt(background, bytes.Repeat([]byte{5}, 1024), 0)
	r.must(err)
	r.must(f.Fsync(background, false))
	for b, z := range r.zones(f) {
		if (z != 0) != (b == 0) {
			t.Fatalf("block 0 was written, and 16 are promised; after fsync block %d has zone %d: who reads it sees what the zone held before", b, z)
		}
	}
	end(m)
	if n := r.promised(); n != 0 {
		t.Errorf("the write did nothing; %d zones stay promised", n)
	}
	// Block 1 is promised for data that waits in the cache.
	_, err = f.WriteAt(background, bytes.Repeat([]byte{6}, 1024), 1024)
	r.must(err)
	m = newMapping()
	r.must(bufferedOps.Begin(background, ip, 1024, 1024, iomap.OpWrite, m, newMapping()))
	if m.Flags&iomap.FlagNew != 0 {
		t.Errorf("block 1 was promised before, to other data: %s says that it is new", m)
	}
	r.must(bufferedOps.End(background, ip, 1024, 1024, 0, iomap.OpWrite, m))
	want := make([]byte, 64<<10)
	copy(want, bytes.Repeat([]byte{5}, 1024))
	copy(want[1024:], bytes.Repeat([]byte{6}, 1024))
	r.same("after the other write did nothing", r.read(f), want)
}

// Data that waits in the cache is data.
func TestStep10Seek(t *testing.T) {
	r := newRig(t)
	f := r.create("f")
	r.resize(f, 100<<10)
	_, err := f.WriteAt(background, []byte("data"), 50<<10)
	r.must(err)
	if got, err := f.Seek(background, 0, vfs.SeekData); err != nil || got != 50<<10 {
		t.Errorf("SEEK_DATA at 0 answered %d, %v; block 50 has data in the cache, so it starts at %d", got, err, 50<<10)
	}
	list := r.extents(f, 10)
	if len(list) != 1 || list[0].Logical != 50<<10 || list[0].Flags&vfs.ExtentDelalloc == 0 {
		t.Errorf("extents %v; want one at %d whose place is not chosen yet", list, 50<<10)
	}
}

// What was accepted gets to the device, also when the filesystem is full; and a file keeps its length.
func TestStep10Full(t *testing.T) {
	r := newRig(t)
	free := r.free()
	f := r.create("f")
	var want []byte
	for i := 0; ; i++ {
		p := bytes.Repeat([]byte{byte(i%100 + 1)}, 10_000)
		n, err := f.WriteAt(background, p, int64(len(want)))
		want = append(want, p[:n]...)
		if errors.Is(err, errno.NOSPC) {
			break
		}
		r.must(err)
	}
	if got := int64(len(want)) >> 10; got < free-60 {
		t.Errorf("%d blocks were written to a filesystem with %d free", got, free)
	}
	if err := f.Fsync(background, false); err != nil {
		t.Errorf("writes were accepted, and fsync says: %v; space must be promised before", err)
	}
	r.same("written until it was full", r.read(f), want)
	r.resize(f, 0)
	if got := r.free(); got != free {
		t.Errorf("%d zones are free, want %d as before", got, free)
	}
	_, err := f.WriteAt(background, []byte("0123456789"), 0)
	r.must(err)
	r.must(f.Fsync(background, false))
	_, err = f.WriteAt(background, []byte("0123456789"), 10)
	r.must(err)
	r.must(f.Fsync(background, false))
	r.close(f)
	r.unmount()
	r.mount(true)
	ip, err := r.sb.Root.Lookup(background, "f")
	r.must(err)
	defer ip.Put()
	if ip.Size() != 20 {
		t.Errorf("the file had 20 bytes when it was synced; mounted again it has %d", ip.Size())
	}
}

// As few calls as there are runs.
func TestStep10Calls(t *testing.T) {
	cost := func(words ...string) (calls, bios int) {
		r := newRig(t, words...)
		f := r.create("f")
		r.count.since()
		r.dev.bios.Store(0)
		_, err := f.WriteAt(background, bytes.Repeat([]byte{9}, 512<<10), 0)
		r.must(err)
		r.must(f.Inode.Pages.WriteAndWait(background, 0, 1<<40))
		n := r.count.since()
		if len(words) == 0 && n[trace.GetBlock] > 0 {
			t.Errorf("get_block was called %d times", n[trace.GetBlock])
		}
		return n[trace.GetBlock] + n[trace.Begin] + n[trace.MapBlocks], int(r.dev.bios.Load())
	}
	calls, bios := cost()
	if calls > 64 {
		t.Errorf("begin and mapBlocks were called %d times to write 512 KiB", calls)
	}
	var calls0, bios0 int
	if !oneSided() {
		calls0, bios0 = cost("legacy=buffered-read+buffered-write+writeback+fault+zero")
	}
	t.Logf("counter: %-32s before %4d, now %4d", "calls to write 512 KiB", calls0, calls)
	t.Logf("counter: %-32s before %4d, now %4d", "bios", bios0, bios)
}
