package ext2

import (
	"context"
	"fmt"
	"math"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// inodeBuffer gives the buffer of the inode table that holds ino, referenced, and the inode's offset in it.
func (fs *fsys) inodeBuffer(ctx context.Context, ino uint64) (*bufhead.BufferHead, int, error) {
	if ino > math.MaxUint32 || !fs.geo.ValidIno(disk.Ino(ino)) {
		return nil, 0, fmt.Errorf("inode %d does not exist: %w", ino, errno.STALE)
	}
	n, _ := fs.geo.InodeIndex(disk.Ino(ino))
	blk, off := fs.geo.InodeAt(disk.Ino(ino), fs.groups[n].desc.InodeTable)
	bh, err := fs.bd.Bread(ctx, uint64(blk))
	return bh, int(off), err
}

// readInode is SuperOperations.ReadInode.
func (fs *fsys) readInode(ctx context.Context, vi *vfs.Inode) error {
	ino := disk.Ino(vi.Ino())
	if vi.Ino() > math.MaxUint32 || !fs.geo.FileIno(ino) {
		return fs.corrupt("directory entry", vi.Ino(), 0, "names an inode that holds no file")
	}
	bh, off, err := fs.inodeBuffer(ctx, vi.Ino())
	if err != nil {
		return err
	}
	defer bh.Put()
	raw := bh.Data[off : off+int(fs.geo.InodeSize)]
	in, err := disk.DecodeInode(raw)
	if err == nil && !in.Live() {
		return errno.STALE
	}
	if err == nil {
		err = in.Verify(fs.geo)
	}
	if err != nil {
		return fs.corrupt("inode", vi.Ino(), uint64(fs.geo.BytesOf(disk.FSBlock(bh.Block)))+uint64(off), "%v", err)
	}
	ip := &inode{Inode: vi, fs: fs, data: in.Block, raw: in}
	vi.Private = ip
	vi.Gen = in.Generation
	major, minor := in.Device()
	vi.A = vfs.Attr{
		Mode: uint32(in.Mode), UID: in.UID, GID: in.GID, Nlink: uint32(in.Links), Rdev: vfs.Dev{},
		Atime: vtime(in.Atime), Mtime: vtime(in.Mtime), Ctime: vtime(in.Ctime), Btime: vtime(in.Crtime),
		HasBtime: in.ExtraSize >= 24, Flags: vfs.FileFlags(in.Flags),
	}
	if t := in.Type(); uint32(t) == vfs.ModeBlock || uint32(t) == vfs.ModeChar {
		vi.A.Rdev = vfs.Dev{Major: major, Minor: minor}
	}
	if fs.opts.NoUID32 {
		vi.A.UID, vi.A.GID = vi.A.UID&0xffff, vi.A.GID&0xffff
	}
	if in.Size > math.MaxInt64 || in.IsRegular() && int64(in.Size) > fs.sb.MaxBytes {
		return fs.corrupt("inode", vi.Ino(), 0, "size is %d, want at most %d", in.Size, fs.sb.MaxBytes)
	}
	vi.SetSize(int64(in.Size))
	vi.SetBlocks(int64(in.Sectors))
	ip.fileACL.Store(uint32(in.FileACL))
	if in.FileACL != 0 && !fs.dataBlock(in.FileACL) {
		return fs.corrupt("inode", vi.Ino(), 0, "block of extended attributes is %d, which holds no file", in.FileACL)
	}
	ip.ord.live = true
	ip.setOps()
	return nil
}

func vtime(t disk.Time) vfs.Time { return vfs.Time{Sec: t.Sec, Nsec: t.Nsec} }

func dtime(t vfs.Time) disk.Time { return disk.Time{Sec: t.Sec, Nsec: t.Nsec} }

// encode stores the inode over raw, its place in the inode table. Transactions are held off.
func (ip *inode) encode(raw []byte) {
	raw = raw[:ip.fs.geo.InodeSize]
	ip.AttrMu.Lock()
	defer ip.AttrMu.Unlock()
	a, in := &ip.A, &ip.raw
	if ip.fresh {
		clear(raw)
		ip.fresh = false
	}
	if ip.ibody != nil {
		copy(in.IBody(raw), ip.ibody)
	}
	in.Mode, in.UID, in.GID, in.Links = uint16(a.Mode), a.UID, a.GID, uint16(a.Nlink)
	in.Atime, in.Mtime, in.Ctime = dtime(a.Atime), dtime(a.Mtime), dtime(a.Ctime)
	if a.HasBtime {
		in.Crtime = dtime(a.Btime)
	}
	in.Flags = disk.InodeFlags(a.Flags)
	in.Size, in.Sectors = uint64(ip.Size()), uint32(ip.Blocks())
	in.Block, in.FileACL = ip.data, disk.FSBlock(ip.fileACL.Load())
	in.Dtime = 0
	if a.Nlink == 0 {
		in.Dtime = uint32(max(a.Ctime.Sec, 1))
	}
	in.EncodeTo(raw)
}

// markDirty is SuperOperations.DirtyInode.
func (fs *fsys) markDirty(vi *vfs.Inode, d vfs.DirtyFlags) {
	ip := inodeOf(vi)
	if d&vfs.DirtySize != 0 {
		ip.mapChanged()
	}
	fs.dirtyInode(ip)
}

// evictInode is SuperOperations.EvictInode. A file without links gives back its blocks and its number: its death is on the
// medium already, or it never was there.
func (fs *fsys) evictInode(vi *vfs.Inode) {
	ip, _ := vi.Private.(*inode)
	vi.Pages.Evict()
	if ip == nil {
		return
	}
	fs.bd.DropInode(vi)
	ip.dropDir()
	ip.mapMu.Lock()
	fs.dropWindow(ip)
	ip.keep(0, 1<<62)
	ip.mapMu.Unlock()
	if vi.Nlink() > 0 || fs.sb.ReadOnly() || fs.sb.IsShutdown() {
		return
	}
	isDir := vi.IsDir()
	if ip.hasMap() {
		if err := ip.freeFrom(context.Background(), 0); err != nil {
			fs.fail(fmt.Errorf("inode %d: %w", vi.Ino(), err))
		}
	}
	fs.begin()
	fs.freeXattr(ip)
	fs.clearInode(disk.Ino(vi.Ino()), isDir)
	fs.end()
}

// hasMap reports whether data is a block map: not for devices, fifos, sockets and fast symlinks.
func (ip *inode) hasMap() bool {
	switch ip.Mode() & vfs.ModeType {
	case vfs.ModeRegular, vfs.ModeDir:
		return true
	case vfs.ModeSymlink:
		return !ip.fastLink()
	}
	return false
}

// fastLink reports whether a symbolic link's target lies in the inode.
func (ip *inode) fastLink() bool {
	blocks := ip.Blocks()
	if ip.fileACL.Load() != 0 {
		blocks -= int64(ip.fs.geo.BlockSize) / disk.SectorSize
	}
	return blocks == 0
}

// setOps gives the inode its tables, by type.
func (ip *inode) setOps() {
	vi := ip.Inode
	vi.Op = &ip.fs.tables.special
	switch ip.Mode() & vfs.ModeType {
	case vfs.ModeRegular:
		vi.Op, vi.Fop = &ip.fs.tables.file, &ip.fs.tables.fileFop
		vi.Pages.SetOps(&ip.fs.tables.pages)
		vi.Pages.SetOrders(ip.fs.folioOrders())
	case vfs.ModeDir:
		vi.Op, vi.Fop = &ip.fs.tables.dir, &ip.fs.tables.dirFop
	case vfs.ModeSymlink:
		vi.Op = &ip.fs.tables.symlink
	}
}

// setAttr is InodeOperations.SetAttr.
func (fs *fsys) setAttr(ctx context.Context, vi *vfs.Inode, a *vfs.SetAttr) error {
	if a.Valid&vfs.SetSize != 0 && vi.IsRegular() {
		if err := inodeOf(vi).setSize(ctx, a.Size); err != nil {
			return err
		}
	}
	if fs.opts.NoUID32 && (a.Valid&vfs.SetUID != 0 && a.UID > 0xffff || a.Valid&vfs.SetGID != 0 && a.GID > 0xffff) {
		return errno.OVERFLOW
	}
	fs.begin()
	vi.ApplyAttr(a)
	fs.end()
	return nil
}
