package ext2

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/fs/ext2/disk/disktest"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/faulty"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// A file whose pointers run through a group's own blocks is damaged, also where the run begins and ends outside them.
func TestRunThroughMetadata(t *testing.T) {
	img := nameImage(t, "8M", "-b", "1024", "-g", "1024", "-N", "128", "-O", "sparse_super,^resize_inode")
	sb := nameMount(t, img)
	fs := fsOf(sb)
	ip, err := sb.Root.Create(tctx, vfs.Root, "f", 0o644)
	require.NoError(t, err)
	writeFile(t, ip, bytes.Repeat([]byte{1}, 12<<10), 0)
	ino := ip.Ino()
	ip.Put()
	d := fs.groups[2].desc
	first, last := d.BlockBitmap, d.InodeTable+disk.FSBlock(fs.geo.ITableBlocks)-1
	require.Less(t, int(last-first), 10)
	require.NoError(t, sb.Unmount(tctx))
	for i := range 12 {
		disktest.Must(t, "", "debugfs", "-w", "-R", fmt.Sprintf("set_inode_field <%d> block[%d] %d", ino, i, int(first)-1+i), img)
	}
	sb = nameMount(t, img)
	ip, err = sb.Root.Lookup(tctx, "f")
	require.NoError(t, err)
	_, err = inodeOf(ip).resolve(tctx, 0, 12)
	require.ErrorIs(t, err, errno.UCLEAN)
	ip.Put()
	_ = sb.Unmount(tctx)
}

// Descriptors that count fewer free blocks than the bitmap shows (after a crash) do not wrap around.
func TestCountsBelowBitmap(t *testing.T) {
	img := nameImage(t, "8M", "-b", "1024")
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{3, 0}, 2048+12)
	require.NoError(t, err)
	f.Close()
	sb := nameMount(t, img)
	ip, err := sb.Root.Create(tctx, vfs.Root, "f", 0o644)
	require.NoError(t, err)
	writeFile(t, ip, make([]byte, 200<<10), 0)
	ip.Put()
	require.NoError(t, sb.Sync(tctx))
	for i := range fsOf(sb).groups {
		require.LessOrEqual(t, uint32(fsOf(sb).groups[i].desc.FreeBlocks), fsOf(sb).geo.BlocksPerGroup, "group %d", i)
	}
	require.LessOrEqual(t, fsOf(sb).freeBlocks.Load(), int64(fsOf(sb).geo.Blocks))
	_ = sb.Unmount(tctx)
}

// The reserved blocks stay with the superuser also when somebody else asks for many at once.
func TestReservedBlocks(t *testing.T) {
	img := nameImage(t, "8M", "-b", "1024", "-m", "20")
	sb := nameMount(t, img)
	ip, err := sb.Root.Create(tctx, &vfs.Cred{UID: 1000, GID: 1000}, "f", 0o644)
	require.NoError(t, err)
	f, err := ip.Open(tctx, vfs.ORdwr)
	require.NoError(t, err)
	var pos int64
	for err == nil {
		var n int
		n, err = f.WriteAt(tctx, make([]byte, 1<<20), pos)
		pos += int64(n)
	}
	require.ErrorIs(t, err, errno.NOSPC)
	require.GreaterOrEqual(t, fsOf(sb).freeBlocks.Load(), int64(fsOf(sb).reserved)-1)
	f.Close()
	ip.Put()
	nameDone(t, sb, img)
}

func extentsOf(t testing.TB, ip *vfs.Inode) int {
	n := 0
	var last extent
	d := inodeOf(ip)
	for fb := disk.FileBlock(0); fb < disk.FileBlock(d.fs.geo.BlocksFor(uint64(ip.Size()))); {
		e, err := d.resolve(tctx, fb, 1<<20)
		require.NoError(t, err)
		// An indirect block between two runs does not count.
		gap := int64(e.first) - int64(last.first) - int64(last.n)
		if e.first != 0 && (n == 0 || gap < 0 || gap > 3) {
			n++
		}
		fb += disk.FileBlock(e.n)
		last = e
	}
	return n
}

