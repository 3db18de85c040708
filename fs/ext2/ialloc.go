package ext2

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// newInode allocates an inode for something new in dir and fills owner, mode and times. It is inserted, not published: the
// caller publishes it when its name stands, or calls abandonInode. Inside a transaction; dir.Rw held exclusively.
func (fs *fsys) newInode(ctx context.Context, cred *vfs.Cred, dir *inode, mode uint32) (*inode, error) {
	isDir := mode&vfs.ModeType == vfs.ModeDir
	ino, err := fs.allocIno(ctx, dir, isDir)
	if err != nil {
		return nil, err
	}
	// Its place in the inode table must be readable: a commit could not report that it is not.
	bh, _, err := fs.inodeBuffer(ctx, uint64(ino))
	if err != nil {
		fs.clearInode(ino, isDir)
		return nil, err
	}
	bh.Put()
	vi, err := fs.sb.Insert(uint64(ino))
	if err != nil {
		fs.clearInode(ino, isDir)
		return nil, err
	}
	ip := &inode{Inode: vi, fs: fs}
	vi.Private = ip
	vi.Gen = fs.gen.Add(1) + rand.Uint32()&0xff<<24
	vi.InitOwner(cred, dir.Inode, mode)
	if fs.opts.GrpID {
		dir.AttrMu.Lock()
		vi.A.GID = dir.A.GID
		dir.AttrMu.Unlock()
	}
	vi.A.HasBtime = fs.geo.InodeSize > 128
	vi.A.Flags = inheritFlags(dir.Flags(), mode)
	ip.raw = disk.Inode{Generation: vi.Gen}
	if fs.geo.InodeSize > 128 {
		ip.raw.ExtraSize = uint16(min(32, fs.geo.InodeSize-128))
	}
	ip.fresh = true
	ip.noACL.Store(true)
	ip.setOps()
	fs.bornInode(ip, dir)
	return ip, nil
}

// inheritFlags gives the chattr flags that something new takes over from its directory.
func inheritFlags(dir vfs.FileFlags, mode uint32) vfs.FileFlags {
	f := dir & vfs.FileFlags(disk.FlagSecureDelete|disk.FlagUndelete|disk.FlagCompress|disk.FlagSync|disk.FlagNoDump|disk.FlagNoAtime|disk.FlagNoCompress|disk.FlagJournalData|disk.FlagNoTail|disk.FlagDirSync)
	return vfs.FileFlags(disk.InodeFlags(f).Mask(uint16(mode)))
}

// abandonInode gives up a new inode whose creation failed. Inside the transaction that made it; the reference is consumed
// by the caller's Put after the transaction, which frees what it allocated.
func (fs *fsys) abandonInode(ip *inode) {
	ip.AttrMu.Lock()
	ip.A.Nlink = 0
	ip.AttrMu.Unlock()
	fs.inodeDied(ip, ip)
	ip.Publish(nil)
}

// allocIno picks and marks an inode number: files in their directory's group, directories spread. Inside a transaction.
func (fs *fsys) allocIno(ctx context.Context, dir *inode, isDir bool) (disk.Ino, error) {
	if fs.freeInodes.Load() == 0 {
		return 0, fmt.Errorf("no free inode: %w", errno.NOSPC)
	}
	start := fs.geo.InodeGroup(disk.Ino(dir.Ino()))
	if isDir && !fs.opts.OldAlloc {
		start = fs.dirGroup(dir, start)
	}
	var first error
	for i := range fs.geo.Groups {
		n := disk.Group((uint32(start) + i) % fs.geo.Groups)
		ino, err := fs.takeIno(ctx, n, isDir)
		if ino != 0 {
			return ino, nil
		}
		if err != nil && !errors.Is(err, errno.UCLEAN) && first == nil {
			first = err
		}
	}
	if first == nil {
		first = fmt.Errorf("no free inode: %w", errno.NOSPC)
	}
	return 0, first
}

