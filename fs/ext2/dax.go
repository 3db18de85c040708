package ext2

import (
	"context"
	"fmt"
	"math"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// daxOps answers for the device's memory (-o dax): regular files have no page cache then, whatever the paths of their data.
var daxOps = &iomap.Ops{Begin: daxBegin}

// openDax finds the device's memory.
// Errors: errno.OPNOTSUPP for a device that has none.
func (fs *fsys) openDax() error {
	m, ok := fs.sb.Dev.(block.Mapper)
	if !ok || !fs.sb.Dev.Limits().DirectMemory {
		return fmt.Errorf("%s: option dax: it cannot be reached as memory; use an image file, without direct-io, or leave dax out: %w",
			fs.sb.Dev.Name(), errno.OPNOTSUPP)
	}
	fs.dax = m
	return nil
}

// daxBegin allocates what is written over a hole: zeroed by zeroNew before the map leads to it, so that a reader never finds what was there.
func daxBegin(ctx context.Context, vi *vfs.Inode, pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
	begin := readBegin
	if flags&iomap.OpWrite != 0 {
		begin = fillBegin
	}
	err := begin(ctx, vi, pos, length, flags, m, src)
	m.Dev, m.Dax = nil, inodeOf(vi).fs.dax
	return err
}

// zeroNew makes new blocks of a file that is reached as memory zeros, before anything points to them. Under mapMu.
func (ip *inode) zeroNew(first disk.FSBlock, n uint32) error {
	fs := ip.fs
	if fs.dax == nil || !ip.IsRegular() {
		return nil
	}
	fs.bd.CleanAliases(uint64(first), uint64(n))
	// The space is kept: a store to a hole of the image would fail when the host's disk is full.
	b := block.Bio{Op: block.OpWriteZeroes, Flags: block.NoUnmap | block.Sync, Off: int64(fs.geo.BytesOf(first)), Len: int64(n) << fs.geo.BlockBits}
	return block.SubmitWait(fs.sb.Dev, &b)
}

// daxTable replaces what the tables have for the data of regular files.
func (fs *fsys) daxTable(t *tables) {
	t.fileFop.Read = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
		k.Inode.Rw.RLock()
		defer k.Inode.Rw.RUnlock()
		return iomap.DaxRW(ctx, k, p, false, daxOps, &inodeOf(k.Inode).dax)
	}
	t.bufferedWrite = func(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
		ip := k.Inode
		n, err := iomap.DaxRW(ctx, k, p, true, daxOps, &inodeOf(ip).dax)
		if k.Pos > ip.Size() {
			ip.SetSize(k.Pos)
			ip.Dirty(vfs.DirtySize)
		}
		if n < len(p) && k.Pos+int64(len(p)-n) > ip.Size() {
			fs.cutFailed(ctx, ip, ip.Size())
		}
		return n, err
	}
	t.fileFop.PageMkwrite = nil // the medium itself is what a mapping would show
	notBlock := func(context.Context, *vfs.Kiocb, []byte) (int, error) { return 0, vfs.ErrNotBlock }
	t.directOver, t.directWrite, t.directFill = notBlock, notBlock, notBlock // bufferedWrite is as direct as can be
	t.truncatePage = func(ctx context.Context, ip *vfs.Inode, pos int64) error {
		ip.Pages.InvalidateLock.Lock()
		defer ip.Pages.InvalidateLock.Unlock()
		_, err := iomap.DaxTruncatePage(ctx, ip, pos, daxOps, &inodeOf(ip).dax)
		return err
	}
	t.zeroRange = func(ctx context.Context, ip *vfs.Inode, pos, end int64) error {
		_, err := iomap.DaxZeroRange(ctx, ip, pos, end-pos, daxOps, &inodeOf(ip).dax)
		return err
	}
	t.pages = pagecache.Operations{}
}

// breakLayout waits until nobody has the memory of [pos, end) that is about to be freed; end 0 is that of the file. Rw and the invalidate
// lock are held exclusively.
func (ip *inode) breakLayout(ctx context.Context, pos, end int64) error {
	if ip.fs.dax == nil {
		return nil
	}
	if end == 0 {
		end = math.MaxInt64
	}
	return ip.dax.BreakLayout(ctx, ip.Inode, pos, end)
}
