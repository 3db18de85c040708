package ext2

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/fs/ext2/disk/disktest"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block/file"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// tryMount mounts an image and gives what was logged; the device is closed when that fails.
func tryMount(t testing.TB, img string, mo vfs.MountOptions) (*vfs.SuperBlock, string, error) {
	t.Helper()
	dev, err := file.Open(img, file.Options{ReadOnly: mo.ReadOnly})
	require.NoError(t, err)
	var log bytes.Buffer
	mo.Log = slog.New(slog.NewTextHandler(&log, nil))
	if mo.CacheBytes == 0 {
		mo.CacheBytes = 32 << 20
	}
	sb, err := Type.Mount(tctx, dev, &mo)
	if err != nil {
		require.NoError(t, dev.Close())
	}
	return sb, log.String(), err
}

// patchSuper changes bytes of the primary superblock.
func patchSuper(t testing.TB, img string, change func(b []byte)) {
	t.Helper()
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	b := make([]byte, 1024)
	_, err = f.ReadAt(b, superOffset)
	require.NoError(t, err)
	change(b)
	_, err = f.WriteAt(b, superOffset)
	require.NoError(t, err)
}

// superOf decodes the primary superblock of an image.
func superOf(t testing.TB, img string) *disk.Superblock {
	t.Helper()
	var sb disk.Superblock
	patchSuper(t, img, func(b []byte) {
		var err error
		sb, err = disk.DecodeSuperblock(b)
		require.NoError(t, err)
	})
	return &sb
}

func sumOf(t testing.TB, img string) string {
	t.Helper()
	f, err := os.Open(img)
	require.NoError(t, err)
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	require.NoError(t, err)
	return fmt.Sprintf("%x", h.Sum(nil))
}

// workIn makes a few files and directories, writes, truncates and removes.
func workIn(t testing.TB, sb *vfs.SuperBlock) {
	t.Helper()
	for i := range 3 {
		d, err := sb.Root.Mkdir(tctx, vfs.Root, fmt.Sprintf("dir%d", i), 0o755)
		require.NoError(t, err)
		for k := range 4 {
			f, err := d.Create(tctx, vfs.Root, fmt.Sprintf("f%d", k), 0o644)
			require.NoError(t, err)
			writeFile(t, f, bytes.Repeat([]byte{byte(i*4 + k + 1)}, 20000*(k+1)), 0)
			require.NoError(t, f.SetAttr(tctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize, Size: int64(15000 * (k + 1))}))
			f.Put()
		}
		require.NoError(t, d.Unlink(tctx, "f1"))
		d.Put()
	}
}

func writeFile(t testing.TB, ip *vfs.Inode, p []byte, pos int64) {
	t.Helper()
	f, err := ip.Open(tctx, vfs.ORdwr)
	require.NoError(t, err)
	defer f.Close()
	for len(p) > 0 {
		n, err := f.WriteAt(tctx, p, pos)
		require.NoError(t, err)
		p, pos = p[n:], pos+int64(n)
	}
}

func readFile(t testing.TB, ip *vfs.Inode) []byte {
	t.Helper()
	f, err := ip.Open(tctx, vfs.ORdonly)
	require.NoError(t, err)
	defer f.Close()
	p := make([]byte, ip.Size())
	for at := 0; at < len(p); {
		n, err := f.ReadAt(tctx, p[at:], int64(at))
		require.NoError(t, err)
		require.NotZero(t, n)
		at += n
	}
	return p
}