// A file written alone lies together; files written at once do not interleave.
func TestFragmentation(t *testing.T) {
	mib := 128 // of each; 1 GiB in the soak
	if os.Getenv("IOMAPFS_SOAK") != "" {
		mib = 1024
	}
	img := nameImage(t, "2G", "-b", "4096")
	sb := nameMount(t, img)
	ip, err := sb.Root.Create(tctx, vfs.Root, "alone", 0o644)
	require.NoError(t, err)
	begun := time.Now()
	for i := range mib {
		writeFile(t, ip, make([]byte, 1<<20), int64(i)<<20)
	}
	t.Logf("%d MiB alone, closed after each MiB: %d extents, %v", mib, extentsOf(t, ip), time.Since(begun))
	alone := extentsOf(t, ip)
	ip.Put()
	require.NoError(t, sb.Root.Unlink(tctx, "alone"))
	require.NoError(t, sb.Sync(tctx))
	require.NoError(t, sb.Sync(tctx))
	var wg sync.WaitGroup
	var files [16]*vfs.Inode
	for i := range files {
		files[i], err = sb.Root.Create(tctx, vfs.Root, fmt.Sprint(i), 0o644)
		require.NoError(t, err)
		wg.Add(1)
		go func() {
			defer wg.Done()
			f, err := files[i].Open(tctx, vfs.ORdwr)
			if err != nil {
				return
			}
			defer f.Close()
			for k := range mib {
				if _, err := f.WriteAt(tctx, make([]byte, 64<<10), int64(k)<<16); err != nil {
					return
				}
			}
		}()
	}
	wg.Wait()
	most := 0
	for _, ip := range files {
		require.Equal(t, int64(mib)<<16, ip.Size())
		most = max(most, extentsOf(t, ip))
		ip.Put()
	}
	t.Logf("16 files of %d MiB in parallel, 64 KiB a write: at most %d extents each", mib/16, most)
	nameDone(t, sb, img)
	require.LessOrEqual(t, alone, 12)
	require.LessOrEqual(t, most, 64)
}

// Random writes, truncations, holes and syncs of one file against bytes in memory, then e2fsck and debugfs's own reading.
func TestDataModel(t *testing.T) {
	for _, v := range []struct {
		bs, size string
		words    []string
	}{{"1024", "64M", nil}, {"2048", "64M", nil}, {"4096", "64M", nil}, {"65536", "128M", nil}, {"1024", "64M", []string{"dax"}}, {"4096", "64M", []string{"dax"}}} {
		t.Run(strings.Join(append([]string{v.bs}, v.words...), "-"), func(t *testing.T) {
			t.Parallel()
			seed := rand.Int63()
			if s := os.Getenv("SEED"); s != "" {
				_, err := fmt.Sscan(s, &seed)
				require.NoError(t, err)
			}
			t.Logf("SEED=%d", seed)
			rng := rand.New(rand.NewSource(seed))
			img := nameImage(t, v.size, "-b", v.bs, "-N", "256")
			sb := nameMount(t, img, v.words...)
			ip, err := sb.Root.Create(tctx, vfs.Root, "f", 0o644)
			require.NoError(t, err)
			f, err := ip.Open(tctx, vfs.ORdwr)
			require.NoError(t, err)
			const top = 12 << 20
			var want []byte
			grow := func(n int64) {
				if n > int64(len(want)) {
					want = append(want, make([]byte, n-int64(len(want)))...)
				}
			}
			for range 600 {
				pos := rng.Int63n(top)
				n := 1 + rng.Int63n(1<<uint(1+rng.Intn(18)))
				switch rng.Intn(10) {
				case 0:
					require.NoError(t, ip.SetAttr(tctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize, Size: pos}))
					grow(pos)
					want = want[:pos]
				case 1, 2:
					mode := uint32(vfs.FallocPunchHole | vfs.FallocKeepSize)
					if rng.Intn(2) == 0 {
						mode = vfs.FallocZeroRange
						grow(pos + n)
					}
					require.NoError(t, f.Fallocate(tctx, mode, pos, n))
					if pos < int64(len(want)) {
						clear(want[pos:min(pos+n, int64(len(want)))])
					}
				case 3:
					require.NoError(t, f.Fsync(tctx, false))
				case 4:
					require.NoError(t, f.Fallocate(tctx, 0, pos, n))
					grow(pos + n)
				default:
					p := make([]byte, n)
					rng.Read(p)
					writeFile(t, ip, p, pos)
					grow(pos + n)
					copy(want[pos:], p)
				}
				require.Equal(t, int64(len(want)), ip.Size())
			}
			require.True(t, bytes.Equal(want, readFile(t, ip)))
			require.ErrorIs(t, f.Fallocate(tctx, vfs.FallocKeepSize, 0, 4096), errno.OPNOTSUPP)
			f.Close()
			ip.Put()
			nameDone(t, sb, img)
			out := filepath.Join(t.TempDir(), "out")
			disktest.Must(t, "", "debugfs", "-R", "dump f "+out, img)
			got, err := os.ReadFile(out)
			require.NoError(t, err)
			require.True(t, bytes.Equal(want, got), "read by debugfs")
		})
	}
}

