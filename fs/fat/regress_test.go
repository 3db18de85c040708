package fat

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/fs/fat/disk/disktest"
	"github.com/iomapfs/iomapfs/fs/fat/mkfs"
	"github.com/iomapfs/iomapfs/vfs"
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
			c.rec.Mark("synced")
			c.either, c.from, c.data = []string{"d/a", "b"}, len(c.rec.Log()), data
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

// anyOf says whether one of some names leads to a file with the contents, "" when it does.
func (c *crashRun) anyOf(sb *vfs.SuperBlock, names []string) string {
	for _, p := range names {
		ip, err := sb.Walk(tctx, p, true)
		if err != nil {
			continue
		}
		same := bytes.Equal(readAll(c.t, ip), c.data)
		ip.Put()
		if same {
			return ""
		}
	}
	return "none of " + strings.Join(names, ", ") + " is there"
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
