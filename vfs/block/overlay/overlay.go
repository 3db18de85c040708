package overlay

import (
	"bytes"
	"hash/maphash"
	"math/bits"
	"sync"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/internal/inflight"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// family is what all forks share. Immutable.
type family struct {
	base  block.Device
	size  int64
	lim   block.Limits
	shift uint // a page is 1<<shift bytes: 4 KiB, or the base's logical block when that is more
	zero  *page
	full  [levels]*node // subtrees of zero
}

// Device is a writable block device over a base. Bios are done in the caller's goroutine.
type Device struct {
	*family
	name string // immutable
	gate inflight.Gate

	mu    sync.RWMutex // leaf; guards the rest. Reads of the base happen under it
	tree  tree
	owner *owner
}

var (
	_ block.Device = (*Device)(nil)
	_ block.Waiter = (*Device)(nil)
	_ block.Sparse = (*Device)(nil)
)

// New lays an empty overlay over base, which stays the caller's.
func New(base block.Device) *Device {
	lim := *base.Limits()
	lim.AtomicMax = 0
	lim.DiscardGrain, lim.MaxBio = lim.LogicalBlock, 0
	lim.ReadOnly, lim.DirectMemory, lim.SupportsZeroes = false, false, true
	f := &family{base: base, size: base.Size(), lim: lim}
	f.shift = uint(bits.TrailingZeros32(max(4096, lim.LogicalBlock)))
	f.zero = &page{data: make([]byte, 1<<f.shift)}
	for level := range f.full {
		n := new(node)
		for i := range fan {
			if level == 0 {
				n.pages[i] = f.zero
			} else {
				n.kids[i] = f.full[level-1]
			}
		}
		f.full[level] = n
	}
	return &Device{family: f, name: base.Name(), owner: new(owner)}
}

// Fork gives another device with the same contents. It costs nothing, and works after Close, too.
func (d *Device) Fork() *Device {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.owner = new(owner) // what is there belongs to nobody now
	return &Device{family: d.family, name: d.name, tree: d.tree, owner: new(owner)}
}

// Size in bytes.
func (d *Device) Size() int64 { return d.size }

// Limits of the device: the base's, but writable and with discard.
func (d *Device) Limits() *block.Limits { return &d.lim }

// Name is the base's.
func (d *Device) Name() string { return d.name }

// Close waits for bios in flight. The base stays open, and so do forks.
func (d *Device) Close() error {
	d.gate.Close()
	return nil
}

// Submit does the bio and calls Done before it returns.
func (d *Device) Submit(b *block.Bio) {
	if !d.gate.Enter() {
		b.End(b.Fail(d.name, "device is closed", errno.NODEV))
		return
	}
	b.End(d.move(b))
	d.gate.Exit()
}

// SubmitWait does the bio without calling Done.
func (d *Device) SubmitWait(b *block.Bio) error {
	if !d.gate.Enter() {
		b.Err = b.Fail(d.name, "device is closed", errno.NODEV)
		return b.Err
	}
	b.Err = d.move(b)
	d.gate.Exit()
	return b.Err
}

func (d *Device) move(b *block.Bio) error {
	if err := b.Check(d.size, &d.lim); err != nil {
		return b.Fail(d.name, "", err)
	}
	switch b.Op {
	case block.OpRead:
		return b.Fail(d.name, "", d.read(b.Vecs, b.Off))
	case block.OpWrite:
		return b.Fail(d.name, "", d.write(b.Vecs, b.Off))
	case block.OpFlush:
		return nil
	case block.OpDiscard, block.OpWriteZeroes:
		return b.Fail(d.name, "", d.zeroRange(b.Off, b.Len))
	}
	return b.Fail(d.name, "unknown operation", errno.INVAL)
}

func (d *Device) read(vecs [][]byte, off int64) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, v := range vecs {
		for len(v) > 0 {
			// Up to the end of the page, or of the run of pages that are not here.
			no, in := uint64(off>>d.shift), off&(1<<d.shift-1)
			n := min(int64(len(v)), 1<<d.shift-in)
			if pg := d.tree.get(no); pg != nil {
				copy(v[:n], pg.data[in:])
			} else {
				for n < int64(len(v)) && d.tree.get(uint64((off+n)>>d.shift)) == nil {
					n = min(int64(len(v)), n+1<<d.shift)
				}
				if err := block.ReadAt(d.base, v[:n], off); err != nil {
					return err
				}
			}
			v, off = v[n:], off+n
		}
	}
	return nil
}

