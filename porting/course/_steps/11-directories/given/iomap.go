package minix

import (
	"context"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/bufhead/bridge"
	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
)

// The filesystem's answers: a table for each kind of question, none that asks what the question was.
var (
	readOps   = &iomap.Ops{Begin: readBegin}   // to read
	reportOps = &iomap.Ops{Begin: reportBegin} // to tell: fiemap, seek, bmap, swap
	overOps   = &iomap.Ops{Begin: overBegin}   // to write over what is there
)

// span is the block that holds pos, and how many blocks [pos, pos+length) touches.
func (ip *inode) span(pos, length int64) (block, n uint64) {
	bits := ip.fs.sb.BlockBits
	block = uint64(pos) >> bits
	return block, (uint64(pos+length)+1<<bits-1)>>bits - block
}

// fill makes a mapping of the resolver's answer for a block.
func (ip *inode) fill(m *iomap.Mapping, block uint64, e extent) {
	bits := ip.fs.sb.BlockBits
	m.Offset, m.Length, m.Dev, m.Cookie = int64(block)<<bits, int64(e.n)<<bits, ip.fs.sb.Dev, e.seq
	switch {
	case e.first != 0:
		m.Type, m.Addr, m.Flags = iomap.Mapped, uint64(e.first)<<bits, iomap.FlagMerged
	case e.promised:
		m.Type = iomap.Delalloc
	}
}

// readBegin maps byte pos of the file, and as much of what is asked as lies together.
func readBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, _ iomap.OpFlags, m, _ *iomap.Mapping) error {
	ip := inodeOf(vi)
	block, n := ip.span(pos, length)
	if block >= ip.fs.super.MaxBlocks() {
		ip.fill(m, block, extent{n: n}) // nothing can be there
		return nil
	}
	e, err := ip.resolve(ctx, block, n)
	if err == nil {
		ip.fill(m, block, e)
	}
	return err
}

// reportBegin is readBegin for who wants to know, not to read: runs and holes are as long as they are, over the seams of the map.
func reportBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
	if err := readBegin(ctx, vi, pos, length, flags, m, src); err != nil {
		return err
	}
	for end := pos + length; m.End() < end; {
		next := iomap.Mapping{Addr: iomap.NullAddr}
		if readBegin(ctx, vi, m.End(), end-m.End(), flags, &next, src) != nil {
			break // who asks there is told
		}
		if next.Type != m.Type || m.Type == iomap.Mapped && next.Addr != m.Addr+uint64(m.Length) {
			break
		}
		m.Length += next.Length
	}
	return nil
}

// overBegin maps what exists, for a write that may allocate nothing.
func overBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
	err := readBegin(ctx, vi, pos, length, flags, m, src)
	if err == nil && m.Type != iomap.Mapped {
		err = vfs.ErrNotBlock // a hole: another way, please
	}
	return err
}

// bridged is get_block answered by begin.
func (fs *fsys) bridged(ctx context.Context, vi *vfs.Inode, iblock uint64, bh *bufhead.BufferHead, create bool) error {
	ops := readOps
	if create {
		ops = writeOps
	}
	return bridge.GetBlock(ctx, vi, iblock, bh, create, ops, fs.bd)
}

// iomapTable puts the iomap side of an operation in the table where the paths say so.
func (fs *fsys) iomapTable(t *tables, p vfs.Paths) {
	if p[vfs.OpFiemap] == vfs.Iomap {
		t.file.Fiemap = func(ctx context.Context, ip *vfs.Inode, info *vfs.FiemapInfo) error {
			info.Clip(ip.Size()) // behind the end of the file there is nothing to walk through
			return iomap.Fiemap(ctx, ip, info, reportOps)
		}
	}
	if p[vfs.OpSeek] == vfs.Iomap {
		t.fileFop.Seek = func(ctx context.Context, f *vfs.File, pos int64, whence int) (int64, error) {
			return iomap.Seek(ctx, f.Inode, pos, whence, reportOps)
		}
	}
	if p[vfs.OpBmap] == vfs.Iomap {
		t.file.Bmap = func(ctx context.Context, ip *vfs.Inode, blk uint64) (uint64, error) {
			return iomap.Bmap(ctx, ip, blk, reportOps)
		}
	}
	if p[vfs.OpSwap] == vfs.Iomap {
		t.file.SwapActivate = func(ctx context.Context, ip *vfs.Inode, n uint64, add func(vfs.SwapExtent) error) error {
			return iomap.SwapActivate(ctx, ip, n, add, reportOps)
		}
	}
	if p[vfs.OpDirectRead] == vfs.Iomap {
		t.directRead = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
			return iomap.Direct(ctx, k, p, false, readOps, nil, 0, nil, 0)
		}
	}
	if p[vfs.OpDirectWrite] == vfs.Iomap {
		fs.iomapDirectWrite(t)
	}
	if p[vfs.OpBufferedRead] == vfs.Iomap {
		fs.iomapCache(t)
	}
	if p[vfs.OpDir] == vfs.Iomap {
		fs.iomapDir(t)
	}
}
