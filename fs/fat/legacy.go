package fat

import (
	"context"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// getBlock is the filesystem's bufhead.GetBlock: the resolver's answer as a buffer head. Blocks that were never written are not
// there for a reader, and new for a writer, whether their cluster was allocated before or not.
func (fs *fsys) getBlock(ctx context.Context, vi *vfs.Inode, iblock uint64, bh *bufhead.BufferHead, create bool) error {
	ip := inodeOf(vi)
	limit := max(uint64(bh.Size)>>fs.geo.SectorBits, 1)
	fb, written := fileBlock(iblock), ip.writtenBlocks()
	if uint64(fb) < written {
		limit = min(limit, written-uint64(fb))
	} else if !create {
		bh.Size = int(min(limit, 1<<20)) << fs.geo.SectorBits
		return nil
	}
	e, err := ip.resolve(ctx, fb, limit)
	if err == nil && e.first == 0 {
		if uint64(fb) < written {
			err = ip.missing(fb)
		} else {
			e, err = ip.allocate(ctx, fb, limit)
		}
	}
	if err != nil {
		return err
	}
	bh.Size = int(min(e.n, 1<<20)) << fs.geo.SectorBits
	bh.Map(fs.bd, uint64(e.first))
	if uint64(fb) >= written {
		bh.Set(bufhead.New)
	}
	return nil
}

// missing is the error for a block of a file that its chain does not reach.
func (ip *inode) missing(fb fileBlock) error {
	return ip.fs.corrupt("FAT", ip.Ino(), 0, "the chain of the file ends before block %d, its size is %d bytes", fb, ip.Size())
}

// legacyTable fills the tables with the operations on buffer heads.
func (fs *fsys) legacyTable(t *operations) {
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
	t.directFill = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
		return bufhead.Direct(ctx, k, p, true, fs.getBlockFor(vfs.OpDirectWrite), bufhead.DirectOptions{})
	}
	t.bufferedWrite = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
		return bufhead.Write(ctx, k, p, fs.getBlockFor(vfs.OpBufferedWrite), fs.contOptions(k.Inode))
	}
	t.contExpand = func(ctx context.Context, ip *vfs.Inode, size int64) error {
		return bufhead.ContExpand(ctx, ip, size, fs.getBlockFor(vfs.OpZero), fs.contOptions(ip))
	}
	t.truncatePage = func(ctx context.Context, ip *vfs.Inode, pos int64) error {
		return bufhead.TruncatePage(ctx, ip, pos, fs.getBlockFor(vfs.OpZero))
	}
	t.metaBlock = func(ctx context.Context, ip *inode, fb fileBlock) (disk.Sector, error) {
		e, err := ip.resolveDir(ctx, fb, 1) // what get_block says too
		return e.first, err
	}
	if fs.on(vfs.OpDir, vfs.Bridge) {
		t.metaBlock = func(ctx context.Context, ip *inode, fb fileBlock) (disk.Sector, error) {
			bh := bufhead.BufferHead{Size: int(fs.geo.SectorSize)}
			err := fs.bridged(ctx, ip.Inode, uint64(fb), &bh, false)
			return disk.Sector(bh.Block), err
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

// contOptions is the filesystem's part in writes of files without holes.
func (fs *fsys) contOptions(vi *vfs.Inode) *bufhead.WriteOptions {
	return &bufhead.WriteOptions{Failed: fs.cutFailed, Initialized: &inodeOf(vi).init}
}
