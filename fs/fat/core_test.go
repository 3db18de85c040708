package fat

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/fs/fat/disk/disktest"
	"github.com/iomapfs/iomapfs/fs/fat/mkfs"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

func mk(t testing.TB, dir *vfs.Inode, name string) *vfs.Inode {
	t.Helper()
	ip, err := dir.Create(tctx, vfs.Root, name, 0o644)
	require.NoError(t, err, name)
	return ip
}

func write(t testing.TB, ip *vfs.Inode, b []byte, at int64) {
	t.Helper()
	f, err := ip.Open(tctx, vfs.ORdwr)
	require.NoError(t, err)
	defer f.Close()
	n, err := f.WriteAt(tctx, b, at)
	require.NoError(t, err)
	require.Equal(t, len(b), n)
}

// A directory holds as many names as 65536 slots do, found in any case; one more is refused, and all can go.
func TestFullDirectory(t *testing.T) {
	img := newImage(t, 64<<20, mkfs.Options{Width: disk.FAT32, ClusterSize: 4096})
	sb := mountImage(t, img)
	dir, err := sb.Root.Mkdir(tctx, vfs.Root, "many", 0o755)
	require.NoError(t, err)
	n := 0
	for ; ; n++ {
		ip, err := dir.Create(tctx, vfs.Root, fmt.Sprintf("F%d", n), 0o644)
		if err != nil {
			require.ErrorIs(t, err, errno.NOSPC)
			break
		}
		ip.Put()
	}
	require.Equal(t, disk.MaxDirEntries-2, n)
	for _, i := range []int{0, 777, n - 1} {
		ip, err := dir.Lookup(tctx, fmt.Sprintf("f%d", i))
		require.NoError(t, err)
		ip.Put()
	}
	require.NoError(t, dir.Unlink(tctx, "F5"))
	_, err = dir.Create(tctx, vfs.Root, "f5", 0o644)
	require.ErrorIs(t, err, errno.NOSPC) // a long name needs a slot more
	mk(t, dir, "F5").Put()
	dir.Put()
	require.NoError(t, sb.Unmount(tctx))
	ourCheck(t, img) // fsck.fat takes long over so many names
}

