package fat

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/fs/fat/codepage"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Type is FAT for fs/all.
var Type = &vfs.FileSystem{Name: "fat", Help: help}

func init() {
	// Set here since Mount refers to Type.
	Type.Probe, Type.Mount, Type.Sides = probe, mount, sides
}

func sprintf(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// readBoot reads and decodes the boot sector.
func readBoot(dev block.Device) (disk.BootSector, error) {
	n := int64(max(dev.Limits().LogicalBlock, 4096))
	if dev.Size() < n {
		n = dev.Size() &^ int64(max(dev.Limits().LogicalBlock, 1)-1)
	}
	buf := make([]byte, n)
	if n < disk.BootSize {
		return disk.BootSector{}, fmt.Errorf("%s: too small for a FAT filesystem: %w", dev.Name(), errno.INVAL)
	}
	if err := block.ReadAt(dev, buf, 0); err != nil {
		return disk.BootSector{}, err
	}
	return disk.DecodeBootSector(buf)
}

// probe is FileSystem.Probe. The keys are blkid's: TYPE vfat, the version FAT12, FAT16 or FAT32.
func probe(dev block.Device) (vfs.Probe, bool) {
	b, err := readBoot(dev)
	if err != nil {
		return vfs.Probe{}, false
	}
	g, err := disk.NewGeometry(&b, -1)
	if err != nil || string(b.OEM[:]) == "NTFS    " || string(b.OEM[:]) == "EXFAT   " {
		return vfs.Probe{}, false
	}
	if b.Jump[0] != 0xEB && b.Jump[0] != 0xE9 && string(b.TypeName[:3]) != "FAT" {
		return vfs.Probe{}, false // nothing but numbers that make sense: could be anything
	}
	p := vfs.Probe{Type: "vfat", Version: g.Width.String(), UUID: serial(b.Serial), BlockSize: g.SectorSize, Size: int64(g.Sectors) << g.SectorBits}
	if g.Width != disk.FAT32 {
		p.SecType = "msdos"
	}
	label, ok := rootLabel(dev, g)
	if !ok {
		label = b.LabelBytes()
	}
	if cp, err := codepage.Find(codepage.Default); err == nil {
		p.Label = disk.DecodeBytes(label, cp)
	}
	return p, true
}

// serial writes a volume id as blkid does.
func serial(n uint32) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%04X-%04X", n>>16, n&0xFFFF)
}

// rootLabel looks for the volume label in the first cluster or the fixed root directory.
func rootLabel(dev block.Device, g *disk.Geometry) ([]byte, bool) {
	at, n := g.BytesOf(g.RootStart), int64(g.RootSectors)<<g.SectorBits
	if g.Width == disk.FAT32 {
		at, n = g.BytesOf(g.SectorOf(g.RootCluster)), int64(g.ClusterSize)
	}
	mask := int64(max(dev.Limits().LogicalBlock, 1) - 1)
	base := at &^ mask
	buf := make([]byte, (at+n-base+mask)&^mask)
	if block.ReadAt(dev, buf, base) != nil {
		return nil, false
	}
	var a disk.Assembler
	for i, p := 0, buf[at-base:][:n]; len(p) >= disk.DirentSize; i, p = i+1, p[disk.DirentSize:] {
		switch a.Feed(i, p[:disk.DirentSize], g.Width) {
		case disk.SlotVolume:
			return labelBytes(a.Entry.Name), true
		case disk.SlotEnd:
			return nil, false
		}
	}
	return nil, false
}

func labelBytes(name [11]byte) []byte {
	if name[0] == 0x05 {
		name[0] = 0xE5
	}
	n := len(name)
	for n > 0 && name[n-1] == ' ' {
		n--
	}
	return name[:n]
}

