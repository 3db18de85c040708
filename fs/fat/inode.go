package fat

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// timeOf reads a time of the medium, stamp makes one.
func (fs *fsys) timeOf(s disk.Stamp) vfs.Time {
	sec, nsec := s.Unix()
	local := time.Unix(sec, 0).UTC()
	t := time.Date(local.Year(), local.Month(), local.Day(), local.Hour(), local.Minute(), local.Second(), int(nsec), fs.opts.Zone)
	return vfs.TimeOf(t)
}

func (fs *fsys) stamp(t vfs.Time) disk.Stamp {
	_, offset := time.Unix(t.Sec, 0).In(fs.opts.Zone).Zone()
	return disk.StampOf(t.Sec+int64(offset), t.Nsec)
}

// modeOf gives type and permissions, which follow from attributes, name and mount options.
func (fs *fsys) modeOf(attr disk.Attr, name string) uint32 {
	if attr&disk.AttrDir != 0 {
		m := 0o777 &^ fs.opts.DMask
		if attr&disk.AttrReadOnly != 0 && fs.opts.ReadOnlyDir {
			m &^= 0o222
		}
		return vfs.ModeDir | m
	}
	m := 0o777 &^ fs.opts.FMask
	if attr&disk.AttrReadOnly != 0 {
		m &^= 0o222
	}
	if fs.opts.ShowExec && !executable(name) {
		m &^= 0o111
	}
	return vfs.ModeRegular | m
}

// executable reports whether DOS would run the file of that short name.
func executable(name string) bool {
	return strings.HasSuffix(name, "EXE") || strings.HasSuffix(name, "COM") || strings.HasSuffix(name, "BAT")
}

// slotBuffer gives the buffer that holds the slot at a byte address, referenced, and the slot in it.
func (fs *fsys) slotBuffer(ctx context.Context, at int64) (*bufhead.BufferHead, []byte, error) {
	bh, err := fs.bd.Bread(ctx, uint64(at)>>fs.geo.SectorBits)
	if err != nil {
		return nil, nil, err
	}
	off := int(at) & (1<<fs.geo.SectorBits - 1)
	return bh, bh.Data[off : off+disk.DirentSize], nil
}

// readInode is SuperOperations.ReadInode.
func (fs *fsys) readInode(ctx context.Context, vi *vfs.Inode) error {
	ip := &inode{Inode: vi, fs: fs}
	vi.Private = ip
	if vi.Ino() == rootIno {
		return ip.readRoot(ctx)
	}
	slot, ok := fs.numbers.slotOf(vi.Ino())
	if !ok || slot <= 0 || slot+disk.DirentSize > int64(fs.geo.Sectors)<<fs.geo.SectorBits {
		return fmt.Errorf("inode %d does not exist: %w", vi.Ino(), errno.STALE)
	}
	bh, p, err := fs.slotBuffer(ctx, slot)
	if err != nil {
		return err
	}
	fs.begin() // a commit may be encoding into the sector
	free := disk.IsFree(p) || disk.IsLong(p)
	d := disk.DecodeDirent(p, fs.geo.Width)
	fs.end()
	bh.Put()
	if free || d.Attr&disk.AttrVolume != 0 || d.IsDir() != (vi.Ino()&dirBit != 0) {
		return fmt.Errorf("inode %d is not in use: %w", vi.Ino(), errno.STALE)
	}
	ip.slot.Store(slot)
	return ip.fill(ctx, d)
}

// readRoot makes the root directory, which has no entry.
func (ip *inode) readRoot(ctx context.Context) error {
	first := disk.Stamp{Date: 1<<5 | 1}
	return ip.fill(ctx, disk.Dirent{Attr: disk.AttrDir, Start: ip.fs.geo.RootCluster, Created: first, Written: first, Accessed: first})
}

