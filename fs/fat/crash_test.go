package fat

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/fat/check"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/fs/fat/mkfs"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/block/overlay"
	"github.com/iomapfs/iomapfs/vfs/block/record"
)

// deviceReader reads a device as an io.ReaderAt.
type deviceReader struct{ dev block.Device }

func (r deviceReader) ReadAt(p []byte, off int64) (int, error) {
	from, to := off&^511, (off+int64(len(p))+511)&^511
	b := make([]byte, to-from)
	if err := block.ReadAt(r.dev, b, from); err != nil {
		return 0, err
	}
	return copy(p, b[off-from:]), nil
}

// kept is a file that was fsynced and never touched again.
type kept struct {
	path  string
	data  []byte
	event int // of the log when fsync returned
}

// crashRun makes random operations on a recorded device.
type crashRun struct {
	t    *testing.T
	rng  *rand.Rand
	sb   *vfs.SuperBlock
	base block.Device
	rec  *record.Device
	kept []kept
	n    int

	// also says what else is wrong with states from event from on, if it is not nil.
	also func(sb *vfs.SuperBlock) string
	from int
	// stale says that the image was made with something behind the end of its root.
	stale bool
}

func (c *crashRun) at(p string, f func(dir *vfs.Inode, name string) error) error {
	dir, err := c.sb.Walk(tctx, path.Dir("/"+p), true)
	if err != nil {
		return err
	}
	defer dir.Put()
	return f(dir, path.Base(p))
}

func (c *crashRun) name() string {
	dirs := []string{"", "", "d", "d/f"}
	n := c.rng.IntN(5)
	return path.Join(dirs[c.rng.IntN(len(dirs))], []string{fmt.Sprintf("N%d", n), fmt.Sprintf("a name of several parts %d", n)}[n%2])
}

func (c *crashRun) step() {
	p, q := c.name(), c.name()
	switch k := c.rng.IntN(20); {
	case k < 1:
		c.note("create %s", p, c.at(p, func(dir *vfs.Inode, name string) error {
			ip, err := dir.Create(tctx, vfs.Root, name, 0o644)
			if err == nil {
				ip.Put()
			}
			return err
		}))
	case k < 3:
		p = []string{"d", "e", "d/f", "d/f"}[c.rng.IntN(4)]
		c.note("mkdir %s", p, c.at(p, func(dir *vfs.Inode, name string) error {
			ip, err := dir.Mkdir(tctx, vfs.Root, name, 0o755)
			if err == nil {
				ip.Put()
			}
			return err
		}))
	case k < 5:
		c.note("unlink %s", p, c.at(p, func(dir *vfs.Inode, name string) error { return dir.Unlink(tctx, name) }))
	case k < 6:
		p = []string{"d", "e", "d/f"}[c.rng.IntN(3)]
		c.note("rmdir %s", p, c.at(p, func(dir *vfs.Inode, name string) error { return dir.Rmdir(tctx, name) }))
	case k < 8:
		c.note("rename %s "+q, p, c.at(p, func(from *vfs.Inode, name string) error {
			return c.at(q, func(to *vfs.Inode, other string) error { return from.RenameTo(tctx, name, to, other, 0) })
		}))
	case k < 14:
		off, size := c.rng.IntN(20000), 1+c.rng.IntN(9000)
		_ = c.at(p, func(dir *vfs.Inode, name string) error { // it may be there
			ip, err := dir.Create(tctx, vfs.Root, name, 0o644)
			if err == nil {
				ip.Put()
			}
			return err
		})
		c.note(fmt.Sprintf("write %%s %d+%d", off, size), p, c.open(p, func(f *vfs.File) error {
			_, err := f.WriteAt(tctx, bytes.Repeat([]byte{byte(c.n)}, size), int64(off))
			return err
		}))
	case k < 16:
		size := c.rng.IntN(25000)
		c.note(fmt.Sprintf("truncate %%s %d", size), p, c.open(p, func(f *vfs.File) error {
			return f.Inode.SetAttr(tctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize, Size: int64(size)})
		}))
	case k < 17:
		c.note("fsync %s", p, c.open(p, func(f *vfs.File) error { return f.Fsync(tctx, false) }))
	case k < 18:
		c.note("sync%s", "", c.sb.Sync(tctx))
	default:
		name := fmt.Sprintf("kept %d", c.n)
		data := bytes.Repeat([]byte{byte(c.n), 1}, 1+c.rng.IntN(5000))
		require.NoError(c.t, c.at(name, func(dir *vfs.Inode, name string) error {
			ip, err := dir.Create(tctx, vfs.Root, name, 0o644)
			if err == nil {
				ip.Put()
			}
			return err
		}))
		require.NoError(c.t, c.open(name, func(f *vfs.File) error {
			if _, err := f.WriteAt(tctx, data, 0); err != nil {
				return err
			}
			return f.Fsync(tctx, false)
		}))
		c.rec.Mark("kept %s", name)
		c.kept = append(c.kept, kept{name, data, len(c.rec.Log())})
	}
	c.n++
}

