package fat

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/fat/check"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/fs/fat/disk/disktest"
	"github.com/iomapfs/iomapfs/fs/fat/mkfs"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/file"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// A FAT may have room for more bytes than 32 bits count.
func TestHugeFAT(t *testing.T) {
	img := disktest.Empty(t, 5<<30)
	b := disk.BootSector{
		Jump: [3]byte{0xEB, 0x58, 0x90}, SectorSize: 4096, PerCluster: 1, Reserved: 32, FATs: 1, Media: 0xF8,
		FATSectors32: 1 << 20, Sectors32: 32 + 1<<20 + 70000, RootCluster: 2, Signature: 0x29,
	}
	p := make([]byte, 4096)
	b.EncodeTo(p)
	p[510], p[511] = 0x55, 0xAA
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteAt(p, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{0xF8, 0xFF, 0xFF, 0x0F, 0xFF, 0xFF, 0xFF, 0x0F, 0xFF, 0xFF, 0xFF, 0x0F}, 32*4096)
	require.NoError(t, err)
	sb := mountImage(t, img)
	st, err := sb.StatFS()
	require.NoError(t, err)
	require.EqualValues(t, 70000-1, st.Free)
	ip := mk(t, sb.Root, "f")
	write(t, ip, []byte("x"), 0)
	ip.Put()
	require.NoError(t, sb.Unmount(tctx))
}

// make makes a file and writes it.
func (c *crashRun) make(p string, data []byte) {
	require.NoError(c.t, c.at(p, func(dir *vfs.Inode, name string) error {
		ip := mk(c.t, dir, name)
		defer ip.Put()
		write(c.t, ip, data, 0)
		return nil
	}))
}

func (c *crashRun) mkdir(p string) {
	require.NoError(c.t, c.at(p, func(dir *vfs.Inode, name string) error {
		ip, err := dir.Mkdir(tctx, vfs.Root, name, 0o755)
		if err == nil {
			ip.Put()
		}
		return err
	}))
}

func (c *crashRun) rename(p, q string) {
	require.NoError(c.t, c.at(p, func(from *vfs.Inode, name string) error {
		return c.at(q, func(to *vfs.Inode, other string) error { return from.RenameTo(tctx, name, to, other, 0) })
	}))
}

// since has also judge the states from now on.
func (c *crashRun) since(also func(sb *vfs.SuperBlock) string) {
	c.rec.Mark("from here on")
	c.also, c.from = also, len(c.rec.Log())
}

// A file that was moved out of a directory has a name at any moment, also when the directory goes at once, or another takes its name.
func TestCrashMoveOut(t *testing.T) {
	for seed := range uint64(3) {
		for _, over := range []bool{false, true} {
			c := newCrashRun(t, seed, nil)
			data := bytes.Repeat([]byte("kept"), 500)
			c.mkdir("d")
			c.mkdir("e")
			c.make("d/a", data)
			require.NoError(t, c.sb.Sync(tctx))
			c.since(func(sb *vfs.SuperBlock) string { return anyOf(t, sb, data, "d/a", "b") })
			c.rename("d/a", "b")
			if over {
				c.rename("e", "d")
			} else {
				require.NoError(t, c.sb.Root.Rmdir(tctx, "d"))
			}
			c.judgeAll(seed, 0)
		}
	}
}

// What was removed last is freed on the medium before that is marked clean.
func TestCrashUnmount(t *testing.T) {
	for seed := range uint64(3) {
		c := newCrashRun(t, seed, nil)
		c.make("f", make([]byte, 9000))
		require.NoError(t, c.sb.Sync(tctx))
		_, err := c.sb.Root.Lookup(tctx, "f") // in use until the unmount, which frees it
		require.NoError(t, err)
		require.NoError(t, c.sb.Root.Unlink(tctx, "f"))
		c.judgeAll(seed, 0)
	}
}

// anyOf says whether one of some names leads to a file with the contents, "" when it does.
func anyOf(t *testing.T, sb *vfs.SuperBlock, data []byte, names ...string) string {
	for _, p := range names {
		ip, err := sb.Walk(tctx, p, true)
		if err != nil {
			continue
		}
		same := bytes.Equal(readAll(t, ip), data)
		ip.Put()
		if same {
			return ""
		}
	}
	return "none of " + strings.Join(names, ", ") + " is there"
}

