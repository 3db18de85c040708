package ext2

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/fs/ext2/disk/disktest"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// memMount mounts the bytes of an image.
func memMount(image []byte, words ...string) (*vfs.SuperBlock, error) {
	dev, err := mem.New(int64(len(image)), mem.Options{})
	if err != nil {
		return nil, err
	}
	if err := block.WriteAt(dev, image, 0, 0); err != nil {
		return nil, err
	}
	sb, err := Type.Mount(tctx, dev, &vfs.MountOptions{Words: append(pathWords(), words...), CacheBytes: 32 << 20, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		return nil, errors.Join(err, dev.Close())
	}
	return sb, nil
}

// nameSeedImage is an image with everything that names and attributes touch, and where that lies.
func nameSeedImage(t testing.TB, bs string) (image []byte, spots []int64) {
	src := t.TempDir()
	mk := func(p string) { require.NoError(t, os.MkdirAll(filepath.Join(src, p), 0o755)) }
	mk("a/b/c")
	mk("big")
	for i := range 900 {
		require.NoError(t, os.WriteFile(filepath.Join(src, "big", fmt.Sprintf("file-with-a-name-%d", i)), nil, 0o644))
	}
	require.NoError(t, os.Symlink("short", filepath.Join(src, "a", "fast")))
	require.NoError(t, os.Symlink(strings.Repeat("long/", 20), filepath.Join(src, "a", "slow")))
	img := nameImage(t, "4M", "-b", bs, "-I", "256", "-N", "1100", "-d", src)
	code, out := disktest.Run(t, "", "e2fsck", "-fyD", img)
	require.LessOrEqual(t, code, 1, out)
	sb := nameMount(t, img)
	for _, p := range []string{"a", "a/b", "big"} {
		ip, err := sb.Walk(tctx, p, false)
		require.NoError(t, err)
		require.NoError(t, ip.SetXattr(tctx, vfs.Root, "user.x", []byte("value "+p), 0))
		require.NoError(t, ip.SetXattr(tctx, vfs.Root, vfs.XattrACLDefault, aclValue, 0))
		ip.Put()
	}
	for _, p := range []string{"/", "a", "a/b", "big", "a/slow"} {
		ip, err := sb.Walk(tctx, p, false)
		require.NoError(t, err)
		d := inodeOf(ip)
		for n := range disk.FileBlock(d.fs.geo.BlocksFor(uint64(d.Size()))) {
			e, err := d.resolve(tctx, n, 1)
			require.NoError(t, err)
			spots = append(spots, d.fs.geo.BytesOf(e.first))
		}
		if b := d.fileACL.Load(); b != 0 {
			spots = append(spots, d.fs.geo.BytesOf(disk.FSBlock(b)))
		}
		bh, off, err := d.fs.inodeBuffer(tctx, ip.Ino())
		require.NoError(t, err)
		spots = append(spots, int64(d.fs.addr(bh))+int64(off))
		bh.Put()
		ip.Put()
	}
	require.NoError(t, sb.Unmount(tctx))
	image, err := os.ReadFile(img)
	require.NoError(t, err)
	return image, spots
}

// abuse does all that names and attributes allow, whatever comes of it.
func abuse(sb *vfs.SuperBlock, rng *rand.Rand) {
	var walk func(dir *vfs.Inode, depth int)
	walk = func(dir *vfs.Inode, depth int) {
		f, err := dir.Open(tctx, vfs.ORdonly)
		if err != nil {
			return
		}
		defer f.Close()
		var names []string
		for pos, calls := int64(0), 0; calls < 100; calls++ {
			n := 0
			if f.ReadDir(tctx, pos, func(de *vfs.DirEntry) bool {
				n++
				pos = de.Next
				names = append(names, strings.Clone(de.Name))
				return n < 64
			}) != nil || n == 0 {
				break
			}
		}
		for i, n := range names {
			if n == "." || n == ".." {
				continue
			}
			ip, err := dir.Lookup(tctx, n)
			if err != nil {
				_ = dir.Unlink(tctx, n)
				continue
			}
			_, _ = ip.Readlink(tctx)
			if i < 20 {
				list, _ := ip.ListXattr(tctx, vfs.Root)
				for _, x := range list {
					_, _ = ip.GetXattr(tctx, x)
				}
				_ = ip.SetXattr(tctx, vfs.Root, "user.new", []byte("v"), 0)
				_ = ip.RemoveXattr(tctx, vfs.Root, "user.x")
			}
			if ip.IsDir() && depth < 4 {
				_, _ = ip.Parent(tctx)
				walk(ip, depth+1)
			}
			switch rng.Intn(8) {
			case 0:
				_ = dir.Unlink(tctx, n)
			case 1:
				_ = dir.Rmdir(tctx, n)
			case 2:
				_ = dir.RenameTo(tctx, n, sb.Root, fmt.Sprintf("r%d", rng.Intn(9)), uint32(rng.Intn(3)))
			case 3:
				_ = dir.Link(tctx, n+"2", ip)
			}
			ip.Put()
		}
		for i := range 5 {
			if ip, err := dir.Create(tctx, vfs.Root, fmt.Sprintf("made-%d", i), 0o644); err == nil {
				ip.Put()
			}
			if ip, err := dir.Mkdir(tctx, vfs.Root, fmt.Sprintf("dir-%d", i), 0o755); err == nil {
				ip.Put()
			}
			if ip, err := dir.Symlink(tctx, vfs.Root, fmt.Sprintf("sym-%d", i), strings.Repeat("x", 70)); err == nil {
				ip.Put()
			}
		}
	}
	walk(sb.Root, 0)
	_ = sb.Sync(tctx)
}

// Directory, attribute and inode bytes changed at random: errors, never a panic or a hang.
func TestNamesOnDamagedImages(t *testing.T) {
	rounds := 40
	if s := os.Getenv("ROUNDS"); s != "" {
		_, err := fmt.Sscan(s, &rounds)
		require.NoError(t, err)
	}
	if raceEnabled {
		rounds = 10
	}
	seed := rand.Int63()
	if s := os.Getenv("SEED"); s != "" {
		_, err := fmt.Sscan(s, &seed)
		require.NoError(t, err)
	}
	for _, bs := range []string{"1024", "4096"} {
		base, spots := nameSeedImage(t, bs)
		for round := range rounds {
			rng := rand.New(rand.NewSource(seed + int64(round)))
			image := append([]byte{}, base...)
			for range 1 + rng.Intn(12) {
				at := spots[rng.Intn(len(spots))] + int64(rng.Intn([]int{64, 256, 1024}[rng.Intn(3)]))
				switch rng.Intn(4) {
				case 0:
					image[at] ^= 1 << rng.Intn(8)
				case 1:
					image[at] = byte(rng.Intn(256))
				case 2:
					image[at&^3], image[at&^3+1] = byte(rng.Intn(256)), byte(rng.Intn(2))
				default:
					copy(image[at:at+8], image[spots[rng.Intn(len(spots))]:])
				}
			}
			t.Logf("SEED=%d", seed+int64(round))
			done := make(chan struct{})
			go func() {
				defer close(done)
				sb, err := memMount(image)
				if err != nil {
					return
				}
				abuse(sb, rng)
				_ = sb.Unmount(tctx)
			}()
			select {
			case <-done:
			case <-time.After(60 * time.Second):
				panic(fmt.Sprintf("hangs: SEED=%d", seed+int64(round)))
			}
		}
	}
}

// A damaged block of a directory hides its own names only: the others are listed, found and removed; the error comes at
// the end of the listing and for names that are not found; nothing new is accepted.
func TestOneDamagedBlock(t *testing.T) {
	base, _ := nameSeedImage(t, "1024")
	for _, damage := range []string{"record length", "missing block"} {
		t.Run(damage, func(t *testing.T) {
			image := append([]byte{}, base...)
			sb, err := memMount(image, "errors=continue")
			require.NoError(t, err)
			dir, err := sb.Walk(tctx, "big", false)
			require.NoError(t, err)
			d := inodeOf(dir)
			e, err := d.resolve(tctx, 5, 1)
			require.NoError(t, err)
			bad := d.fs.geo.BytesOf(e.first)
			hidden := map[string]bool{}
			db := disk.DirBlock(image[bad : bad+1024])
			for off := 0; off < 1024; off = db.Next(off) {
				hidden[string(db.Name(off))] = true
			}
			bh, off, err := d.fs.inodeBuffer(tctx, dir.Ino())
			require.NoError(t, err)
			inodeAt := int64(d.fs.addr(bh)) + int64(off)
			bh.Put()
			dir.Put()
			require.NoError(t, sb.Unmount(tctx))
			if damage == "record length" {
				image[bad+4] = 3
			} else {
				copy(image[inodeAt+40+4*5:], []byte{0, 0, 0, 0})
			}
			sb, err = memMount(image, "errors=continue")
			require.NoError(t, err)
			dir, err = sb.Walk(tctx, "big", false)
			require.NoError(t, err)
			f, err := dir.Open(tctx, vfs.ORdonly)
			require.NoError(t, err)
			listed := 0
			for pos := int64(0); ; {
				n := 0
				err = f.ReadDir(tctx, pos, func(de *vfs.DirEntry) bool { n++; pos = de.Next; listed++; return n < 50 })
				if err != nil || n == 0 {
					break
				}
			}
			f.Close()
			require.ErrorIs(t, err, errno.UCLEAN)
			require.Equal(t, 902-len(hidden), listed)
			for i := range 900 {
				n := fmt.Sprintf("file-with-a-name-%d", i)
				ip, err := dir.Lookup(tctx, n)
				if hidden[n] {
					require.ErrorIs(t, err, errno.UCLEAN)
					continue
				}
				require.NoError(t, err)
				ip.Put()
				if i%5 == 0 {
					require.NoError(t, dir.Unlink(tctx, n))
				}
			}
			_, err = dir.Create(tctx, vfs.Root, "new", 0o644)
			require.ErrorIs(t, err, errno.UCLEAN)
			var c *errno.CorruptError
			require.True(t, errors.As(err, &c))
			require.Equal(t, dir.Ino(), c.Ino)
			require.ErrorIs(t, sb.Root.Rmdir(tctx, "big"), errno.NOTEMPTY)
			dir.Put()
			require.NoError(t, sb.Unmount(tctx))
		})
	}
}

// Every creation that meets a full device leaves a filesystem that is whole, and space that was given back is found.
func TestNamesOnAFullDevice(t *testing.T) {
	img := nameImage(t, "1M", "-b", "1024", "-N", "400", "-m", "0")
	sb := nameMount(t, img)
	full := 0
	var made []string
	for i := 0; full < 20 && i < 5000; i++ {
		n := fmt.Sprintf("%0200d", i)
		var ip *vfs.Inode
		var err error
		switch i % 4 {
		case 0:
			ip, err = sb.Root.Create(tctx, vfs.Root, n, 0o644)
			if err == nil {
				if err := ip.SetXattr(tctx, vfs.Root, "user.x", []byte(n), 0); err != nil {
					require.ErrorIs(t, err, errno.NOSPC)
				}
			}
		case 1:
			ip, err = sb.Root.Mkdir(tctx, vfs.Root, n, 0o755)
		case 2:
			ip, err = sb.Root.Symlink(tctx, vfs.Root, n, n)
		default:
			ip, err = sb.Root.Create(tctx, vfs.Root, n, 0o644)
			if err == nil {
				f, err := ip.Open(tctx, vfs.ORdwr)
				require.NoError(t, err)
				_, _ = f.WriteAt(tctx, make([]byte, 3000), 0)
				f.Close()
			}
		}
		if err != nil {
			require.ErrorIs(t, err, errno.NOSPC)
			full++
			continue
		}
		ip.Put()
		made = append(made, n)
	}
	require.Equal(t, 20, full)
	// Remove and make at once: what was freed a moment ago serves.
	for i, n := range made {
		err := sb.Root.Unlink(tctx, n)
		if err != nil {
			require.ErrorIs(t, err, errno.ISDIR)
			require.NoError(t, sb.Root.Rmdir(tctx, n))
		}
		if i%4 == 2 {
			ip, err := sb.Root.Symlink(tctx, vfs.Root, n, n)
			require.NoError(t, err)
			ip.Put()
		}
	}
	nameDone(t, sb, img)
}
