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
	"strings"
	"time"

	"github.com/iomapfs/iomapfs/fs/all"
	"github.com/iomapfs/iomapfs/fs/ext2/mkfs"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// BarOptions say how to measure against the bar.
type BarOptions struct {
	Rounds    int    // of each operation on each path
	Only      string // operations whose name contains this
	BlockSize uint32 // bytes
	Copies    bool   // the device copies memory; else it moves bytes without the processor, as a disk does
	Extents   int    // of the file of very many
	// Alone measures on Path only: for a profile of it.
	Alone bool
	Path  vfs.Path
}

// Bar is one operation measured on both paths.
type Bar struct {
	Op     string
	Unit   string  // what PerUnit is for: "KiB", "call" …
	Legacy float64 // ns of processor time for each unit: the lower quartile of the rounds
	Iomap  float64
	Ratio  float64 // legacy : iomap, the median of the rounds' ratios: each round's paths ran next to each other
	Low    float64 // quartiles of that
	High   float64
	Want   float64 // the least ratio that the bar asks for
}

// Met reports whether the median is within the bar.
func (b *Bar) Met() bool { return b.Ratio >= b.Want }

// Clear reports whether the quartiles lie on the median's side of the bar too: else more rounds might say otherwise.
func (b *Bar) Clear() bool { return b.Met() == (b.Low >= b.Want) && b.Met() == (b.High >= b.Want) }

// barOp is an operation of the bar. Its environment lives through all rounds.
type barOp struct {
	name, unit string
	want       float64
	prepare    func(e *env) error
	run        func(e *env) error // sets e.n, the bytes or answers
}

const large = 2 // at most half of the processor time on large buffered I/O

var barOps = []barOp{
	{"write, new file, 1 MiB pieces", "KiB", large, (*env).fresh, (*env).write},
	{"writeback of a new file", "KiB", large, func(e *env) error { return errors.Join(e.fresh(), e.write()) }, (*env).flush},
	{"write and writeback", "KiB", large, (*env).fresh, func(e *env) error { return errors.Join(e.write(), e.flush()) }},
	{"overwrite, cached, 1 MiB pieces", "KiB", 1, (*env).warm, (*env).write},
	{"read, cold, 1 MiB pieces", "KiB", large, func(e *env) error { return errors.Join(e.have(), e.cold(e.f)) }, (*env).read},
	{"read, cached, 64 KiB pieces", "KiB", 1, (*env).warm, func(e *env) error { return e.readIn(e.f, 64<<10) }},
	{"write, new file, 512 byte pieces", "call", 1, (*env).fresh, func(e *env) error { err := e.writeIn(e.f, 512); e.n /= 512; return err }},
	{"read, cached, 512 byte pieces", "call", 1, (*env).warm, func(e *env) error { err := e.readIn(e.f, 512); e.n /= 512; return err }},
	{"random read 4 KiB, cold", "call", 1, func(e *env) error { return errors.Join(e.have(), e.cold(e.f)) }, func(e *env) error { return e.random(someCalls, 4096, false, false) }},
	{"random read 4 KiB, cached", "call", 1, (*env).warm, func(e *env) error { return e.random(manyCalls, 4096, false, false) }},
	{"random write 4 KiB, cached", "call", 1, (*env).warm, func(e *env) error { return e.random(manyCalls, 4096, true, false) }},
	{"writeback of random 4 KiB", "call", 1, func(e *env) error { return errors.Join(e.warm(), e.random(someCalls, 4096, true, false)) }, func(e *env) error { err := e.flush(); e.n = someCalls; return err }},
	{"random write 4 KiB, cold, and writeback", "call", 1, func(e *env) error { return errors.Join(e.have(), e.cold(e.f)) }, func(e *env) error {
		err := errors.Join(e.random(someCalls, 4096, true, false), e.flush())
		e.n = someCalls
		return err
	}},
	{"direct read, 4 KiB at random", "call", 1, (*env).have, func(e *env) error { return e.random(manyCalls, 4096, false, true) }},
	{"direct write, 4 KiB at random", "call", 1, (*env).have, func(e *env) error { return e.random(manyCalls, 4096, true, true) }},
	{"direct read, 1 MiB", "call", 1, (*env).have, func(e *env) error { return e.random(largeCalls, 1<<20, false, true) }},
	{"direct write, 1 MiB", "call", 1, (*env).have, func(e *env) error { return e.random(largeCalls, 1<<20, true, true) }},
	{"FIEMAP", "extent", 1, (*env).pieced, times((*env).fiemap)},
	{"SEEK_DATA and SEEK_HOLE", "answer", 1, (*env).pieced, times((*env).seek)},
	{"bmap", "block", 1, (*env).pieced, times((*env).bmap)},
	{"punch holes", "hole", 1, (*env).fresh2, func(e *env) error { return e.falloc(vfs.FallocPunchHole | vfs.FallocKeepSize) }},
}

