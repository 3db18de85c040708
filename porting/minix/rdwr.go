package minix

import (
	"context"
	"errors"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

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