// Every kind of ext2 that mke2fs makes can be mounted and worked in, and e2fsck finds nothing.
func TestMountGeometries(t *testing.T) {
	for _, v := range []struct {
		name, size string
		args       []string
	}{
		{"1k", "8M", []string{"-b", "1024"}},
		{"2k-inodes128", "8M", []string{"-b", "2048", "-I", "128"}},
		{"4k-inodes512", "16M", []string{"-b", "4096", "-I", "512"}},
		{"4k-inodes1024", "16M", []string{"-b", "4096", "-I", "1024"}},
		{"8k", "64M", []string{"-b", "8192"}},
		{"16k", "64M", []string{"-b", "16384"}},
		{"64k", "256M", []string{"-b", "65536", "-N", "2048"}},
		{"rev0", "8M", []string{"-b", "1024", "-r", "0"}},
		{"no-features", "8M", []string{"-b", "1024", "-O", "none"}},
		{"meta_bg", "64M", []string{"-b", "1024", "-O", "meta_bg,^resize_inode"}},
		{"sparse_super2", "64M", []string{"-b", "1024", "-O", "sparse_super2,^resize_inode,^sparse_super"}},
		{"small-groups", "16M", []string{"-b", "1024", "-g", "1024"}},
		{"ext3", "16M", []string{"-b", "1024", "-j"}},
		{"last-group-short", "8200K", []string{"-b", "1024", "-g", "2048"}},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			img := nameImage(t, v.size, v.args...)
			for range 2 {
				sb := nameMount(t, img)
				workIn(t, sb)
				for i := range 3 {
					d, err := sb.Root.Lookup(tctx, fmt.Sprintf("dir%d", i))
					require.NoError(t, err)
					for _, k := range []int{0, 2, 3} {
						ip, err := d.Lookup(tctx, fmt.Sprintf("f%d", k))
						require.NoError(t, err)
						require.Equal(t, bytes.Repeat([]byte{byte(i*4 + k + 1)}, 15000*(k+1)), readFile(t, ip))
						ip.Put()
						require.NoError(t, d.Unlink(tctx, fmt.Sprintf("f%d", k)))
					}
					d.Put()
					require.NoError(t, sb.Root.Rmdir(tctx, fmt.Sprintf("dir%d", i)))
				}
				nameDone(t, sb, img)
			}
		})
	}
}

// What cannot be mounted is refused with what is wrong and what to do.
func TestMountRefusals(t *testing.T) {
	put32 := func(off int, bits uint32) func([]byte) {
		return func(b []byte) {
			binary.LittleEndian.PutUint32(b[off:], binary.LittleEndian.Uint32(b[off:])|bits)
		}
	}
	for _, v := range []struct {
		name  string
		patch func(b []byte)
		want  error
		says  []string
	}{
		{"no magic", func(b []byte) { b[56] = 0 }, errno.INVAL, []string{"magic"}},
		{"extents", put32(96, 0x40), errno.INVAL, []string{"extents"}},
		{"unknown", put32(96, 0x40000000), errno.INVAL, []string{"features that ext2 does not know", "FEATURE_I30"}},
		{"journal to replay", put32(96, 4), errno.UCLEAN, []string{"e2fsck -fy", "norecovery"}},
		{"too large for the device", put32(4, 1<<24), errno.UCLEAN, []string{"block count"}},
		{"no inodes in a group", func(b []byte) { copy(b[40:], []byte{0, 0, 0, 0}) }, errno.UCLEAN, []string{"inode"}},
		{"block size", func(b []byte) { b[24] = 30 }, errno.UCLEAN, []string{"block size"}},
		{"revision", func(b []byte) { b[76] = 9 }, errno.INVAL, []string{"revision"}},
	} {
		t.Run(v.name, func(t *testing.T) {
			img := nameImage(t, "8M", "-b", "1024")
			patchSuper(t, img, v.patch)
			_, _, err := tryMount(t, img, vfs.MountOptions{})
			require.ErrorIs(t, err, v.want)
			for _, s := range append(v.says, img) {
				require.ErrorContains(t, err, s)
			}
		})
	}
	t.Run("cut off", func(t *testing.T) {
		img := nameImage(t, "8M", "-b", "1024")
		require.NoError(t, os.Truncate(img, 5<<20))
		_, _, err := tryMount(t, img, vfs.MountOptions{})
		require.ErrorIs(t, err, errno.UCLEAN)
		require.NoError(t, os.Truncate(img, 512))
		_, _, err = tryMount(t, img, vfs.MountOptions{})
		require.ErrorIs(t, err, errno.INVAL)
	})
	t.Run("descriptor", func(t *testing.T) {
		img := nameImage(t, "8M", "-b", "1024")
		f, err := os.OpenFile(img, os.O_RDWR, 0)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte{0xff, 0xff, 0xff, 0x7f}, 2048+8) // the inode table of group 0
		require.NoError(t, err)
		f.Close()
		_, _, err = tryMount(t, img, vfs.MountOptions{})
		require.ErrorIs(t, err, errno.UCLEAN)
		require.ErrorContains(t, err, "group 0")
		require.ErrorContains(t, err, "e2fsck")
	})
}