// Several threads at once, in directories of their own and in one together, while commits run.
func TestConcurrent(t *testing.T) {
	for _, words := range []string{"path=legacy", "path=iomap"} {
		img := newImage(t, 24<<20, mkfs.Options{Width: disk.FAT16, ClusterSize: 2048})
		sb := mountImage(t, img, words)
		var wg sync.WaitGroup
		for g := range 6 {
			wg.Go(func() {
				dir, err := sb.Root.Mkdir(tctx, vfs.Root, fmt.Sprintf("dir %d", g), 0o755)
				if err != nil {
					t.Error(err)
					return
				}
				defer dir.Put()
				for i := range 60 {
					in := dir
					if i%3 == 0 {
						in = sb.Root
					}
					name := fmt.Sprintf("file %d of %d", i, g)
					ip, err := in.Create(tctx, vfs.Root, name, 0o644)
					if err != nil {
						t.Error(err)
						return
					}
					want := bytes.Repeat([]byte{byte(i), byte(g)}, 1+i*150)
					f, err := ip.Open(tctx, vfs.ORdwr)
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := f.WriteAt(tctx, want, 0); err != nil {
						t.Error(err)
					}
					if i%7 == 0 {
						if err := f.Fsync(tctx, false); err != nil {
							t.Error(err)
						}
					}
					got := make([]byte, len(want))
					if _, err := f.ReadAt(tctx, got, 0); err != nil || !bytes.Equal(want, got) {
						t.Errorf("%s differs: %v", name, err)
					}
					f.Close()
					ip.Put()
					switch i % 4 {
					case 0:
						err = in.Unlink(tctx, name)
					case 1:
						err = in.RenameTo(tctx, name, sb.Root, strings.ToUpper(name)+" MOVED", 0)
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		require.NoError(t, sb.Unmount(tctx))
		isClean(t, img)
	}
}

// A file reaches 4 GiB − 1 byte and no farther.
func TestLargestFile(t *testing.T) {
	img := newImage(t, 5<<30, mkfs.Options{ClusterSize: 32 << 10})
	sb := mountImage(t, img)
	ip := mk(t, sb.Root, "large")
	require.NoError(t, ip.SetAttr(tctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize, Size: disk.MaxFileSize - 10}))
	f, err := ip.Open(tctx, vfs.ORdwr)
	require.NoError(t, err)
	n, err := f.WriteAt(tctx, make([]byte, 100), disk.MaxFileSize-10)
	require.NoError(t, err)
	require.Equal(t, 10, n)
	_, err = f.WriteAt(tctx, []byte{1}, disk.MaxFileSize)
	require.ErrorIs(t, err, errno.FBIG)
	require.ErrorIs(t, ip.SetAttr(tctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize, Size: disk.MaxFileSize + 1}), errno.FBIG)
	require.EqualValues(t, disk.MaxFileSize, ip.Size())
	f.Close()
	ip.Put()
	require.NoError(t, sb.Unmount(tctx))
	ourCheck(t, img) // fsck.fat 4.2 counts the bytes of this chain with 32 bits, and finds none
}

// A full device refuses, without leaving a hole or an old byte in sight; what is freed can be used at once.
func TestFull(t *testing.T) {
	for _, words := range []string{"path=legacy", "path=iomap"} {
		img := newImage(t, 1<<20, mkfs.Options{Width: disk.FAT12, ClusterSize: 1024})
		sb := mountImage(t, img, words)
		ip := mk(t, sb.Root, "f")
		st, err := sb.StatFS()
		require.NoError(t, err)
		f, err := ip.Open(tctx, vfs.ORdwr)
		require.NoError(t, err)
		var size int64
		for {
			n, err := f.WriteAt(tctx, bytes.Repeat([]byte{0xAA}, 3000), size)
			size += int64(n)
			if err != nil {
				require.ErrorIs(t, err, errno.NOSPC)
				break
			}
		}
		require.Equal(t, int64(st.Free)*1024, (size+1023)&^1023)
		require.Equal(t, size, ip.Size())
		require.NoError(t, ip.SetAttr(tctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize, Size: 0}))
		_, err = f.WriteAt(tctx, []byte{1}, size-1)
		require.NoError(t, err)
		got := make([]byte, size)
		_, err = f.ReadAt(tctx, got, 0)
		require.NoError(t, err)
		require.True(t, bytes.Equal(make([]byte, size-1), got[:size-1]), "old bytes in a gap")
		f.Close()
		ip.Put()
		require.NoError(t, sb.Unmount(tctx))
		isClean(t, img)
	}
}

// The mark of a filesystem in use comes with the first change and goes with the unmount; a mount without changes writes nothing.
func TestMark(t *testing.T) {
	for _, w := range []disk.Width{disk.FAT12, disk.FAT16, disk.FAT32} {
		img := newImage(t, 6<<20, mkfs.Options{Width: w, ClusterSize: map[disk.Width]uint32{disk.FAT12: 4096, disk.FAT16: 1024, disk.FAT32: 512}[w]})
		before, err := os.ReadFile(img)
		require.NoError(t, err)
		sb := mountImage(t, img)
		_, err = sb.StatFS()
		require.NoError(t, err)
		require.NoError(t, sb.Unmount(tctx))
		after, err := os.ReadFile(img)
		require.NoError(t, err)
		require.True(t, bytes.Equal(before, after), "%s: a mount without changes wrote", w)

		sb = mountImage(t, img)
		mk(t, sb.Root, "f").Put()
		require.NoError(t, sb.Sync(tctx))
		out, rc := disktest.Run(t, "fsck.fat", "-n", img)
		require.Contains(t, out, "Dirty bit is set")
		require.Equal(t, 1, rc)
		require.NoError(t, sb.Unmount(tctx))
		isClean(t, img)
	}
}

// Attributes by ioctl, by extended attribute and by mode are the same; the label is in both places.
func TestAttributes(t *testing.T) {
	img := newImage(t, 16<<20, mkfs.Options{})
	sb := mountImage(t, img)
	ip := mk(t, sb.Root, "a long name.txt")
	f, err := ip.Open(tctx, vfs.ORdonly)
	require.NoError(t, err)
	var b [4]byte
	_, err = ip.Fop.Ioctl(tctx, f, iocGetAttributes, nil, b[:])
	require.NoError(t, err)
	require.EqualValues(t, disk.AttrArchive, binary.LittleEndian.Uint32(b[:]))
	binary.LittleEndian.PutUint32(b[:], uint32(disk.AttrReadOnly|disk.AttrHidden))
	_, err = ip.Fop.Ioctl(tctx, f, iocSetAttributes, b[:], nil)
	require.NoError(t, err)
	v, err := ip.GetXattr(tctx, xattrAttributes)
	require.NoError(t, err)
	require.Equal(t, "RH", string(v))
	require.EqualValues(t, 0o555, ip.Mode()&0o777)
	require.NoError(t, ip.SetAttr(tctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetMode, Mode: 0o755}))
	require.ErrorIs(t, ip.SetAttr(tctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetMode, Mode: 0o600}), errno.PERM)
	require.ErrorIs(t, ip.SetAttr(tctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetUID, UID: 4711}), errno.PERM)
	require.NoError(t, ip.SetXattr(tctx, vfs.Root, xattrAttributes, []byte("HSA"), 0))
	v, err = ip.GetXattr(tctx, xattrShort)
	require.NoError(t, err)
	require.Equal(t, "ALONGN~1.TXT", string(v))
	f.Close()
	ip.Put()
	require.NoError(t, sb.Op.SetLabel(tctx, "new name"))
	require.ErrorIs(t, sb.Op.SetLabel(tctx, "much too long a name"), errno.INVAL)
	require.NoError(t, sb.Unmount(tctx))
	isClean(t, img)
	out, _ := disktest.Run(t, "fatlabel", img)
	require.Contains(t, out, "NEW NAME")
	out, _ = disktest.Run(t, "mattrib", "-i", img, "::a long name.txt")
	require.Contains(t, out, "SH")
	sb = mountImage(t, img)
	require.Equal(t, "NEW NAME", sb.Op.Label())
	require.NoError(t, sb.Op.SetLabel(tctx, ""))
	require.NoError(t, sb.Unmount(tctx))
	isClean(t, img)
}

