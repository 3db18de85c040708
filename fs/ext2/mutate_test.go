package ext2

import (
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/ext2/disk/disktest"
	"github.com/iomapfs/iomapfs/vfs"
)

// memoryMax is what one damaged image may make this process take, image and all.
const memoryMax = 512 << 20

// richImage is an image with all kinds of files: names and attributes of nameSeedImage, and block maps of every height.
func richImage(t testing.TB, bs string) []byte {
	image, _ := nameSeedImage(t, bs)
	img := t.TempDir() + "/rich"
	require.NoError(t, os.WriteFile(img, image, 0o644))
	sb := nameMount(t, img)
	dir, err := sb.Root.Mkdir(tctx, vfs.Root, "files", 0o755)
	require.NoError(t, err)
	for i, at := range []int64{0, 20 << 10, 300 << 10, 70 << 20, 5 << 30} {
		ip, err := dir.Create(tctx, vfs.Root, fmt.Sprintf("file-%d", i), 0o644)
		require.NoError(t, err)
		f, err := ip.Open(tctx, vfs.ORdwr)
		require.NoError(t, err)
		for _, pos := range []int64{0, at / 2, at} {
			_, err = f.WriteAt(tctx, []byte(strings.Repeat("data ", 3000)), pos)
			require.NoError(t, err)
		}
		f.Close()
		ip.Put()
	}
	for i, mode := range []uint32{vfs.ModeFIFO, vfs.ModeChar, vfs.ModeBlock, vfs.ModeSocket} {
		ip, err := dir.Mknod(tctx, vfs.Root, fmt.Sprintf("node-%d", i), mode|0o600, vfs.Dev{Major: 7, Minor: 1})
		require.NoError(t, err)
		ip.Put()
	}
	dir.Put()
	nameDone(t, sb, img)
	image, err = os.ReadFile(img)
	require.NoError(t, err)
	return image
}

// abuseData reads, maps, changes and cuts every file it finds below dir, a few levels deep.
func abuseData(dir *vfs.Inode, rng *rand.Rand, depth int) {
	f, err := dir.Open(tctx, vfs.ORdonly)
	if err != nil {
		return
	}
	var names []string
	_ = f.ReadDir(tctx, 0, func(de *vfs.DirEntry) bool {
		if de.Name != "." && de.Name != ".." {
			names = append(names, strings.Clone(de.Name))
		}
		return len(names) < 40
	})
	f.Close()
	buf := make([]byte, 64<<10)
	for _, n := range names {
		ip, err := dir.Lookup(tctx, n)
		if err != nil {
			continue
		}
		switch {
		case ip.IsDir() && depth < 3:
			abuseData(ip, rng, depth+1)
		case ip.IsRegular():
			if f, err := ip.Open(tctx, vfs.ORdwr); err == nil {
				size := ip.Size()
				for _, pos := range []int64{0, size / 2, size - 5000, rng.Int63n(1 << 33)} {
					_, _ = f.ReadAt(tctx, buf, max(pos, 0))
				}
				_ = ip.Fiemap(tctx, &vfs.FiemapInfo{Len: 1 << 40, Max: 500, Emit: func(vfs.FiemapExtent) error { return nil }})
				if pos, err := f.Seek(tctx, 0, 3); err == nil {
					_, _ = f.Seek(tctx, pos, 4)
				}
				for _, pos := range []int64{0, 30 << 10, size, rng.Int63n(1 << 32)} {
					_, _ = f.WriteAt(tctx, buf[:1+rng.Intn(20000)], max(pos, 0))
				}
				_ = f.Fallocate(tctx, vfs.FallocPunchHole|vfs.FallocKeepSize, 1000, 1<<20)
				_ = f.Fsync(tctx, false)
				_ = ip.SetAttr(tctx, vfs.Root, &vfs.SetAttr{Valid: vfs.SetSize, Size: rng.Int63n(max(size, 1) + 1)})
				f.Close()
			}
		}
		ip.Put()
	}
}

// highWater is the most memory the process had since the last call, in bytes; 0 where the host does not tell.
func highWater() int64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // start again; the next answer is too high without
	for l := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(l, "VmHWM:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			return n << 10
		}
	}
	return 0
}

// mutants runs damaged images from seed on through f, with a watch on time and memory.
func mutants(t *testing.T, images [][]byte, count int, seed int64, f func(image []byte, rng *rand.Rand)) {
	var top int64
	for i, base := range images {
		m, err := disktest.NewMutator(base)
		require.NoError(t, err)
		for n := i; n < count; n += len(images) {
			rng := rand.New(rand.NewSource(seed + int64(n)))
			image, what := m.Next(rng)
			watch := time.AfterFunc(2*time.Minute, func() { panic(fmt.Sprintf("hangs: IOMAPFS_SEED=%d round %d: %s", seed, n, what)) })
			func() {
				defer func() {
					if r := recover(); r != nil {
						fmt.Printf("IOMAPFS_SEED=%d round %d: %s\n", seed, n, what)
						panic(r)
					}
				}()
				f(image, rng)
			}()
			watch.Stop()
			got := highWater()
			top = max(top, got)
			if got > memoryMax && !raceEnabled {
				t.Fatalf("%d MiB: IOMAPFS_SEED=%d round %d: %s", got>>20, seed, n, what)
			}
		}
	}
	t.Logf("%d images, at most %d MiB", count, top>>20)
}

// Whole images with damage in every kind of structure: mounted, walked, read, written, unmounted. Whatever comes of it,
// it is an error and no panic, and neither takes minutes nor memory without bounds.
func TestMutatedImages(t *testing.T) { testMutated(t, 300) }

// TestSoakMutatedImages is TestMutatedImages at length.
func TestSoakMutatedImages(t *testing.T) {
	if os.Getenv("IOMAPFS_SOAK") == "" {
		t.Skip("make soak runs this")
	}
	testMutated(t, 10_000)
}

func testMutated(t *testing.T, count int) {
	if raceEnabled || testing.Short() {
		count /= 10
	}
	seed := time.Now().UnixNano()
	if s := os.Getenv("IOMAPFS_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseInt(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("IOMAPFS_SEED=%d", seed)
	mounted := 0
	highWater()
	mutants(t, [][]byte{richImage(t, "1024"), richImage(t, "4096")}, count, seed, func(image []byte, rng *rand.Rand) {
		words := []string{"errors=continue"}
		if rng.Intn(3) == 0 {
			words = nil
		}
		sb, err := memMount(image, words...)
		if err != nil {
			return
		}
		mounted++
		_, _ = sb.StatFS()
		abuseData(sb.Root, rng, 0)
		abuse(sb, rng)
		if rng.Intn(4) == 0 {
			_ = sb.Remount(tctx, true)
		}
		_ = sb.Unmount(tctx)
	})
	t.Logf("%d were mounted", mounted)
	require.Greater(t, mounted, count/4, "the damage is too coarse to reach what lies behind the superblock")
}