// fill takes an entry over into a new inode.
func (ip *inode) fill(ctx context.Context, d disk.Dirent) error {
	fs, vi := ip.fs, ip.Inode
	ip.raw, ip.attr, ip.start = d, d.Attr, d.Start
	fixedRoot := vi.Ino() == rootIno && fs.geo.Width != disk.FAT32
	if d.Start != 0 && !fs.geo.Valid(d.Start) || d.Start == 0 && (d.Size != 0 || d.IsDir() && !fixedRoot) {
		return fs.corrupt("directory entry", vi.Ino(), uint64(ip.slot.Load()), "the first cluster is %d, want 2 to %d", d.Start, fs.geo.Last())
	}
	vi.A = vfs.Attr{
		Mode: fs.modeOf(d.Attr, string(d.Name[:])), UID: fs.opts.UID, GID: fs.opts.GID, Nlink: 1,
		Mtime: fs.timeOf(d.Written), Atime: fs.timeOf(d.Accessed), Btime: fs.timeOf(d.Created), HasBtime: vi.Ino() != rootIno,
	}
	vi.A.Ctime = vi.A.Mtime
	if d.Attr&disk.AttrSystem != 0 && fs.opts.SysImmutable {
		vi.A.Flags |= vfs.FlagImmutable
	}
	if d.IsDir() {
		ip.dir = new(dirState)
		if fixedRoot {
			ip.chain.whole = true
			vi.SetSize(int64(fs.geo.RootEntries) * disk.DirentSize)
		} else {
			ip.mapMu.Lock()
			err := ip.loadLocked(ctx, allChain)
			ip.mapMu.Unlock()
			if err != nil {
				return err
			}
			vi.SetSize(int64(ip.chain.known) << fs.geo.ClusterBits)
		}
		vi.SetBlocks(vi.Size() / 512)
	} else {
		vi.SetSize(int64(d.Size))
		ip.init.Store(int64(d.Size))
		vi.SetBlocks(int64(fs.geo.ClustersFor(int64(d.Size))) << (fs.geo.ClusterBits - 9))
	}
	ip.setOps()
	return nil
}

// setOps gives the inode its tables.
func (ip *inode) setOps() {
	vi, t := ip.Inode, &ip.fs.tables
	if ip.dir != nil {
		vi.Op, vi.Fop = &t.dir, &t.dirFop
		return
	}
	vi.Op, vi.Fop = &t.file, &t.fileFop
	vi.Pages.SetOps(&t.pages)
	vi.Pages.SetOrders(ip.fs.folioOrders())
}

// dirent gives the entry as it should be stored.
func (ip *inode) dirent() disk.Dirent {
	fs := ip.fs
	ip.AttrMu.Lock()
	defer ip.AttrMu.Unlock()
	d := ip.raw
	d.Attr = ip.attr
	d.Written, d.Created = fs.stamp(ip.A.Mtime), fs.stamp(ip.A.Btime)
	d.Written.Centi = 0
	d.Accessed = disk.Stamp{Date: fs.stamp(ip.A.Atime).Date}
	if ip.dir == nil {
		d.Start, d.Size = ip.start, uint32(ip.Size())
		if d.Start == 0 {
			d.Size = 0 // never: a size has clusters
		}
	}
	return d
}

// encode stores the entry in its directory's buffer. Transactions are held off.
func (ip *inode) encode(ctx context.Context) error {
	at := ip.slot.Load()
	if at == 0 {
		return nil
	}
	d := ip.dirent()
	if d == ip.raw {
		return nil
	}
	bh, p, err := ip.fs.slotBuffer(ctx, at)
	if err != nil {
		return fmt.Errorf("inode %d: %w", ip.Ino(), err)
	}
	defer bh.Put()
	d.EncodeTo(p, ip.fs.geo.Width)
	ip.AttrMu.Lock()
	ip.raw = d
	ip.AttrMu.Unlock()
	ip.fs.dirtyDir(bh)
	return nil
}

// markDirty is SuperOperations.DirtyInode. Times get the granularity of the medium: two seconds for changes, a day for accesses.
func (fs *fsys) markDirty(vi *vfs.Inode, d vfs.DirtyFlags) {
	ip := inodeOf(vi)
	ip.AttrMu.Lock()
	a := &ip.A
	a.Mtime = fs.timeOf(disk.Stamp{Date: fs.stamp(a.Mtime).Date, Time: fs.stamp(a.Mtime).Time})
	a.Atime = fs.timeOf(disk.Stamp{Date: fs.stamp(a.Atime).Date})
	same := ip.raw.Written.Date == fs.stamp(a.Mtime).Date && ip.raw.Written.Time == fs.stamp(a.Mtime).Time && ip.raw.Accessed.Date == fs.stamp(a.Atime).Date
	ip.AttrMu.Unlock()
	if d == vfs.DirtyTimes && same {
		return
	}
	fs.dirtyInode(ip)
}