// fresh gives a new, empty file in the place of the one before.
func (e *env) fresh() error {
	if e.f != nil {
		e.f.Close()
		e.f = nil
		if err := e.dir.Unlink(e.ctx, "data"); err != nil {
			return err
		}
	}
	return errors.Join(e.sb.Sync(e.ctx), e.create()) // what was freed can be had again
}

// fresh2 gives a new file with contents, cold.
func (e *env) fresh2() error { return errors.Join(e.fresh(), e.write(), e.cold(e.f)) }

// have gives a file of the full size, on the device.
func (e *env) have() error {
	if e.f != nil && e.f.Inode.Size() == e.size && e.f.Inode.Blocks() >= e.size>>9 {
		return e.f.Fsync(e.ctx, false)
	}
	return e.fresh2()
}

// warm gives such a file, cached.
func (e *env) warm() error { return errors.Join(e.have(), e.read()) }

// pieced gives a file of many extents.
func (e *env) pieced() error {
	if err := e.fresh(); err != nil {
		return err
	}
	e.f.Close()
	e.f = nil
	if err := e.dir.Unlink(e.ctx, "data"); err != nil {
		return err
	}
	return e.torn()
}

// times does a report a few times over.
func times(f func(e *env) error) func(e *env) error {
	return func(e *env) error { return errors.Join(f(e), f(e), f(e)) }
}

func (e *env) flush() error {
	err := e.f.Inode.Pages.WriteAndWait(e.ctx, 0, math.MaxInt64)
	e.n = e.size
	return err
}

// random moves pieces, and counts them.
func (e *env) random(count, size int, write, direct bool) error {
	err := e.pieces(count, size, write, direct)
	e.n = int64(count)
	return err
}

// How many pieces a round moves. What does not depend on how much is cached goes on for long enough, 10 ms, to be measured well.
const (
	someCalls  = 2000 // of the 4096 pages of a file
	manyCalls  = 20000
	largeCalls = 2000
)

// barMount is one path of the bar, mounted for all rounds.
type barMount struct {
	e     *env
	dev   *dma
	cache *pagecache.Cache
}

// barSize is how long the files of the bar are.
const barSize = 16 << 20

