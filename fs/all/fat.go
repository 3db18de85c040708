package all

import (
	"context"
	"fmt"
	"io"

	"github.com/iomapfs/iomapfs/fs/fat"
	"github.com/iomapfs/iomapfs/fs/fat/check"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

var fatKind = Kind{Type: fat.Type, Aliases: []string{"vfat", "msdos"}, Lenient: []string{"quiet"}, Info: fatInfo, Check: fatCheck, Map: fatMap}

// fatBoot reads the boot sector of a FAT device.
func fatBoot(dev block.Device) (*disk.BootSector, *disk.Geometry, error) {
	var buf [disk.BootSize]byte
	if _, err := ReaderAt(dev).ReadAt(buf[:], 0); err != nil {
		return nil, nil, fmt.Errorf("%s: boot sector: %w", dev.Name(), err)
	}
	b, err := disk.DecodeBootSector(buf[:])
	if err == nil {
		var g *disk.Geometry
		if g, err = disk.NewGeometry(&b, dev.Size()); err == nil {
			return &b, g, nil
		}
	}
	return nil, nil, &errno.CorruptError{Dev: dev.Name(), Struct: "boot sector", Why: err.Error()}
}

func fatInfo(dev block.Device) (*Info, error) {
	b, g, err := fatBoot(dev)
	if err != nil {
		return nil, err
	}
	p, _ := fat.Type.Probe(dev)
	f := fatReader{r: ReaderAt(dev), g: g}
	if _, err := f.entry(1); err != nil {
		return nil, err
	}
	state := "clean"
	dirty, bad := disk.FATView{G: g, B: f.buf, Off: f.at}.State()
	switch {
	case bad || b.State&disk.StateError != 0:
		state = "errors of the medium were found (run fsck.fat)"
	case dirty || b.State&disk.StateDirty != 0:
		state = "not cleanly unmounted (run fsck.fat)"
	}
	in := &Info{Type: "vfat", Label: p.Label, UUID: p.UUID, State: state, Features: []string{g.Width.String()}}
	in.add("size", int64(g.Sectors)<<g.SectorBits, "bytes")
	in.add("sector size", g.SectorSize, "bytes")
	in.add("cluster size", g.ClusterSize, "bytes")
	in.add("clusters", g.Clusters, "")
	if g.Info != 0 {
		var s [disk.BootSize]byte
		if _, err := f.r.ReadAt(s[:], g.BytesOf(g.Info)); err != nil {
			return nil, err
		}
		if i, err := disk.DecodeFSInfo(s[:]); err == nil && i.Free != disk.Unknown {
			in.add("free clusters (hint)", i.Free, "")
		}
	}
	in.add("reserved sectors", uint32(g.Reserved), "")
	in.add("FATs", g.FATs, "")
	in.add("sectors of a FAT", g.FATSectors, "")
	if !g.Mirror {
		in.add("active FAT", g.Active, "")
	}
	if g.Width == disk.FAT32 {
		in.add("root cluster", uint32(g.RootCluster), "")
		in.add("backup boot sector", uint32(g.Backup), "")
	} else {
		in.add("root directory entries", g.RootEntries, "")
	}
	in.add("first data sector", uint32(g.DataStart), "")
	in.add("media byte", fmt.Sprintf("%#x", b.Media), "")
	in.add("hidden sectors", b.Hidden, "")
	in.add("largest file", int64(disk.MaxFileSize), "bytes")
	in.add("made by", string(b.OEM[:]), "")
	return in, nil
}

func fatCheck(ctx context.Context, dev block.Device, max int, progress func(done float64)) (*Checked, error) {
	rep, err := check.Check(ctx, ReaderAt(dev), dev.Size(), check.Options{MaxProblems: max, Progress: progress})
	if err != nil {
		return nil, err
	}
	c := &Checked{Problems: []Problem{}, More: rep.More, Dirty: rep.Dirty, Files: rep.Files, Directories: rep.Directories}
	for _, p := range rep.Problems {
		c.Problems = append(c.Problems, Problem{Code: string(p.Code), Where: p.Where, What: p.What})
	}
	return c, nil
}

// fatReader reads entries of the active FAT, in order.
type fatReader struct {
	r   io.ReaderAt
	g   *disk.Geometry
	buf []byte
	at  uint32 // of buf in the FAT, bytes
	n   uint32 // of the FAT in buf, bytes; a few zeros follow
}

// fatWindow is how much of a FAT is held: whole entries of every width.
const fatWindow = 3 << 16

func (f *fatReader) entry(c disk.Cluster) (disk.Entry, error) {
	off, _ := f.g.EntryAt(c)
	if f.buf == nil || off < f.at || off+4 > f.at+f.n {
		f.at = off / (fatWindow / 2) * (fatWindow / 2)
		n := min(int64(fatWindow), f.g.FATLength()-int64(f.at))
		f.buf, f.n = make([]byte, n+4), uint32(n)
		if _, err := f.r.ReadAt(f.buf[:n], f.g.BytesOf(f.g.FATStart(f.g.Active))+int64(f.at)); err != nil {
			return 0, fmt.Errorf("FAT: %w", err)
		}
	}
	return disk.FATView{G: f.g, B: f.buf, Off: f.at}.At(c), nil
}

// What the picture of a FAT tells apart.
const (
	fatFree = iota
	fatData
	fatDir
	fatDefect
	fatHead
	fatFATs
	fatRoot
)

var fatMapKinds = []string{"free", "data", "directories", "defect", "boot sector and reserved", "FATs", "root directory"}

// fatMapRows is how many rows the picture has: there are no groups on the medium.
const fatMapRows = 16

func fatMap(ctx context.Context, dev block.Device, rows, columns int) (*Map, error) {
	_, g, err := fatBoot(dev)
	if err != nil {
		return nil, err
	}
	rows = max(min(rows, fatMapRows), 1)
	sector, size := int64(g.SectorSize), int64(g.Sectors)<<g.SectorBits
	group := (size/int64(rows) + int64(g.ClusterSize)) / int64(g.ClusterSize) * int64(g.ClusterSize)
	m := newMap(fatMapKinds, fatHead, size, group, 0, sector, int((size+group-1)/group), rows, columns)
	m.add(fatFree, 0, int64(g.Sectors), 1)
	take := func(kind int, from disk.Sector, n uint32) {
		m.add(fatFree, g.BytesOf(from), int64(n), -1)
		m.add(kind, g.BytesOf(from), int64(n), 1)
	}
	take(fatHead, 0, uint32(g.Reserved))
	take(fatFATs, g.FATStart(0), g.FATs*g.FATSectors)
	take(fatRoot, g.RootStart, g.RootSectors)
	f := fatReader{r: ReaderAt(dev), g: g}
	run := func(kind int, first, end disk.Cluster) {
		if kind != fatFree && end > first {
			take(kind, g.SectorOf(first), uint32(end-first)*g.PerCluster)
		}
	}
	kind, first := fatFree, disk.FirstCluster
	for c := disk.FirstCluster; c <= g.Last(); c++ {
		if c%(1<<16) == 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
		}
		e, err := f.entry(c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dev.Name(), err)
		}
		k := fatData
		switch e {
		case disk.Free:
			k = fatFree
		case disk.Defect:
			k = fatDefect
		}
		if k != kind {
			run(kind, first, c)
			kind, first = k, c
		}
	}
	run(kind, first, g.Last()+1)
	d := fatDirs{f: f, m: m, seen: map[disk.Cluster]bool{}}
	if err := d.walk(ctx); err != nil {
		return nil, fmt.Errorf("%s: %w", dev.Name(), err)
	}
	m.settle()
	return m, nil
}