// Read-only mounts write nothing, whatever state the filesystem is in.
func TestReadOnlyWritesNothing(t *testing.T) {
	for name, patch := range map[string]func(b []byte){
		"clean":               func([]byte) {},
		"not clean":           func(b []byte) { b[58] = 0 },
		"errors":              func(b []byte) { b[58] |= 2 },
		"ro-compat":           func(b []byte) { b[101] |= 0x10 },
		"ro-compat, mount rw": func(b []byte) { b[101] |= 0x10 },
		"journal":             func(b []byte) { b[92] |= 4; b[96] |= 4; b[224] = 8 },
	} {
		t.Run(name, func(t *testing.T) {
			img := nameImage(t, "8M", "-b", "1024")
			sb := nameMount(t, img)
			workIn(t, sb)
			nameDone(t, sb, img)
			patchSuper(t, img, patch)
			before := sumOf(t, img)
			mo := vfs.MountOptions{ReadOnly: name != "ro-compat, mount rw", MountPoint: "/somewhere"}
			if name == "journal" {
				mo.Words = []string{"norecovery"}
			}
			sb, log, err := tryMount(t, img, mo)
			require.NoError(t, err)
			require.True(t, sb.ReadOnly())
			switch name {
			case "not clean":
				require.Contains(t, log, "e2fsck")
				require.Contains(t, log, "not unmounted cleanly")
			case "errors":
				require.Contains(t, log, "has errors")
			case "ro-compat, mount rw":
				require.Contains(t, log, "read-only")
			}
			d, err := sb.Root.Lookup(tctx, "dir1")
			require.NoError(t, err)
			f, err := d.Lookup(tctx, "f2")
			require.NoError(t, err)
			require.Len(t, readFile(t, f), 45000)
			require.ErrorIs(t, f.SetAttr(tctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize}), errno.ROFS)
			require.ErrorIs(t, d.Unlink(tctx, "f2"), errno.ROFS)
			_, err = d.Create(tctx, vfs.Root, "new", 0o644)
			require.ErrorIs(t, err, errno.ROFS)
			f.Put()
			d.Put()
			require.NoError(t, sb.Sync(tctx))
			require.NoError(t, sb.Unmount(tctx))
			require.Equal(t, before, sumOf(t, img))
		})
	}
}

// The clean flag goes away at the first mount for writing and comes back at unmount, as it was found; mounts are counted.
func TestMountState(t *testing.T) {
	img := nameImage(t, "8M", "-b", "1024", "-L", "label one")
	before := superOf(t, img)
	sb, _, err := tryMount(t, img, vfs.MountOptions{MountPoint: "/mnt/here"})
	require.NoError(t, err)
	mid := superOf(t, img)
	require.Zero(t, mid.State&disk.StateValid)
	require.Equal(t, before.MountCount+1, mid.MountCount)
	require.Equal(t, "/mnt/here", mid.LastMountedOn())
	require.InDelta(t, time.Now().Unix(), int64(mid.MountTime), 5)
	require.Equal(t, "label one", sb.Op.Label())
	require.ErrorIs(t, sb.Op.SetLabel(tctx, "seventeen letters"), errno.INVAL)
	require.NoError(t, sb.Op.SetLabel(tctx, "sixteen letters!"))
	require.NoError(t, sb.Remount(tctx, true))
	require.True(t, superOf(t, img).Clean())
	_, err = sb.Root.Create(tctx, vfs.Root, "no", 0o644)
	require.ErrorIs(t, err, errno.ROFS)
	require.NoError(t, sb.Remount(tctx, false))
	require.False(t, superOf(t, img).Clean())
	ip, err := sb.Root.Create(tctx, vfs.Root, "yes", 0o644)
	require.NoError(t, err)
	ip.Put()
	nameDone(t, sb, img)
	after := superOf(t, img)
	require.True(t, after.Clean())
	require.Equal(t, "sixteen letters!", after.Label())

	// What was not clean does not become clean by being mounted.
	patchSuper(t, img, func(b []byte) { b[58] = 0 })
	sb, log, err := tryMount(t, img, vfs.MountOptions{})
	require.NoError(t, err)
	require.Contains(t, log, "not unmounted cleanly")
	require.NoError(t, sb.Unmount(tctx))
	require.False(t, superOf(t, img).Clean())
}