// list gives the names in the root.
func list(t *testing.T, sb *vfs.SuperBlock) (names []string) {
	f, err := sb.Root.Open(tctx, vfs.ORdonly)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, f.ReadDir(tctx, 0, func(e *vfs.DirEntry) bool {
		names = append(names, strings.Clone(e.Name))
		return true
	}))
	return names
}

// A name that a rename within 512 bytes took away can be given to another file, which lies elsewhere, and is never there twice.
func TestCrashNameAgain(t *testing.T) {
	for seed := range uint64(2) {
		c := newCrashRun(t, seed, nil)
		c.make("ABCDEFGH", nil)
		for i := range 14 {
			c.make(fmt.Sprintf("F%d", i), nil)
		}
		require.NoError(t, c.sb.Sync(tctx))
		c.since(func(sb *vfs.SuperBlock) string {
			n := 0
			for _, name := range list(t, sb) {
				if strings.EqualFold(name, "abcdefgh") {
					n++
				}
			}
			return []string{"", "", "the name is there twice"}[n]
		})
		c.rename("ABCDEFGH", "OTHER")
		c.make("abcDEFgh", []byte("new")) // has a long name: one slot is not enough
		c.judgeAll(seed, 0)
	}
}

// What lies behind the mark of the end never comes into sight.
func TestCrashBehindTheEnd(t *testing.T) {
	for seed := range uint64(2) {
		for _, n := range []int{1, 16} { // the new mark lies in the sector of the old one, and in the next
			c := newCrashRun(t, seed, func(base block.Device) {
				b, err := readBoot(base)
				require.NoError(t, err)
				g, err := disk.NewGeometry(&b, base.Size())
				require.NoError(t, err)
				root := make([]byte, 2048)
				for i := 1; i < len(root)/disk.DirentSize; i++ {
					d := disk.Dirent{Name: [11]byte([]byte(fmt.Sprintf("STALE%-6d", i))), Attr: disk.AttrArchive}
					d.EncodeTo(root[i*disk.DirentSize:], g.Width)
				}
				require.NoError(t, block.WriteAt(base, root, g.BytesOf(g.RootStart), 0))
			})
			c.stale = true
			c.since(func(sb *vfs.SuperBlock) string {
				for _, name := range list(t, sb) {
					if strings.HasPrefix(name, "STALE") {
						return name + " is there"
					}
				}
				return ""
			})
			for i := range n {
				c.make(fmt.Sprintf("F%d", i), nil)
			}
			c.judgeAll(seed, 0)
		}
	}
}

// damage changes entries of the FAT of an image: pairs of a cluster and what its entry is to be.
func damage(t *testing.T, img string, entries map[disk.Cluster]disk.Entry) {
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	p := make([]byte, 4096)
	_, err = f.ReadAt(p, 0)
	require.NoError(t, err)
	b, err := disk.DecodeBootSector(p)
	require.NoError(t, err)
	g, err := disk.NewGeometry(&b, -1)
	require.NoError(t, err)
	fat := make([]byte, g.FATLength())
	for k := range g.FATs {
		at := g.BytesOf(g.FATStart(k))
		_, err = f.ReadAt(fat, at)
		require.NoError(t, err)
		for c, e := range entries {
			disk.FATView{G: g, B: fat}.Set(c, e)
		}
		_, err = f.WriteAt(fat, at)
		require.NoError(t, err)
	}
}

// mountDamaged mounts an image that errors are found in.
func mountDamaged(t *testing.T, img string) *vfs.SuperBlock {
	dev, err := file.Open(img, file.Options{})
	require.NoError(t, err)
	sb, err := Type.Mount(tctx, dev, &vfs.MountOptions{Words: []string{"tz=UTC", "errors=continue"}, CacheBytes: 8 << 20, Log: quiet})
	require.NoError(t, err)
	return sb
}

// Clusters that a chain, or two of them, lead to twice are freed once, and those that lead round do not take others along.
func TestFreedTwice(t *testing.T) {
	img := newImage(t, 16<<20, mkfs.Options{Width: disk.FAT16, ClusterSize: 2048})
	sb := mountImage(t, img)
	start := map[string]disk.Cluster{}
	for _, n := range []string{"RING", "A", "B"} {
		ip := mk(t, sb.Root, n)
		write(t, ip, make([]byte, 3*2048), 0)
		start[n] = inodeOf(ip).start
		ip.Put()
	}
	require.NoError(t, sb.Unmount(tctx))
	damage(t, img, map[disk.Cluster]disk.Entry{
		start["RING"] + 2: disk.Entry(start["RING"] + 1), start["A"] + 1: disk.Entry(start["B"] + 1), start["A"] + 2: disk.Free,
	})
	sb = mountDamaged(t, img)
	a := &sb.Private.(*fsys).alloc
	st, err := sb.StatFS()
	require.NoError(t, err)
	for _, n := range []string{"RING", "A", "B"} {
		require.NoError(t, sb.Root.Unlink(tctx, n))
	}
	require.NoError(t, sb.Sync(tctx))
	require.Zero(t, a.pending.Load())
	after := a.free.Load()
	require.EqualValues(t, st.Free+3+2+3, after)
	a.mu.Lock()
	a.count()
	a.mu.Unlock()
	require.Equal(t, a.free.Load(), after, "counted twice")
	require.NoError(t, sb.Unmount(tctx))
}

