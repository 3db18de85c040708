package iomaptest

import (
	"context"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// memory gives the device as memory.
func (f *File) memory() block.Mapper {
	m, _ := f.FS.Dev.(block.Mapper)
	return m
}

// daxRead is readBegin for memory.
func (f *File) daxRead(pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
	err := f.readBegin(pos, length, flags, m, src)
	m.Dev, m.Dax = nil, f.memory()
	return err
}

// daxBegin allocates what is written: zeroed on the device before the map leads to it. Shared blocks get a place for their copy, which
// daxEnd puts in as far as it was written.
func (f *File) daxBegin(pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
	i, n := f.span(pos, length)
	b, k := f.run(i, n)
	bits := f.FS.o.BlockBits
	hole := b.t == iomap.Hole || b.t == iomap.Unwritten
	switch {
	case hole && flags&(iomap.OpZero|iomap.OpUnshare) != 0:
		f.fill(m, i, k, b)
	case hole:
		addr, err := f.FS.take(k << bits)
		for err != nil && k > 1 {
			k = (k + 1) / 2
			addr, err = f.FS.take(k << bits)
		}
		if err == nil {
			err = block.WriteZeroes(f.FS.Dev, int64(addr), k<<bits)
		}
		if err != nil {
			return err
		}
		for j := range k {
			*f.at(i + j) = blockMap{t: iomap.Mapped, addr: addr + uint64(j)<<bits}
		}
		f.seq++
		f.fill(m, i, k, *f.at(i))
		m.Flags |= iomap.FlagNew
	case b.t != iomap.Mapped:
		return errno.IO
	case b.shared:
		addr, err := f.FS.take(k << bits)
		if err != nil {
			return err
		}
		f.fill(src, i, k, blockMap{t: iomap.Mapped, addr: b.addr})
		src.Dev, src.Dax = nil, f.memory()
		f.fill(m, i, k, blockMap{t: iomap.Unwritten, addr: addr, shared: true})
	default:
		f.fill(m, i, k, b)
	}
	m.Dev, m.Dax = nil, f.memory()
	return nil
}

// daxEnd puts copies in the place of shared blocks.
func (f *File) daxEnd(_ context.Context, pos, _, done int64, _ iomap.OpFlags, m *iomap.Mapping) error {
	if m.Flags&iomap.FlagShared == 0 || m.Type != iomap.Unwritten || done == 0 {
		return nil
	}
	i, n := f.span(pos, done)
	f.mu.Lock()
	defer f.mu.Unlock()
	for j := i; j < i+n; j++ {
		f.blocks[j] = blockMap{t: iomap.Mapped, addr: uint64(m.AddrOf(j << f.FS.o.BlockBits))}
	}
	f.seq++
	return nil
}
