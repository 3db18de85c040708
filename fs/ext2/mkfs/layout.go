package mkfs

import (
	"fmt"
	"math"
	"math/bits"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// The rules here are those of mke2fs, so that both make the same layout of the same parameters; layout_test.go compares.

// maxBlocksPerGroup is what one block of bitmap counts, and a descriptor's 16 bits can say.
func maxBlocksPerGroup(blockSize uint32) uint32 { return min(8*blockSize, 1<<16-8) }

// lastGroupRoom is how many blocks of data the last group must have to be worth its metadata.
const lastGroupRoom = 50

// plan works out the superblock of an empty filesystem on a device of size bytes; the free counts are left out.
func plan(size int64, o *Options) (disk.Superblock, *disk.Geometry, error) {
	compat, incompat, roCompat, err := o.features()
	if err != nil {
		return disk.Superblock{}, nil, err
	}
	now := uint32(o.Time.Unix())
	log := uint32(bits.TrailingZeros32(o.BlockSize)) - disk.MinBlockBits
	sb := disk.Superblock{
		LogBlockSize: log, LogFragSize: log, Magic: disk.Magic, Revision: disk.RevDynamic, MaxMountCount: -1,
		Errors: disk.ErrorsContinue, LastCheck: now, WriteTime: now, MkfsTime: now, FirstIno: disk.OldFirstIno,
		InodeSize: uint16(o.InodeSize), Compat: compat, Incompat: incompat, ROCompat: roCompat, UUID: o.UUID, HashSeed: o.HashSeed,
		DefHashVersion: *o.Hash, DefaultMountOpts: disk.DefMountXattrUser | disk.DefMountACL, Flags: disk.FlagSignedHash,
	}
	copy(sb.VolumeName[:], o.Label)
	if o.BlockSize == disk.MinBlockSize {
		sb.FirstDataBlock = 1
	}
	if o.InodeSize > disk.OldInodeSize {
		sb.MinExtraIsize, sb.WantExtraIsize = disk.MaxExtraSize, disk.MaxExtraSize
	}

	blocks := uint64(size) / uint64(o.BlockSize)
	if o.BlockSize < 4096 {
		blocks &^= uint64(4096/o.BlockSize) - 1 // whole pages
	}
	if blocks > math.MaxUint32 {
		return sb, nil, invalid("%d blocks of %d bytes are more than 32 bits count: choose larger blocks", blocks, o.BlockSize)
	}
	inodes := uint64(o.Inodes)
	if inodes == 0 {
		inodes = blocks * uint64(o.BlockSize) / uint64(o.InodeRatio)
	}
	if inodes > math.MaxUint32 {
		return sb, nil, invalid("%d inodes are more than 32 bits count: choose a larger inode ratio", inodes)
	}
	sb.Blocks = uint32(blocks)
	sb.ReservedBlocks = uint32(o.Reserved * float64(blocks) / 100)
	sb.BlocksPerGroup = o.BlocksPerGroup
	if sb.BlocksPerGroup == 0 {
		sb.BlocksPerGroup = maxBlocksPerGroup(o.BlockSize)
	}
	if err := fitGroups(&sb, size, uint32(inodes)); err != nil {
		return sb, nil, err
	}
	g, err := disk.NewGeometry(&sb, size)
	if err != nil {
		return sb, nil, invalid("%v", err)
	}
	sb.OverheadBlocks = g.Overhead()
	return sb, g, nil
}

// fitGroups settles groups and inodes: it may shorten the groups to have room for the inodes, and drop the end of the device
// when the last group would hold next to nothing but metadata.
func fitGroups(sb *disk.Superblock, size int64, inodes uint32) error {
	bs := sb.BlockSize()
	tooSmall := func() error {
		return fmt.Errorf("mkfs: %d bytes are too small for a filesystem with blocks of %d bytes and %d inodes: %w", size, bs, inodes, errno.NOSPC)
	}
	perBlock := bs / uint32(sb.InodeSize)
	inodes = max(inodes, uint32(sb.FirstIno)+1)
	blocks, reserved := sb.Blocks, sb.ReservedBlocks
	for {
		if sb.Blocks <= sb.FirstDataBlock {
			return tooSmall()
		}
		sb.FragsPerGroup = sb.BlocksPerGroup
		groups := (sb.Blocks-sb.FirstDataBlock-1)/sb.BlocksPerGroup + 1
		descBlocks := (groups-1)/(bs/disk.GroupDescSize) + 1
		perGroup := (inodes-1)/groups + 1
		if perGroup > 8*bs {
			if sb.BlocksPerGroup < 256+8 {
				return invalid("%d inodes are too many for %d blocks", inodes, sb.Blocks)
			}
			sb.BlocksPerGroup -= 8
			sb.Blocks = blocks
			continue
		}
		perGroup = min(perGroup, 1<<16-perBlock)
		table := uint32(0)
		for {
			// A whole number of blocks, then of bytes in the bitmap.
			table = (perGroup-1)/perBlock + 1
			sb.InodesPerGroup = max(table*perBlock, 8) &^ 7
			table = (sb.InodesPerGroup-1)/perBlock + 1
			if uint64(sb.InodesPerGroup)*uint64(groups) <= math.MaxUint32 {
				break
			}
			perGroup--
		}
		if sb.InodesPerGroup*groups <= uint32(sb.FirstIno) {
			sb.InodesPerGroup += 8 // the root and lost+found need one each beside the reserved ones
			table = (sb.InodesPerGroup-1)/perBlock + 1
		}
		sb.Inodes = sb.InodesPerGroup * groups
		sb.ReservedGDTBlocks = 0
		if sb.Compat&disk.CompatResizeInode != 0 {
			sb.ReservedGDTBlocks = uint16(reservedGDT(sb, bs, descBlocks))
		}
		if sb.Compat&disk.CompatSparseSuper2 != 0 {
			sb.BackupGroups = [2]disk.Group{}
			if groups > 1 {
				sb.BackupGroups[1] = disk.Group(groups - 1)
			}
			if groups > 2 {
				sb.BackupGroups[0] = 1
			}
		}
		// The metadata of the last group, with backups where it has them.
		overhead := 2 + table
		if overhead > sb.BlocksPerGroup {
			return invalid("%d inodes are too many for %d blocks", inodes, sb.Blocks)
		}
		if sb.HasSuper(disk.Group(groups - 1)) {
			overhead += 1 + descBlocks + uint32(sb.ReservedGDTBlocks)
		}
		rest := (sb.Blocks - sb.FirstDataBlock) % sb.BlocksPerGroup
		if groups == 1 && rest != 0 && rest < overhead {
			return tooSmall()
		}
		if rest == 0 || rest >= overhead+lastGroupRoom || groups == 1 && rest >= overhead+minFree(bs) {
			return nil
		}
		if groups == 1 {
			return tooSmall()
		}
		sb.Blocks -= rest
		sb.ReservedBlocks = uint32(uint64(reserved) * uint64(sb.Blocks) / uint64(blocks))
	}
}

// minFree is what the root directory, lost+found and the resize inode need.
func minFree(bs uint32) uint32 { return 1 + lostFoundBlocks(bs) + 1 }

// lostFoundBlocks gives the size of lost+found: at least two blocks and 16 KiB, at most twelve blocks.
func lostFoundBlocks(bs uint32) uint32 { return min(max(2, 16384/bs), disk.NDirect) }

// reservedGDT counts the blocks kept for the descriptor table to grow: for a filesystem 1024 times as large, as far as block
// numbers reach and one indirect block can name them.
func reservedGDT(sb *disk.Superblock, bs, descBlocks uint32) uint32 {
	grown := min(uint64(sb.Blocks)*1024, math.MaxUint32)
	groups := (grown-uint64(sb.FirstDataBlock)-1)/uint64(sb.BlocksPerGroup) + 1
	perBlock := uint64(bs / disk.GroupDescSize)
	want := (groups-1)/perBlock + 1
	if want <= uint64(descBlocks) {
		return 0
	}
	return uint32(min(want-uint64(descBlocks), uint64(bs/4)))
}
