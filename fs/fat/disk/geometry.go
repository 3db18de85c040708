package disk

import "fmt"

// Geometry is where everything lies, worked out from a boot sector and checked.
//
//	sector 0        Reserved             FATStart(1)            RootStart       DataStart
//	| boot, FSInfo … | FAT 0              | FAT 1 …              | root (not on FAT32) | cluster 2 | cluster 3 | …
type Geometry struct {
	Width       Width
	SectorBits  uint8  // log2 of the sector size
	ClusterBits uint8  // log2 of the cluster size
	SectorSize  uint32 // bytes
	ClusterSize uint32 // bytes
	PerCluster  uint32 // sectors of a cluster

	Sectors    uint32 // all of them
	Reserved   Sector // before the first FAT
	FATs       uint32
	FATSectors uint32 // of one FAT
	Active     uint32 // the FAT that is read
	Mirror     bool   // all FATs are kept up; else the active one only

	RootStart   Sector  // of the fixed root directory; FAT32 has none
	RootSectors uint32  // …
	RootEntries uint32  // slots of it
	RootCluster Cluster // FAT32
	DataStart   Sector  // of cluster 2
	Clusters    uint32  // that hold data
	Info        Sector  // of FSInfo; 0: none
	Backup      Sector  // copy of the boot sector; 0: none
}

// NewGeometry checks a boot sector against itself and against a device of size bytes (negative: unknown), and works the
// geometry out. The error is a *Bad.
//
// A boot sector whose 16-bit count of FAT sectors is 0 is FAT32, whatever the number of clusters; of the others those with up
// to MaxClusters12 clusters are FAT12. That agrees with Microsoft's rule, by the count alone, for all that Microsoft calls valid,
// and with Linux and mkfs.fat for small FAT32 volumes.
func NewGeometry(b *BootSector, size int64) (*Geometry, error) {
	const name = "boot sector"
	g := &Geometry{SectorSize: uint32(b.SectorSize), PerCluster: uint32(b.PerCluster), FATs: uint32(b.FATs), Reserved: Sector(b.Reserved)}
	switch {
	case g.SectorSize < 512 || g.SectorSize > 4096 || g.SectorSize&(g.SectorSize-1) != 0:
		return nil, bad(name, "sector size", uint64(g.SectorSize), "512, 1024, 2048 or 4096")
	case g.PerCluster == 0 || g.PerCluster&(g.PerCluster-1) != 0:
		return nil, bad(name, "sectors of a cluster", uint64(g.PerCluster), "a power of two up to 128")
	case g.Reserved == 0:
		return nil, bad(name, "number of reserved sectors", 0, "at least 1")
	case g.FATs == 0:
		return nil, bad(name, "number of FATs", 0, "at least 1")
	case b.Media < 0xF8 && b.Media != 0xF0:
		return nil, bad(name, "media byte", uint64(b.Media), "0xF0, or 0xF8 and above")
	}
	g.SectorBits, g.ClusterSize = log2(g.SectorSize), g.SectorSize*g.PerCluster
	g.ClusterBits = log2(g.ClusterSize)
	if g.Sectors = uint32(b.Sectors16); g.Sectors == 0 {
		g.Sectors = b.Sectors32
	}
	if size >= 0 && uint64(g.Sectors)<<g.SectorBits > uint64(size) {
		return nil, bad(name, "number of sectors", uint64(g.Sectors), "at most %d, which the device has", uint64(size)>>g.SectorBits)
	}
	g.Mirror = true
	if b.Is32() {
		if b.Version != 0 {
			return nil, bad(name, "version", uint64(b.Version), "0")
		}
		if b.RootEntries != 0 {
			return nil, bad(name, "entries of the root directory", uint64(b.RootEntries), "0 on FAT32")
		}
		g.FATSectors = b.FATSectors32
		if b.ExtFlags&ExtNoMirror != 0 {
			g.Mirror, g.Active = false, uint32(b.ExtFlags&ExtActive)
			if g.Active >= g.FATs {
				return nil, bad(name, "active FAT", uint64(g.Active), "less than %d", g.FATs)
			}
		}
	} else {
		g.FATSectors, g.RootEntries = uint32(b.FATSectors16), uint32(b.RootEntries)
		if g.RootEntries*DirentSize%g.SectorSize != 0 || g.RootEntries == 0 {
			return nil, bad(name, "entries of the root directory", uint64(g.RootEntries), "a multiple of %d", g.SectorSize/DirentSize)
		}
		g.RootSectors = g.RootEntries * DirentSize >> g.SectorBits
	}
	if g.FATSectors == 0 {
		return nil, bad(name, "sectors of a FAT", 0, "at least 1")
	}
	root := uint64(g.Reserved) + uint64(g.FATs)*uint64(g.FATSectors)
	data := root + uint64(g.RootSectors)
	if data+uint64(g.PerCluster) > uint64(g.Sectors) {
		return nil, bad(name, "number of sectors", uint64(g.Sectors), "more than the %d before the first cluster", data)
	}
	g.RootStart, g.DataStart = Sector(root), Sector(data)
	g.Clusters = (g.Sectors - uint32(data)) / g.PerCluster
	switch {
	case b.Is32():
		g.Width = FAT32
	case g.Clusters <= MaxClusters12:
		g.Width = FAT12
	default:
		g.Width = FAT16
	}
	if has := uint64(g.FATSectors)<<g.SectorBits*8/uint64(g.Width) - uint64(FirstCluster); uint64(g.Clusters) > has {
		g.Clusters = uint32(has) // what the FAT has no entries for is not used
	}
	if most := map[Width]uint32{FAT12: MaxClusters12, FAT16: MaxClusters16, FAT32: MaxClusters32}[g.Width]; g.Clusters > most {
		return nil, bad(name, "number of clusters", uint64(g.Clusters), "at most %d for %s", most, g.Width)
	}
	if g.Clusters == 0 {
		return nil, bad(name, "sectors of a FAT", uint64(g.FATSectors), "room for a cluster")
	}
	if g.Width == FAT32 {
		if !g.Valid(b.RootCluster) {
			return nil, bad(name, "cluster of the root directory", uint64(b.RootCluster), "2 to %d", g.Last())
		}
		g.RootCluster = b.RootCluster
		if s := b.InfoSector; s != 0 && s != noInfoSector && Sector(s) < g.Reserved {
			g.Info = Sector(s)
		}
		if s := b.BackupSector; s != 0 && s != noInfoSector && Sector(s) < g.Reserved {
			g.Backup = Sector(s)
		}
	}
	return g, nil
}

