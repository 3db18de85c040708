package minix

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/porting/minix/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/invariant"
)

// inode is a Minix inode in memory: vfs.Inode.Private.
type inode struct {
	*vfs.Inode
	fs *fsys

	bh  *bufhead.BufferHead // the block of the inode table that holds it; referenced while the inode is in memory
	off int                 // where in it

	// mapMu guards the block map: zone, and what the indirect zones hold. Inside folio locks, outside the bitmaps' locks
	// and buffers.
	mapMu  invariant.RWMutex[invariant.Map]
	zone   [disk.NZones]uint32 // Zone of the inode: block map, or a device number
	mapSeq atomic.Uint64       // version of the map, counted on under mapMu: whoever keeps an answer sees whether it still holds
	prom   promises

	free int64 // where a directory may have its first free slot, a hint. Guarded by Rw
}

func inodeOf(ip *vfs.Inode) *inode { return ip.Private.(*inode) }

// attach gives ip its place in the inode table.
func (fs *fsys) attach(ctx context.Context, vi *vfs.Inode) (*inode, error) {
	if !fs.super.ValidIno(vi.Ino()) {
		return nil, fmt.Errorf("there is no inode %d: %w", vi.Ino(), errno.STALE)
	}
	blk, off := fs.super.InodeAt(disk.Ino(vi.Ino()))
	bh, err := fs.bd.Bread(ctx, uint64(blk))
	if err != nil {
		return nil, fmt.Errorf("inode table: %w", err)
	}
	ip := &inode{Inode: vi, fs: fs, bh: bh, off: off}
	vi.Private = ip
	return ip, nil
}

// readInode is SuperOperations.ReadInode.
func (fs *fsys) readInode(ctx context.Context, vi *vfs.Inode) error {
	ip, err := fs.attach(ctx, vi)
	if err != nil {
		return err
	}
	in := disk.DecodeInode(ip.bh.Data[ip.off:], fs.super.Version)
	switch {
	case in.Links == 0:
		return errno.STALE
	case int64(in.Size) > fs.sb.MaxBytes:
		return fs.corrupt(vi.Ino(), "size is %d, want at most %d", in.Size, fs.sb.MaxBytes)
	}
	vi.A = vfs.Attr{
		Mode: uint32(in.Mode), UID: uint32(in.UID), GID: uint32(in.GID), Nlink: uint32(in.Links),
		Atime: vfs.Time{Sec: int64(in.Atime)}, Mtime: vfs.Time{Sec: int64(in.Mtime)}, Ctime: vfs.Time{Sec: int64(in.Ctime)},
	}
	ip.zone = in.Zone
	vi.SetSize(int64(in.Size))
	switch vi.A.Mode & vfs.ModeType {
	case vfs.ModeRegular, vfs.ModeDir, vfs.ModeSymlink:
		vi.SetBlocks(ip.countBlocks())
	case vfs.ModeBlock, vfs.ModeChar:
		vi.A.Rdev = vfs.Dev{Major: in.Zone[0] >> 8 & 0xff, Minor: in.Zone[0] & 0xff}
	case vfs.ModeFIFO, vfs.ModeSocket:
	default:
		return fs.corrupt(vi.Ino(), "mode %#o has no file type", in.Mode)
	}
	ip.setOps()
	return nil
}

// countBlocks works out what stat(2) shows, in 512-byte units: the format does not store it, and a walk would cost; so the size
// stands in for it, as in Linux.
func (ip *inode) countBlocks() int64 {
	bs := int64(ip.fs.super.BlockSize)
	return (ip.Size() + bs - 1) / bs * (bs / 512)
}

// dirtyInode is SuperOperations.DirtyInode: the inode goes to its buffer at once, and with it to the device. Without mapMu.
func (fs *fsys) dirtyInode(vi *vfs.Inode, _ vfs.DirtyFlags) {
	ip := inodeOf(vi)
	ip.mapMu.RLock() // over the encoding, so that the last one to encode is not the one with the oldest map
	ip.bh.Lock()
	ip.encode(ip.bh.Data[ip.off:])
	ip.bh.Unlock()
	ip.mapMu.RUnlock()
	fs.bd.MarkDirty(ip.bh)
}

// encode stores the inode in its place. Under mapMu.
func (ip *inode) encode(b []byte) {
	ip.AttrMu.Lock()
	defer ip.AttrMu.Unlock()
	a := &ip.A
	in := disk.Inode{
		Mode: uint16(a.Mode), Links: uint16(a.Nlink), UID: id16(a.UID), GID: id16(a.GID), Size: uint32(ip.Size()),
		Atime: uint32(a.Atime.Sec), Mtime: uint32(a.Mtime.Sec), Ctime: uint32(a.Ctime.Sec), Zone: ip.zone,
	}
	if ip.fs.super.Version == 1 {
		in.GID &= 0xff
	}
	in.EncodeTo(b, ip.fs.super.Version)
}