// Words are understood or refused, with the word that was probably meant.
func TestMountWords(t *testing.T) {
	img := nameImage(t, "8M", "-b", "1024")
	for _, w := range []string{
		"errors=continue", "errors=remount-ro", "errors=panic", "acl", "noacl", "user_xattr", "nouser_xattr", "minixdf",
		"bsddf", "grpid", "nogrpid", "resuid=5", "resgid=5", "discard", "nodiscard", "nouid32", "xattrshare", "commit=1", "barrier", "nobarrier",
		"resv", "noresv", "reservation", "noreservation", "orlov", "oldalloc", "bsdgroups", "sysvgroups", "check=none", "nocheck", "noquota", "path=legacy", "legacy=fiemap+seek", "path=bridge",
		"bridge=fiemap+dio-read", "norecovery", "noload",
	} {
		sb, _, err := tryMount(t, img, vfs.MountOptions{Words: []string{w}})
		require.NoError(t, err, w)
		require.NoError(t, sb.Unmount(tctx))
	}
	for w, says := range map[string]string{
		"nouser_xatr": `"nouser_xattr"`, "discrd": `"discard"`, "erors=continue": `"errors"`, "errors=never": "remount-ro", "commit=soon": "number",
		"path=x":    "legacy, bridge and iomap",
		"resuid=-1": "number", "sb=x": "number",
	} {
		_, _, err := tryMount(t, img, vfs.MountOptions{Words: []string{w}})
		require.ErrorIs(t, err, errno.INVAL, w)
		require.ErrorContains(t, err, says, w)
	}
	paths := vfs.AllPaths(vfs.Legacy)
	paths[vfs.OpFiemap] = vfs.Bridge
	sb, _, err := tryMount(t, img, vfs.MountOptions{Paths: &paths})
	require.NoError(t, err)
	require.Equal(t, paths, sb.Paths)
	require.NoError(t, sb.Unmount(tctx))
}

// With sb=N the copies of superblock and descriptors serve when the first ones are gone.
func TestAlternateSuperblock(t *testing.T) {
	for _, v := range []struct {
		bs, n string
		extra []string
	}{{"1024", "8193", nil}, {"2048", "32768", nil}, {"4096", "131072", nil}, {"1024", "8193", []string{"-O", "meta_bg,^resize_inode"}}} {
		size := map[string]string{"1024": "32M", "2048": "80M", "4096": "300M"}[v.bs]
		img := nameImage(t, size, append([]string{"-b", v.bs}, v.extra...)...)
		sb := nameMount(t, img)
		workIn(t, sb)
		nameDone(t, sb, img)
		f, err := os.OpenFile(img, os.O_RDWR, 0)
		require.NoError(t, err)
		if v.extra == nil {
			_, err = f.WriteAt(make([]byte, 3*max(map[string]int{"1024": 1024, "2048": 2048, "4096": 4096}[v.bs]/2, 1024)), 0)
		} else {
			_, err = f.WriteAt(make([]byte, 3072), 0) // group 0's superblock and its META_BG descriptors
		}
		require.NoError(t, err)
		f.Close()
		before := sumOf(t, img)
		_, _, err = tryMount(t, img, vfs.MountOptions{})
		require.ErrorIs(t, err, errno.INVAL)
		require.ErrorContains(t, err, "sb=")
		sb, _, err = tryMount(t, img, vfs.MountOptions{Words: []string{"sb=" + v.n}})
		require.NoError(t, err, "%v", v)
		require.True(t, sb.ReadOnly())
		d, err := sb.Root.Lookup(tctx, "dir2")
		require.NoError(t, err)
		ip, err := d.Lookup(tctx, "f3")
		require.NoError(t, err)
		require.Len(t, readFile(t, ip), 60000)
		ip.Put()
		d.Put()
		require.NoError(t, sb.Unmount(tctx))
		require.Equal(t, before, sumOf(t, img))
		_, _, err = tryMount(t, img, vfs.MountOptions{Words: []string{"sb=12345"}})
		require.ErrorIs(t, err, errno.INVAL)
	}
}