func log2(n uint32) (bits uint8) {
	for ; n > 1; n >>= 1 {
		bits++
	}
	return bits
}

// Last is the last cluster.
func (g *Geometry) Last() Cluster { return FirstCluster + Cluster(g.Clusters) - 1 }

// Valid reports whether c holds data.
func (g *Geometry) Valid(c Cluster) bool { return c >= FirstCluster && c <= g.Last() }

// SectorOf gives the first sector of a valid cluster.
func (g *Geometry) SectorOf(c Cluster) Sector {
	return g.DataStart + Sector(uint32(c-FirstCluster)*g.PerCluster)
}

// ClusterAt gives the cluster that a sector lies in; 0 for one before the data or behind it.
func (g *Geometry) ClusterAt(s Sector) Cluster {
	if s < g.DataStart {
		return 0
	}
	c := FirstCluster + Cluster(uint32(s-g.DataStart)/g.PerCluster)
	if !g.Valid(c) {
		return 0
	}
	return c
}

// BytesOf gives the byte address of a sector.
func (g *Geometry) BytesOf(s Sector) int64 { return int64(s) << g.SectorBits }

// ClustersFor gives the number of clusters that length bytes take.
func (g *Geometry) ClustersFor(length int64) uint32 {
	return uint32((uint64(length) + uint64(g.ClusterSize) - 1) >> g.ClusterBits)
}

// FATStart gives the first sector of a copy of the FAT.
func (g *Geometry) FATStart(copy uint32) Sector { return g.Reserved + Sector(copy*g.FATSectors) }

// EntryAt gives the byte offset in a FAT of the entry of c, and whether the entry of FAT12 begins in the middle of that byte.
func (g *Geometry) EntryAt(c Cluster) (off uint32, half bool) {
	switch g.Width {
	case FAT12:
		return uint32(c) + uint32(c)/2, c&1 != 0
	case FAT16:
		return uint32(c) * 2, false
	}
	return uint32(c) * 4, false
}

// FATLength is how many bytes a FAT has room for: more than its entries take, maybe by gigabytes.
func (g *Geometry) FATLength() int64 { return int64(g.FATSectors) << g.SectorBits }

// FATBytes is how many bytes of a FAT its entries take.
func (g *Geometry) FATBytes() int64 {
	return (int64(g.Clusters)+int64(FirstCluster))*int64(g.Width)/8 + int64(g.Width)/8%2
}

// String reads "FAT16, 4096-byte clusters, 20000 of them".
func (g *Geometry) String() string {
	return fmt.Sprintf("%s, %d-byte clusters, %d of them", g.Width, g.ClusterSize, g.Clusters)
}
