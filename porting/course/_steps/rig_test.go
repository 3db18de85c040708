package minix

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/porting/minix/mkfs"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// oldByte is what the device holds where nothing was written.
const oldByte = 0xAA

// counter counts what the layers do.
type counter struct {
	mu   sync.Mutex
	n    map[trace.Kind]int
	hook func(trace.Event) // called with each event, outside mu
}

func (c *counter) Emit(e trace.Event) {
	c.mu.Lock()
	c.n[e.Kind]++
	hook := c.hook
	c.mu.Unlock()
	if hook != nil {
		hook(e)
	}
}

// since gives what was counted since the last call.
func (c *counter) since() map[trace.Kind]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.n
	c.n = map[trace.Kind]int{}
	return n
}

// on has f called once, at the first event that it takes.
func (c *counter) on(f func(e trace.Event) bool) {
	var busy, done atomic.Bool
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hook = func(e trace.Event) {
		if !done.Load() && busy.CompareAndSwap(false, true) {
			done.Store(f(e))
			busy.Store(false)
		}
	}
}

// device counts bios, lets them fail when a test says so, and outlives the mount.
type device struct {
	block.Device
	bios atomic.Int64
	fail atomic.Pointer[func(b *block.Bio) bool]
}

func (d *device) Submit(b *block.Bio) {
	d.bios.Add(1)
	if f := d.fail.Load(); f != nil && (*f)(b) {
		b.End(b.Fail(d.Name(), "broken by the test", fmt.Errorf("input/output error")))
		return
	}
	d.Device.Submit(b)
}

func (d *device) Close() error { return nil }

// TestSides says which paths each operation has.
func TestSides(t *testing.T) {
	for op, name := range vfs.PathOpNames() {
		for _, p := range Type.Sides(vfs.PathOp(op)) {
			name += " " + p.String()
		}
		t.Logf("counter: %s", name)
	}
}

// rig is an image in memory, mounted.
type rig struct {
	*testing.T
	dev   *device
	sb    *vfs.SuperBlock
	count *counter
	ended map[*vfs.File]bool // closed
}

var background = context.Background()

// newRig makes a filesystem and mounts it with the words. A test of a path that is not there any more is skipped.
func newRig(t *testing.T, words ...string) *rig {
	t.Helper()
	return newRigOf(t, 2<<20, mkfs.Options{}, words...)
}

func newRigOf(t *testing.T, size int64, o mkfs.Options, words ...string) *rig {
	t.Helper()
	for _, w := range words {
		for _, p := range []vfs.Path{vfs.Legacy, vfs.Bridge} {
			if (strings.HasPrefix(w, p.String()+"=") || w == "path="+p.String()) && oneSided() {
				t.Skipf("there is no %s path any more", p)
			}
		}
	}
	dev, err := mem.New(size, mem.Options{})
	if err == nil {
		err = block.WriteAt(dev, bytes.Repeat([]byte{oldByte}, int(size)), 0, 0)
	}
	if err == nil {
		err = mkfs.Format(dev, o)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, dev: &device{Device: dev}, count: &counter{n: map[trace.Kind]int{}}, ended: map[*vfs.File]bool{}}
	t.Cleanup(func() { _ = dev.Close() })
	r.mount(false, words...)
	t.Cleanup(func() {
		r.unmount()
		if o.BlockSize <= 1024 { // fsck.minix knows no other
			r.fsck()
		}
	})
	return r
}

// oneSided says that the course is at its end.
func oneSided() bool { return slices.Equal(Type.Sides(vfs.OpFiemap), []vfs.Path{vfs.Iomap}) }

func (r *rig) mount(readOnly bool, words ...string) {
	r.Helper()
	sb, err := Type.Mount(background, r.dev, &vfs.MountOptions{Words: words, Trace: r.count, CacheBytes: 8 << 20, ReadOnly: readOnly})
	if err != nil {
		r.Fatalf("mount with %v: %v", words, err)
	}
	r.sb = sb
}

// unmount ends the mount, if there is one.
func (r *rig) unmount() {
	r.Helper()
	r.count.on(func(trace.Event) bool { return true })
	r.dev.fail.Store(nil)
	if r.sb != nil {
		sb := r.sb
		r.sb = nil
		if err := sb.Unmount(background); err != nil {
			r.Errorf("unmount: %v", err)
		}
	}
}

// fsck lets fsck.minix, where there is one, judge the unmounted image.
func (r *rig) fsck() {
	r.Helper()
	tool, err := exec.LookPath("fsck.minix")
	if err != nil || r.Failed() {
		return
	}
	img := filepath.Join(r.TempDir(), "image")
	b := make([]byte, r.dev.Size())
	r.must(block.ReadAt(r.dev.Device, b, 0))
	r.must(os.WriteFile(img, b, 0o600))
	if out, err := exec.Command(tool, "-f", "-s", img).CombinedOutput(); err != nil {
		r.Errorf("fsck.minix: %v\n%s", err, out)
	}
}

// must ends the test on an error.
func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// create makes an empty file and opens it.
func (r *rig) create(name string) *vfs.File {
	r.Helper()
	ip, err := r.sb.Root.Create(background, vfs.Root, name, 0o644)
	r.must(err)
	defer ip.Put()
	return r.open(ip)
}

