package compare

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Op is one operation that is compared.
type Op struct {
	Name, What string
	prepare    func(e *env) error // not measured
	run        func(e *env) error // measured
	verify     func(e *env) error // not measured; adds to e.sum what must be equal on both paths
}

// env is one mount on which an operation runs.
type env struct {
	ctx  context.Context
	sb   *vfs.SuperBlock
	size int64 // bytes of the files worked on
	f    *vfs.File
	buf  []byte
	rnd  uint64
	sum  hash.Hash
	n    int64 // bytes or answers, for the report
}

// next is a small generator: the same numbers on both paths.
func (e *env) next(n int64) int64 {
	e.rnd = e.rnd*6364136223846793005 + 1442695040888963407
	return int64(e.rnd>>33) % n
}

// create makes the file that the operation works on.
func (e *env) create(name string) error {
	ip, err := e.sb.Root.Create(e.ctx, vfs.Root, name, 0o644)
	if err != nil {
		return err
	}
	defer ip.Put()
	e.f, err = ip.Open(e.ctx, vfs.ORdwr)
	return err
}

// fill writes the file in one go and drops it from the cache.
func (e *env) fill() error {
	if err := e.create("compare-data"); err != nil {
		return err
	}
	if err := e.write(); err != nil {
		return err
	}
	return e.cold()
}

// cold writes the file back and drops its cache.
func (e *env) cold() error {
	if err := e.f.Fsync(e.ctx, false); err != nil {
		return err
	}
	e.f.Inode.Pages.DropClean(0, math.MaxInt64)
	return nil
}

// torn makes a file of many extents and holes.
func (e *env) torn() error {
	if err := e.create("compare-torn"); err != nil {
		return err
	}
	step := int64(e.f.Inode.BlockSize())
	for pos := int64(0); pos < e.size; pos += step * (2 + e.next(6)) {
		if _, err := e.f.WriteAt(e.ctx, e.buf[:step], pos); err != nil {
			return err
		}
		e.buf[0]++
	}
	return e.cold()
}

func (e *env) write() error {
	for pos := int64(0); pos < e.size; pos += int64(len(e.buf)) {
		e.buf[0], e.buf[len(e.buf)-1] = byte(pos>>20), byte(pos>>21)
		if _, err := e.f.WriteAt(e.ctx, e.buf, pos); err != nil {
			return err
		}
	}
	e.n = e.size
	return nil
}

func (e *env) read() error {
	for pos := int64(0); pos < e.size; pos += int64(len(e.buf)) {
		if _, err := e.f.ReadAt(e.ctx, e.buf, pos); err != nil {
			return err
		}
	}
	e.n = e.size
	return nil
}

// pieces moves 4 KiB pieces at random places, or larger ones directly.
func (e *env) pieces(size int, write, direct bool) error {
	for range 1000 {
		pos := e.next(e.size/int64(size)) * int64(size)
		k := e.f.Kiocb(pos)
		k.Direct = direct
		p := e.buf[:size]
		var err error
		if write {
			p[0]++
			_, err = k.Write(e.ctx, p)
		} else {
			_, err = k.Read(e.ctx, p)
		}
		if err != nil {
			return err
		}
		e.n += int64(size)
	}
	return nil
}

// contents adds the bytes of the file to what must be equal.
func (e *env) contents() error {
	if err := e.cold(); err != nil {
		return err
	}
	size := e.f.Inode.Size()
	for pos := int64(0); pos < size; {
		n, err := e.f.ReadAt(e.ctx, e.buf, pos)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if n == 0 {
			break
		}
		e.sum.Write(e.buf[:n])
		pos += int64(n)
	}
	return nil
}