// ENOSPC wherever it comes: what is left free shrinks block by block, and each state is one that e2fsck accepts.
func TestFullSweep(t *testing.T) {
	img := nameImage(t, "2M", "-b", "1024", "-m", "0", "-N", "64")
	clean, err := os.ReadFile(img)
	require.NoError(t, err)
	for left := range 40 {
		require.NoError(t, os.WriteFile(img, clean, 0o600))
		sb := nameMount(t, img)
		ip, err := sb.Root.Create(tctx, vfs.Root, "fill", 0o644)
		require.NoError(t, err)
		f, err := ip.Open(tctx, vfs.ORdwr)
		require.NoError(t, err)
		for pos := int64(0); err == nil && fsOf(sb).freeBlocks.Load() > int64(left); pos += 1024 {
			_, err = f.WriteAt(tctx, make([]byte, 1024), pos)
		}
		f.Close()
		ip.Put()
		ip, err = sb.Root.Create(tctx, vfs.Root, "more", 0o644)
		if err == nil {
			f, err := ip.Open(tctx, vfs.ORdwr)
			require.NoError(t, err)
			for _, pos := range []int64{0, 20 << 10, 300 << 10, 80 << 20} {
				if _, err := f.WriteAt(tctx, make([]byte, 5000), pos); err != nil {
					require.ErrorIs(t, err, errno.NOSPC)
				}
			}
			_ = f.Fallocate(tctx, 0, 0, 100<<10)
			f.Close()
			ip.Put()
		}
		for i := range 5 {
			if d, err := sb.Root.Mkdir(tctx, vfs.Root, fmt.Sprint(i), 0o755); err == nil {
				d.Put()
			} else {
				require.ErrorIs(t, err, errno.NOSPC)
			}
		}
		require.NoError(t, sb.Root.Unlink(tctx, "fill"))
		ip, err = sb.Root.Create(tctx, vfs.Root, "again", 0o644)
		require.NoError(t, err)
		writeFile(t, ip, make([]byte, 1<<20), 0)
		ip.Put()
		nameDone(t, sb, img)
	}
}