// mount is FileSystem.Mount.
func mount(ctx context.Context, dev block.Device, mo *vfs.MountOptions) (*vfs.SuperBlock, error) {
	name := dev.Name()
	fs := &fsys{}
	if b, ok := dev.(block.Backing); ok && dev.Limits().DiscardGrain > 0 {
		_, _, fs.opts.Discard = b.BackingFile() // image files stay sparse
	}
	if err := parseOptions(mo.Words, &fs.opts); err != nil {
		return nil, err
	}
	if mo.Paths != nil {
		fs.opts.Paths = *mo.Paths
	}
	if err := checkPaths(fs.opts.Paths); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var err error
	if fs.boot, err = readBoot(dev); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, err, errno.INVAL)
	}
	fs.geo, err = disk.NewGeometry(&fs.boot, dev.Size())
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, err, errno.INVAL)
	}
	if sector := dev.Limits().LogicalBlock; int(fs.geo.SectorSize) < int(sector) {
		return nil, fmt.Errorf("%s: sectors of %d bytes cannot be written on a device with sectors of %d: copy it to an image file to use it: %w",
			name, fs.geo.SectorSize, sector, errno.INVAL)
	}
	sb := vfs.NewSuperBlock(Type, dev, mo)
	fs.sb = sb
	readOnly := mo.ReadOnly || dev.Limits().ReadOnly
	if err := fs.open(ctx, dev); err != nil {
		fs.close()
		sb.Discard()
		return nil, err
	}
	if readOnly {
		sb.SetReadOnly()
	}
	fs.writable = !readOnly
	sb.Start()
	sb.Go(func(ctx context.Context) { fs.runCommitter(ctx, fs.opts.Commit) })
	return sb, nil
}

// open reads what mounting needs.
func (fs *fsys) open(ctx context.Context, dev block.Device) error {
	name, sb, g := dev.Name(), fs.sb, fs.geo
	var err error
	if fs.bd, err = bufhead.NewDevice(dev, sb.Cache, sb.WB, int(g.SectorSize)); err != nil {
		return err
	}
	sb.Private = fs
	fs.numbers.init()
	fs.commit.init()
	fs.table.init(fs)
	fs.alloc.init(fs)
	if err := fs.readState(ctx); err != nil {
		return err
	}
	if fs.wasDirty {
		sb.Log.Warn("the filesystem was not unmounted cleanly: check it with fsck.fat before changing it", "image", name)
	}
	sb.BlockBits, sb.NameMax, sb.MaxBytes = g.SectorBits, 3*disk.MaxUnits, disk.MaxFileSize
	sb.Paths = fs.opts.Paths
	sb.UUID = [16]byte{byte(fs.boot.Serial >> 24), byte(fs.boot.Serial >> 16), byte(fs.boot.Serial >> 8), byte(fs.boot.Serial)}
	sb.TimeMin, sb.TimeMax = fs.timeOf(disk.StampOf(math.MinInt64, 0)), fs.timeOf(disk.StampOf(math.MaxInt64, 0))
	sb.TimeGran = 10_000_000
	fs.makeTables()
	sb.Op = &vfs.SuperOperations{
		ReadInode: fs.readInode, EvictInode: fs.evictInode, DirtyInode: fs.markDirty,
		Sync: fs.sync, StatFS: fs.statFS, Trim: fs.trim, Remount: fs.remount, Put: fs.put,
		Label: fs.volumeLabel, SetLabel: fs.setVolumeLabel, Options: fs.opts.words,
	}
	root, err := sb.Get(ctx, rootIno)
	if err != nil {
		return fmt.Errorf("%s: root directory: %w", name, err)
	}
	sb.Root = root
	label, ok := rootLabel(dev, g)
	if !ok {
		label = fs.boot.LabelBytes()
	}
	fs.label = disk.DecodeBytes(label, fs.opts.codePage)
	return nil
}

// readState reads whether the filesystem was left clean, and the hints of FSInfo.
func (fs *fsys) readState(ctx context.Context) error {
	g := fs.geo
	bh, err := fs.bd.Bread(ctx, uint64(g.FATStart(g.Active)))
	if err != nil {
		return err
	}
	dirty, bad := disk.FATView{G: g, B: bh.Data}.State()
	bh.Put()
	fs.wasDirty = dirty || bad || fs.boot.State&(disk.StateDirty|disk.StateError) != 0
	if g.Info == 0 || fs.wasDirty && !fs.opts.UseFree {
		return nil
	}
	if bh, err = fs.bd.Bread(ctx, uint64(g.Info)); err != nil {
		return err
	}
	defer bh.Put()
	if info, err := disk.DecodeFSInfo(bh.Data); err == nil {
		fs.alloc.trust(info)
	}
	return nil
}

