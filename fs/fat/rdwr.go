package fat

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
	var ra *pagecache.Readahead
	if f := k.File; f != nil && f.RaMu.TryLock() {
		defer f.RaMu.Unlock()
		ra = &f.Ra
	}
	n, err := ip.Pages.Read(ctx, ra, p, k.Pos, fl)
	k.Pos += int64(n)
	return n, err
}

// write is FileOperations.Write: over what is there directly if that is asked for, everything else under the exclusive lock.
func (fs *fsys) write(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
	over := 0
	if k.Direct && !k.Append {
		n, err := fs.directOverwrite(ctx, k, p)
		if n == len(p) || err != nil {
			return n, err
		}
		over, p = n, p[n:]
	}
	n, err := fs.writeLocked(ctx, k, p)
	if over > 0 {
		return over + n, nil
	}
	return n, err
}

// writeLocked is write under the exclusive lock.
func (fs *fsys) writeLocked(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
	vi := k.Inode
	ip := inodeOf(vi)
	vi.Rw.Lock()
	defer vi.Rw.Unlock()
	if k.Append {
		k.Pos = vi.Size()
		if k.Pos >= fs.sb.MaxBytes {
			return 0, errno.FBIG
		}
		p = p[:min(int64(len(p)), fs.sb.MaxBytes-k.Pos)]
	}
	old := vi.Size()
	if err := ip.fillGap(ctx, k.Pos); err != nil {
		return 0, err
	}
	n, err := fs.writeGrown(ctx, k, p)
	if n > 0 {
		ip.changed()
	} else if vi.Size() > old {
		fs.cutFailed(ctx, vi, old) // the gap was filled for nothing
	}
	if vi.Size() > old {
		if terr := ip.trimTail(ctx); terr != nil {
			fs.fail(terr)
		}
	}
	return n, err
}

// fillGap makes a file reach up to where a write begins, by zeros: a file has no holes. A short gap is left to the write on the
// legacy path, which fills it through the cache (bufhead.ContWriteBegin).
func (ip *inode) fillGap(ctx context.Context, pos int64) error {
	old := ip.Size()
	if pos <= old || ip.fs.tables.contExpand != nil && pos-old <= contMost {
		return nil
	}
	// Blocks up to the one that the write begins in; of that one the write takes care.
	to := max(pos&^int64(ip.fs.geo.SectorSize-1), old)
	if to == old {
		return ip.fs.tables.truncatePage(ctx, ip.Inode, old)
	}
	if err := ip.expand(ctx, to); err != nil {
		ip.fs.cutFailed(ctx, ip.Inode, old)
		return err
	}
	return nil
}

// writeGrown is the write itself, from no farther than the block at the end of the file on.
func (fs *fsys) writeGrown(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
	ip := k.Inode
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

// writeDirect is the part of a write that goes around the cache: a direct one, or whole blocks for a caller with a cache of his own,
// also right behind the end of the file. Rw is held exclusively. What it did not do is left to the cache.
func (fs *fsys) writeDirect(ctx context.Context, k *vfs.Kiocb, p []byte) (n int, err error) {
	vi, mask := k.Inode, int(fs.geo.SectorSize)-1
	whole := len(p) &^ mask
	size := vi.Size()
	if whole == 0 || k.Pos&int64(mask) != 0 || k.Pos > size || !k.Direct && !(k.CachedAbove && whole >= aroundWrite) {
		return 0, nil
	}
	vi.DirectWait()
	done := k.Done
	k.Done = nil // waited for: the locks, and the size to go back to, are held here only
	vi.Pages.InvalidateLock.Lock()
	n, err = fs.tables.directFill(ctx, k, p[:whole])
	vi.Pages.InvalidateLock.Unlock()
	k.Done = done
	ip := inodeOf(vi)
	if now := vi.Size(); now > ip.init.Load() {
		ip.init.Store(now)
	}
	if errors.Is(err, vfs.ErrNotBlock) {
		return 0, nil
	}
	if err != nil {
		fs.cutFailed(ctx, vi, size)
		return 0, err
	}
	return n, nil
}

// directOverwrite writes directly inside the file, several writers at once. 0 without error: take the other way.
func (fs *fsys) directOverwrite(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
	ip := k.Inode
	ip.Rw.RLock()
	defer ip.Rw.RUnlock()
	if k.Pos+int64(len(p)) > ip.Size() {
		return 0, nil
	}
	n, err := fs.tables.directOver(ctx, k, p)
	if errors.Is(err, vfs.ErrNotBlock) {
		return 0, nil
	}
	if n > 0 || errors.Is(err, vfs.ErrQueued) {
		inodeOf(ip).changed()
	}
	return n, err
}
