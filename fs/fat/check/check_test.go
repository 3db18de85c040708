package check_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/fat/check"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/fs/fat/disk/disktest"
	"github.com/iomapfs/iomapfs/fs/fat/mkfs"
)

// memory is an image to be damaged.
type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

func image(t testing.TB, size int64, o mkfs.Options) (memory, *disk.Geometry) {
	m := make(memory, size)
	o.Zeroed, o.Time = true, time.Unix(1700000000, 0)
	o.Fill = func(bu *mkfs.Builder) error {
		for i := range 12 {
			name := fmt.Sprintf("dir %d/some file %d.bin", i%3, i)
			if i%4 == 0 {
				name = fmt.Sprintf("FILE%d", i)
			}
			data := bytes.Repeat([]byte{byte(i)}, i*1700)
			if err := bu.Add(&mkfs.Node{Path: name, Size: int64(len(data))}, bytes.NewReader(data)); err != nil {
				return err
			}
		}
		return nil
	}
	b, err := mkfs.Format(m, size, o)
	require.NoError(t, err)
	g, err := disk.NewGeometry(b, size)
	require.NoError(t, err)
	return m, g
}

func run(t testing.TB, m memory) check.Report {
	rep, err := check.Check(context.Background(), bytes.NewReader(m), int64(len(m)), check.Options{})
	require.NoError(t, err)
	return rep
}

// Each kind of damage is found and named.
func TestFindings(t *testing.T) {
	le := binary.LittleEndian
	fat := func(m memory, g *disk.Geometry) disk.FATView {
		return disk.FATView{G: g, B: m[g.BytesOf(g.FATStart(0)):]}
	}
	both := func(m memory, g *disk.Geometry, c disk.Cluster, e disk.Entry) {
		for i := range g.FATs {
			disk.FATView{G: g, B: m[g.BytesOf(g.FATStart(i)):]}.Set(c, e)
		}
	}
	// slot finds the entry of a short name in the root directory.
	slot := func(m memory, g *disk.Geometry, name string) []byte {
		at := g.BytesOf(g.RootStart)
		if g.Width == disk.FAT32 {
			at = g.BytesOf(g.SectorOf(g.RootCluster))
		}
		i := bytes.Index(m[at:], []byte(name))
		require.GreaterOrEqual(t, i, 0)
		return m[at+int64(i):][:disk.DirentSize]
	}
	start := func(m memory, g *disk.Geometry, name string) disk.Cluster {
		return disk.DecodeDirent(slot(m, g, name), g.Width).Start
	}
	for name, c := range map[string]struct {
		code   check.Code
		damage func(m memory, g *disk.Geometry)
	}{
		"boot":      {check.Boot, func(m memory, g *disk.Geometry) { m[13] = 3 }},
		"media":     {check.FATFirst, func(m memory, g *disk.Geometry) { m[g.BytesOf(g.FATStart(0))] = 0xF1 }},
		"copies":    {check.FATCopies, func(m memory, g *disk.Geometry) { fat(m, g).Set(g.Last(), disk.Defect) }},
		"lost":      {check.Lost, func(m memory, g *disk.Geometry) { both(m, g, g.Last(), disk.End) }},
		"into free": {check.ChainFree, func(m memory, g *disk.Geometry) { both(m, g, start(m, g, "FILE8 "), disk.Entry(g.Last())) }},
		"out":       {check.FATEntry, func(m memory, g *disk.Geometry) { both(m, g, start(m, g, "FILE8 "), disk.Entry(g.Last()+1)) }},
		"loop":      {check.CrossLink, func(m memory, g *disk.Geometry) { both(m, g, start(m, g, "FILE8 "), disk.Entry(start(m, g, "FILE8 "))) }},
		"cross": {check.CrossLink, func(m memory, g *disk.Geometry) {
			both(m, g, start(m, g, "FILE4 "), disk.Entry(start(m, g, "FILE8 ")+1))
		}},
		"same start": {check.SameStart, func(m memory, g *disk.Geometry) {
			copy(slot(m, g, "FILE4 ")[20:], slot(m, g, "FILE8 ")[20:])
		}},
		"size":       {check.Size, func(m memory, g *disk.Geometry) { le.PutUint32(slot(m, g, "FILE8 ")[28:], 1<<20) }},
		"small size": {check.LongChain, func(m memory, g *disk.Geometry) { le.PutUint32(slot(m, g, "FILE8 ")[28:], 1) }},
		"start":      {check.Start, func(m memory, g *disk.Geometry) { le.PutUint16(slot(m, g, "FILE8 ")[26:], 1) }},
		"name":       {check.Name, func(m memory, g *disk.Geometry) { slot(m, g, "FILE8 ")[1] = '*' }},
		"duplicate":  {check.Duplicate, func(m memory, g *disk.Geometry) { slot(m, g, "FILE8 ")[4] = '4' }},
		"long":       {check.LongName, func(m memory, g *disk.Geometry) { slot(m, g, "DIR0~1 ")[1] = 'X' }},
		"dots":       {check.Dots, func(m memory, g *disk.Geometry) { m[g.BytesOf(g.SectorOf(start(m, g, "DIR0~1 ")))+26]++ }},
		"dotdot":     {check.Dots, func(m memory, g *disk.Geometry) { m[g.BytesOf(g.SectorOf(start(m, g, "DIR0~1 ")))+32] = 0xE5 }},
		"label":      {check.Label, func(m memory, g *disk.Geometry) { m[g.BytesOf(g.SectorOf(start(m, g, "DIR0~1 ")))+64+11] = 8 }},
		"after end": {check.AfterEnd, func(m memory, g *disk.Geometry) {
			copy(m[g.BytesOf(g.SectorOf(start(m, g, "DIR0~1 ")))+int64(min(g.ClusterSize, 512))-32:], "STRAY   TXT")
		}},
		"info":        {check.Info, func(m memory, g *disk.Geometry) { m[g.BytesOf(g.Info)+488]++ }},
		"backup":      {check.Backup, func(m memory, g *disk.Geometry) { m[g.BytesOf(g.Backup)+67]++ }},
		"dir is long": {check.Size, func(m memory, g *disk.Geometry) { slot(m, g, "DIR0~1 ")[28] = 1 }},
	} {
		for _, w := range []disk.Width{disk.FAT12, disk.FAT16, disk.FAT32} {
			if w != disk.FAT32 && (name == "info" || name == "backup") {
				continue
			}
			t.Run(name+w.String(), func(t *testing.T) {
				m, g := image(t, 6<<20, mkfs.Options{Width: w, ClusterSize: map[disk.Width]uint32{disk.FAT12: 4096, disk.FAT16: 1024, disk.FAT32: 512}[w]})
				require.Empty(t, run(t, m).Problems)
				c.damage(m, g)
				rep := run(t, m)
				found := false
				for _, p := range rep.Problems {
					found = found || p.Code == c.code
				}
				require.True(t, found, "%v", rep.Problems)
			})
		}
	}
}