// A file without a name lives until its last user is gone; whoever gets its place is another file.
func TestUnlinkedOpen(t *testing.T) {
	img := newImage(t, 16<<20, mkfs.Options{})
	sb := mountImage(t, img)
	ip := mk(t, sb.Root, "F")
	write(t, ip, []byte("old"), 0)
	require.NoError(t, sb.Root.Unlink(tctx, "f"))
	other := mk(t, sb.Root, "G")
	require.NotEqual(t, ip.Ino(), other.Ino())
	write(t, other, []byte("new"), 0)
	require.NoError(t, sb.Sync(tctx))
	require.Equal(t, "old", string(readAll(t, ip)))
	require.Equal(t, "new", string(readAll(t, other)))
	ip.Put()
	other.Put()
	sb.DropInodes()
	other, err := sb.Root.Lookup(tctx, "g")
	require.NoError(t, err)
	require.Equal(t, "new", string(readAll(t, other)))
	other.Put()
	require.NoError(t, sb.Unmount(tctx))
	isClean(t, img)
}

// Options are refused by name, and the nearest one is told.
func TestOptions(t *testing.T) {
	var o Options
	require.NoError(t, parseOptions(strings.Split("uid=5,gid=6,umask=077,codepage=850,utf8,iocharset=utf8,shortname=winnt,tz=UTC,errors=continue,quiet,check=r,nocase", ","), &o))
	require.EqualValues(t, 5, o.UID)
	require.EqualValues(t, 0o077, o.FMask)
	for _, w := range []string{"nfs", "nfs=stale_rw", "iocharset=koi8-r", "codepage=4711", "umask=9", "shortname=x", "time_offset=9999", "shortnam=lower"} {
		require.ErrorIs(t, parseOptions([]string{w}, new(Options)), errno.INVAL, w)
	}
	require.ErrorContains(t, parseOptions([]string{"shortnam=lower"}, new(Options)), "shortname")
}