// id16 is what a format of 16-bit ids shows of a larger one.
func id16(id uint32) uint16 {
	if id > 0xffff {
		return 65534
	}
	return uint16(id)
}

// evictInode is SuperOperations.EvictInode.
func (fs *fsys) evictInode(vi *vfs.Inode) {
	ip, _ := vi.Private.(*inode)
	vi.Pages.Evict()
	if ip == nil {
		return
	}
	ip.mapMu.Lock()
	ip.unpromise(0, math.MaxUint64) // what could not be written
	ip.mapMu.Unlock()
	defer ip.bh.Put()
	fs.bd.DropInode(vi)
	if vi.Nlink() > 0 || fs.sb.ReadOnly() || fs.sb.IsShutdown() {
		return
	}
	switch vi.Mode() & vfs.ModeType {
	case vfs.ModeRegular, vfs.ModeDir, vfs.ModeSymlink:
		if err := ip.freeFrom(context.Background(), 0); err != nil {
			fs.sb.Log.Error("blocks of a removed file stay allocated", "err", err)
		}
	}
	ip.bh.Lock()
	clear(ip.bh.Data[ip.off : ip.off+int(fs.super.InodeSize())])
	ip.bh.Unlock()
	fs.bd.MarkDirty(ip.bh)
	if !fs.inodes.give(uint32(vi.Ino()), 1) {
		fs.sb.Log.Error("inode was free already: run fsck.minix", "inode", vi.Ino())
	}
}

// newInode takes a free inode. It is not yet in the table; the caller publishes it or gives it up.
func (fs *fsys) newInode(ctx context.Context, cred *vfs.Cred, dir *vfs.Inode, mode uint32) (*inode, error) {
	n, got := fs.inodes.take(0, 1)
	if got == 0 {
		return nil, fmt.Errorf("%s: no free inodes: %w", fs.sb.Dev.Name(), errno.NOSPC)
	}
	vi, err := fs.sb.Insert(uint64(n))
	if err != nil {
		return nil, err // the bit stays set: somebody uses the number
	}
	ip, err := fs.attach(ctx, vi)
	if err != nil {
		fs.inodes.give(n, 1)
		vi.Publish(err)
		vi.Put()
		return nil, err
	}
	vi.InitOwner(cred, dir, mode&^cred.Umask)
	vi.A.UID, vi.A.GID = uint32(id16(vi.A.UID)), uint32(id16(vi.A.GID))
	vi.A.Nlink = 1
	ip.setOps()
	return ip, nil
}

// setOps gives the inode its tables, by type.
func (ip *inode) setOps() {
	t := &ip.fs.tables
	ip.Op = &t.special
	switch ip.A.Mode & vfs.ModeType {
	case vfs.ModeRegular:
		ip.Op, ip.Fop = &t.file, &t.fileFop
		ip.Pages.SetOps(&t.pages)
		ip.Pages.SetOrders(0, t.folioOrder)
	case vfs.ModeDir:
		ip.Op, ip.Fop = &t.dir, &t.dirFop
		ip.Pages.SetOps(&t.metaPages)
	case vfs.ModeSymlink:
		ip.Op = &t.symlink
		ip.Pages.SetOps(&t.metaPages)
	}
}

// setAttr is InodeOperations.SetAttr.
func (fs *fsys) setAttr(ctx context.Context, vi *vfs.Inode, a *vfs.SetAttr) error {
	limit := uint32(0xffff)
	if a.Valid&vfs.SetUID != 0 && a.UID > limit {
		return errno.INVAL
	}
	if fs.super.Version == 1 {
		limit = 0xff
	}
	if a.Valid&vfs.SetGID != 0 && a.GID > limit {
		return errno.INVAL
	}
	if a.Valid&vfs.SetSize != 0 && vi.IsRegular() {
		if err := inodeOf(vi).setSize(ctx, a.Size); err != nil {
			return err
		}
	}
	vi.ApplyAttr(a)
	return nil
}

// fsync writes what the file needs: its data, its indirect zones, its inode.
func (fs *fsys) fsync(ctx context.Context, f *vfs.File, start, end int64, _ bool) error {
	ip := inodeOf(f.Inode)
	if err := ip.Pages.WriteAndWait(ctx, start, end); err != nil {
		return err
	}
	if err := fs.bd.SyncInode(ctx, ip.Inode); err != nil {
		return err
	}
	if err := fs.bd.SyncBuffer(ctx, ip.bh); err != nil {
		return err
	}
	return block.Flush(fs.sb.Dev)
}
