package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/iomapfs/iomapfs/fs/all"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/arena"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// Options of a comparison.
type Options struct {
	Runs  int        // timed ones, of each operation on each path: 5
	Ops   []Op       // operations and workloads: all of Ops
	Size  int64      // bytes of the files worked on: 16 MiB
	Type  string     // of the filesystem; "" probes
	Paths []vfs.Path // the first is compared with the last: legacy and iomap
	Trace int        // how many events of each path to give in Result.Calls: none
	// Progress, when set, is told before each run. The first, 0, is the one that proves.
	Progress func(op string, path vfs.Path, run int)
	// Inspect, when set, sees each path's image after the run that proves.
	Inspect func(op string, path vfs.Path, image block.Device) error
}

func (o *Options) complete() {
	if o.Runs <= 0 {
		o.Runs = 5
	}
	if len(o.Ops) == 0 {
		o.Ops = Ops
	}
	if o.Size <= 0 {
		o.Size = 16 << 20
	}
	if len(o.Paths) == 0 {
		o.Paths = []vfs.Path{vfs.Legacy, vfs.Iomap}
	}
}

// Run compares. image is only read. The error says what could not be run, or what came out differently; the results are those of the
// operations before, and what is known of the one that failed.
func Run(ctx context.Context, image block.Device, o Options) ([]Result, error) {
	o.complete()
	kind, err := all.Which(image, o.Type)
	if err != nil {
		return nil, err
	}
	dev, err := newReplica(image)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dev.Device.Close() }() // memory
	release, err := holdMemory(8 * o.Size)
	if err != nil {
		return nil, err
	}
	defer release()
	r := runner{ctx: ctx, kind: kind, dev: dev, o: o, a: make([]byte, 256<<10), b: make([]byte, 256<<10)}
	var results []Result
	for i := range o.Ops {
		res, err := r.compare(&o.Ops[i])
		if res != nil {
			results = append(results, *res)
		}
		if err != nil {
			return results, fmt.Errorf("%s: %w", o.Ops[i].Name, err)
		}
	}
	return results, nil
}

// holdMemory keeps the arena from giving memory back to the host between runs, since the next would pay for having it again: the arena
// keeps an eighth of what is mapped. What is taken for that is never touched, and so costs address space only.
func holdMemory(n int64) (release func(), err error) {
	var held [][]byte
	release = func() {
		for _, b := range held {
			arena.Free(b)
		}
	}
	for ; n > 0; n -= arena.MaxBlock / 8 {
		b, err := arena.Alloc(arena.MaxOrder)
		if err != nil {
			release()
			return nil, err
		}
		held = append(held, b)
	}
	return release, nil
}

type runner struct {
	ctx  context.Context
	kind *all.Kind
	dev  *replica
	o    Options
	a, b []byte // for waver
}

// proved is what the run that proves gives.
type proved struct {
	sum        uint64
	tree       []entry
	free       vfs.StatFS
	calls      calls
	locks      []Lock
	done       int64
	stateBytes int64
	pages      int64
}

// compare proves that an operation does the same on all paths, and then times it.
func (r *runner) compare(op *Op) (*Result, error) {
	res := &Result{Op: op.Name, What: op.What, Workload: isWorkload(op.Name), Sides: make([]Side, len(r.o.Paths))}
	all := make([]proved, len(r.o.Paths))
	for i, path := range r.o.Paths {
		if err := r.prove(op, path, &all[i]); err != nil {
			return nil, fmt.Errorf("on %s: %w", path, err)
		}
		s, p := &res.Sides[i], &all[i]
		s.Path, s.Locks, s.Done = path.String(), p.locks, p.done
		if r.o.Trace > 0 {
			res.Calls = append(res.Calls, p.calls.list)
		}
		if i == 0 {
			continue
		}
		if err := p.same(&all[0]); err != nil {
			return res, fmt.Errorf("%s and %s differ: %w", r.o.Paths[0], path, err)
		}
	}
	res.Same, res.Files = true, len(all[0].tree)
	var noise []time.Duration
	for run := range r.o.Runs {
		for k := range r.o.Paths {
			i := (k + run) % len(r.o.Paths) // who goes first takes turns
			path, p := r.o.Paths[i], &all[i]
			if r.o.Progress != nil {
				r.o.Progress(op.Name, path, run+1)
			}
			noise = append(noise, waver(r.a, r.b))
			c, sum, err := r.time(op, path)
			if err != nil {
				return res, fmt.Errorf("on %s: %w", path, err)
			}
			if sum != p.sum {
				res.Same = false
				return res, fmt.Errorf("on %s: run %d gave other bytes or answers than the one before", path, run+1)
			}
			c.GetBlock, c.Begin, c.StateBytes, c.Pages = p.calls.getBlock, p.calls.begin, p.stateBytes, p.pages
			res.Sides[i].Runs = append(res.Sides[i].Runs, c)
		}
	}
	res.settle(noise)
	return res, nil
}

