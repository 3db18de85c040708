package ext2

import (
	"context"
	"errors"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// From these sizes on, a transfer for a caller with a cache of his own goes around ours.
const (
	aroundRead  = 32 << 10
	aroundWrite = 64 << 10
)

// read is FileOperations.Read: through the cache, or directly under the shared lock.
func (fs *fsys) read(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
	ip := k.Inode
	if k.Direct || k.CachedAbove && len(p) >= aroundRead && !ip.Pages.HasPages(k.Pos, k.Pos+int64(len(p))) {
		ip.Rw.RLock()
		n, err := fs.tables.directRead(ctx, k, p)
		ip.Rw.RUnlock()
		if !errors.Is(err, vfs.ErrNotBlock) {
			return n, err
		}
	}
	var fl pagecache.ReadFlags
	if k.NoWait {
		fl |= pagecache.NoWait
	}
	if k.DontCache {
		fl |= pagecache.DontCache
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

// write is FileOperations.Write: through the cache, or directly, and through the cache where that is not possible.
func (fs *fsys) write(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
	over := 0
	if k.Direct && !k.Append {
		n, err := fs.directOverwrite(ctx, k, p)
		if n == len(p) || err != nil {
			return n, err
		}
		over, p = n, p[n:] // the rest begins with a hole, or the end of the file
	}
	n, err := fs.writeLocked(ctx, k, p)
	if over > 0 {
		return over + n, nil
	}
	return n, err
}

// writeLocked is write under the exclusive lock.
func (fs *fsys) writeLocked(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
	ip := k.Inode
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
		if err := fs.tables.truncatePage(ctx, ip, size); err != nil {
			return 0, err
		}
	}
	done, err := fs.writeDirect(ctx, k, p)
	if err != nil || done == len(p) {
		return done, err
	}
	p = p[done:]
	start := k.Pos
	n, err := fs.tables.bufferedWrite(ctx, k, p)
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

// writeDirect is the part of a write that goes around the cache: a direct one, or whole blocks for a caller with a cache of his
// own. Rw is held exclusively. What it did not do is left to the cache.
func (fs *fsys) writeDirect(ctx context.Context, k *vfs.Kiocb, p []byte) (n int, err error) {
	ip, mask := k.Inode, 1<<fs.geo.BlockBits-1
	whole := len(p) &^ mask
	switch {
	case k.Direct:
		ip.DirectWait()
		n, err = fs.tables.directWrite(ctx, k, p)
	case k.CachedAbove && whole >= aroundWrite && k.Pos&int64(mask) == 0:
		n, err = fs.writeFill(ctx, k, p[:whole])
	default:
		return 0, nil
	}
	if errors.Is(err, vfs.ErrNotBlock) {
		return 0, nil
	}
	if err != nil && !errors.Is(err, vfs.ErrQueued) {
		fs.cutFailed(ctx, ip, ip.Size())
	}
	return n, err
}

// writeFill writes whole blocks around the cache, into holes too: with the invalidate lock, nobody sees the blocks before their data,
// and when that could not be written they are holes again.
func (fs *fsys) writeFill(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
	ip := inodeOf(k.Inode)
	ip.Pages.InvalidateLock.Lock()
	defer ip.Pages.InvalidateLock.Unlock()
	end := min(k.Pos+int64(len(p)), ip.Size()) // what lies behind the end is dropped by the caller
	holes, err := ip.holes(ctx, fs.geo.BlockAt(k.Pos), fs.geo.BlockAt(end+int64(fs.geo.BlockSize)-1))
	if err != nil {
		return 0, err
	}
	n, err := fs.tables.directFill(ctx, k, p)
	if err != nil && !errors.Is(err, vfs.ErrNotBlock) {
		ip.makeHoles(ctx, holes)
		if errors.Is(err, errno.NOSPC) {
			return 0, vfs.ErrNotBlock // through the cache it may be done in part, or room be made
		}
	}
	return n, err
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
	n, err := fs.tables.directOver(ctx, k, p)
	if errors.Is(err, vfs.ErrNotBlock) {
		return 0, nil
	}
	if n > 0 || errors.Is(err, vfs.ErrQueued) {
		ip.TouchNow(true)
	}
	return n, err
}
