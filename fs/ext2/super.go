package ext2

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Type is ext2 for fs/all.
var Type = &vfs.FileSystem{Name: "ext2", Help: help}

func init() {
	// Set here since Mount refers to Type.
	Type.Probe, Type.Mount, Type.Sides = probe, mount, sides
}

const superOffset = 1024

// readSuper reads and decodes the superblock at byte at.
func readSuper(dev block.Device, at int64) (disk.Superblock, error) {
	buf := make([]byte, 1<<16)
	base := at &^ int64(max(dev.Limits().LogicalBlock, 4096)-1)
	n := min(int64(len(buf)), dev.Size()-base) &^ int64(max(dev.Limits().LogicalBlock, 1)-1)
	if n < at-base+1024 {
		return disk.Superblock{}, fmt.Errorf("%s: too small for an ext2 filesystem: %w", dev.Name(), errno.INVAL)
	}
	if err := block.ReadAt(dev, buf[:n], base); err != nil {
		return disk.Superblock{}, err
	}
	return disk.DecodeSuperblock(buf[at-base:])
}

// probe is FileSystem.Probe: ext2, and clean ext3, which mounts as ext2.
func probe(dev block.Device) (vfs.Probe, bool) {
	sb, err := readSuper(dev, superOffset)
	if err != nil {
		return vfs.Probe{}, false
	}
	g, err := disk.NewGeometry(&sb, -1)
	if err != nil {
		return vfs.Probe{}, false
	}
	t := "ext2"
	switch {
	case sb.UnknownIncompat()&^disk.IncompatRecover != 0 || sb.UnknownROCompat() != 0:
		t = "ext4"
	case sb.Compat&disk.CompatHasJournal != 0:
		t = "ext3"
	}
	u := sb.UUID
	return vfs.Probe{
		Type: t, Version: "1.0", Label: sb.Label(), UUID: fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:]),
		BlockSize: g.BlockSize, Size: int64(g.Blocks) << g.BlockBits,
	}, true
}

// mount is FileSystem.Mount.
func mount(ctx context.Context, dev block.Device, mo *vfs.MountOptions) (*vfs.SuperBlock, error) {
	name := dev.Name()
	fs := &fsys{}
	if b, ok := dev.(block.Backing); ok && dev.Limits().DiscardGrain > 0 {
		_, _, fs.opts.Discard = b.BackingFile() // image files stay sparse
	}
	readOnly := mo.ReadOnly || dev.Limits().ReadOnly
	at := int64(superOffset)
	if n := superBlockWord(mo.Words); n != 0 {
		at, readOnly = int64(n)<<10, true
	}
	super, err := readSuper(dev, at)
	switch {
	case err != nil && at != superOffset:
		return nil, fmt.Errorf("%s: no superblock at sb=%d: %w: %w", name, at>>10, err, errno.INVAL)
	case err != nil && dev.Size() > superOffset+disk.SuperSize:
		return nil, fmt.Errorf("%s: %w; a copy can be read with sb=32768, or sb=8193 where blocks are 1 KiB: %w", name, err, errno.INVAL)
	case err != nil:
		return nil, fmt.Errorf("%s: %w: %w", name, err, errno.INVAL)
	}
	if err := parseOptions(mo.Words, &super, &fs.opts); err != nil {
		return nil, err
	}
	if mo.Paths != nil {
		fs.opts.Paths = *mo.Paths
	}
	if err := checkPaths(fs.opts.Paths); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	sb := vfs.NewSuperBlock(Type, dev, mo)
	fs.sb, fs.super = sb, super
	if err := fs.open(ctx, dev, &readOnly); err != nil {
		if fs.bd != nil {
			fs.close()
		}
		sb.Discard()
		return nil, err
	}
	if readOnly {
		sb.SetReadOnly()
	}
	if err := fs.startLife(ctx, mo); err != nil {
		fs.close()
		sb.Discard()
		return nil, err
	}
	return sb, nil
}