// same compares what two paths did.
func (p *proved) same(q *proved) error {
	switch {
	case p.sum != q.sum:
		return errors.New("bytes or answers of the operation")
	case p.free.Free != q.free.Free || p.free.FilesFree != q.free.FilesFree:
		return fmt.Errorf("%d blocks and %d inodes are free, and %d and %d", q.free.Free, q.free.FilesFree, p.free.Free, p.free.FilesFree)
	}
	return sameTree(q.tree, p.tree)
}

func isWorkload(name string) bool {
	for i := range Workloads {
		if Workloads[i].Name == name {
			return true
		}
	}
	return false
}

// mount mounts the copy, made anew, on a path. The cache writes nothing back of its own accord, and the clock stands still.
func (r *runner) mount(op *Op, path vfs.Path, sink *calls) (*env, *pagecache.Cache, error) {
	if err := r.dev.restore(); err != nil {
		return nil, nil, err
	}
	size, paths := r.o.Size, vfs.AllPaths(path)
	cache := pagecache.New(pagecache.Options{Limit: max(8*size, 64<<20), DirtyBackground: 4 * size, DirtyMax: 6 * size, Interval: time.Hour})
	mo := vfs.MountOptions{
		Cache: cache, Paths: &paths, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Clock: func() vfs.Time { return vfs.Time{Sec: 1_700_000_000} },
	}
	if sink != nil {
		mo.Trace, r.dev.record = sink, sink.bio
	}
	sb, err := r.kind.Type.Mount(r.ctx, r.dev, &mo)
	if err != nil {
		cache.Close()
		return nil, nil, err
	}
	e, err := newEnv(r.ctx, sb, size)
	if err == nil && op.prepare != nil {
		err = op.prepare(e)
	}
	if err != nil {
		e.close()
		err = errors.Join(err, sb.Unmount(r.ctx))
		cache.Close()
		return nil, nil, err
	}
	return e, cache, nil
}

// prove runs the operation once, counts its calls, and looks at what it did from all sides.
func (r *runner) prove(op *Op, path vfs.Path, p *proved) error {
	if r.o.Progress != nil {
		r.o.Progress(op.Name, path, 0)
	}
	p.calls.keep = r.o.Trace
	defer func() { r.dev.record = nil }()
	e, cache, err := r.mount(op, path, &p.calls)
	if err != nil {
		return err
	}
	defer cache.Close()
	p.calls.count(true)
	p.locks, err = countLocks(func() error { return op.run(e) })
	p.calls.count(false)
	p.done = e.n
	if err == nil {
		p.pages, p.stateBytes = e.state(stateBytes(e.sb))
		err = e.finish(op)
	}
	if err == nil {
		err = e.sb.Sync(r.ctx)
	}
	if err == nil {
		p.tree, err = seen(r.ctx, e.sb, r.dev)
	}
	if err == nil {
		p.free, err = e.sb.StatFS()
	}
	p.sum = e.sum.Sum64()
	e.close()
	if err = errors.Join(err, e.sb.Unmount(r.ctx)); err != nil {
		return err
	}
	if err := judge(r.ctx, r.kind, r.dev, p.tree); err != nil {
		return err
	}
	if r.o.Inspect != nil {
		return r.o.Inspect(op.Name, path, r.dev)
	}
	return nil
}

// finish undoes what must not last.
func (e *env) finish(op *Op) error {
	if op.after != nil {
		return op.after(e)
	}
	return nil
}

// time runs the operation once with the clock running.
func (r *runner) time(op *Op, path vfs.Path) (c Cost, sum uint64, err error) {
	e, cache, err := r.mount(op, path, nil)
	if err != nil {
		return c, 0, err
	}
	defer cache.Close()
	err = e.measure(op, r.dev, &c)
	if err == nil {
		err = e.finish(op)
	}
	sum = e.sum.Sum64()
	e.close()
	return c, sum, errors.Join(err, e.sb.Unmount(r.ctx))
}
