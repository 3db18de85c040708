package disk_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/fat/disk"
)

// A boot sector that decodes encodes back to the same bytes, and a geometry that is accepted keeps all it names on the device.
func FuzzBootSector(f *testing.F) {
	b := disk.BootSector{SectorSize: 512, PerCluster: 8, Reserved: 32, FATs: 2, Media: 0xF8, Sectors32: 1 << 20, FATSectors32: 1024, RootCluster: 2, InfoSector: 1, BackupSector: 6, Signature: 0x29}
	p := make([]byte, disk.BootSize)
	b.EncodeTo(p)
	f.Add(p)
	b = disk.BootSector{SectorSize: 512, PerCluster: 1, Reserved: 1, FATs: 2, RootEntries: 224, Media: 0xF0, Sectors16: 2880, FATSectors16: 9, Signature: 0x28}
	p = make([]byte, disk.BootSize)
	b.EncodeTo(p)
	f.Add(p)
	b = disk.BootSector{SectorSize: 4096, PerCluster: 1, Reserved: 32, FATs: 1, Media: 0xF8, Sectors32: 1<<20 + 100000, FATSectors32: 1 << 20, RootCluster: 2, Signature: 0x29}
	p = make([]byte, disk.BootSize)
	b.EncodeTo(p)
	f.Add(p)
	f.Fuzz(func(t *testing.T, p []byte) {
		b, err := disk.DecodeBootSector(p)
		if err != nil {
			return
		}
		q := bytes.Clone(p)
		b.EncodeTo(q)
		require.Equal(t, p, q)
		const size = 1 << 40
		g, err := disk.NewGeometry(&b, size)
		if err != nil {
			return
		}
		require.LessOrEqual(t, g.BytesOf(g.SectorOf(g.Last()))+int64(g.ClusterSize), int64(size))
		require.LessOrEqual(t, uint32(g.SectorOf(g.Last()))+g.PerCluster, g.Sectors)
		off, _ := g.EntryAt(g.Last())
		require.Less(t, int64(off), g.FATLength())
		require.LessOrEqual(t, g.FATBytes(), g.FATLength())
		require.Equal(t, g.Last(), g.ClusterAt(g.SectorOf(g.Last())+disk.Sector(g.PerCluster-1)))
		require.Zero(t, g.ClusterAt(g.DataStart-1))
	})
}

// Any slots can be fed; an entry names slots that were fed, and a long name it gives has a length.
func FuzzDirectory(f *testing.F) {
	units, err := disk.Units("a long name of more than one part.txt")
	require.NoError(f, err)
	n := disk.LongSlots(len(units))
	p := make([]byte, (n+2)*disk.DirentSize)
	e := disk.Dirent{Name: [11]byte([]byte("ALONGN~1TXT")), Start: 5, Size: 77}
	disk.EncodeLong(p, units, disk.Checksum(e.Name))
	e.EncodeTo(p[n*disk.DirentSize:], disk.FAT32)
	f.Add(p)
	f.Fuzz(func(t *testing.T, p []byte) {
		var a disk.Assembler
		for i := 0; (i+1)*disk.DirentSize <= len(p); i++ {
			slot := p[i*disk.DirentSize : (i+1)*disk.DirentSize]
			if a.Feed(i, slot, disk.FAT32) != disk.SlotEntry {
				continue
			}
			require.LessOrEqual(t, a.First, a.Index)
			require.Equal(t, i, a.Index)
			if long := a.Long(); long != nil {
				require.Equal(t, a.First+disk.LongSlots(len(long)), a.Index)
				name := disk.Name(long)
				if back, err := disk.Units(name); err == nil {
					require.Equal(t, name, disk.Name(back)+name[len(disk.Name(back)):])
				}
			}
			disk.ShortUnits(a.Entry.Name, a.Entry.Case, disk.ASCII)
			a.Entry.Written.Unix()
		}
		a.Finish()
	})
}

// A name that is accepted comes back, and has a short name that can be stored.
func FuzzName(f *testing.F) {
	for _, s := range []string{"README.TXT", "a b.c", "日本語", "😀", "\xed\xa0\x80", ".profile", "x.tar.gz", "ſ.ı"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		units, err := disk.Units(s)
		if err != nil {
			return
		}
		name := disk.Name(units)
		again, err := disk.Units(name)
		require.NoError(t, err)
		require.Equal(t, units, again)
		require.Equal(t, disk.Fold(s), disk.Fold(name))
		require.Equal(t, disk.Fold(name), disk.Fold(disk.Fold(name)))
		taken := map[[11]byte]bool{}
		for range 20 {
			c, ok := disk.Choose(units, disk.ASCII, disk.ChooseOptions{}, func(n [11]byte) bool { return taken[n] })
			require.True(t, ok)
			require.False(t, taken[c.Short])
			require.NotEqual(t, byte(' '), c.Short[0])
			if !c.Long {
				require.Equal(t, name, disk.Name(disk.ShortUnits(c.Short, c.Case, disk.ASCII)))
			}
			taken[c.Short] = true
		}
	})
}

// Entries of all widths come back, and leave their neighbours alone.
func FuzzFAT(f *testing.F) {
	f.Add(uint8(0), uint16(5), uint32(7))
	f.Add(uint8(1), uint16(1000), uint32(0x0FFFFFFF))
	f.Add(uint8(2), uint16(77), uint32(0x0FFFFFF7))
	f.Fuzz(func(t *testing.T, which uint8, at uint16, val uint32) {
		w := []disk.Width{disk.FAT12, disk.FAT16, disk.FAT32}[which%3]
		g := &disk.Geometry{Width: w, Clusters: map[disk.Width]uint32{disk.FAT12: 4000, disk.FAT16: 60000, disk.FAT32: 1 << 20}[w]}
		c := disk.FirstCluster + 1 + disk.Cluster(uint32(at)%(g.Clusters-3))
		e := disk.Entry(val & 0x0FFFFFFF)
		if !e.IsEnd() && e != disk.Defect {
			e %= disk.Entry(g.Clusters)
		}
		off, _ := g.EntryAt(c)
		start := off - 8%(off+1)
		b := bytes.Repeat([]byte{0x5A}, 32)
		v := disk.FATView{G: g, B: b, Off: start}
		before, after := v.At(c-1), v.At(c+1)
		v.Set(c, e)
		want := e
		if e.IsEnd() {
			require.True(t, v.At(c).IsEnd())
			want = v.At(c)
		}
		require.Equal(t, want, v.At(c))
		require.Equal(t, before, v.At(c-1))
		require.Equal(t, after, v.At(c+1))
	})
}