// The part of a chain that stays, and that a damaged rest leads back into, is not freed.
func TestCutRing(t *testing.T) {
	img := newImage(t, 16<<20, mkfs.Options{Width: disk.FAT16, ClusterSize: 2048})
	sb := mountImage(t, img)
	ip := mk(t, sb.Root, "RING")
	write(t, ip, make([]byte, 3*2048), 0)
	start := inodeOf(ip).start
	ip.Put()
	require.NoError(t, sb.Unmount(tctx))
	damage(t, img, map[disk.Cluster]disk.Entry{start + 2: disk.Entry(start + 1)})
	sb = mountDamaged(t, img)
	ip, err := sb.Root.Lookup(tctx, "RING")
	require.NoError(t, err)
	require.NoError(t, ip.SetAttr(tctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize, Size: 2 * 2048}))
	ip.Put()
	require.NoError(t, sb.Unmount(tctx))
	f, err := os.Open(img)
	require.NoError(t, err)
	defer f.Close()
	rep, err := check.Check(tctx, f, 16<<20, check.Options{})
	require.NoError(t, err)
	require.Empty(t, rep.Problems)
}

// A directory that cannot be made, since another name leads to the cluster that it got, leaves no name.
func TestMkdirFails(t *testing.T) {
	img := newImage(t, 16<<20, mkfs.Options{Width: disk.FAT16, ClusterSize: 2048})
	sb := mountImage(t, img)
	ip, err := sb.Root.Mkdir(tctx, vfs.Root, "OLD", 0o755)
	require.NoError(t, err)
	start := inodeOf(ip).start
	ip.Put()
	require.NoError(t, sb.Unmount(tctx))
	damage(t, img, map[disk.Cluster]disk.Entry{start: disk.Free})
	sb = mountDamaged(t, img)
	_, err = sb.Root.Lookup(tctx, "OLD")
	require.ErrorIs(t, err, errno.UCLEAN)
	fs := sb.Private.(*fsys)
	fs.alloc.next = start
	_, err = sb.Root.Mkdir(tctx, vfs.Root, "NEW", 0o755)
	require.ErrorIs(t, err, errno.UCLEAN)
	mk(t, sb.Root, "OTHER").Put()
	_, err = sb.Root.Lookup(tctx, "NEW")
	require.ErrorIs(t, err, errno.NOENT)
	mk(t, sb.Root, "NEW").Put()
	require.NoError(t, sb.Unmount(tctx))
	sb = mountDamaged(t, img)
	for _, n := range []string{"OTHER", "NEW"} {
		ip, err := sb.Root.Lookup(tctx, n)
		require.NoError(t, err)
		require.True(t, ip.IsRegular())
		ip.Put()
	}
	require.NoError(t, sb.Unmount(tctx))
}

// What a commit took along is durable when the commit has ended, not when it has begun.
func TestDurableAfterCommit(t *testing.T) {
	sb := mountImage(t, newImage(t, 16<<20, mkfs.Options{}))
	ip := mk(t, sb.Root, "f")
	write(t, ip, make([]byte, 5000), 0)
	fs := sb.Private.(*fsys)
	c := &fs.commit
	require.False(t, inodeOf(ip).durable())
	c.mu.Lock()
	n := c.begun.Add(1)
	b, err := fs.closeEpoch(tctx)
	require.NoError(t, err)
	require.False(t, inodeOf(ip).durable())
	require.NoError(t, b.write(tctx, fs))
	c.durable.Store(n)
	c.finished = n
	c.mu.Unlock()
	b.drop()
	require.True(t, inodeOf(ip).durable())
	ip.Put()
	require.NoError(t, sb.Unmount(tctx))
}

