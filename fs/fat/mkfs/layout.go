package mkfs

import (
	"fmt"

	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// fat32From is the size from which on FAT32 is the default, as for mkfs.fat.
const fat32From = 512 << 20

// layout chooses width, cluster size and the length of the FATs, and fills the boot sector but for label and serial number.
func layout(o *Options, size int64) (*disk.BootSector, *disk.Geometry, error) {
	ss := uint64(o.SectorSize)
	sectors := uint64(size) / ss
	if sectors > 1<<32-1 {
		return nil, nil, fmt.Errorf("mkfs: %d sectors of %d bytes: FAT counts at most 4294967295 (larger sectors reach farther): %w", sectors, ss, errno.FBIG)
	}
	w := o.Width
	if w == 0 && size >= fat32From {
		w = disk.FAT32
	}
	align := !o.NoAlign && sectors > 8192
	spc := uint64(o.ClusterSize) / ss
	last := spc
	if spc == 0 {
		spc, last = 4, 128
		if w == disk.FAT32 {
			spc = 1
			switch mb := size >> 20; {
			case mb > 32<<10:
				spc = 64
			case mb > 16<<10:
				spc = 32
			case mb > 8<<10:
				spc = 16
			case mb > 260:
				spc = 8
			}
		}
	}
	for ; spc <= last; spc *= 2 {
		widths := []disk.Width{disk.FAT16, disk.FAT12}
		if w != 0 {
			widths = []disk.Width{w}
		}
		for _, width := range widths {
			b := o.place(width, sectors, spc, align)
			if b == nil {
				continue
			}
			g, err := disk.NewGeometry(b, size)
			if err != nil || g.Width != width {
				continue
			}
			return b, g, nil
		}
	}
	what := "FAT"
	if w != 0 {
		what = w.String()
	}
	return nil, nil, invalid("no %s fits %d bytes with these parameters; another size, width (-F) or cluster size may", what, size)
}

// place puts the structures of one width and cluster size one behind the other; nil when that does not work out.
func (o *Options) place(w disk.Width, sectors, spc uint64, align bool) *disk.BootSector {
	ss, fats := uint64(o.SectorSize), uint64(o.FATs)
	up := func(n uint64) uint64 {
		if align {
			n = (n + spc - 1) / spc * spc
		}
		return n
	}
	reserved, rootEntries := uint64(o.Reserved), uint64(o.RootEntries)
	if w == disk.FAT32 {
		rootEntries = 0
		if reserved == 0 {
			reserved = 32
		}
		if reserved < 9 {
			return nil // the backup boot sector and FSInfo want their places
		}
	} else if reserved == 0 {
		reserved = 1
	}
	reserved = up(reserved)
	rootSectors := up((rootEntries*disk.DirentSize + ss - 1) / ss)
	rootEntries = rootSectors * ss / disk.DirentSize
	if reserved > 65535 || rootEntries > 65535 || reserved+rootSectors+fats+spc > sectors {
		return nil
	}
	// With n clusters, each costs its sectors and an entry in each FAT: as many as fit, then the exact length.
	left := sectors - reserved - rootSectors
	n := left * ss * 8 / (spc*ss*8 + fats*uint64(w))
	length := up(((n+uint64(disk.FirstCluster))*uint64(w) + 8*ss - 1) / (8 * ss))
	if fats*length+spc > left {
		return nil
	}
	n = (left - fats*length) / spc
	switch w {
	case disk.FAT12:
		if n > disk.MaxClusters12 {
			return nil
		}
	case disk.FAT16:
		if n <= disk.MaxClusters12 || n > disk.MaxClusters16 || length > 65535 {
			return nil
		}
	default:
		if n > disk.MaxClusters32 {
			return nil
		}
	}
	b := &disk.BootSector{
		OEM: [8]byte{'i', 'o', 'm', 'a', 'p', 'f', 's', ' '}, SectorSize: uint16(ss), PerCluster: uint8(spc), Reserved: uint16(reserved),
		FATs: uint8(fats), RootEntries: uint16(rootEntries), Media: o.Media, SectorsPerTrack: 63, Heads: 255, Hidden: o.Hidden,
		Drive: 0x80, Signature: 0x29,
	}
	if o.Media == 0xF0 {
		b.SectorsPerTrack, b.Heads, b.Drive = 18, 2, 0
	}
	if sectors < 1<<16 && w != disk.FAT32 {
		b.Sectors16 = uint16(sectors)
	} else {
		b.Sectors32 = uint32(sectors)
	}
	b.Jump = [3]byte{0xEB, 0x3C, 0x90}
	copy(b.TypeName[:], fmt.Sprintf("%-8s", w))
	if w == disk.FAT32 {
		b.Jump[1] = 0x58
		b.FATSectors32, b.RootCluster, b.InfoSector, b.BackupSector = uint32(length), disk.FirstCluster, 1, 6
	} else {
		b.FATSectors16 = uint16(length)
	}
	return b
}
