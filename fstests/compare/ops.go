package compare

import (
	"errors"
	"fmt"
	"math"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Op is one operation, or one workload, that is compared.
type Op struct {
	Name, What string
	prepare    func(e *env) error // not measured; nil: nothing to prepare
	run        func(e *env) error // measured
	after      func(e *env) error // not measured; nil: nothing to undo
}

// many is how often a small operation is repeated.
const many = 1000

// Ops are the operations, in the order of the kernel's porting guide.
var Ops = []Op{
	{"fiemap", "the extents of a file of many pieces", (*env).torn, (*env).fiemap, nil},
	{"seek", "each piece and hole of such a file, by SEEK_DATA and SEEK_HOLE", (*env).torn, (*env).seek, nil},
	{"bmap", "every block of such a file", (*env).torn, (*env).bmap, nil},
	{"swap", "the pages of a swap file", (*env).fill, (*env).swap, func(e *env) error { e.f.Inode.SwapDeactivate(); return nil }},
	{"dio-read", "64 KiB at random places, O_DIRECT", (*env).fill, func(e *env) error { return e.pieces(many, 64<<10, false, true) }, nil},
	{"dio-write", "64 KiB over what exists, O_DIRECT", (*env).fill, func(e *env) error { return e.pieces(many, 64<<10, true, true) }, nil},
	{"dio-append", "a new file in pieces of 64 KiB, O_DIRECT", (*env).create, (*env).directNew, nil},
	{"read", "a file in pieces of 1 MiB, cold", (*env).fill, (*env).read, nil},
	{"read-cached", "the same from the cache", (*env).filled, (*env).read, nil},
	{"read-small", "the same in pieces of 512 bytes", (*env).filled, func(e *env) error { return e.readIn(e.f, 512) }, nil},
	{"rand-read", "4 KiB at random places, cold", (*env).fill, func(e *env) error { return e.pieces(many, 4096, false, false) }, nil},
	{"readahead", "a torn file read ahead and in order, cold", (*env).torn, func(e *env) error {
		e.f.Inode.Pages.Readahead(e.ctx, 0, e.size)
		return e.heard(e.f)
	}, nil},
	{"write", "a new file in pieces of 1 MiB, into the cache", (*env).create, (*env).write, nil},
	{"write-small", "a new file in pieces of 512 bytes, into the cache", (*env).create, func(e *env) error { return e.writeIn(e.f, 512) }, nil},
	{"overwrite", "a cached file again in pieces of 1 MiB", (*env).filled, (*env).write, nil},
	{"rand-write", "4 KiB at random places, and fsync", (*env).fill, func(e *env) error {
		return errors.Join(e.pieces(many, 4096, true, false), e.f.Fsync(e.ctx, false))
	}, nil},
	{"writeback", "a new file from the cache to the device", (*env).dirtied, func(e *env) error {
		e.n = e.size
		return e.f.Inode.Pages.WriteAndWait(e.ctx, 0, math.MaxInt64)
	}, nil},
	{"zero", "ranges zeroed at random places", (*env).fill, func(e *env) error { return e.falloc(vfs.FallocZeroRange) }, nil},
	{"punch", "holes punched at random places", (*env).fill, func(e *env) error { return e.falloc(vfs.FallocPunchHole | vfs.FallocKeepSize) }, nil},
	{"truncate", "a file cut and extended, with a little written at its end each time", (*env).filled, (*env).truncate, nil},
	{"dir", "names looked up in a directory of 2000", (*env).names, (*env).lookups, nil},
	{"dir-change", "names made, moved, linked and removed", nil, (*env).changes, nil},
}

func (e *env) fiemap() error {
	var end uint64
	return e.f.Inode.Fiemap(e.ctx, &vfs.FiemapInfo{Len: math.MaxUint64, Max: math.MaxInt, Emit: func(x vfs.FiemapExtent) error {
		if x.Logical != end || x.Logical == 0 {
			e.n++ // pieces that follow each other in the file are one answer, however they are cut
		}
		end = x.Logical + x.Length
		return nil
	}})
}

func (e *env) seek() error {
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
		e.say(data, pos)
		e.n++
	}
}

func (e *env) bmap() error {
	var mapped int64
	for b := uint64(0); b < uint64(e.f.Inode.Size())>>e.sb.BlockBits; b++ {
		at, err := e.f.Inode.Bmap(e.ctx, b)
		if err != nil {
			return err
		}
		if at != 0 {
			mapped += int64(b)
		}
		e.n++
	}
	e.say(mapped)
	return nil
}

func (e *env) swap() error {
	err := e.f.Inode.SwapActivate(e.ctx, math.MaxUint64, func(x vfs.SwapExtent) error {
		e.n += int64(x.Pages)
		return nil
	})
	// How many are usable may differ: the legacy walk passes over pages at the borders of runs that iomap can use.
	e.say(e.n > 0)
	return err
}

func (e *env) directNew() error {
	for pos := int64(0); pos < e.size; pos += 64 << 10 {
		k := e.f.Kiocb(pos)
		k.Direct = true
		if _, err := k.Write(e.ctx, e.buf[:min(64<<10, e.size-pos)]); err != nil {
			return err
		}
	}
	e.n = e.size
	return nil
}

func (e *env) falloc(mode uint32) error {
	for range 200 {
		pos := e.next(e.size - 1)
		if err := e.f.Fallocate(e.ctx, mode, pos, min(1+e.next(100<<10), e.size-pos)); err != nil {
			return err
		}
		e.n++
	}
	return nil
}

func (e *env) truncate() error {
	for range 100 {
		size := e.next(e.size)
		if err := e.f.Inode.SetAttr(e.ctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize, Size: size, File: e.f}); err != nil {
			return err
		}
		if _, err := e.f.WriteAt(e.ctx, e.buf[:1+e.next(20000)], max(0, size-e.next(5000))); err != nil {
			return err
		}
		e.n++
	}
	return nil
}

// names fills the directory.
func (e *env) names() error {
	for i := range 2000 {
		ip, err := e.dir.Create(e.ctx, vfs.Root, fmt.Sprint("name-", i), 0o644)
		if err != nil {
			return err
		}
		ip.Put()
	}
	return nil
}

func (e *env) lookups() error {
	for range 20000 {
		ip, err := e.dir.Lookup(e.ctx, fmt.Sprint("name-", e.next(2000)))
		if err != nil {
			return err
		}
		e.n += 1 + ip.Size()
		ip.Put()
	}
	return nil
}

func (e *env) changes() error {
	for i := range many {
		name := fmt.Sprint("name-", i)
		ip, err := e.dir.Create(e.ctx, vfs.Root, name, 0o644)
		if err != nil {
			return err
		}
		switch i % 4 {
		case 0:
			err = e.dir.RenameTo(e.ctx, name, e.dir, "moved-"+name, 0)
		case 1:
			err = e.dir.Link(e.ctx, "linked-"+name, ip)
		case 2:
			err = e.dir.Unlink(e.ctx, name)
		}
		ip.Put()
		if err != nil {
			return err
		}
		e.n++
	}
	return nil
}
