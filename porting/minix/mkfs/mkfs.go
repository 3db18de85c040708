// Package mkfs makes Minix filesystems.
package mkfs

import (
	"fmt"

	"github.com/iomapfs/iomapfs/porting/minix/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Options of a new filesystem; zero values are the defaults.
type Options struct {
	Version   int    // 1, 2 or 3: 3
	NameMax   int    // bytes of a name: 14 or 30 (V1, V2: 30); 60 (V3)
	BlockSize uint32 // bytes: 1024; V3 also 2048 and 4096
	Inodes    uint32 // one for three blocks
}

// Format makes an empty filesystem that fills the device. Errors: errno.INVAL for options and sizes that cannot be.
func Format(dev block.Device, o Options) error {
	s, err := plan(dev.Size(), o)
	if err != nil {
		return fmt.Errorf("%s: %w", dev.Name(), err)
	}
	bs := int64(s.BlockSize)
	if err := block.WriteZeroes(dev, 0, int64(s.FirstZone)*bs); err != nil {
		return err
	}
	write := func(blk uint32, b []byte) error { return block.WriteAt(dev, b, int64(blk)*bs, 0) }

	// What the maps have no use for is marked in use: bit 0, and what lies behind the last inode and the last zone.
	maps := make([]byte, (s.InodeMapBlocks+s.ZoneMapBlocks)*s.BlockSize)
	fill := func(m disk.Bitmap, n uint32) {
		m.Set(0)
		m.Set(1) // the root directory, its zone
		for i := n + 1; i < uint32(len(m))*8; i++ {
			m.Set(i)
		}
	}
	fill(maps[:s.InodeMapBlocks*s.BlockSize], s.Inodes)
	fill(maps[s.InodeMapBlocks*s.BlockSize:], s.DataZones())
	if err := write(2, maps); err != nil {
		return err
	}

	block0 := make([]byte, bs)
	root := disk.Inode{Mode: uint16(vfs.ModeDir | 0o755), Links: 2, Size: uint32(2 * s.DirEntrySize())}
	root.Zone[0] = uint32(s.FirstZone)
	root.EncodeTo(block0, s.Version)
	if err := write(s.TableStart(), block0); err != nil {
		return err
	}
	clear(block0)
	s.Entry(block0).Set(disk.RootIno, ".")
	s.Entry(block0[s.DirEntrySize():]).Set(disk.RootIno, "..")
	if err := write(uint32(s.FirstZone), block0); err != nil {
		return err
	}
	// The superblock last: before it, there is no filesystem.
	head := make([]byte, max(2*disk.SuperOffset, bs))
	s.EncodeTo(head[disk.SuperOffset:])
	if err := block.WriteAt(dev, head, 0, 0); err != nil {
		return err
	}
	return block.Flush(dev)
}

// plan works out the geometry.
func plan(size int64, o Options) (s disk.Super, err error) {
	if o.Version == 0 {
		o.Version = 3
	}
	if o.BlockSize == 0 {
		o.BlockSize = 1024
	}
	if o.NameMax == 0 {
		o.NameMax = map[int]int{1: 30, 2: 30, 3: 60}[o.Version]
	}
	magic, ok := map[[2]int]uint16{
		{1, 14}: disk.MagicV1, {1, 30}: disk.MagicV1L, {2, 14}: disk.MagicV2, {2, 30}: disk.MagicV2L,
		{3, 60}: disk.MagicV3,
	}[[2]int{o.Version, o.NameMax}]
	if !ok {
		return s, fmt.Errorf("no version %d with names of %d bytes: %w", o.Version, o.NameMax, errno.INVAL)
	}
	if o.Version != 3 && o.BlockSize != 1024 {
		return s, fmt.Errorf("blocks of %d bytes: version %d has 1024: %w", o.BlockSize, o.Version, errno.INVAL)
	}
	limit := int64(1<<32 - 1)
	if o.Version == 1 {
		limit = 1<<16 - 1
	}
	s = disk.Super{
		Version: o.Version, Magic: magic, NameMax: o.NameMax, BlockSize: o.BlockSize, State: disk.StateValid,
		Zones: uint32(min(size/int64(o.BlockSize), limit)),
	}
	s.Inodes = o.Inodes
	if s.Inodes == 0 {
		s.Inodes = max(s.Zones/3, 16)
	}
	s.Inodes = (s.Inodes + s.InodesPerBlock() - 1) / s.InodesPerBlock() * s.InodesPerBlock()
	s.Inodes = min(s.Inodes, 65535)
	per := s.BlockSize * 8
	s.InodeMapBlocks = s.Inodes/per + 1
	table := (s.Inodes + s.InodesPerBlock() - 1) / s.InodesPerBlock()
	// The zone map covers the zones behind itself.
	for s.ZoneMapBlocks = 1; ; s.ZoneMapBlocks++ {
		first := 2 + s.InodeMapBlocks + s.ZoneMapBlocks + table
		if first >= s.Zones || first > 65535 {
			return s, fmt.Errorf("%d bytes are too few for %d inodes: %w", size, s.Inodes, errno.INVAL)
		}
		if s.FirstZone = disk.Zone(first); s.ZoneMapBlocks*per >= s.DataZones()+1 {
			break
		}
	}
	s.MaxSize = map[int]uint32{1: (7 + 512 + 512*512) * 1024, 2: 1<<31 - 1, 3: 1<<31 - 1}[o.Version]
	if err := s.Verify(size); err != nil {
		return s, fmt.Errorf("%w: %w", err, errno.INVAL)
	}
	return s, nil
}