func (fs *fsys) takeIno(ctx context.Context, n disk.Group, isDir bool) (disk.Ino, error) {
	gr := &fs.groups[n]
	gr.mu.Lock()
	defer gr.mu.Unlock()
	if gr.desc.FreeInodes == 0 || gr.bad {
		return 0, nil
	}
	bh, bm, err := fs.bitmap(ctx, n, false)
	if err != nil {
		return 0, err
	}
	defer bh.Put()
	from := gr.inoHint
	i, ok := bm.NextZero(from, fs.geo.InodesPerGroup)
	if !ok && from > 0 {
		i, ok = bm.NextZero(0, fs.geo.InodesPerGroup)
	}
	for ok && fs.geo.InoOf(n, i) < fs.geo.FirstIno {
		i, ok = bm.NextZero(i+1, fs.geo.InodesPerGroup) // a reserved inode marked free: not to be given out
	}
	if !ok {
		return 0, nil
	}
	bm.Set(i)
	gr.inoHint = i + 1
	fs.dirtyBuffer(bh, kindBitmap)
	dirs := 0
	if isDir {
		dirs = 1
	}
	fs.groupChanged(n, 0, -1, dirs)
	return fs.geo.InoOf(n, i), nil
}

// dirGroup picks the group of a new directory (the Orlov allocator): directories below the root, or below one marked with
// chattr +T, go where it is empty; others stay near their parent unless its group is crowded.
func (fs *fsys) dirGroup(dir *inode, parent disk.Group) disk.Group {
	n := fs.geo.Groups
	avgInodes := uint32(fs.freeInodes.Load()) / n
	avgBlocks := uint32(fs.freeBlocks.Load()) / n
	if dir.Inode == fs.sb.Root || dir.Flags()&vfs.FlagTopDir != 0 {
		best, bestDirs := parent, uint16(1<<16-1)
		start := rand.Uint32N(n)
		for i := range min(n, 512) {
			g := disk.Group((start + i) % n)
			gr := &fs.groups[g]
			gr.mu.Lock()
			d := gr.desc
			gr.mu.Unlock()
			if d.FreeInodes == 0 || d.UsedDirs >= bestDirs || uint32(d.FreeInodes) < avgInodes || uint32(d.FreeBlocks) < avgBlocks {
				continue
			}
			best, bestDirs = g, d.UsedDirs
		}
		return best
	}
	maxDirs := uint32(fs.usedDirs.Load())/n + fs.geo.InodesPerGroup/16
	minInodes, minBlocks := avgInodes-min(avgInodes, fs.geo.InodesPerGroup/4), avgBlocks-min(avgBlocks, fs.geo.BlocksPerGroup/4)
	for i := range min(n, 512) {
		g := disk.Group((uint32(parent) + i) % n)
		gr := &fs.groups[g]
		gr.mu.Lock()
		d := gr.desc
		gr.mu.Unlock()
		if uint32(d.UsedDirs) < maxDirs && uint32(d.FreeInodes) >= max(minInodes, 1) && uint32(d.FreeBlocks) >= minBlocks {
			return g
		}
	}
	return parent
}

// clearInode marks an inode number free. Inside a transaction.
func (fs *fsys) clearInode(ino disk.Ino, isDir bool) {
	n, i := fs.geo.InodeIndex(ino)
	gr := &fs.groups[n]
	gr.mu.Lock()
	defer gr.mu.Unlock()
	bh, bm, err := fs.bitmap(context.Background(), n, false)
	if err != nil {
		fs.fail(err)
		return
	}
	defer bh.Put()
	if !bm.Clear(i) {
		fs.fail(fs.corrupt("inode bitmap", uint64(ino), 0, "group %d: the inode was marked free already", n))
		return
	}
	gr.inoHint = min(gr.inoHint, i)
	fs.dirtyBuffer(bh, kindBitmap)
	dirs := 0
	if isDir {
		dirs = -1
	}
	fs.groupChanged(n, 0, 1, dirs)
}