// evictInode is SuperOperations.EvictInode. A file without a name gives its clusters back: the name is gone, or goes with the same
// commit, which writes it before the FAT.
func (fs *fsys) evictInode(vi *vfs.Inode) {
	ip, _ := vi.Private.(*inode)
	vi.Pages.Evict()
	if ip == nil {
		return
	}
	if vi.Nlink() == 0 && fs.writable && !fs.sb.ReadOnly() && !fs.sb.IsShutdown() {
		if err := ip.cutTo(context.Background(), 0); err != nil {
			fs.fail(fmt.Errorf("inode %d: %w", vi.Ino(), err))
		}
	}
	fs.numbers.gone(vi.Ino())
}

// setAttr is InodeOperations.SetAttr. Owner and mode are not stored: a change that would have to be is errno.PERM, or with quiet
// nothing. Of the mode, whether anybody may write is stored as the read-only attribute.
func (fs *fsys) setAttr(ctx context.Context, vi *vfs.Inode, a *vfs.SetAttr) error {
	ip := inodeOf(vi)
	if a.Valid&vfs.SetUID != 0 && a.UID != fs.opts.UID || a.Valid&vfs.SetGID != 0 && a.GID != fs.opts.GID {
		if !fs.opts.Quiet {
			return errno.PERM
		}
	}
	a.Valid &^= vfs.SetUID | vfs.SetGID
	if a.Valid&vfs.SetMode != 0 {
		if err := ip.checkMode(a.Mode); err != nil {
			if !fs.opts.Quiet {
				return err
			}
			a.Valid &^= vfs.SetMode
		}
	}
	if a.Valid&vfs.SetSize != 0 && vi.IsRegular() {
		if err := ip.setSize(ctx, a.Size); err != nil {
			return err
		}
	}
	if a.Valid&vfs.SetMode != 0 {
		ip.AttrMu.Lock()
		attr := ip.attr
		if ip.dir == nil || fs.opts.ReadOnlyDir {
			if attr &^= disk.AttrReadOnly; a.Mode&0o222 == 0 {
				attr |= disk.AttrReadOnly
			}
		}
		ip.attr = attr
		a.Mode = fs.modeOf(attr, string(ip.raw.Name[:])) & vfs.ModePerm
		ip.AttrMu.Unlock()
	}
	vi.ApplyAttr(a)
	return nil
}

// checkMode refuses modes that the medium and the mount options cannot show: all permissions to read and execute that there are must
// stay, and permission to write is everybody's or nobody's.
func (ip *inode) checkMode(mode uint32) error {
	fs := ip.fs
	mask, mode := fs.opts.FMask, mode&0o7777
	if ip.dir != nil {
		mask = fs.opts.DMask
	}
	whole := 0o777 &^ mask
	w := mode & 0o222
	exec := mode & 0o111
	ok := mode&^0o777 == 0 && mode&0o444&^mask == whole&0o444 && (w&^mask == whole&0o222 || w&^mask == 0)
	if !(fs.opts.ShowExec && ip.dir == nil) {
		ok = ok && exec&^mask == whole&0o111
	}
	if ip.dir != nil && !fs.opts.ReadOnlyDir {
		ok = ok && w&^mask == whole&0o222
	}
	if !ok {
		return fmt.Errorf("inode %d: mode %o cannot be stored, it is %o or without permission to write: %w", ip.Ino(), mode, whole, errno.PERM)
	}
	return nil
}

// setAttrs changes the attributes that a user may change. Rw held exclusively.
func (ip *inode) setAttrs(attr disk.Attr) {
	ip.AttrMu.Lock()
	ip.attr = ip.attr&^disk.AttrUser | attr&disk.AttrUser
	ip.A.Mode = ip.fs.modeOf(ip.attr, string(ip.raw.Name[:]))
	ip.A.Ctime = ip.fs.sb.Now()
	if ip.fs.opts.SysImmutable {
		if ip.A.Flags &^= vfs.FlagImmutable; ip.attr&disk.AttrSystem != 0 {
			ip.A.Flags |= vfs.FlagImmutable
		}
	}
	ip.AttrMu.Unlock()
	ip.fs.dirtyInode(ip)
}

// changed says that the contents of a file changed: it is to be backed up.
func (ip *inode) changed() {
	ip.AttrMu.Lock()
	ip.attr |= disk.AttrArchive
	ip.AttrMu.Unlock()
	ip.TouchNow(true)
}