func mountBar(ctx context.Context, dev block.Device, path vfs.Path) (*barMount, error) {
	cache := pagecache.New(pagecache.Options{Limit: 16 * barSize, DirtyBackground: 4 * barSize, DirtyMax: 6 * barSize, Interval: time.Hour})
	paths := vfs.AllPaths(path)
	sb, err := all.Mount(ctx, dev, "", &vfs.MountOptions{Cache: cache, Paths: &paths, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		return nil, err
	}
	e, err := newEnv(ctx, sb, barSize)
	m := &barMount{e: e, cache: cache}
	m.dev, _ = dev.(*dma)
	return m, err
}

func (m *barMount) close() error {
	m.e.close()
	err := m.e.sb.Unmount(m.e.ctx)
	m.cache.Close()
	return err
}

func newDMA(size int64, blockSize uint32) (*dma, error) {
	m, err := mem.New(size, mem.Options{NoDiscard: true})
	if err != nil {
		return nil, err
	}
	bytes, err := m.DirectAccess(0, size)
	if err != nil {
		return nil, err
	}
	_, err = mkfs.Format(memory(bytes), size, mkfs.Options{BlockSize: blockSize, Zeroed: true})
	return &dma{Device: m}, err
}

// memory is an io.WriterAt.
type memory []byte

// WriteAt is io.WriterAt's.
func (m memory) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off > int64(len(m)) || len(p) > len(m[off:]) {
		return 0, io.ErrShortWrite
	}
	return copy(m[off:], p), nil
}

// once runs one round of an operation and gives its processor time for each unit.
func (m *barMount) once(op *barOp, o *BarOptions) (float64, error) {
	m.dev.on.Store(!o.Copies)
	if err := op.prepare(m.e); err != nil {
		return 0, err
	}
	runtime.GC()
	m.e.n = 0
	cpu := processTime()
	err := op.run(m.e)
	cpu = processTime() - cpu
	n := float64(max(m.e.n, 1))
	if op.unit == "KiB" {
		n /= 1024
	}
	return float64(cpu) / n, err
}

// MeasureBar measures every operation of the bar on both paths.
func MeasureBar(ctx context.Context, o BarOptions) ([]Bar, error) {
	release, err := holdMemory(32 * barSize)
	if err != nil {
		return nil, err
	}
	defer release()
	var mounts [2]*barMount
	for i, path := range []vfs.Path{vfs.Legacy, vfs.Iomap} {
		dev, err := newDMA(256<<20, o.BlockSize)
		if err != nil {
			return nil, err
		}
		if mounts[i], err = mountBar(ctx, dev, path); err != nil {
			return nil, err
		}
		defer mounts[i].close()
	}
	var list []Bar
	for i := range barOps {
		if op := &barOps[i]; strings.Contains(op.name, o.Only) {
			b, err := measureBar(op, &mounts, &o)
			if err != nil {
				return list, fmt.Errorf("%s: %w", op.name, err)
			}
			list = append(list, b)
		}
	}
	if o.Alone || o.Only != "" {
		return list, nil
	}
	for _, measure := range []func() (Bar, error){
		func() (Bar, error) { return measureCopy(mounts[1], &o) },
		func() (Bar, error) { return measureState(&mounts) },
		func() (Bar, error) { return measureMillion(ctx, &o) },
	} {
		b, err := measure()
		if err != nil {
			return list, err
		}
		list = append(list, b)
	}
	return list, nil
}

// measureBar measures one operation. The first round warms up and does not count.
func measureBar(op *barOp, mounts *[2]*barMount, o *BarOptions) (Bar, error) {
	var times [2][]float64
	var ratios []float64
	for round := range o.Rounds + 1 {
		var t [2]float64
		for k := range 2 {
			i := (k + round) % 2
			if o.Alone && mounts[i].e.sb.Paths[0] != o.Path {
				continue
			}
			var err error
			if t[i], err = mounts[i].once(op, o); err != nil {
				return Bar{}, err
			}
		}
		if round > 0 {
			times[0], times[1] = append(times[0], t[0]), append(times[1], t[1])
			ratios = append(ratios, t[0]/max(t[1], 1e-9))
		}
	}
	for _, s := range [][]float64{times[0], times[1], ratios} {
		slices.Sort(s)
	}
	n := len(ratios)
	return Bar{
		Op: op.name, Unit: op.unit, Want: op.want, Legacy: times[0][n/4], Iomap: times[1][n/4], Ratio: ratios[n/2], Low: ratios[n/4], High: ratios[n-1-n/4],
	}, nil
}
