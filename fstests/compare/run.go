package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/fs/all"
	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// Options of a comparison.
type Options struct {
	Runs  int    // of each operation on each path: 5
	Ops   []Op   // all of Ops
	Size  int64  // bytes of the files worked on: 16 MiB
	Type  string // of the filesystem; "" probes
	Paths [2]vfs.Path
	// Progress, when set, is told before each run.
	Progress func(op string, path vfs.Path, run int)
}

// Cost is what one run of an operation took.
type Cost struct {
	Time       time.Duration `json:"time_ns"`
	CPU        time.Duration `json:"cpu_ns"` // of the process; 0 where the host does not tell
	Allocs     int64         `json:"allocs"`
	AllocBytes int64         `json:"alloc_bytes"`
	GetBlock   int64         `json:"get_block"` // calls
	Begin      int64         `json:"begin"`     // calls of begin and of writeback's map_blocks
	Bios       int64         `json:"bios"`
	BioBytes   int64         `json:"bio_bytes"`
	StateBytes int64         `json:"state_bytes"` // beside cached data, when the operation was over
	Pages      int64         `json:"pages"`       // cached then
}

// Side is one path's figures.
type Side struct {
	Path   string  `json:"path"`
	Median Cost    `json:"median"`
	Spread float64 `json:"spread"` // of the time: (longest − shortest) / median
	Runs   []Cost  `json:"runs"`
}

// Result is one operation compared.
type Result struct {
	Op    string  `json:"op"`
	What  string  `json:"what"`
	Sides [2]Side `json:"sides"`
	// Ratio is the first side's time by the second's: above 1 the second is faster. Clear says that it exceeds the spread.
	Ratio float64 `json:"ratio"`
	Clear bool    `json:"clear"`
	Same  bool    `json:"same"` // bytes and answers
}

// counts is a trace.Sink, and what the device counts.
type counts struct{ getBlock, begin, bios, bioBytes atomic.Int64 }

func (c *counts) Emit(e trace.Event) {
	switch e.Kind {
	case trace.GetBlock:
		c.getBlock.Add(1)
	case trace.Begin, trace.MapBlocks:
		c.begin.Add(1)
	}
}

// counted is a device that counts what moves data.
type counted struct {
	*mem.Device
	n *counts
}

func (d *counted) count(b *block.Bio) {
	if (b.Op == block.OpRead || b.Op == block.OpWrite) && b.Flags&block.Meta == 0 {
		d.n.bios.Add(1)
		d.n.bioBytes.Add(b.Bytes())
	}
}

// Submit is Device's.
func (d *counted) Submit(b *block.Bio) { d.count(b); d.Device.Submit(b) }

// SubmitWait is Waiter's.
func (d *counted) SubmitWait(b *block.Bio) error { d.count(b); return d.Device.SubmitWait(b) }

var _ block.Waiter = (*counted)(nil)

// Run compares. image is only read. The error says what could not be run, or what came out differently.
func Run(ctx context.Context, image block.Device, o Options) ([]Result, error) {
	if o.Runs <= 0 {
		o.Runs = 5
	}
	if len(o.Ops) == 0 {
		o.Ops = Ops
	}
	if o.Size <= 0 {
		o.Size = 16 << 20
	}
	if o.Paths == [2]vfs.Path{} {
		o.Paths = [2]vfs.Path{vfs.Legacy, vfs.Iomap}
	}
	kind, err := all.Which(image, o.Type)
	if err != nil {
		return nil, err
	}
	var results []Result
	for _, op := range o.Ops {
		r := Result{Op: op.Name, What: op.What, Same: true}
		var sums [2]string
		for run := range o.Runs {
			for i := range 2 {
				side := (i + run) % 2 // who goes first takes turns
				if o.Progress != nil {
					o.Progress(op.Name, o.Paths[side], run)
				}
				c, sum, err := one(ctx, kind, image, &op, o.Paths[side], o.Size)
				if err != nil {
					return results, fmt.Errorf("%s on %s: %w", op.Name, o.Paths[side], err)
				}
				r.Sides[side].Runs = append(r.Sides[side].Runs, c)
				sums[side] = sum
			}
			if sums[0] != sums[1] {
				r.Same = false
			}
		}
		for i := range r.Sides {
			r.Sides[i].Path = o.Paths[i].String()
			r.Sides[i].settle()
		}
		a, b := &r.Sides[0], &r.Sides[1]
		r.Ratio = float64(a.Median.Time) / float64(max(b.Median.Time, 1))
		r.Clear = math.Abs(r.Ratio-1) > max(a.Spread, b.Spread)
		results = append(results, r)
		if !r.Same {
			return results, fmt.Errorf("%s: the two paths gave different bytes or answers", op.Name)
		}
	}
	return results, nil
}