// open checks the superblock and reads what mounting needs. It may make the mount read-only.
func (fs *fsys) open(ctx context.Context, dev block.Device, readOnly *bool) error {
	name, sb, super := dev.Name(), fs.sb, &fs.super
	if bad := super.UnknownIncompat() &^ disk.IncompatRecover; bad != 0 {
		return fmt.Errorf("%s: has features that ext2 does not know: %s: %w", name, bad, errno.INVAL)
	}
	if super.Incompat&disk.IncompatRecover != 0 && !(fs.opts.NoRecovery && *readOnly) {
		return fmt.Errorf("%s: its journal must be replayed first: run e2fsck -fy %s, or mount with ro,norecovery to look: %w", name, name, errno.UCLEAN)
	}
	if bad := super.UnknownROCompat(); bad != 0 && !*readOnly {
		sb.Log.Warn("mounted read-only: the filesystem has features that cannot be kept up", "image", name, "features", bad.String())
		*readOnly = true
	}
	geo, err := disk.NewGeometry(super, dev.Size())
	if err == nil {
		err = super.Verify(geo)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", name, err, errno.UCLEAN)
	}
	fs.geo = geo
	if !super.Clean() && super.Incompat&disk.IncompatRecover == 0 {
		why := "was not unmounted cleanly"
		if super.State&disk.StateErrors != 0 {
			why = "has errors"
		}
		sb.Log.Warn("the filesystem "+why+": check it with e2fsck -f before changing it", "image", name)
	}
	if sector := dev.Limits().LogicalBlock; geo.BlockSize < sector {
		return fmt.Errorf("%s: blocks of %d bytes cannot be written on a device with sectors of %d: copy it to an image file to use it: %w",
			name, geo.BlockSize, sector, errno.INVAL)
	}
	if fs.opts.DAX {
		if err := fs.openDax(); err != nil {
			return err
		}
	}
	fs.bd, err = bufhead.NewDevice(dev, sb.Cache, sb.WB, int(geo.BlockSize))
	if err != nil {
		return err
	}
	sb.Private = fs
	sb.BlockBits, sb.NameMax = geo.BlockBits, disk.NameMax
	sb.MaxBytes, sb.UUID = geo.MaxFileSize(), super.UUID
	sb.Paths = fs.opts.Paths
	sb.TimeMin, sb.TimeMax = vfs.Time{Sec: math.MinInt32}, vfs.Time{Sec: math.MaxInt32}
	sb.TimeGran = 1e9
	if geo.InodeSize > 128 {
		sb.TimeMax, sb.TimeGran = vfs.Time{Sec: math.MaxInt32 + 3<<32, Nsec: 1e9 - 1}, 1
	}
	fs.reserved, fs.overhead = super.ReservedBlocks, geo.Overhead()
	fs.gen.Store(uint32(sb.Now().Nsec) ^ uint32(sb.Now().Sec)<<10)
	blk, _ := fs.superAt()
	if fs.superBH, err = fs.bd.Bread(ctx, blk); err != nil {
		return err
	}
	if err := fs.loadGroups(ctx); err != nil {
		return err
	}
	fs.initCommit(fs.encodeCounts, !fs.opts.NoBarrier)
	fs.makeTables()
	sb.Op = &vfs.SuperOperations{
		ReadInode: fs.readInode, EvictInode: fs.evictInode,
		DirtyInode: fs.markDirty,
		Sync:       fs.sync, StatFS: fs.statFS, Trim: fs.trim, Remount: fs.remount, Put: fs.put, Label: fs.label, SetLabel: fs.setLabel,
	}
	root, err := sb.Get(ctx, uint64(disk.RootIno))
	if err != nil {
		return fmt.Errorf("%s: root directory: %w", name, err)
	}
	if !root.IsDir() {
		root.Put()
		return fs.corrupt("root directory", uint64(disk.RootIno), 0, "mode is %o, want a directory", root.Mode())
	}
	sb.Root = root
	return nil
}

// startLife starts the life of the mount: marks the filesystem in use, and runs the committer.
func (fs *fsys) startLife(ctx context.Context, mo *vfs.MountOptions) error {
	if !fs.sb.ReadOnly() {
		if mo.MountPoint != "" {
			fs.super.SetLastMounted(mo.MountPoint)
		}
		if err := fs.markInUse(); err != nil {
			return err
		}
	}
	fs.sb.Start()
	fs.sb.Go(func(ctx context.Context) { fs.runCommitter(ctx, fs.opts.Commit) })
	return nil
}

// superAt gives the block of the primary superblock and its offset in it.
func (fs *fsys) superAt() (blk uint64, off int) {
	return superOffset >> fs.geo.BlockBits, superOffset & (1<<fs.geo.BlockBits - 1)
}