// statfs counts as the kernel's ext2 does.
func TestStatFS(t *testing.T) {
	img := nameImage(t, "32M", "-b", "1024", "-m", "7")
	sb := nameMount(t, img)
	workIn(t, sb)
	st, err := sb.StatFS()
	require.NoError(t, err)
	// Freed blocks count at once.
	d, err := sb.Root.Lookup(tctx, "dir0")
	require.NoError(t, err)
	require.NoError(t, sb.Sync(tctx))
	require.NoError(t, d.Unlink(tctx, "f3"))
	d.Put()
	require.NoError(t, sb.Sync(tctx)) // the death; what it frees follows
	st2, err := sb.StatFS()
	require.NoError(t, err)
	require.Equal(t, st.Free+60, st2.Free) // 59 of data, one indirect
	nameDone(t, sb, img)
	for _, w := range []string{"bsddf", "minixdf"} {
		sb := nameMount(t, img, w)
		st, err := sb.StatFS()
		require.NoError(t, err)
		require.NoError(t, sb.Unmount(tctx))
		if os.Geteuid() != 0 {
			continue
		}
		dir, umount := kernelMount(t, img, "ro,"+w)
		var k syscall.Statfs_t
		require.NoError(t, syscall.Statfs(dir, &k))
		umount()
		require.Equal(t, []uint64{k.Blocks, k.Bfree, k.Bavail, k.Files, k.Ffree}, []uint64{st.Blocks, st.Free, st.Avail, st.Files, st.FilesFree}, w)
		require.Equal(t, uint64(uint32(k.Fsid.X__val[0]))|uint64(uint32(k.Fsid.X__val[1]))<<32, st.FSID, w)
	}
}

// Damage is noted in the superblock, and what errors= says is done.
func TestErrorsBehaviour(t *testing.T) {
	for _, mode := range []string{"continue", "remount-ro", "panic"} {
		t.Run(mode, func(t *testing.T) {
			img := nameImage(t, "8M", "-b", "1024")
			sb := nameMount(t, img, "errors="+mode)
			workIn(t, sb)
			require.NoError(t, sb.Sync(tctx))
			fs := fsOf(sb)
			fs.fail(fs.corrupt("test", 12, 0, "found damage"))
			ip, err := sb.Root.Create(tctx, vfs.Root, "after", 0o644)
			switch mode {
			case "continue":
				require.NoError(t, err)
				ip.Put()
			case "remount-ro":
				require.ErrorIs(t, err, errno.ROFS)
			case "panic":
				require.ErrorIs(t, err, errno.IO)
			}
			_ = sb.Unmount(context.Background())
			s := superOf(t, img)
			if mode == "panic" {
				require.Zero(t, s.State&disk.StateValid)
				return
			}
			require.NotZero(t, s.State&disk.StateErrors)
			require.Equal(t, uint32(1), s.ErrorCount)
			code, out := disktest.Run(t, "", "e2fsck", "-p", img)
			require.LessOrEqual(t, code, 1, out)
			disktest.Must(t, "", "e2fsck", "-fn", img)
		})
	}
}

// A filesystem of terabytes is mounted and written to at once: only the descriptors are read.
func TestMountHuge(t *testing.T) {
	sizes := []string{"1T"}
	if os.Getenv("IOMAPFS_SOAK") != "" {
		sizes = append(sizes, "8T") // mke2fs takes ten seconds
	}
	for _, size := range sizes {
		img := t.TempDir() + "/huge"
		f, err := os.Create(img)
		require.NoError(t, err)
		bytes := map[string]int64{"1T": 1 << 40, "8T": 8 << 40}[size]
		require.NoError(t, f.Truncate(bytes))
		f.Close()
		code, out := disktest.Run(t, "", "mke2fs", "-q", "-F", "-t", "ext2", "-b", "4096", "-N", "262144", "-E", "lazy_itable_init=1", "-O", "sparse_super2,^resize_inode,^sparse_super", img)
		require.Zero(t, code, out)
		best := time.Hour
		for range 3 {
			begun := time.Now()
			sb := nameMount(t, img)
			took := time.Since(begun)
			best = min(best, took)
			ip, err := sb.Root.Create(tctx, vfs.Root, fmt.Sprint(took), 0o644)
			require.NoError(t, err)
			writeFile(t, ip, make([]byte, 100000), 0)
			ip.Put()
			require.NoError(t, sb.Unmount(tctx))
		}
		t.Logf("%s: mounted in %v", size, best)
		require.Less(t, best, 50*time.Millisecond, size)
	}
}