// fatDirs counts the clusters of directories, which the FAT does not tell from others.
type fatDirs struct {
	f    fatReader
	m    *Map
	seen map[disk.Cluster]bool
	todo []disk.Cluster
}

func (d *fatDirs) walk(ctx context.Context) error {
	g := d.f.g
	if g.Width == disk.FAT32 {
		d.todo = append(d.todo, g.RootCluster)
	} else if err := d.slots(g.BytesOf(g.RootStart), int64(g.RootSectors)<<g.SectorBits); err != nil {
		return err
	}
	for len(d.todo) > 0 {
		c := d.todo[len(d.todo)-1]
		d.todo = d.todo[:len(d.todo)-1]
		for g.Valid(c) && !d.seen[c] {
			if err := ctx.Err(); err != nil {
				return err
			}
			d.seen[c] = true
			d.m.add(fatData, g.BytesOf(g.SectorOf(c)), int64(g.PerCluster), -1)
			d.m.add(fatDir, g.BytesOf(g.SectorOf(c)), int64(g.PerCluster), 1)
			if err := d.slots(g.BytesOf(g.SectorOf(c)), int64(g.ClusterSize)); err != nil {
				return err
			}
			e, err := d.f.entry(c)
			if err != nil {
				return err
			}
			next, ok := e.Next(g)
			if !ok {
				break
			}
			c = next
		}
	}
	return nil
}

// slots notes the subdirectories in a piece of a directory.
func (d *fatDirs) slots(at, n int64) error {
	p := make([]byte, n)
	if _, err := d.f.r.ReadAt(p, at); err != nil {
		return err
	}
	for ; len(p) > 0 && !disk.IsEnd(p); p = p[disk.DirentSize:] {
		if disk.IsFree(p) || disk.IsLong(p) {
			continue
		}
		if e := disk.DecodeDirent(p, d.f.g.Width); e.IsDir() && !disk.IsDots(e.Name) {
			d.todo = append(d.todo, e.Start)
		}
	}
	return nil
}
