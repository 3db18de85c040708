package minix

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/porting/minix/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Type is the filesystem, for mounting and probing.
var Type = &vfs.FileSystem{Name: "minix", Probe: probe, Sides: sides}

func init() { Type.Mount = mount } // which gives each mount its type

// fsys is one mounted Minix filesystem: vfs.SuperBlock.Private.
type fsys struct {
	sb    *vfs.SuperBlock
	bd    *bufhead.Device // metadata
	super disk.Super      // immutable after mount, but State

	inodes, zones bitmap       // what is in use
	promised      atomic.Int64 // free zones that are promised: see promises

	tables tables // immutable after mount
}

// readSuper reads and checks the superblock of a device; ok is false when there is none.
func readSuper(dev block.Device) (s disk.Super, ok bool, err error) {
	if dev.Size() < 2*disk.SuperOffset {
		return s, false, nil
	}
	b := make([]byte, 4096) // aligned for any sector size
	if dev.Size() < int64(len(b)) {
		b = b[:2*disk.SuperOffset]
	}
	if err := block.ReadAt(dev, b, 0); err != nil {
		return s, false, err
	}
	if s, ok = disk.DecodeSuper(b[disk.SuperOffset:]); !ok {
		return s, false, nil
	}
	return s, true, s.Verify(dev.Size())
}

func probe(dev block.Device) (vfs.Probe, bool) {
	s, ok, err := readSuper(dev)
	return vfs.Probe{Type: "minix", Version: fmt.Sprint(s.Version), BlockSize: s.BlockSize, Size: int64(s.Zones) * int64(s.BlockSize)}, ok && err == nil
}

func mount(ctx context.Context, dev block.Device, opts *vfs.MountOptions) (*vfs.SuperBlock, error) {
	s, ok, err := readSuper(dev)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: superblock: %w: %w", dev.Name(), err, errno.UCLEAN)
	case !ok:
		return nil, fmt.Errorf("%s: no Minix superblock at byte %d: %w", dev.Name(), disk.SuperOffset, errno.INVAL)
	}
	paths, err := mountPaths(opts)
	if err != nil {
		return nil, err
	}
	sb := vfs.NewSuperBlock(Type, dev, opts)
	bits := uint8(10)
	for 1<<bits < s.BlockSize {
		bits++
	}
	sb.BlockBits, sb.NameMax, sb.Paths = bits, s.NameMax, paths
	sb.MaxBytes = int64(min(uint64(s.MaxSize), s.MaxBlocks()<<bits))
	sb.TimeMin, sb.TimeMax, sb.TimeGran = vfs.Time{}, vfs.Time{Sec: 1<<32 - 1}, 1e9
	fs := &fsys{sb: sb, super: s}
	sb.Private = fs
	sb.Op = &vfs.SuperOperations{
		ReadInode: fs.readInode, EvictInode: fs.evictInode, DirtyInode: fs.dirtyInode, Sync: fs.sync,
		StatFS: fs.statFS, Put: fs.put, Remount: fs.remount,
	}
	if fs.bd, err = bufhead.NewDevice(dev, sb.Cache, sb.WB, int(s.BlockSize)); err == nil {
		err = fs.start(ctx)
	}
	if err != nil {
		fs.release()
		sb.Discard()
		return nil, fmt.Errorf("%s: %w", dev.Name(), err)
	}
	sb.Start()
	return sb, nil
}

// start reads what stays in memory while mounted.
func (fs *fsys) start(ctx context.Context) error {
	s := &fs.super
	fs.makeTables()
	err := errors.Join(
		fs.inodes.load(ctx, fs.bd, 2, s.InodeMapBlocks, s.Inodes+1),
		fs.zones.load(ctx, fs.bd, 2+s.InodeMapBlocks, s.ZoneMapBlocks, s.DataZones()+1))
	if err != nil {
		return err
	}
	root, err := fs.sb.Get(ctx, uint64(disk.RootIno))
	if err != nil {
		return fmt.Errorf("root directory: %w", err)
	}
	fs.sb.Root = root
	if !root.IsDir() {
		root.Put()
		fs.sb.Root = nil
		return fs.corrupt(uint64(disk.RootIno), "the root is not a directory")
	}
	if s.Version != 3 && s.State&(disk.StateValid|disk.StateError) != disk.StateValid {
		fs.sb.Log.Warn("not unmounted cleanly, or with errors: run fsck.minix", "device", fs.sb.Dev.Name())
	}
	if !fs.sb.ReadOnly() {
		return fs.writeState(ctx, s.State&^disk.StateValid)
	}
	return nil
}

// writeState stores the state word, as "in use" or as it was found.
func (fs *fsys) writeState(ctx context.Context, state uint16) error {
	if fs.super.Version == 3 {
		return nil
	}
	bh, err := fs.bd.Bread(ctx, disk.SuperOffset/uint64(fs.super.BlockSize))
	if err != nil {
		return err
	}
	defer bh.Put()
	s := fs.super
	s.State = state
	bh.Lock()
	s.EncodeTo(bh.Data[disk.SuperOffset%int(fs.super.BlockSize):])
	bh.Unlock()
	fs.bd.MarkDirty(bh)
	return fs.bd.SyncBuffer(ctx, bh)
}

func (fs *fsys) statFS() (vfs.StatFS, error) {
	s := &fs.super
	free := uint64(max(fs.zones.free.Load()-fs.promised.Load(), 0))
	return vfs.StatFS{
		BlockSize: s.BlockSize, Blocks: uint64(s.DataZones()), Free: free, Avail: free,
		Files: uint64(s.Inodes), FilesFree: uint64(fs.inodes.free.Load()), NameMax: uint32(s.NameMax),
	}, nil
}

// sync is SuperOperations.Sync.
func (fs *fsys) sync(ctx context.Context, wait bool) error {
	if !wait || fs.sb.ReadOnly() {
		return nil
	}
	if err := fs.bd.Sync(ctx); err != nil {
		return err
	}
	return block.Flush(fs.sb.Dev)
}

func (fs *fsys) remount(ctx context.Context, readOnly bool) error {
	if readOnly {
		return fs.clean(ctx)
	}
	return fs.writeState(ctx, fs.super.State&^disk.StateValid)
}

// clean gives the state word back as it was found, after everything else is on the device.
func (fs *fsys) clean(ctx context.Context) error {
	if err := fs.bd.Sync(ctx); err != nil {
		return err
	}
	return errors.Join(fs.writeState(ctx, fs.super.State), block.Flush(fs.sb.Dev))
}

// put is SuperOperations.Put.
func (fs *fsys) put(ctx context.Context) error {
	var err error
	if !fs.sb.ReadOnly() && !fs.sb.IsShutdown() {
		err = fs.clean(ctx)
	}
	fs.release()
	return err
}

func (fs *fsys) release() {
	fs.inodes.release()
	fs.zones.release()
	if fs.bd != nil {
		fs.bd.Close()
	}
}

// corrupt makes the error of a damaged image.
func (fs *fsys) corrupt(ino uint64, format string, args ...any) error {
	return &errno.CorruptError{Dev: fs.sb.Dev.Name(), Struct: "minix", Ino: ino, Why: fmt.Sprintf(format, args...) + "; run fsck.minix"}
}