// What fsck.fat finds on random damage is found here.
func TestMutationsAgainstFsck(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	img := filepath.Join(t.TempDir(), "img")
	for i := range 30 {
		w := []disk.Width{disk.FAT12, disk.FAT16, disk.FAT32}[i%3]
		m, g := image(t, 6<<20, mkfs.Options{Width: w, ClusterSize: map[disk.Width]uint32{disk.FAT12: 4096, disk.FAT16: 1024, disk.FAT32: 512}[w]})
		what := ""
		for range 1 + rng.IntN(3) {
			var at int64
			if rng.IntN(2) == 0 {
				at = g.BytesOf(g.FATStart(0)) + rng.Int64N(150)
				v := byte(rng.Uint32())
				for c := range g.FATs {
					m[at+int64(c*g.FATSectors)<<g.SectorBits] = v
				}
			} else {
				// the directories lie in front of or behind the files
				at = g.BytesOf(g.RootStart) + rng.Int64N(32*40)
				if w == disk.FAT32 || rng.IntN(2) == 0 {
					at = g.BytesOf(g.DataStart) + rng.Int64N(110<<10)
				}
				m[at] = byte(rng.Uint32())
			}
			what += fmt.Sprintf(" %d=%#x", at, m[at])
		}
		require.NoError(t, os.WriteFile(img, m, 0o644))
		out, rc := disktest.Run(t, "fsck.fat", "-n", img)
		if rc != 0 && rc != 1 {
			continue
		}
		rep := run(t, m)
		if rc == 1 {
			require.True(t, len(rep.Problems) > 0 || rep.Dirty, "seed %d, round %d,%s: fsck.fat found\n%s", seed, i, what, out)
		}
	}
}

// Any image is checked in bounded time without a panic.
func FuzzCheck(f *testing.F) {
	m, _ := image(f, 512<<10, mkfs.Options{})
	f.Add([]byte(m[:8192]))
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) > 1<<20 {
			return
		}
		img := append(bytes.Clone(p), make([]byte, 64<<10)...)
		_, _ = check.Check(context.Background(), bytes.NewReader(img), int64(len(img)), check.Options{MaxProblems: 50})
	})
}
