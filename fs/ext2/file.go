package ext2

import (
	"context"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// releaseFile runs at each close. A writer's window goes with him when he is the last.
func (fs *fsys) releaseFile(f *vfs.File) {
	if f.Flags&vfs.OAccMode == vfs.ORdonly || f.Inode.Writers() > 0 {
		return
	}
	ip := inodeOf(f.Inode)
	ip.mapMu.Lock()
	fs.dropWindow(ip)
	ip.mapMu.Unlock()
}

// fsync writes the file's data, then everything that its metadata hangs together with: one commit, which ends with a flush
// of the device. So the file's name is durable too.
func (fs *fsys) fsync(ctx context.Context, f *vfs.File, start, end int64, _ bool) error {
	if err := f.Inode.Pages.WriteAndWait(ctx, start, end); err != nil {
		return err
	}
	if fs.dax != nil && f.Inode.IsRegular() {
		if err := iomap.DaxWriteback(f.Inode, start, end, &inodeOf(f.Inode).dax); err != nil {
			return err
		}
	}
	return fs.commitNow(ctx)
}

// sync is SuperOperations.Sync.
func (fs *fsys) sync(ctx context.Context, wait bool) error {
	if !wait {
		fs.kick()
		return nil
	}
	if !fs.writable.Load() {
		return nil
	}
	return fs.commitNow(ctx) // also when an error made the mount read-only: what can be saved is, and what cannot is told
}

// fallocate punches holes, zeroes ranges, and allocates by writing zeros into holes: ext2 cannot mark blocks as unwritten.
// For the same reason there is no space to be had behind the end of a file (FallocKeepSize): e2fsck would count it in.
func (fs *fsys) fallocate(ctx context.Context, f *vfs.File, mode uint32, pos, n int64) error {
	switch mode {
	case 0:
		return fs.preallocate(ctx, f, pos, pos+n)
	case vfs.FallocPunchHole | vfs.FallocKeepSize, vfs.FallocZeroRange, vfs.FallocZeroRange | vfs.FallocKeepSize:
	default:
		return errno.OPNOTSUPP
	}
	ip := inodeOf(f.Inode)
	ip.Rw.Lock()
	defer ip.Rw.Unlock()
	ip.DirectWait()
	end := pos + n
	size := ip.Size()
	ip.Pages.InvalidateLock.Lock()
	err := ip.punch(ctx, pos, end)
	ip.Pages.InvalidateLock.Unlock()
	if err != nil {
		return err
	}
	if mode == vfs.FallocZeroRange && end > size {
		if err := ip.setSize(ctx, end); err != nil {
			return err
		}
	}
	ip.TouchNow(true)
	ip.Dirty(vfs.DirtySize)
	return nil
}

// preallocate fills the holes of [pos, end) with zeros, and makes the file at least that long. On error the file is as it was.
func (fs *fsys) preallocate(ctx context.Context, f *vfs.File, pos, end int64) (err error) {
	ip := inodeOf(f.Inode)
	ip.Rw.Lock()
	defer ip.Rw.Unlock()
	size := ip.Size()
	if end > size {
		if err := ip.setSize(ctx, end); err != nil {
			return err
		}
	}
	holes, err := ip.holes(ctx, fs.geo.BlockAt(pos), disk.FileBlock(fs.geo.BlocksFor(uint64(end))))
	for i := 0; i < len(holes) && err == nil; i++ {
		err = fs.fillHole(ctx, f, holes[i])
	}
	if err != nil {
		ip.Pages.InvalidateLock.Lock()
		ip.makeHoles(ctx, holes)
		ip.Pages.InvalidateLock.Unlock()
		if end > size {
			ip.SetSize(size)
			fs.cutFailed(context.WithoutCancel(ctx), ip.Inode, size)
			ip.Dirty(vfs.DirtySize)
		}
		return err
	}
	ip.TouchNow(true)
	return nil
}

// fillHole writes zeros over a hole, inside the file. Hold Rw exclusively.
func (fs *fsys) fillHole(ctx context.Context, f *vfs.File, r fileRun) error {
	k := vfs.Kiocb{File: f, Inode: f.Inode, Pos: int64(r.first) << fs.geo.BlockBits}
	end := min(k.Pos+int64(r.n)<<fs.geo.BlockBits, f.Inode.Size())
	zeros := make([]byte, min(end-k.Pos, 1<<20))
	for k.Pos < end {
		if _, err := fs.tables.bufferedWrite(ctx, &k, zeros[:min(int64(len(zeros)), end-k.Pos)]); err != nil {
			return err
		}
	}
	return nil
}
