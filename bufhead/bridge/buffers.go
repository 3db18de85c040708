package bridge

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// Buffers serves mappings with iomap.FlagBufferHead: a filesystem whose begin sets it, and Mapping.Buffers to this, has iomap's
// buffered writes, zeroing and page faults do their work in the folio in buffer heads, mapped by the mapping. Its
// pagecache.Operations are package bufhead's, since what is in a folio's private slot belongs to one layer.
type Buffers struct {
	Dev *bufhead.Device // that the buffers' block numbers count on
}

var _ iomap.BufferHooks = Buffers{}

// WriteBegin is iomap.BufferHooks'.
func (b Buffers) WriteBegin(ctx context.Context, ip *vfs.Inode, fo *pagecache.Folio, off, n int, m *iomap.Mapping) error {
	return bufhead.PrepareWrite(ctx, ip, fo, off, off+n, b.from(m))
}

// WriteEnd is iomap.BufferHooks'.
func (b Buffers) WriteEnd(ip *vfs.Inode, fo *pagecache.Folio, off, n, copied int) int {
	return int(bufhead.WriteEnd(ip, fo, fo.Pos()+int64(off), int64(n), int64(copied)))
}

// Mkwrite is iomap.BufferHooks'.
func (b Buffers) Mkwrite(ctx context.Context, ip *vfs.Inode, fo *pagecache.Folio, off, n int, m *iomap.Mapping) error {
	if err := b.WriteBegin(ctx, ip, fo, off, n, m); err != nil {
		return err
	}
	b.WriteEnd(ip, fo, off, n, n)
	return nil
}

// from is a get_block for writing that m answers.
func (b Buffers) from(m *iomap.Mapping) bufhead.GetBlock {
	return func(_ context.Context, ip *vfs.Inode, iblock uint64, bh *bufhead.BufferHead, _ bool) error {
		return toBuffer(ip, iblock, bh, m, b.Dev)
	}
}

// toBuffer (iomap_to_bh) maps bh, which is about to be written, to block iblock as m says:
//
//	hole        unmapped; New when the buffer is not valid, or past the end of the file
//	delalloc    Mapped, Delay, Uptodate; New likewise
//	unwritten   Mapped, Unwritten, New
//	mapped      Mapped; New when the mapping is, or past the end of the file
//
// Errors: errno.IO when m does not cover the block, or lies on another device; errno.OPNOTSUPP for inline data.
func toBuffer(ip *vfs.Inode, iblock uint64, bh *bufhead.BufferHead, m *iomap.Mapping, dev *bufhead.Device) error {
	bits := ip.BlockBits()
	pos := int64(iblock) << bits
	if pos < m.Offset || pos >= m.End() {
		return fmt.Errorf("inode %d: block %d: not covered by %s: %w", ip.Ino(), iblock, m, errno.IO)
	}
	bh.Size = int(min(m.End()-pos, max(int64(bh.Size), 1<<bits), 1<<30))
	fresh := pos >= ip.Size()
	switch m.Type {
	case iomap.Hole:
		fresh = fresh || !bh.Has(bufhead.Uptodate)
	case iomap.Delalloc:
		fresh = fresh || !bh.Has(bufhead.Uptodate)
		bh.Set(bufhead.Mapped | bufhead.Delay | bufhead.Uptodate)
	case iomap.Unwritten, iomap.Mapped:
		if m.Dev != nil && m.Dev != dev.Dev() {
			return fmt.Errorf("inode %d: block %d: %s lies on %s, and the buffers on %s: %w", ip.Ino(), iblock, m, m.Dev.Name(), dev.Dev().Name(), errno.IO)
		}
		bh.Map(dev, uint64(m.AddrOf(pos))>>bits)
		fresh = fresh || m.Flags&iomap.FlagNew != 0
		if m.Type == iomap.Unwritten {
			bh.Set(bufhead.Unwritten)
			fresh = true // what is not written of it is not on the device either
		}
	default:
		return fmt.Errorf("inode %d: block %d: %s data has no block: %w", ip.Ino(), iblock, m.Type, errno.OPNOTSUPP)
	}
	if fresh {
		bh.Set(bufhead.New)
	}
	return nil
}