// An inode that changes while a commit encodes others waits for the next, and the committer knows.
func TestDirtyWhileEncoding(t *testing.T) {
	sb := mountImage(t, newImage(t, 16<<20, mkfs.Options{}))
	first, second := mk(t, sb.Root, "first"), mk(t, sb.Root, "second")
	require.NoError(t, sb.Sync(tctx))
	fs, ip := sb.Private.(*fsys), inodeOf(first)
	fs.dirtyInode(ip)
	ip.AttrMu.Lock() // encoding it waits
	done := make(chan error)
	go func() { done <- fs.commitNow(tctx) }()
	for ip.dirty.Load() {
		runtime.Gosched()
	}
	fs.dirtyInode(inodeOf(second))
	ip.AttrMu.Unlock()
	require.NoError(t, <-done)
	require.Equal(t, inodeOf(second).dirty.Load(), fs.commit.waits.Load() > 0)
	first.Put()
	second.Put()
	require.NoError(t, sb.Unmount(tctx))
}

// A direct write inside a file that somebody waits for elsewhere changes its times, and one that needs the cache for its end is
// waited for.
func TestAsyncDirect(t *testing.T) {
	for _, words := range []string{"path=legacy", "path=iomap"} {
		sb := mountImage(t, newImage(t, 16<<20, mkfs.Options{}), words)
		ip := mk(t, sb.Root, "f")
		write(t, ip, make([]byte, 64<<10), 0)
		require.NoError(t, sb.Sync(tctx))
		buf := aligned(8192)
		for i := range buf {
			buf[i] = 7
		}
		for _, size := range []int{8192, 4096 + 100} {
			if size%512 != 0 && words == "path=iomap" {
				continue // refused there
			}
			inodeOf(ip).setAttrs(0)
			done := make(chan error, 1)
			k := &vfs.Kiocb{Inode: ip, Direct: true, Done: func(_ int, err error) { done <- err }}
			n, err := ip.Fop.Write(tctx, k, buf[:size])
			if errors.Is(err, vfs.ErrQueued) {
				n, err = size, <-done
			}
			require.NoError(t, err)
			require.Equal(t, size, n)
			require.NotZero(t, inodeOf(ip).dirent().Attr&disk.AttrArchive, "%s: a write of %d bytes left no mark", words, size)
			require.EqualValues(t, 64<<10, ip.Size())
			require.Equal(t, buf[:size], readAll(t, ip)[:size])
		}
		ip.Put()
		require.NoError(t, sb.Unmount(tctx))
	}
}

// A number that does not follow from the place of the entry is good while it is told, and no other file has it afterwards.
func TestOddNumbers(t *testing.T) {
	img := newImage(t, 16<<20, mkfs.Options{})
	sb := mountImage(t, img)
	x := mk(t, sb.Root, "X")
	write(t, x, []byte("x"), 0)
	mk(t, sb.Root, "FILL").Put()
	require.NoError(t, sb.Root.RenameTo(tctx, "X", sb.Root, "a long name that lies elsewhere than in the first piece of the root directory "+
		"as it has so many parts that they do not fit there any more, since sixteen slots hold that", 0))
	require.NoError(t, sb.Sync(tctx))
	y := mk(t, sb.Root, "Y")
	require.Equal(t, usual(inodeOf(y).slot.Load()), x.Ino(), "Y is to lie where X was")
	require.NotEqual(t, x.Ino(), y.Ino())
	ino := x.Ino()
	x.Put()
	f, err := sb.Root.Open(tctx, vfs.ORdonly)
	require.NoError(t, err)
	found := false
	require.NoError(t, f.ReadDir(tctx, 0, func(e *vfs.DirEntry) bool {
		if len(e.Name) > 20 {
			sb.DropInodes()
			ip, err := sb.Get(tctx, e.Ino)
			require.NoError(t, err)
			require.EqualValues(t, 1, ip.Size(), "another file has the number")
			ip.Put()
			found = true
		}
		return true
	}))
	f.Close()
	require.True(t, found)
	sb.DropInodes()
	_, err = sb.Get(tctx, ino)
	require.ErrorIs(t, err, errno.STALE, "Y has another number, and would be in memory twice")
	y.Put()
	require.NoError(t, sb.Unmount(tctx))
	isClean(t, img)
}

// aligned gives n bytes that begin at a multiple of 4096.
func aligned(n int) []byte {
	b := make([]byte, n+4096)
	return b[4096-int(uintptr(unsafe.Pointer(&b[0]))%4096):][:n]
}