// writable gives page no for changes. Its contents matter only when keep is set. Call with mu held.
func (d *Device) writable(no uint64, keep bool) (*page, error) {
	old := d.tree.get(no)
	if old != nil && old.owner == d.owner {
		return old, nil
	}
	pg := &page{owner: d.owner, data: make([]byte, 1<<d.shift)}
	switch {
	case !keep:
	case old != nil:
		copy(pg.data, old.data)
	default:
		if err := d.readBase(no, pg.data); err != nil {
			return nil, err
		}
	}
	d.tree.set(d.owner, no, pg)
	return pg, nil
}

// readBase fills p with the base's page no, as far as the base goes.
func (d *Device) readBase(no uint64, p []byte) error {
	off := int64(no) << d.shift
	return block.ReadAt(d.base, p[:min(int64(len(p)), d.size-off)], off)
}

func (d *Device) write(vecs [][]byte, off int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, v := range vecs {
		for len(v) > 0 {
			in := off & (1<<d.shift - 1)
			n := min(int64(len(v)), 1<<d.shift-in)
			pg, err := d.writable(uint64(off>>d.shift), n < 1<<d.shift)
			if err != nil {
				return err
			}
			copy(pg.data[in:], v[:n])
			v, off = v[n:], off+n
		}
	}
	return nil
}

func (d *Device) zeroRange(off, n int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for end := off + n; off < end; {
		in := off & (1<<d.shift - 1)
		if in == 0 && end-off >= 1<<d.shift {
			whole := end &^ (1<<d.shift - 1)
			d.tree.fill(d.owner, uint64(off>>d.shift), uint64(whole>>d.shift), d.zero, &d.full)
			off = whole
			continue
		}
		step := min(end-off, 1<<d.shift-in)
		pg, err := d.writable(uint64(off>>d.shift), true)
		if err != nil {
			return err
		}
		clear(pg.data[in : in+step])
		off += step
	}
	return nil
}

// NextData joins what the overlay holds with what the base holds. See block.Sparse.
func (d *Device) NextData(off int64) (start, end int64, err error) {
	off = max(off, 0)
	if start, end, err = block.NextData(d.base, off); err != nil {
		return 0, 0, err
	}
	d.mu.RLock()
	no, pg := d.tree.next(uint64(off >> d.shift))
	d.mu.RUnlock()
	if at := max(off, int64(no)<<d.shift); pg != nil && at < start {
		return at, min(int64(no+1)<<d.shift, d.size), nil
	}
	return start, end, nil
}

// Pages is how many pages the overlay holds, its own and shared ones.
func (d *Device) Pages() (n int) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for no, pg := d.tree.next(0); pg != nil; no, pg = d.tree.next(no + 1) {
		n++
	}
	return n
}

// Sum is equal for forks of equal contents, and differs for others but for chance. It is worth something in this process only. It
// reads every changed page, and the base's page below it.
func (d *Device) Sum() (sum uint64, err error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	below := make([]byte, 1<<d.shift)
	for no, pg := d.tree.next(0); pg != nil; no, pg = d.tree.next(no + 1) {
		clear(below)
		if err := d.readBase(no, below); err != nil {
			return 0, err
		}
		if !bytes.Equal(below, pg.data) {
			sum += maphash.Comparable(hashSeed, [2]uint64{no, maphash.Bytes(hashSeed, pg.data)})
		}
	}
	return sum, nil
}
