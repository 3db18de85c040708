package ext2

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/fs/ext2/disk/disktest"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

func TestFlagsAndVersion(t *testing.T) {
	img := nameImage(t, "4M")
	sb := nameMount(t, img)
	ip, err := sb.Root.Create(tctx, vfs.Root, "f", 0o644)
	require.NoError(t, err)
	require.NoError(t, ip.SetFlags(tctx, vfs.Root, vfs.FlagNoDump|vfs.FlagNoAtime|vfs.FlagDirSync))
	require.Equal(t, vfs.FlagNoDump|vfs.FlagNoAtime, ip.Flags(), "a file has no DIRSYNC")
	require.ErrorIs(t, ip.SetFlags(tctx, vfs.Root, 0x80000000), errno.OPNOTSUPP)
	f, err := ip.Open(tctx, vfs.ORdwr)
	require.NoError(t, err)
	in, out := make([]byte, 8), make([]byte, 8)
	binary.LittleEndian.PutUint32(in, 12345)
	_, err = ip.Fop.Ioctl(tctx, f, iocSetVersion, in, nil)
	require.NoError(t, err)
	_, err = ip.Fop.Ioctl(tctx, f, iocGetVersion, nil, out)
	require.NoError(t, err)
	require.Equal(t, in, out)
	_, err = ip.Fop.Ioctl(tctx, f, 77, nil, nil)
	require.ErrorIs(t, err, errno.NOTTY)
	f.Close()
	ip.Put()
	d, err := sb.Root.Mkdir(tctx, vfs.Root, "d", 0o755)
	require.NoError(t, err)
	require.NoError(t, d.SetFlags(tctx, vfs.Root, vfs.FlagNoDump|vfs.FlagTopDir|vfs.FlagImmutable))
	_, err = d.Create(tctx, vfs.Root, "x", 0o644)
	require.ErrorIs(t, err, errno.PERM)
	require.NoError(t, d.SetFlags(tctx, vfs.Root, vfs.FlagNoDump|vfs.FlagTopDir))
	x, err := d.Create(tctx, vfs.Root, "x", 0o644)
	require.NoError(t, err)
	require.Equal(t, vfs.FlagNoDump, x.Flags(), "inherited")
	x.Put()
	d.Put()
	nameDone(t, sb, img)
	_, dump := disktest.Run(t, "", "debugfs", "-R", "stat f", img)
	require.Contains(t, dump, "Generation: 12345")
	require.Contains(t, dump, "Flags: 0xc0")
}

func TestLinkLimits(t *testing.T) {
	img := nameImage(t, "32M", "-b", "4096", "-N", "40000")
	sb := nameMount(t, img)
	ip, err := sb.Root.Create(tctx, vfs.Root, "f", 0o644)
	require.NoError(t, err)
	d, err := sb.Root.Mkdir(tctx, vfs.Root, "d", 0o755)
	require.NoError(t, err)
	for i := range disk.LinkMax - 1 {
		if err := d.Link(tctx, fmt.Sprint(i), ip); err != nil {
			require.NoError(t, err)
		}
	}
	require.ErrorIs(t, d.Link(tctx, "over", ip), errno.MLINK)
	ip.Put()
	// A directory: the count of the parent, set near the limit, as if the subdirectories were there.
	p, err := sb.Root.Mkdir(tctx, vfs.Root, "p", 0o755)
	require.NoError(t, err)
	p.AttrMu.Lock()
	p.A.Nlink = disk.LinkMax
	p.AttrMu.Unlock()
	_, err = p.Mkdir(tctx, vfs.Root, "sub", 0o755)
	require.ErrorIs(t, err, errno.MLINK)
	require.ErrorIs(t, sb.Root.RenameTo(tctx, "d", p, "d", 0), errno.MLINK)
	p.AttrMu.Lock()
	p.A.Nlink = 2
	p.AttrMu.Unlock()
	p.Put()
	d.Put()
	nameDone(t, sb, img)
}