// put is SuperOperations.Put.
func (fs *fsys) put(ctx context.Context) error {
	var err error
	if fs.writable && !fs.sb.IsShutdown() {
		err = fs.markClean(ctx)
	}
	fs.close()
	return err
}

// markClean writes everything, and takes the mark of a filesystem in use off unless it was there before.
func (fs *fsys) markClean(ctx context.Context) error {
	for try := 0; try < 8 && (try == 0 || fs.commit.waits.Load() > 0); try++ {
		if err := fs.commitNow(ctx); err != nil {
			return err
		}
	}
	fs.commit.mu.Lock()
	defer fs.commit.mu.Unlock()
	if fs.broken.Load() || !fs.marked {
		return fs.commit.err
	}
	if !fs.wasDirty {
		if err := fs.flush(); err != nil { // what the last commit freed
			return err
		}
		if err := fs.setMark(ctx, false); err != nil {
			return err
		}
	}
	fs.marked = false
	return fs.flush()
}

// close drops what the mount holds in memory.
func (fs *fsys) close() {
	if fs.commit.ep != nil {
		b := &bundle{ep: fs.commit.ep, bufs: fs.commit.dirs, inodes: fs.commit.inodes}
		b.drop() // empty, but after an error or shutdown
		for _, bh := range fs.table.dirty {
			bh.Put()
		}
		fs.table.last.Put()
	}
	if fs.bd != nil {
		fs.bd.Close()
	}
}

// remount is SuperOperations.Remount.
func (fs *fsys) remount(ctx context.Context, readOnly bool) error {
	if readOnly {
		if !fs.writable {
			return nil
		}
		err := fs.markClean(ctx)
		fs.writable = false
		return err
	}
	if fs.broken.Load() {
		return fmt.Errorf("%s: stays read-only: run fsck.fat on it first: %w", fs.sb.Dev.Name(), errno.ROFS)
	}
	fs.writable = true
	return nil
}

// fail is told of damage and of metadata that could not be read or written, and does what errors= says.
func (fs *fsys) fail(err error) {
	fs.sb.Log.Error("filesystem error", "image", fs.sb.Dev.Name(), "error", err)
	if !fs.writable {
		return
	}
	fs.wasDirty = true // the mark stays
	switch fs.opts.Errors {
	case errorsRemountRO:
		fs.sb.Abort(err)
	case errorsPanic:
		fs.sb.Shutdown()
	}
}

// sync is SuperOperations.Sync.
func (fs *fsys) sync(ctx context.Context, wait bool) error {
	if !wait {
		fs.kick()
		return nil
	}
	if !fs.writable {
		return nil
	}
	return fs.commitNow(ctx)
}

// statFS is SuperOperations.StatFS.
func (fs *fsys) statFS() (vfs.StatFS, error) {
	if err := fs.alloc.known(context.Background()); err != nil {
		return vfs.StatFS{}, err
	}
	free := uint64(max(fs.alloc.free.Load()+fs.alloc.pending.Load(), 0))
	return vfs.StatFS{
		BlockSize: fs.geo.ClusterSize, Blocks: uint64(fs.geo.Clusters), Free: free, Avail: free, NameMax: uint32(fs.sb.NameMax),
		FSID: uint64(fs.boot.Serial),
	}, nil
}

// trim is SuperOperations.Trim. Clusters that are free in the bitmap are free on the medium too, or will be before anything is written
// to them.
func (fs *fsys) trim(ctx context.Context, start, n, minLen int64) (int64, error) {
	if err := fs.commitNow(ctx); err != nil {
		return 0, err
	}
	g := fs.geo
	end := start + min(n, math.MaxInt64-start)
	var done int64
	var failed error
	err := fs.alloc.freeRuns(ctx, func(first disk.Cluster, n uint32) bool {
		from := max(g.BytesOf(g.SectorOf(first)), start)
		to := min(g.BytesOf(g.SectorOf(first))+int64(n)<<g.ClusterBits, end)
		if to-from < max(minLen, int64(g.SectorSize)) {
			return true
		}
		if failed = block.Discard(fs.sb.Dev, from, to-from); failed != nil {
			return false
		}
		done += to - from
		return true
	})
	return done, errors.Join(err, failed)
}

func (fs *fsys) volumeLabel() string {
	fs.bootMu.Lock()
	defer fs.bootMu.Unlock()
	return fs.label
}
