package minix

import (
	"context"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// getBlock is the filesystem's get_block: the resolver's answer as a buffer head.
func (fs *fsys) getBlock(ctx context.Context, vi *vfs.Inode, iblock uint64, bh *bufhead.BufferHead, create bool) error {
	ip, bits := inodeOf(vi), fs.sb.BlockBits
	limit := max(uint64(bh.Size)>>bits, 1)
	e, err := ip.resolve(ctx, iblock, limit)
	if err == nil && e.first == 0 && create {
		e, err = ip.allocate(ctx, iblock, limit)
	}
	if err != nil {
		return err
	}
	bh.Size = int(e.n) << bits
	if e.first == 0 {
		return nil
	}
	bh.Map(fs.bd, uint64(e.first))
	if e.isNew {
		bh.Set(bufhead.New)
	}
	return nil
}

// getBlockFor gives the get_block of an operation: the filesystem's own, or on the bridge the one that asks begin.
func (fs *fsys) getBlockFor(op vfs.PathOp) bufhead.GetBlock {
	if fs.sb.Paths[op] == vfs.Bridge {
		return fs.bridged
	}
	return fs.getBlock
}

// legacyTable fills the table of regular files with the buffer-head operations.
func (fs *fsys) legacyTable(t *tables) {
	t.file.Fiemap = func(ctx context.Context, ip *vfs.Inode, info *vfs.FiemapInfo) error {
		return bufhead.Fiemap(ctx, ip, info, fs.getBlockFor(vfs.OpFiemap))
	}
	t.file.Bmap = func(ctx context.Context, ip *vfs.Inode, blk uint64) (uint64, error) {
		return bufhead.Bmap(ctx, ip, blk, fs.getBlockFor(vfs.OpBmap))
	}
	t.file.SwapActivate = func(ctx context.Context, ip *vfs.Inode, n uint64, add func(vfs.SwapExtent) error) error {
		return bufhead.SwapActivate(ctx, ip, n, add, fs.getBlockFor(vfs.OpSwap))
	}
	t.fileFop.Seek = func(ctx context.Context, f *vfs.File, pos int64, whence int) (int64, error) {
		return bufhead.Seek(ctx, f.Inode, pos, whence, fs.getBlockFor(vfs.OpSeek))
	}
	t.directRead = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
		return bufhead.Direct(ctx, k, p, false, fs.getBlockFor(vfs.OpDirectRead), bufhead.DirectOptions{})
	}
	t.directWrite = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
		return bufhead.Direct(ctx, k, p, true, fs.getBlockFor(vfs.OpDirectWrite), bufhead.DirectOptions{SkipHoles: true})
	}
	t.bufferedWrite = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
		return bufhead.Write(ctx, k, p, fs.getBlockFor(vfs.OpBufferedWrite), &bufhead.WriteOptions{Failed: fs.cutFailed})
	}
	t.truncatePage = func(ctx context.Context, ip *vfs.Inode, pos int64) error {
		return bufhead.TruncatePage(ctx, ip, pos, fs.getBlockFor(vfs.OpZero))
	}
	t.metaRead, t.metaWrite = fs.bufferRead, fs.bufferWrite
	t.pages = pagecache.Operations{
		ReadFolio: func(ctx context.Context, fo *pagecache.Folio) error {
			return bufhead.ReadFolio(ctx, fo, fs.getBlockFor(vfs.OpBufferedRead))
		},
		Readahead: func(ctx context.Context, rac *pagecache.ReadaheadControl) {
			bufhead.Readahead(ctx, rac, fs.getBlockFor(vfs.OpBufferedRead))
		},
		WritePages: func(ctx context.Context, as *pagecache.AddressSpace, wbc *pagecache.WritebackControl) error {
			return bufhead.WritePages(ctx, as, wbc, fs.getBlockFor(vfs.OpWriteback))
		},
		DirtyFolio:          bufhead.DirtyFolio,
		ReleaseFolio:        bufhead.ReleaseFolio,
		InvalidateFolio:     bufhead.InvalidateFolio,
		IsPartiallyUptodate: bufhead.IsPartiallyUptodate,
	}
}
