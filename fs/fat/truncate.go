package fat

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// setSize changes the length of a file. Hold Rw exclusively. errno.FBIG, errno.NOSPC leave it as it was.
func (ip *inode) setSize(ctx context.Context, size int64) error {
	if size > ip.fs.sb.MaxBytes {
		return errno.FBIG
	}
	old := ip.Size()
	ip.DirectWait()
	if size > old {
		if err := ip.expand(ctx, size); err != nil {
			ip.fs.cutFailed(ctx, ip.Inode, old)
			return err
		}
		ip.changed()
		return nil
	}
	ip.keep = 0 // what was set aside behind the end goes with the end
	if size < old {
		if err := ip.fs.tables.truncatePage(ctx, ip.Inode, size); err != nil {
			return err
		}
		ip.changed()
	}
	return ip.shrink(ctx, size)
}

// shrink ends the file at size, and frees what lies behind.
func (ip *inode) shrink(ctx context.Context, size int64) error {
	ip.Pages.InvalidateLock.Lock()
	defer ip.Pages.InvalidateLock.Unlock()
	ip.SetSize(size)
	ip.Pages.Truncate(size)
	if ip.init.Load() > size {
		ip.init.Store(size)
	}
	ip.Dirty(vfs.DirtySize)
	return ip.cutTo(ctx, ip.fs.geo.ClustersFor(size))
}

// contMost is up to which length a gap is filled through the cache on the legacy path, bytes; longer ones are made zero on the device.
const contMost = 64 << 10

// expand makes the file longer, by zeros. Hold Rw exclusively. On error the file may have grown.
func (ip *inode) expand(ctx context.Context, size int64) error {
	fs, old := ip.fs, ip.Size()
	if f := fs.tables.contExpand; f != nil && size-old <= contMost {
		return f(ctx, ip.Inode, size)
	}
	bs := int64(fs.geo.SectorSize)
	// The rest of the old last block comes into sight.
	if err := fs.tables.truncatePage(ctx, ip.Inode, old); err != nil {
		return err
	}
	if err := ip.zeroBlocks(ctx, fs.blockAt(old+bs-1), fs.blockAt(size+bs-1)); err != nil {
		return fmt.Errorf("inode %d: expand from %d to %d bytes: %w", ip.Ino(), old, size, err)
	}
	ip.SetSize(size)
	ip.init.Store(size)
	ip.Pages.Extended(old, size)
	ip.Dirty(vfs.DirtySize)
	return nil
}

// cutFailed puts the size back after a write or expansion that failed behind it. Rw held exclusively.
func (fs *fsys) cutFailed(ctx context.Context, vi *vfs.Inode, size int64) {
	ip := inodeOf(vi)
	if err := ip.shrink(context.WithoutCancel(ctx), size); err != nil {
		fs.fail(err)
	}
}

// trimTail frees clusters behind the end of the file that nobody keeps. Rw held exclusively.
func (ip *inode) trimTail(ctx context.Context) error {
	return ip.cutTo(ctx, ip.fs.geo.ClustersFor(max(ip.Size(), ip.keep)))
}

// fallocate sets clusters aside behind the end of a file (FallocKeepSize), which are freed when nobody has it open for writing any
// more; or makes the file longer by zeros. There is nothing else that FAT could do.
func (fs *fsys) fallocate(ctx context.Context, f *vfs.File, mode uint32, pos, n int64) error {
	ip, end := inodeOf(f.Inode), pos+n
	if mode != 0 && mode != vfs.FallocKeepSize {
		return errno.OPNOTSUPP
	}
	ip.Rw.Lock()
	defer ip.Rw.Unlock()
	if end <= ip.Size() {
		return nil // no holes: all of it is there
	}
	if mode == 0 {
		return ip.setSize(ctx, end)
	}
	was := ip.keep
	ip.keep = max(ip.keep, end)
	want := fs.geo.ClustersFor(end)
	if err := fs.retry(ctx, func() error { return ip.extend(ctx, want, want) }); err != nil {
		ip.keep = was
		if terr := ip.trimTail(ctx); terr != nil {
			fs.fail(terr)
		}
		return err
	}
	return nil
}

// releaseFile runs at each close. What was set aside behind the end goes with the last writer.
func (fs *fsys) releaseFile(f *vfs.File) {
	if f.Flags&vfs.OAccMode == vfs.ORdonly || f.Inode.Writers() > 0 {
		return
	}
	ip := inodeOf(f.Inode)
	ip.Rw.Lock()
	defer ip.Rw.Unlock()
	if ip.keep == 0 || !fs.writable || fs.sb.ReadOnly() {
		return
	}
	ip.keep = 0
	if err := ip.trimTail(context.Background()); err != nil {
		fs.fail(err)
	}
}

// fsync writes the file's data, then all metadata: one commit, which ends with a flush of the device. So the file's name is durable
// too.
func (fs *fsys) fsync(ctx context.Context, f *vfs.File, start, end int64, _ bool) error {
	if err := f.Inode.Pages.WriteAndWait(ctx, start, end); err != nil {
		return err
	}
	return fs.commitNow(ctx)
}
