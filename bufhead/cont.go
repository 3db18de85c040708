package bufhead

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// Files without holes, as FAT has them: every block up to the end is allocated and was written. Such a file has an initialised
// size (MSDOS_I(inode)->mmu_private): the bytes from the start that are allocated and hold data or zeros.
//
//	      what the medium holds      zeros, folio by folio     the write
//	|··························|·····························|===========|
//	0                     initialised                       pos
//
// It may lie past the size of the file, up to the end of the block where the last write ended: that part is zeros. It never lies
// before it once an operation here is over. A filesystem sets it when it reads the inode and when it cuts the file; get_block
// with create is only asked for the block at it, and may move it over what it allocates.

// ContWriteBegin (cont_write_begin) is WriteBegin for a file without holes: first it fills everything between init and pos with
// zeros, a folio at a time, each raising the size of the file, so that writeback takes them. Hold ip.Rw exclusively; init
// changes under it alone, and is read by whoever likes. After WriteEnd the caller moves init on by MoveInit.
//
// On error the file may have become longer by zeros, up to init: Write and ContExpand put the size back, a caller of his own
// does it himself. Errors: WriteBegin's; ctx's between folios, since a gap may be large.
func ContWriteBegin(ctx context.Context, ip *vfs.Inode, pos, n int64, gb GetBlock, init *atomic.Int64) (*pagecache.Folio, error) {
	if err := contZero(ctx, ip, pos, gb, init); err != nil {
		return nil, err
	}
	if pos+n > init.Load() {
		roundInit(ip, init)
	}
	return WriteBegin(ctx, ip, pos, n, gb)
}

// ContExpand (generic_cont_expand_simple) makes a file without holes size bytes long; what is new are zeros. Nothing when it is
// as long already. Hold ip.Rw exclusively. opt.Initialized must be set. On error the size is what it was, and opt.Failed was told.
func ContExpand(ctx context.Context, ip *vfs.Inode, size int64, gb GetBlock, opt *WriteOptions) error {
	old := ip.Size()
	if size <= old {
		return nil
	}
	if err := contZero(ctx, ip, size, gb, opt.Initialized); err != nil {
		opt.failed(ctx, ip, old)
		return fmt.Errorf("inode %d: expand from %d to %d bytes: %w", ip.Ino(), old, size, err)
	}
	if ip.Size() < size {
		ip.SetSize(size)
	}
	ip.Dirty(vfs.DirtySize)
	return nil
}

// contZero (cont_expand_zero) fills [init, to) with zeros through the cache.
func contZero(ctx context.Context, ip *vfs.Inode, to int64, gb GetBlock, init *atomic.Int64) error {
	if size := ip.Size(); size < to {
		// What is initialised past the size was zeros when it was written, and a mapping may have stored there since.
		ip.Pages.Extended(size, to)
	}
	for {
		at := init.Load()
		if at >= to {
			return nil
		}
		if err := ip.SB().WB.Balance(ctx, &ip.Pages); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		roundInit(ip, init)
		fo, err := WriteBegin(ctx, ip, at, to-at, gb)
		if err != nil {
			return err
		}
		n := min(to, fo.End()) - at
		clear(fo.Data()[at-fo.Pos():][:n])
		WriteEnd(ip, fo, at, n, n)
		if at+n > ip.Size() {
			ip.SetSize(at + n)
		}
		fo.Unlock()
		fo.Put()
		MoveInit(init, at+n)
	}
}

// roundInit moves init to the end of the block it lies in: the block is about to be written as a whole.
func roundInit(ip *vfs.Inode, init *atomic.Int64) {
	mask := int64(ip.BlockSize()) - 1
	if at := init.Load(); at&mask != 0 {
		MoveInit(init, (at|mask)+1)
	}
}

// MoveInit moves an initialised size on to at; never back.
func MoveInit(init *atomic.Int64, at int64) {
	for {
		old := init.Load()
		if at <= old || init.CompareAndSwap(old, at) {
			return
		}
	}
}