func (c *crashRun) note(format, p string, err error) { c.rec.Mark(format+": %v", p, err) }

func (c *crashRun) open(p string, f func(f *vfs.File) error) error {
	ip, err := c.sb.Walk(tctx, p, true)
	if err != nil {
		return err
	}
	defer ip.Put()
	fl, err := ip.Open(tctx, vfs.ORdwr)
	if err != nil {
		return err
	}
	defer fl.Close()
	return f(fl)
}

// harmless are the findings that a crash may leave: see the package comment. The window of a rename shows as two names of one file, as
// a name that is there twice in two spellings, and as ".." that leads to the old place.
var harmless = map[check.Code]bool{
	check.Lost: true, check.Info: true, check.FATCopies: true, check.LongChain: true, check.SameStart: true, check.Duplicate: true, check.Dots: true,
}

// After a crash at any write, with writes missing, alone and in subsets, our checker finds nothing but what the package promises, a
// mount works, and files that were fsynced are there.
func TestCrashStates(t *testing.T) {
	seeds, most := uint64(12), 60
	if os.Getenv("IOMAPFS_SOAK") != "" {
		seeds, most = 200, 0
	}
	for seed := uint64(1); seed <= seeds; seed++ {
		if s := os.Getenv("IOMAPFS_SEED"); s != "" && s != fmt.Sprint(seed) {
			continue
		}
		c := newCrashRun(t, seed, nil)
		for range 60 {
			c.step()
		}
		c.judgeAll(seed, most)
	}
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// newCrashRun mounts a new filesystem of a kind that follows from the seed, recorded. alter may change the image before.
func newCrashRun(t *testing.T, seed uint64, alter func(base block.Device)) *crashRun {
	o := mkfs.Options{
		Width: []disk.Width{disk.FAT12, disk.FAT16, disk.FAT32}[seed%3], ClusterSize: []uint32{1024, 512, 512}[seed%3], Zeroed: true,
	}
	size := []int64{1 << 20, 4 << 20, 2 << 20}[seed%3]
	base, err := mem.New(size, mem.Options{VolatileCache: true, NoDirect: true})
	require.NoError(t, err)
	t.Cleanup(func() { base.Close() })
	b, err := os.ReadFile(newImage(t, size, o))
	require.NoError(t, err)
	require.NoError(t, block.WriteAt(base, b, 0, 0))
	if alter != nil {
		alter(base)
	}
	rec := record.New(overlay.New(base))
	words := []string{"tz=UTC", "nodiscard", []string{"path=legacy", "path=iomap"}[seed%2]}
	sb, err := Type.Mount(tctx, rec, &vfs.MountOptions{CacheBytes: 4 << 20, Words: words, Log: quiet})
	require.NoError(t, err)
	return &crashRun{t: t, rng: rand.New(rand.NewPCG(seed, 8)), sb: sb, base: base, rec: rec}
}

// judgeAll unmounts, and judges states, at most so many; 0: all.
func (c *crashRun) judgeAll(seed uint64, most int) {
	require.NoError(c.t, c.sb.Unmount(tctx))
	log, n := c.rec.Log(), 0
	for st, err := range record.States(c.base, log, record.StateOptions{Seed: seed, Max: most, Sector: 512}) {
		require.NoError(c.t, err)
		n++
		if why := c.judge(st); why != "" {
			var tail []string
			for _, e := range log[:st.At][max(0, st.At-60):] {
				tail = append(tail, e.String())
			}
			c.t.Fatalf("IOMAPFS_SEED=%d, state %q (event %d of %d):\n%s\n%s", seed, st.Name, st.At, len(log), strings.Join(tail, "\n"), why)
		}
	}
	c.t.Logf("seed %d: %d events, %d states", seed, len(log), n)
}

// judge says what is wrong with a state, "" for nothing.
func (c *crashRun) judge(st *record.State) string {
	dev := st.Device()
	rep, err := check.Check(tctx, deviceReader{dev}, dev.Size(), check.Options{})
	if err != nil {
		return err.Error()
	}
	for _, p := range rep.Problems {
		if c.stale && p.Code == check.AfterEnd {
			continue
		}
		if !harmless[p.Code] || !rep.Dirty && p.Code != check.FATCopies { // what is marked clean is, but for the mark in the other copy
			return fmt.Sprint(rep.Problems)
		}
	}
	sb, err := Type.Mount(tctx, dev, &vfs.MountOptions{CacheBytes: 4 << 20, ReadOnly: true, Words: []string{"tz=UTC"}, Log: quiet})
	if err != nil {
		return "mount: " + err.Error()
	}
	defer sb.Unmount(tctx)
	starts := map[disk.Cluster]disk.Dirent{}
	if why := sameFiles(c.t, sb.Root, starts); why != "" {
		return why
	}
	if c.also != nil && st.At >= c.from {
		if why := c.also(sb); why != "" {
			return why
		}
	}
	for _, k := range c.kept {
		if k.event > st.At {
			break
		}
		ip, err := sb.Walk(tctx, k.path, true)
		if err != nil {
			return "fsynced: " + err.Error()
		}
		data := readAll(c.t, ip)
		ip.Put()
		if !bytes.Equal(data, k.data) {
			return fmt.Sprintf("fsynced: %s has %d bytes, want %d", k.path, len(data), len(k.data))
		}
	}
	return ""
}

// sameFiles looks at files that share their clusters: they must be one file under two names, as a rename leaves it.
func sameFiles(t testing.TB, dir *vfs.Inode, starts map[disk.Cluster]disk.Dirent) string {
	f, err := dir.Open(tctx, vfs.ORdonly)
	require.NoError(t, err)
	defer f.Close()
	var names []string
	require.NoError(t, f.ReadDir(tctx, 0, func(e *vfs.DirEntry) bool {
		if e.Name != "." && e.Name != ".." {
			names = append(names, strings.Clone(e.Name))
		}
		return true
	}))
	for _, n := range names {
		ip, err := dir.Lookup(tctx, n)
		if err != nil {
			return err.Error()
		}
		d := inodeOf(ip).raw
		if ip.IsDir() {
			if why := sameFiles(t, ip, starts); why != "" {
				ip.Put()
				return why
			}
		}
		ip.Put()
		d = disk.Dirent{Start: d.Start, Created: d.Created} // size and times may have changed since the old name was written
		if old, ok := starts[d.Start]; ok && d.Start != 0 && old != d {
			return fmt.Sprintf("%q begins at cluster %d, as another file does: %+v, %+v", n, d.Start, old, d)
		}
		starts[d.Start] = d
	}
	return ""
}
