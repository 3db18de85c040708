package compare

import (
	"context"
	"errors"
	"math"
	"runtime"
	"slices"

	"github.com/iomapfs/iomapfs/vfs"
)

// measureCopy compares reads of cached data on the iomap path with a plain copy of as much memory. In the answer, Legacy is the copy.
func measureCopy(m *barMount, o *BarOptions) (Bar, error) {
	const step = 64 << 10
	src := make([]byte, barSize)
	for i := range src {
		src[i] = byte(i)
	}
	read := &barOp{unit: "KiB", prepare: (*env).warm, run: func(e *env) error { return e.readIn(e.f, step) }}
	var plain, cached, ratios []float64
	for range o.Rounds + 1 {
		cpu := processTime()
		for at := 0; at < barSize; at += step {
			copy(m.e.buf[:step], src[at:at+step])
		}
		a := float64(processTime()-cpu) / (barSize >> 10)
		b, err := m.once(read, o)
		if err != nil {
			return Bar{}, err
		}
		plain, cached, ratios = append(plain, a), append(cached, b), append(ratios, a/max(b, 1e-9))
	}
	for _, s := range [][]float64{plain, cached, ratios} {
		slices.Sort(s)
	}
	n := len(ratios)
	return Bar{
		Op: "plain copy (in place of legacy) against read, cached, 64 KiB pieces", Unit: "KiB", Legacy: plain[n/4], Iomap: cached[n/4],
		Ratio: ratios[n/2], Low: ratios[n/4], High: ratios[n-1-n/4], Want: 1 / 1.5,
	}, nil
}

// measureState gives the bits of state beside each cached block of a new file, in place of times: after its writeback, when all that
// there can be is there.
func measureState(mounts *[2]*barMount) (Bar, error) {
	b := Bar{Op: "state beside a cached block of a file written by 1 MiB, bits (no time)", Unit: "block", Want: 100}
	for i, to := range []*float64{&b.Legacy, &b.Iomap} {
		e := mounts[i].e
		if err := errors.Join(e.fresh(), e.write(), e.pieces(500, 512, true, false), e.flush()); err != nil {
			return b, err
		}
		pages, bytes := e.state(stateBytes(e.sb))
		*to = 8 * float64(bytes) / float64(pages<<12>>e.sb.BlockBits)
	}
	b.Ratio = b.Legacy / max(b.Iomap, 1e-9)
	b.Low, b.High = b.Ratio, b.Ratio
	return b, nil
}

// measureMillion reports a file of very many extents, one block each, handed out one by one as they are found.
func measureMillion(ctx context.Context, o *BarOptions) (b Bar, err error) {
	size := int64(o.Extents) * 2 * int64(o.BlockSize)
	dev, err := newDMA(size+size/8+64<<20, o.BlockSize)
	if err != nil {
		return b, err
	}
	defer func() { _ = dev.Close() }() // memory
	m, err := mountBar(ctx, kept{dev}, vfs.Legacy)
	if err != nil {
		return b, err
	}
	m.e.size = size
	dev.on.Store(true)
	if err = m.e.create(); err != nil {
		return b, err
	}
	for i := range int64(o.Extents) {
		k := m.e.f.Kiocb(2 * i * int64(o.BlockSize))
		k.Direct = true
		if _, err := k.Write(ctx, m.e.buf[:o.BlockSize]); err != nil {
			return b, err
		}
	}
	dev.on.Store(false)
	if err = m.close(); err != nil {
		return b, err
	}
	// The same image for both: a report changes nothing.
	var times [2][]float64
	var ratios []float64
	for round := range max(3, o.Rounds/5) {
		var t [2]float64
		for k := range 2 {
			i := (k + round) % 2
			if t[i], err = reportAll(ctx, dev, []vfs.Path{vfs.Legacy, vfs.Iomap}[i]); err != nil {
				return b, err
			}
			times[i] = append(times[i], t[i])
		}
		ratios = append(ratios, t[0]/t[1])
	}
	for _, s := range [][]float64{times[0], times[1], ratios} {
		slices.Sort(s)
	}
	n := len(ratios)
	return Bar{
		Op: "FIEMAP of a file of very many extents", Unit: "extent", Legacy: times[0][n/4], Iomap: times[1][n/4], Ratio: ratios[n/2], Low: ratios[n/4],
		High: ratios[n-1-n/4], Want: 1,
	}, nil
}

// reportAll mounts, walks the file once to have its map cached, and measures the second walk.
func reportAll(ctx context.Context, dev *dma, path vfs.Path) (float64, error) {
	m, err := mountBar(ctx, kept{dev}, path)
	if err != nil {
		return 0, err
	}
	dir, err := m.e.sb.Root.Lookup(ctx, workDir)
	if err == nil {
		var ip *vfs.Inode
		if ip, err = dir.Lookup(ctx, "data"); err == nil {
			m.e.f, err = ip.Open(ctx, vfs.ORdonly)
			ip.Put()
		}
		dir.Put()
	}
	if err == nil {
		err = m.e.fiemap()
	}
	runtime.GC()
	m.e.n = 0
	cpu := processTime()
	if err == nil {
		err = m.e.fiemap()
	}
	cpu = processTime() - cpu
	return float64(cpu) / math.Max(float64(m.e.n), 1), errors.Join(err, m.close())
}

// kept is a device that an unmount does not close.
type kept struct{ *dma }

// Close is the super block's.
func (kept) Close() error { return nil }
