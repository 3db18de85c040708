package minix

import (
	"context"
	"errors"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
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

// read is FileOperations.Read: through the cache, or directly under the shared lock.
func (fs *fsys) read(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
	ip := k.Inode
	if k.Direct {
		ip.Rw.RLock()
		n, err := fs.tables.directRead(ctx, k, p)
		ip.Rw.RUnlock()
		if !errors.Is(err, vfs.ErrNotBlock) {
			return n, err
		}
	}
	var fl pagecache.ReadFlags
	if k.NoWait {
		fl = pagecache.NoWait
	}
	var ra *pagecache.Readahead
	if f := k.File; f != nil && f.RaMu.TryLock() {
		defer f.RaMu.Unlock()
		ra = &f.Ra
	}
	n, err := ip.Pages.Read(ctx, ra, p, k.Pos, fl)
	k.Pos += int64(n)
	return n, err
}

// write is FileOperations.Write: through the cache, or directly and through the cache where that is not possible.
func (fs *fsys) write(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
	ip := k.Inode
	ip.Rw.Lock()
	defer ip.Rw.Unlock()
	if k.Append {
		k.Pos = ip.Size()
	}
	if k.Pos >= fs.sb.MaxBytes {
		return 0, errno.FBIG
	}
	p = p[:min(int64(len(p)), fs.sb.MaxBytes-k.Pos)]
	ip.TouchNow(true)
	if size := ip.Size(); k.Pos > size {
		// The rest of the old last block comes into sight.
		if err := fs.truncatePage(ctx, ip, size); err != nil {
			return 0, err
		}
	}
	done := 0
	if k.Direct {
		ip.DirectWait()
		n, err := fs.tables.directWrite(ctx, k, p)
		if err != nil && !errors.Is(err, vfs.ErrNotBlock) {
			fs.cutFailed(ctx, ip, ip.Size())
			return 0, err
		}
		if done, p = n, p[n:]; len(p) == 0 {
			return done, nil
		}
	}
	start := k.Pos
	n, err := fs.tables.bufferedWrite(ctx, k, p)
	if k.Direct && n > 0 {
		// What went through the cache must be on the device, and not in the cache, as if it had not.
		if werr := ip.Pages.WriteAndWait(ctx, start, start+int64(n)); werr != nil {
			k.Pos, n, err = start, 0, werr
		}
		ip.Pages.DropClean(start, start+int64(n))
	}
	if done+n > 0 {
		return done + n, nil
	}
	return 0, err
}

// truncatePage zeroes from pos to the end of its block.
func (fs *fsys) truncatePage(ctx context.Context, ip *vfs.Inode, pos int64) error {
	return fs.tables.truncatePage(ctx, ip, pos)
}