// settle works out the median and the spread.
func (s *Side) settle() {
	runs := slices.Clone(s.Runs)
	slices.SortFunc(runs, func(a, b Cost) int { return int(a.Time - b.Time) })
	s.Median = runs[len(runs)/2]
	s.Spread = float64(runs[len(runs)-1].Time-runs[0].Time) / float64(max(s.Median.Time, 1))
}

// copyOf gives a copy of the image in memory.
func copyOf(image block.Device) (*mem.Device, error) {
	m, err := mem.New(image.Size(), mem.Options{})
	if err != nil {
		return nil, err
	}
	p := make([]byte, 1<<20)
	for off := int64(0); off < image.Size(); {
		start, end, err := block.NextData(image, off)
		if err != nil {
			return nil, err
		}
		for start &^= 4095; start < end && start < image.Size(); {
			n := min(int64(len(p)), image.Size()-start)
			if err := errors.Join(block.ReadAt(image, p[:n], start), block.WriteAt(m, p[:n], start, 0)); err != nil {
				return nil, err
			}
			start += n
		}
		off = max(end, off+1)
		if start >= image.Size() {
			break
		}
	}
	return m, nil
}

// one runs an operation once. sum is what must be equal on both paths.
func one(ctx context.Context, kind *all.Kind, image block.Device, op *Op, path vfs.Path, size int64) (c Cost, sum string, err error) {
	m, err := copyOf(image)
	if err != nil {
		return c, "", err
	}
	var n counts
	dev := &counted{m, &n}
	paths := vfs.AllPaths(path)
	cache := pagecache.New(pagecache.Options{Limit: max(8*size, 64<<20), DirtyBackground: 4 * size, DirtyMax: 6 * size, Interval: time.Hour})
	sb, err := kind.Type.Mount(ctx, dev, &vfs.MountOptions{Cache: cache, Paths: &paths, Trace: &n, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		return c, "", errors.Join(err, dev.Close())
	}
	e := &env{ctx: ctx, sb: sb, size: size, buf: make([]byte, 1<<20), rnd: 42, sum: newSum()}
	if err = op.prepare(e); err == nil {
		err = e.measure(op, &n, &c)
	}
	if err == nil && op.verify != nil {
		err = op.verify(e)
	}
	if e.f != nil {
		e.f.Close()
	}
	if err == nil {
		err = sb.Sync(ctx)
	}
	if err == nil {
		err = checked(ctx, kind, dev)
	}
	return c, fmt.Sprintf("%x", e.sum.Sum(nil)), errors.Join(err, sb.Unmount(ctx))
}

// checked has the filesystem's own checker look at what was written. It is still mounted, so a mark of that is no problem.
func checked(ctx context.Context, kind *all.Kind, dev block.Device) error {
	r, err := kind.Check(ctx, dev, 1, nil)
	if err != nil {
		return err
	}
	if len(r.Problems) > 0 {
		return fmt.Errorf("the filesystem is damaged afterwards: %s: %s", r.Problems[0].Where, r.Problems[0].What)
	}
	return nil
}

// measure runs the operation and counts.
func (e *env) measure(op *Op, n *counts, c *Cost) error {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	get, begin, bios, bytes := n.getBlock.Load(), n.begin.Load(), n.bios.Load(), n.bioBytes.Load()
	cpu, begun := processTime(), time.Now()
	err := op.run(e)
	c.Time, c.CPU = time.Since(begun), processTime()-cpu
	runtime.ReadMemStats(&after)
	c.Allocs, c.AllocBytes = int64(after.Mallocs-before.Mallocs), int64(after.TotalAlloc-before.TotalAlloc)
	c.GetBlock, c.Begin = n.getBlock.Load()-get, n.begin.Load()-begin
	c.Bios, c.BioBytes = n.bios.Load()-bios, n.bioBytes.Load()-bytes
	c.Pages, c.StateBytes = e.state()
	return err
}

// state counts the file's cached pages and the memory that a layer keeps beside them.
func (e *env) state() (pages, bytes int64) {
	as := &e.f.Inode.Pages
	var batch [64]*pagecache.Folio
	for i := uint64(0); ; {
		n := as.Batch(i, math.MaxUint64>>pagecache.PageShift, pagecache.TagAny, batch[:])
		if n == 0 {
			break
		}
		for _, fo := range batch[:n] {
			fo.Lock()
			if e.sb.Paths[vfs.OpBufferedRead] == vfs.Iomap {
				bytes += int64(iomap.StateBytes(fo))
			} else if fo.Private() != nil {
				s := bufhead.ReadStats()
				bytes += int64(fo.Len()) >> e.sb.BlockBits * s.BytesPerBlock
			}
			fo.Unlock()
			pages += int64(fo.Len()) >> pagecache.PageShift
			i = fo.Index() + uint64(fo.Len())>>pagecache.PageShift
			fo.Put()
		}
	}
	return pages, bytes
}