// open opens a file until the end of the test, or what close says.
func (r *rig) open(ip *vfs.Inode) *vfs.File {
	r.Helper()
	f, err := ip.Open(background, vfs.ORdwr)
	r.must(err)
	r.Cleanup(func() { r.close(f) })
	return f
}

// close closes a file, once. Before an unmount all files are to be closed.
func (r *rig) close(f *vfs.File) {
	if !r.ended[f] {
		r.ended[f] = true
		f.Close()
	}
}

// file makes a file that has data in the given blocks only, and is as long as blocks says: byte 1 in block 0, 2 in block 1 …
func (r *rig) file(name string, length int64, blocks ...int64) *vfs.File {
	r.Helper()
	f := r.create(name)
	for _, b := range blocks {
		_, err := f.WriteAt(background, r.blockData(b), b<<r.sb.BlockBits)
		r.must(err)
	}
	r.resize(f, length)
	r.must(f.Fsync(background, false))
	return f
}

// blockData is what file stores in block b.
func (r *rig) blockData(b int64) []byte {
	return bytes.Repeat([]byte{byte(b%100 + 1)}, 1<<r.sb.BlockBits)
}

// resize sets the length of a file.
func (r *rig) resize(f *vfs.File, length int64) {
	r.Helper()
	r.must(f.Inode.SetAttr(background, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize, Size: length}))
}

// zones gives where each block of a file lies, by the resolver; 0 for a hole.
func (r *rig) zones(f *vfs.File) (z []uint64) {
	r.Helper()
	bits := r.sb.BlockBits
	for b := uint64(0); b < uint64(f.Inode.Size()+1<<bits-1)>>bits; b++ {
		e, err := inodeOf(f.Inode).resolve(background, b, 1)
		r.must(err)
		z = append(z, uint64(e.first))
	}
	return z
}

// free is how many zones are free.
func (r *rig) free() int64 { return r.sb.Private.(*fsys).zones.free.Load() }

// read reads a whole file through the cache, which is emptied before.
func (r *rig) read(f *vfs.File) []byte {
	r.Helper()
	r.drop(f)
	p := make([]byte, f.Inode.Size())
	n, err := f.ReadAt(background, p, 0)
	r.must(err)
	return p[:n]
}

// drop empties the cache of a file.
func (r *rig) drop(f *vfs.File) {
	r.Helper()
	r.must(f.Fsync(background, false))
	f.Inode.Pages.DropClean(0, 1<<40)
}

// same compares bytes and says where they differ first, in blocks.
func (r *rig) same(what string, got, want []byte) {
	r.Helper()
	if len(got) != len(want) {
		r.Fatalf("%s: %d bytes, want %d", what, len(got), len(want))
	}
	for i := range got {
		if got[i] == want[i] {
			continue
		}
		where := fmt.Sprintf("byte %d (block %d, byte %d in it)", i, i>>r.sb.BlockBits, i&(1<<r.sb.BlockBits-1))
		if got[i] == oldByte {
			r.Fatalf("%s: %s shows what the device held before, want %d", what, where, want[i])
		}
		r.Fatalf("%s: %s is %d, want %d", what, where, got[i], want[i])
	}
}

// extents asks for the extents of a file.
func (r *rig) extents(f *vfs.File, room int) (list []vfs.FiemapExtent) {
	r.Helper()
	r.must(f.Inode.Fiemap(background, &vfs.FiemapInfo{Len: 1 << 40, Max: room, Emit: func(e vfs.FiemapExtent) error {
		list = append(list, e)
		return nil
	}}))
	return list
}

// direct reads n bytes at pos with O_DIRECT.
func (r *rig) direct(f *vfs.File, pos int64, n int) []byte {
	r.Helper()
	p := bytes.Repeat([]byte{oldByte}, n)
	k := vfs.Kiocb{File: f, Inode: f.Inode, Pos: pos, Direct: true}
	got, err := k.Read(background, p)
	r.must(err)
	if k.Pos != pos+int64(got) {
		r.Fatalf("%d bytes were read at %d, and the position is %d", got, pos, k.Pos)
	}
	return p[:got]
}

// directWrite writes p at pos with O_DIRECT.
func (r *rig) directWrite(f *vfs.File, pos int64, p []byte) (int, error) {
	r.Helper()
	k := vfs.Kiocb{File: f, Inode: f.Inode, Pos: pos, Direct: true}
	return k.Write(background, p)
}

// changed prints a counter before and after.
func (r *rig) changed(what string, before, after int) {
	r.Logf("counter: %-32s before %4d, now %4d", what, before, after)
}

// blocks are block numbers from a to b−1.
func blocks(ranges ...[2]int64) (list []int64) {
	for _, r := range ranges {
		for b := r[0]; b < r[1]; b++ {
			list = append(list, b)
		}
	}
	return list
}

func describe(e vfs.FiemapExtent) string {
	return fmt.Sprintf("[%d,%d) at %d", e.Logical, e.Logical+e.Length, e.Physical)
}

func newMapping() *iomap.Mapping { return &iomap.Mapping{Addr: iomap.NullAddr} }