// A file without a name can get one, and goes without; one whose last name is gone cannot.
func TestTmpfile(t *testing.T) {
	img := nameImage(t, "4M")
	sb := nameMount(t, img)
	a, err := sb.Root.Tmpfile(tctx, vfs.Root, 0o600)
	require.NoError(t, err)
	b, err := sb.Root.Tmpfile(tctx, vfs.Root, 0o600)
	require.NoError(t, err)
	require.Zero(t, a.Nlink())
	require.NoError(t, sb.Sync(tctx))
	require.NoError(t, sb.Root.Link(tctx, "named", a))
	require.Equal(t, uint32(1), a.Nlink())
	a.Put()
	b.Put()
	c, err := sb.Root.Create(tctx, vfs.Root, "c", 0o600)
	require.NoError(t, err)
	require.NoError(t, sb.Root.Unlink(tctx, "c"))
	require.ErrorIs(t, sb.Root.Link(tctx, "again", c), errno.NOENT)
	c.Put()
	nameDone(t, sb, img)
}

// Names and places against a map, through growth and removal.
func TestDirIndex(t *testing.T) {
	seed := rand.Int63()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewSource(seed))
	x := newDirIndex(0)
	type key struct {
		hash uint32
		p    place
	}
	model := map[key]bool{}
	var list []key
	for range 60000 {
		if len(list) == 0 || rng.Intn(5) < 3 {
			k := key{uint32(rng.Intn(1 << uint(4+rng.Intn(20)))), place(rng.Uint32() >> 2)}
			if !model[k] {
				model[k] = true
				list = append(list, k)
				x.add(k.hash, k.p)
			}
		} else {
			i := rng.Intn(len(list))
			x.remove(list[i].hash, list[i].p)
			delete(model, list[i])
			list[i] = list[len(list)-1]
			list = list[:len(list)-1]
		}
		if rng.Intn(50) == 0 && len(list) > 0 {
			k := list[rng.Intn(len(list))]
			found := false
			i, p, ok := x.probe(k.hash, -1)
			for ; ok; i, p, ok = x.probe(k.hash, i) {
				require.True(t, model[key{k.hash, p}])
				found = found || p == k.p
			}
			require.True(t, found)
		}
	}
	require.Equal(t, len(list), x.used)
	for _, k := range list {
		x.remove(k.hash, k.p)
	}
	for _, s := range x.slots {
		require.Zero(t, s)
	}
	for _, bits := range []uint8{10, 12, 16} {
		for range 1000 {
			n, off := disk.FileBlock(rng.Int63n(dirBytesMax>>bits)), rng.Intn(1<<bits)&^3
			gn, goff := placeOf(n, off, bits).split(bits)
			require.Equal(t, n, gn)
			require.Equal(t, off, goff)
		}
	}
}

func TestRoomTree(t *testing.T) {
	rng := rand.New(rand.NewSource(7))
	var tree roomTree
	var model []int
	for range 20000 {
		if len(model) < 1000 && rng.Intn(4) == 0 {
			model = append(model, 0)
		} else if len(model) > 0 {
			n := rng.Intn(len(model))
			model[n] = rng.Intn(16384+1) * 4
			tree.set(disk.FileBlock(n), model[n])
			require.Equal(t, model[n], tree.get(disk.FileBlock(n)))
		}
		need := 1 + rng.Intn(65536)
		got, ok := tree.first(need)
		want := -1
		for i, r := range model {
			if r >= need {
				want = i
				break
			}
		}
		require.Equal(t, want >= 0, ok)
		if ok {
			require.Equal(t, disk.FileBlock(want), got)
		}
	}
}

// The indexes of all directories stay within their limit, whichever is used.
func TestIndexMemory(t *testing.T) {
	img := nameImage(t, "64M", "-b", "1024", "-N", "2000")
	sb := nameMount(t, img)
	fs := fsOf(sb)
	fs.dirs.limit = 20_000
	ip, err := sb.Root.Create(tctx, vfs.Root, "f", 0o644)
	require.NoError(t, err)
	var dirs []*vfs.Inode
	for i := range 8 {
		d, err := sb.Root.Mkdir(tctx, vfs.Root, fmt.Sprint(i), 0o755)
		require.NoError(t, err)
		for k := range 300 * (i + 1) {
			require.NoError(t, d.Link(tctx, fmt.Sprintf("name-%d", k), ip))
			require.LessOrEqual(t, fs.dirs.bytes, fs.dirs.limit)
		}
		dirs = append(dirs, d)
	}
	for i, d := range dirs {
		got, err := d.Lookup(tctx, fmt.Sprintf("name-%d", 300*(i+1)-1))
		require.NoError(t, err)
		got.Put()
		d.Put()
	}
	ip.Put()
	require.NoError(t, sb.Sync(tctx))
	nameDone(t, sb, img)
	require.Empty(t, fs.dirs.all)
	require.Zero(t, fs.dirs.bytes)
}
