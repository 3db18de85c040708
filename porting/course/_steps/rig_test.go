package minix

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/porting/minix/mkfs"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// counter counts what the layers do.
type counter struct {
	mu sync.Mutex
	n  map[trace.Kind]int
}

func (c *counter) Emit(e trace.Event) {
	c.mu.Lock()
	c.n[e.Kind]++
	c.mu.Unlock()
}

// since gives what was counted since the last call.
func (c *counter) since() map[trace.Kind]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.n
	c.n = map[trace.Kind]int{}
	return n
}

// rig is an image in memory, mounted.
type rig struct {
	*testing.T
	sb    *vfs.SuperBlock
	count *counter
}

var background = context.Background()

// newRig makes a filesystem of 16 MiB and mounts it with the words.
func newRig(t *testing.T, words ...string) *rig {
	t.Helper()
	dev, err := mem.New(16<<20, mem.Options{})
	if err == nil {
		err = mkfs.Format(dev, mkfs.Options{})
	}
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, count: &counter{n: map[trace.Kind]int{}}}
	r.sb, err = Type.Mount(background, dev, &vfs.MountOptions{Words: words, Trace: r.count, CacheBytes: 8 << 20})
	if err != nil {
		t.Fatalf("mount with %v: %v", words, err)
	}
	t.Cleanup(func() {
		if err := r.sb.Unmount(background); err != nil {
			t.Error(err)
		}
	})
	return r
}

// must ends the test on an error.
func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// file makes a file that has data in the given blocks only, and is as long as blocks says.
func (r *rig) file(name string, length int64, blocks ...int64) *vfs.File {
	r.Helper()
	ip, err := r.sb.Root.Create(background, vfs.Root, name, 0o644)
	r.must(err)
	f, err := ip.Open(background, vfs.ORdwr)
	r.must(err)
	r.Cleanup(func() { f.Close(); ip.Put() })
	bs := int64(r.sb.BlockBits)
	for _, b := range blocks {
		p := make([]byte, 1<<bs)
		for i := range p {
			p[i] = byte(b + 1)
		}
		_, err := f.WriteAt(background, p, b<<bs)
		r.must(err)
	}
	r.must(ip.SetAttr(background, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize, Size: length}))
	r.must(f.Fsync(background, false))
	return f
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

// extents asks for the extents of a file.
func (r *rig) extents(f *vfs.File, room int) (list []vfs.FiemapExtent) {
	r.Helper()
	r.must(f.Inode.Fiemap(background, &vfs.FiemapInfo{Len: 1 << 40, Max: room, Emit: func(e vfs.FiemapExtent) error {
		list = append(list, e)
		return nil
	}}))
	return list
}

// changed prints a counter before and after.
func (r *rig) changed(what string, before, after int) {
	r.Logf("counter: %-16s legacy %d, now %d", what, before, after)
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