// The n-th read, write and flush fails, for every n until none is met: no panic; what fsync acknowledged before and after is
// there; e2fsck -p repairs what is left.
func TestNthFault(t *testing.T) {
	src := nameImage(t, "4M", "-b", "1024", "-N", "128")
	clean, err := os.ReadFile(src)
	require.NoError(t, err)
	dir := t.TempDir()
	for _, op := range []block.Op{block.OpRead, block.OpWrite, block.OpFlush} {
		for _, always := range []bool{false, true} {
			runs := 0
			for n := int64(1); n < 400; n++ {
				runs++
				img := filepath.Join(dir, "f.img")
				require.NoError(t, os.WriteFile(img, clean, 0o600))
				m, err := mem.New(int64(len(clean)), mem.Options{VolatileCache: true})
				require.NoError(t, err)
				require.NoError(t, block.WriteAt(m, clean, 0, 0))
				dev := faulty.New(m)
				dev.Add(faulty.Rule{Op: op, Nth: int(n), Always: always, Err: errno.IO})
				synced := map[string][]byte{}
				sb, err := Type.Mount(tctx, dev, &vfs.MountOptions{CacheBytes: 8 << 20, Words: append(pathWords(), "nodiscard"), Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
				if err == nil {
					for i := range 6 {
						name := fmt.Sprint("f", i)
						ip, err := sb.Root.Create(tctx, vfs.Root, name, 0o644)
						if err != nil {
							continue
						}
						if f, err := ip.Open(tctx, vfs.ORdwr); err == nil {
							data := bytes.Repeat([]byte{byte(i + 1)}, 40000)
							if k, err := f.WriteAt(tctx, data, 0); err == nil && k == len(data) && f.Fsync(tctx, false) == nil {
								synced[name] = data
							}
							f.Close()
						}
						ip.Put()
						if i == 3 {
							delete(synced, "f0")
							_ = sb.Root.Unlink(tctx, "f0")
						}
					}
					// Unmount closes the device; its memory is looked at before that.
					_ = sb.Sync(tctx)
					require.NoError(t, block.Export(m, img))
					_ = sb.Unmount(tctx)
				} else {
					require.NoError(t, block.Export(m, img))
					m.Close()
				}
				code, out := disktest.Run(t, "", "e2fsck", "-p", img)
				require.LessOrEqual(t, code, 1, "%v %d always=%v: %s", op, n, always, out)
				disktest.Must(t, "", "e2fsck", "-fn", img)
				if len(synced) > 0 {
					sb := nameMount(t, img)
					for name, data := range synced {
						ip, err := sb.Root.Lookup(tctx, name)
						require.NoError(t, err, "%v %d always=%v: %s", op, n, always, name)
						require.True(t, bytes.Equal(data, readFile(t, ip)), "%v %d always=%v: %s", op, n, always, name)
						ip.Put()
					}
					require.NoError(t, sb.Unmount(tctx))
				}
				if dev.Hits() == 0 {
					break
				}
			}
			t.Logf("%v always=%v: %d runs", op, always, runs)
		}
	}
}

// An error of writeback is told once to each open file, on either path, and to nobody who opens the file when all know.
func TestWriteErrorOncePerFile(t *testing.T) {
	clean, err := os.ReadFile(nameImage(t, "4M", "-b", "1024", "-N", "128"))
	require.NoError(t, err)
	for _, word := range []string{"path=legacy", "path=bridge", "path=iomap"} {
		m, err := mem.New(int64(len(clean)), mem.Options{})
		require.NoError(t, err)
		require.NoError(t, block.WriteAt(m, clean, 0, 0))
		dev := faulty.New(m)
		sb, err := Type.Mount(tctx, dev, &vfs.MountOptions{CacheBytes: 8 << 20, Words: []string{word, "nodiscard"}, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
		require.NoError(t, err)
		ip, err := sb.Root.Create(tctx, vfs.Root, "f", 0o644)
		require.NoError(t, err)
		writeFile(t, ip, bytes.Repeat([]byte{1}, 40000), 0)
		a, err := ip.Open(tctx, vfs.ORdwr)
		require.NoError(t, err)
		require.NoError(t, a.Fsync(tctx, false))
		b, err := ip.Open(tctx, vfs.ORdwr)
		require.NoError(t, err)
		at, err := ip.Bmap(tctx, 5)
		require.NoError(t, err)
		dev.Add(faulty.Rule{Op: block.OpWrite, Start: int64(at) << 10, End: int64(at+1) << 10, Err: errno.IO})
		_, err = a.WriteAt(tctx, bytes.Repeat([]byte{2}, 40000), 0)
		require.NoError(t, err)
		require.ErrorIs(t, a.Fsync(tctx, false), errno.IO, word)
		require.NoError(t, a.Fsync(tctx, false), word)
		require.ErrorIs(t, b.Fsync(tctx, false), errno.IO, word)
		require.NoError(t, b.Fsync(tctx, false), word)
		c, err := ip.Open(tctx, vfs.ORdwr)
		require.NoError(t, err)
		require.NoError(t, c.Fsync(tctx, false), word)
		_, err = a.WriteAt(tctx, bytes.Repeat([]byte{3}, 40000), 0)
		require.NoError(t, err)
		require.NoError(t, a.Fsync(tctx, false), word)
		for _, f := range []*vfs.File{a, b, c} {
			f.Close()
		}
		ip.Pages.DropClean(0, 1<<40)
		require.Equal(t, bytes.Repeat([]byte{3}, 40000), readFile(t, ip), word)
		ip.Put()
		require.NoError(t, sb.Unmount(tctx))
	}
}
