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

func (fs *fsys) legacyPages() pagecache.Operations {
	return pagecache.Operations{
		ReadFolio: func(ctx context.Context, fo *pagecache.Folio) error { return bufhead.ReadFolio(ctx, fo, fs.getBlock) },
		Readahead: func(ctx context.Context, rac *pagecache.ReadaheadControl) { bufhead.Readahead(ctx, rac, fs.getBlock) },
		WritePages: func(ctx context.Context, as *pagecache.AddressSpace, wbc *pagecache.WritebackControl) error {
			return bufhead.WritePages(ctx, as, wbc, fs.getBlock)
		},
		DirtyFolio:          bufhead.DirtyFolio,
		ReleaseFolio:        bufhead.ReleaseFolio,
		InvalidateFolio:     bufhead.InvalidateFolio,
		IsPartiallyUptodate: bufhead.IsPartiallyUptodate,
	}
}

// From these sizes on, a transfer for a caller with a cache of his own goes around ours.
const (
	aroundRead  = 32 << 10
	aroundWrite = 64 << 10
)

// legacyRead reads through the cache, or directly under the shared lock.
func (fs *fsys) legacyRead(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
	ip := k.Inode
	if k.Direct || k.CachedAbove && len(p) >= aroundRead && !ip.Pages.HasPages(k.Pos, k.Pos+int64(len(p))) {
		ip.Rw.RLock()
		n, err := bufhead.Direct(ctx, k, p, false, fs.getBlock, bufhead.DirectOptions{})
		ip.Rw.RUnlock()
		if !errors.Is(err, vfs.ErrNotBlock) {
			return n, err
		}
	}
	var fl pagecache.ReadFlags
	if k.NoWait {
		fl |= pagecache.NoWait
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

// legacyWrite writes through the cache, or directly.
func (fs *fsys) legacyWrite(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
	ip := k.Inode
	if k.Direct && !k.Append {
		if n, err := fs.directOverwrite(ctx, k, p); n > 0 || err != nil {
			return n, err
		}
	}
	ip.Rw.Lock()
	defer ip.Rw.Unlock()
	if k.Append {
		k.Pos = ip.Size()
		if k.Pos >= fs.sb.MaxBytes {
			return 0, errno.FBIG
		}
		p = p[:min(int64(len(p)), fs.sb.MaxBytes-k.Pos)]
	}
	fs.needLargeFile(k.Pos + int64(len(p)))
	ip.TouchNow(true)
	if size := ip.Size(); k.Pos > size {
		// The rest of the old last block comes into sight.
		if err := bufhead.TruncatePage(ctx, ip, size, fs.getBlock); err != nil {
			return 0, err
		}
	}
	done := 0
	if n := len(p) &^ (1<<fs.geo.BlockBits - 1); k.CachedAbove && n >= aroundWrite && k.Pos&(1<<fs.geo.BlockBits-1) == 0 {
		// Whole blocks, and the inode is ours: holes may be filled too, nobody sees the blocks before their data.
		n, err := bufhead.Direct(ctx, k, p[:n], true, fs.getBlock, bufhead.DirectOptions{})
		if err != nil && !errors.Is(err, vfs.ErrNotBlock) {
			fs.cutFailed(ctx, ip, ip.Size())
			return 0, err
		}
		if n == len(p) {
			return n, nil
		}
		done, p = n, p[n:]
	}
	if k.Direct {
		ip.DirectWait()
		n, err := bufhead.Direct(ctx, k, p, true, fs.getBlock, bufhead.DirectOptions{SkipHoles: true})
		if err != nil && !errors.Is(err, vfs.ErrNotBlock) {
			fs.cutFailed(ctx, ip, ip.Size())
			return 0, err
		}
		if n == len(p) {
			return n, nil
		}
		done, p = n, p[n:]
	}
	start := k.Pos
	n, err := bufhead.Write(ctx, k, p, fs.getBlock, &bufhead.WriteOptions{Failed: fs.cutFailed})
	if k.Direct && n > 0 {
		// What went through the cache must be on the device, and not in the cache, as if it had not.
		if werr := ip.Pages.WriteAndWait(ctx, start, start+int64(n)); werr != nil {
			k.Pos = start
			n, err = 0, werr
		}
		ip.Pages.DropClean(start, start+int64(n))
	}
	if done+n > 0 {
		return done + n, nil
	}
	return 0, err
}

// directOverwrite writes directly over blocks that exist, several writers at once. 0 without error: take the other way.
func (fs *fsys) directOverwrite(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
	ip := k.Inode
	ip.Rw.RLock()
	defer ip.Rw.RUnlock()
	if k.Pos+int64(len(p)) > ip.Size() {
		return 0, nil
	}
	e, err := inodeOf(ip).resolve(ctx, fs.geo.BlockAt(k.Pos), 1)
	if err != nil || e.first == 0 {
		return 0, err
	}
	n, err := bufhead.Direct(ctx, k, p, true, fs.getBlock, bufhead.DirectOptions{Overwrite: true})
	if errors.Is(err, vfs.ErrNotBlock) {
		return 0, nil
	}
	if n > 0 {
		ip.TouchNow(true)
	}
	return n, err
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