// encodeSuperLocked stores the superblock in its buffer. Hold superMu.
func (fs *fsys) encodeSuperLocked() {
	fs.super.FreeBlocks, fs.super.FreeInodes = uint32(fs.freeBlocks.Load()), uint32(fs.freeInodes.Load())
	fs.super.WriteTime = uint32(fs.sb.Now().Sec)
	_, off := fs.superAt()
	fs.super.EncodeTo(fs.superBH.Data[off : off+1024])
}

// writeSuper writes the superblock now and makes it durable.
func (fs *fsys) writeSuper() error {
	fs.superMu.Lock()
	defer fs.superMu.Unlock()
	fs.encodeSuperLocked()
	blk, _ := fs.superAt()
	if err := block.WriteAt(fs.sb.Dev, fs.superBH.Data, int64(blk)<<fs.geo.BlockBits, block.Meta); err != nil {
		return fmt.Errorf("superblock: %w", err)
	}
	return block.Flush(fs.sb.Dev)
}

// markInUse clears the clean flag, before anything else is written.
func (fs *fsys) markInUse() error {
	fs.superMu.Lock()
	fs.cleanState = fs.super.State & disk.StateValid
	fs.super.State &^= disk.StateValid
	fs.super.MountCount++
	fs.super.MountTime = uint32(fs.sb.Now().Sec)
	fs.superMu.Unlock()
	fs.writable.Store(true)
	return fs.writeSuper()
}

// markClean writes everything and sets the clean flag back as it was found, unless damage was seen.
func (fs *fsys) markClean(ctx context.Context) error {
	for try := 0; try < 8 && (fs.dirtyMetadata() || fs.pendingFree() > 0); try++ {
		if err := fs.commitNow(ctx); err != nil {
			return err
		}
	}
	if fs.broken.Load() {
		return fs.commit.err
	}
	fs.superMu.Lock()
	if fs.super.State&disk.StateErrors == 0 {
		fs.super.State |= fs.cleanState
	}
	fs.superMu.Unlock()
	fs.writable.Store(false)
	return fs.writeSuper()
}

// put is SuperOperations.Put.
func (fs *fsys) put(ctx context.Context) error {
	var err error
	if fs.writable.Load() && !fs.sb.IsShutdown() {
		err = fs.markClean(ctx)
	}
	fs.close()
	return err
}

// close drops what the mount holds in memory.
func (fs *fsys) close() {
	if fs.commit.ep != nil {
		fs.closeEpoch().drop() // empty, but after an error or shutdown
	}
	for _, bh := range fs.descBH {
		bh.Put()
	}
	fs.superBH.Put()
	if fs.sb.Root != nil && fs.sb.Op == nil {
		fs.sb.Root.Put()
	}
	fs.bd.Close()
}

// remount is SuperOperations.Remount.
func (fs *fsys) remount(ctx context.Context, readOnly bool) error {
	if readOnly {
		if !fs.writable.Load() {
			return nil
		}
		return fs.markClean(ctx)
	}
	if bad := fs.super.UnknownROCompat(); bad != 0 {
		return fmt.Errorf("%s: stays read-only: features that cannot be kept up: %s: %w", fs.sb.Dev.Name(), bad, errno.ROFS)
	}
	if fs.broken.Load() || fs.opts.SuperBlock != 0 || fs.super.Incompat&disk.IncompatRecover != 0 {
		return fmt.Errorf("%s: stays read-only: run e2fsck -f on it first: %w", fs.sb.Dev.Name(), errno.ROFS)
	}
	return fs.markInUse()
}

// fail is told of damage and of metadata that could not be read or written, and does what errors= says.
func (fs *fsys) fail(err error) {
	fs.sb.Log.Error("filesystem error", "image", fs.sb.Dev.Name(), "error", err)
	if !fs.writable.Load() {
		return
	}
	// A change of metadata is lost, for want of a block that could not be read or because it made no sense: whoever syncs a
	// file is told, and e2fsck is due.
	fs.sb.Err.Set(err)
	now := uint32(fs.sb.Now().Sec)
	fs.superMu.Lock()
	fs.super.State |= disk.StateErrors
	if fs.super.ErrorCount == 0 {
		fs.super.FirstErrorTime = now
	}
	fs.super.ErrorCount++
	fs.super.LastErrorTime = now
	fs.superMu.Unlock()
	fs.superDirty.Store(true)
	switch fs.opts.Errors {
	case disk.ErrorsRemountRO:
		fs.sb.Abort(err)
	case disk.ErrorsPanic:
		fs.sb.Shutdown()
	}
}

