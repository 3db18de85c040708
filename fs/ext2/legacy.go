package ext2

import (
	"context"
	"errors"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// getBlock is the filesystem's bufhead.GetBlock: the resolver's answer as a buffer head.
func (fs *fsys) getBlock(ctx context.Context, vi *vfs.Inode, iblock uint64, bh *bufhead.BufferHead, create bool) error {
	ip := inodeOf(vi)
	limit := max(uint64(bh.Size)>>fs.geo.BlockBits, 1)
	e, err := ip.resolve(ctx, disk.FileBlock(iblock), limit)
	if err == nil && e.first == 0 && create {
		err = fs.retryFull(ctx, func() error {
			fs.begin()
			defer fs.end()
			e, err = ip.allocate(ctx, disk.FileBlock(iblock), limit)
			return err
		})
	}
	if err != nil {
		return err
	}
	bh.Size = int(min(e.n, 1<<30>>fs.geo.BlockBits)) << fs.geo.BlockBits
	if e.first == 0 {
		return nil
	}
	bh.Map(fs.bd, uint64(e.first))
	if e.isNew {
		bh.Set(bufhead.New)
	}
	if e.boundary {
		bh.Set(bufhead.Boundary)
	}
	return nil
}

// retryFull runs f again after a commit when it found the device full while freed blocks wait for one. f opens and closes
// its own transaction.
func (fs *fsys) retryFull(ctx context.Context, f func() error) error {
	err := f()
	for try := 0; try < 2 && errors.Is(err, errno.NOSPC) && (fs.pendingFree() > 0 || fs.commit.tracked.Load() > 0); try++ {
		if cerr := fs.commitNow(ctx); cerr != nil {
			return cerr
		}
		err = f()
	}
	return err
}

// legacyTable fills the tables with the operations on buffer heads.
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
	t.directOver = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
		return bufhead.Direct(ctx, k, p, true, fs.getBlockFor(vfs.OpDirectWrite), bufhead.DirectOptions{Overwrite: true})
	}
	t.directWrite = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
		return bufhead.Direct(ctx, k, p, true, fs.getBlockFor(vfs.OpDirectWrite), bufhead.DirectOptions{SkipHoles: true})
	}
	t.directFill = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
		return bufhead.Direct(ctx, k, p, true, fs.getBlockFor(vfs.OpDirectWrite), bufhead.DirectOptions{})
	}
	t.bufferedWrite = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
		return bufhead.Write(ctx, k, p, fs.getBlockFor(vfs.OpBufferedWrite), &bufhead.WriteOptions{Failed: fs.cutFailed})
	}
	t.truncatePage = func(ctx context.Context, ip *vfs.Inode, pos int64) error {
		return bufhead.TruncatePage(ctx, ip, pos, fs.getBlockFor(vfs.OpZero))
	}
	t.zeroRange = func(ctx context.Context, ip *vfs.Inode, pos, end int64) error {
		return bufhead.ZeroRange(ctx, ip, pos, end, fs.getBlockFor(vfs.OpZero))
	}
	t.metaBlock = func(ctx context.Context, ip *inode, fb disk.FileBlock) (disk.FSBlock, error) {
		e, err := ip.resolve(ctx, fb, 1) // what get_block says too
		return e.first, err
	}
	if fs.on(vfs.OpDir, vfs.Bridge) {
		t.metaBlock = func(ctx context.Context, ip *inode, fb disk.FileBlock) (disk.FSBlock, error) {
			bh := bufhead.BufferHead{Size: int(fs.geo.BlockSize)}
			err := fs.bridged(ctx, ip.Inode, uint64(fb), &bh, false)
			return disk.FSBlock(bh.Block), err
		}
	}
	t.fileFop.PageMkwrite = func(ctx context.Context, ip *vfs.Inode, fo *pagecache.Folio) error {
		return bufhead.PageMkwrite(ctx, ip, fo, fs.getBlockFor(vfs.OpFault))
	}
	read, write := fs.getBlockFor(vfs.OpBufferedRead), fs.getBlockFor(vfs.OpWriteback)
	t.pages = pagecache.Operations{
		ReadFolio: func(ctx context.Context, fo *pagecache.Folio) error { return bufhead.ReadFolio(ctx, fo, read) },
		Readahead: func(ctx context.Context, rac *pagecache.ReadaheadControl) { bufhead.Readahead(ctx, rac, read) },
		WritePages: func(ctx context.Context, as *pagecache.AddressSpace, wbc *pagecache.WritebackControl) error {
			return bufhead.WritePages(ctx, as, wbc, write)
		},
		DirtyFolio:          bufhead.DirtyFolio,
		ReleaseFolio:        bufhead.ReleaseFolio,
		InvalidateFolio:     bufhead.InvalidateFolio,
		IsPartiallyUptodate: bufhead.IsPartiallyUptodate,
	}
}

// cutFailed frees blocks past the end after a write that failed there. Rw held exclusively.
func (fs *fsys) cutFailed(ctx context.Context, vi *vfs.Inode, size int64) {
	ip := inodeOf(vi)
	vi.Pages.InvalidateLock.Lock()
	vi.Pages.Truncate(size)
	if err := ip.freeFrom(ctx, disk.FileBlock(fs.geo.BlocksFor(uint64(size)))); err != nil {
		fs.fail(err)
	}
	vi.Pages.InvalidateLock.Unlock()
}