// Ops are the operations, in the order of the kernel's porting guide.
var Ops = []Op{
	{"fiemap", "the extents of a file of many pieces", (*env).torn, func(e *env) error {
		var end uint64
		err := e.f.Inode.Fiemap(e.ctx, &vfs.FiemapInfo{Len: math.MaxUint64, Max: math.MaxInt, Emit: func(x vfs.FiemapExtent) error {
			if x.Logical != end || x.Logical == 0 {
				e.n++ // pieces that follow each other in the file are one answer, however they are cut
			}
			end = x.Logical + x.Length
			fmt.Fprintln(e.sum, x.Logical+x.Length)
			return nil
		}})
		return err
	}, nil},
	{"seek", "each piece and hole of such a file, by SEEK_DATA and SEEK_HOLE", (*env).torn, func(e *env) error {
		for pos := int64(0); ; {
			data, err := e.f.Seek(e.ctx, pos, vfs.SeekData)
			if errors.Is(err, errno.NXIO) {
				return nil
			}
			if err != nil {
				return err
			}
			if pos, err = e.f.Seek(e.ctx, data, vfs.SeekHole); err != nil {
				return err
			}
			fmt.Fprintln(e.sum, data, pos)
			e.n++
		}
	}, nil},
	{"bmap", "every block of such a file", (*env).torn, func(e *env) error {
		for b := uint64(0); b < uint64(e.f.Inode.Size())>>e.sb.BlockBits; b++ {
			at, err := e.f.Inode.Bmap(e.ctx, b)
			if err != nil {
				return err
			}
			fmt.Fprintln(e.sum, at != 0)
			e.n++
		}
		return nil
	}, nil},
	{"swap", "the pages of a swap file", (*env).fill, func(e *env) error {
		err := e.f.Inode.SwapActivate(e.ctx, math.MaxUint64, func(x vfs.SwapExtent) error {
			e.n += int64(x.Pages)
			return nil
		})
		// How many are usable may differ: the legacy walk passes over pages at the borders of runs that iomap can use.
		fmt.Fprintln(e.sum, e.n > 0)
		return err
	}, func(e *env) error { e.f.Inode.SwapDeactivate(); return nil }},
	{"dio-read", "64 KiB at random places, O_DIRECT", (*env).fill, func(e *env) error { return e.pieces(64<<10, false, true) }, (*env).contents},
	{"dio-write", "64 KiB over what exists, O_DIRECT", (*env).fill, func(e *env) error { return e.pieces(64<<10, true, true) }, (*env).contents},
	{"read", "the file in 1 MiB pieces, cold", (*env).fill, (*env).read, (*env).contents},
	{"read-cached", "the same from the cache", func(e *env) error {
		if err := e.fill(); err != nil {
			return err
		}
		return e.read()
	}, (*env).read, (*env).contents},
	{"rand-read", "4 KiB at random places, cold", (*env).fill, func(e *env) error { return e.pieces(4096, false, false) }, (*env).contents},
	{"write", "a new file in 1 MiB pieces, into the cache", func(e *env) error { return e.create("compare-data") }, (*env).write, (*env).contents},
	{"rand-write", "4 KiB at random places, and fsync", (*env).fill, func(e *env) error {
		if err := e.pieces(4096, true, false); err != nil {
			return err
		}
		return e.f.Fsync(e.ctx, false)
	}, (*env).contents},
	{"writeback", "a new file in the cache to the device", func(e *env) error {
		if err := e.create("compare-data"); err != nil {
			return err
		}
		return e.write()
	}, func(e *env) error { return e.f.Inode.Pages.WriteAndWait(e.ctx, 0, math.MaxInt64) }, (*env).contents},
	{"zero", "holes punched at random places", (*env).fill, func(e *env) error {
		for range 200 {
			if err := e.f.Fallocate(e.ctx, vfs.FallocPunchHole|vfs.FallocKeepSize, e.next(e.size), 1+e.next(100<<10)); err != nil {
				return err
			}
			e.n++
		}
		return nil
	}, (*env).contents},
	{"dir", "names looked up in a directory of 2000", func(e *env) error {
		for i := range 2000 {
			ip, err := e.sb.Root.Create(e.ctx, vfs.Root, fmt.Sprint("compare-", i), 0o644)
			if err != nil {
				return err
			}
			ip.Put()
		}
		return e.create("compare-data")
	}, func(e *env) error {
		for range 20000 {
			ip, err := e.sb.Root.Lookup(e.ctx, fmt.Sprint("compare-", e.next(2000)))
			if err != nil {
				return err
			}
			fmt.Fprintln(e.sum, ip.Size())
			ip.Put()
			e.n++
		}
		return nil
	}, nil},
}

func newSum() hash.Hash { return sha256.New() }