// needLargeFile records that files of 2 GiB and more are there.
func (fs *fsys) needLargeFile(size int64) {
	if size <= math.MaxInt32 {
		return
	}
	fs.superMu.Lock()
	if fs.super.ROCompat&disk.ROCompatLargeFile == 0 {
		fs.super.ROCompat |= disk.ROCompatLargeFile
		fs.superDirty.Store(true)
	}
	fs.superMu.Unlock()
}

// statFS is SuperOperations.StatFS.
func (fs *fsys) statFS() (vfs.StatFS, error) {
	st := vfs.StatFS{
		BlockSize: fs.geo.BlockSize, Blocks: uint64(fs.geo.Blocks), Files: uint64(fs.geo.Inodes), NameMax: disk.NameMax,
		FSID: binary.LittleEndian.Uint64(fs.super.UUID[:]) ^ binary.LittleEndian.Uint64(fs.super.UUID[8:]),
	}
	if !fs.opts.MinixDF {
		st.Blocks -= uint64(fs.overhead)
	}
	st.Free = uint64(max(fs.freeBlocks.Load()+fs.pendingFree()-fs.promised.Load(), 0))
	st.Avail = st.Free - min(st.Free, uint64(fs.reserved))
	st.FilesFree = uint64(max(fs.freeInodes.Load(), 0))
	return st, nil
}

// discardMin is the shortest run of freed blocks that the device is told about at once; FITRIM finds the others.
const discardMin = 64 << 10

// discardRun tells the device about blocks that are about to be marked free. Nobody can have them yet.
func (fs *fsys) discardRun(first disk.FSBlock, n uint32) {
	if bytes := int64(n) << fs.geo.BlockBits; fs.opts.Discard && bytes >= discardMin {
		_ = block.Discard(fs.sb.Dev, fs.geo.BytesOf(first), bytes) // advice: nothing is lost when it fails
	}
}

// trim is SuperOperations.Trim. Blocks are marked free only when nothing on the medium points to them, so whatever the
// bitmaps show free may go. The group is locked meanwhile, so that nobody takes the blocks.
func (fs *fsys) trim(ctx context.Context, start, n, minLen int64) (int64, error) {
	if err := fs.commitNow(ctx); err != nil {
		return 0, err
	}
	g := fs.geo
	var done int64
	end := start + min(n, math.MaxInt64-start)
	for i := range g.Groups {
		if err := ctx.Err(); err != nil {
			return done, err
		}
		gr := &fs.groups[i]
		base := g.GroupFirst(disk.Group(i))
		if g.BytesOf(base) >= end || g.BytesOf(base+disk.FSBlock(g.GroupBlocks(disk.Group(i)))) <= start || gr.bad {
			continue
		}
		gr.mu.Lock()
		bh, bm, err := fs.bitmap(ctx, disk.Group(i), true)
		if err != nil {
			gr.mu.Unlock()
			return done, err
		}
		limit := g.GroupBlocks(disk.Group(i))
		for at, ok := bm.NextZero(0, limit); ok; at, ok = bm.NextZero(at, limit) {
			stop, found := bm.NextSet(at, limit)
			if !found {
				stop = limit
			}
			from, to := max(g.BytesOf(base+disk.FSBlock(at)), start), min(g.BytesOf(base+disk.FSBlock(stop)), end)
			at = stop
			if to-from < max(minLen, int64(g.BlockSize)) {
				continue
			}
			if err = block.Discard(fs.sb.Dev, from, to-from); err != nil {
				break
			}
			done += to - from
		}
		gr.mu.Unlock()
		bh.Put()
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func (fs *fsys) label() string {
	fs.superMu.Lock()
	defer fs.superMu.Unlock()
	return fs.super.Label()
}

// setLabel changes the volume name, at most 16 bytes.
func (fs *fsys) setLabel(ctx context.Context, label string) error {
	fs.superMu.Lock()
	if len(label) > len(fs.super.VolumeName) {
		fs.superMu.Unlock()
		return errno.INVAL
	}
	fs.super.VolumeName = [16]byte{}
	copy(fs.super.VolumeName[:], label)
	fs.superMu.Unlock()
	fs.superDirty.Store(true)
	return fs.commitNow(ctx)
}
