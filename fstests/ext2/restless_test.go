package ext2

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fstests/fsstress"
	"github.com/iomapfs/iomapfs/fstests/model"
	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/fstests/target"
	"github.com/iomapfs/iomapfs/vfs"
)

// poisoned makes an image whose free blocks hold 0xAA, which must never come into sight.
func poisoned(t *testing.T, options ...string) []byte {
	ctx := context.Background()
	img := oracle.Mke2fs(t, "24M", append([]string{"-m", "0", "-N", "2048"}, options...)...)
	sb := open(t, img, vfs.MountOptions{Words: []string{"nodiscard"}})
	fs := &target.Super{SB: sb}
	require.Zero(t, fs.Create("poison", 0o644))
	for pos, n := int64(0), 1; n > 0; pos += int64(n) {
		n, _ = fs.Write("poison", pos, bytes.Repeat([]byte{0xAA}, 256<<10)) // until there is no space
	}
	require.Zero(t, fs.Sync())
	require.Zero(t, fs.Unlink("poison"))
	require.NoError(t, sb.Unmount(ctx))
	data, err := os.ReadFile(img)
	require.NoError(t, err)
	return data
}

// restless writes back, drops from the cache, syncs and reads around the cache the files of the root, at every moment, until stopped.
func restless(sb *vfs.SuperBlock, seed uint64) (stop func()) {
	ctx := context.Background()
	done := make(chan struct{})
	var wg sync.WaitGroup
	for worker := range uint64(2) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			r := rand.New(rand.NewPCG(seed, 100+worker))
			buf := make([]byte, 64<<10)
			for {
				select {
				case <-done:
					return
				case <-time.After(time.Duration(r.IntN(300)) * time.Microsecond):
				}
				ip, err := sb.Walk(ctx, fmt.Sprint("n", r.IntN(12)), false)
				if err != nil {
					continue
				}
				if ip.IsRegular() {
					pos := r.Int64N(256 << 10)
					switch r.IntN(6) {
					case 0, 1:
						_ = ip.Pages.FlushStart(ctx, 0, math.MaxInt64)
					case 2:
						_ = ip.Pages.WriteAndWait(ctx, pos, pos+64<<10)
					case 3, 4:
						ip.Pages.DropClean(0, math.MaxInt64)
					case 5:
						if f, err := ip.Open(ctx, vfs.ORdonly|vfs.ODirect); err == nil {
							_, _ = f.ReadAt(ctx, buf, pos&^4095) // what it sees is in motion
							f.Close()
						}
					}
				}
				ip.Put()
			}
		}()
	}
	return func() { close(done); wg.Wait() }
}

// TestRestless runs random operations against the model while writeback, reclaim and direct reads come at every moment. Free blocks
// hold what must not be seen. IOMAPFS_SOAK, a duration, goes on with other seeds.
func TestRestless(t *testing.T) {
	ctx := context.Background()
	soak, _ := time.ParseDuration(os.Getenv("IOMAPFS_SOAK"))
	begun, s := time.Now(), seed(t)
	images := map[string][]byte{}
	for _, b := range []string{"1024", "2048", "4096"} {
		images[b] = poisoned(t, "-b", b)
	}
	dir := t.TempDir()
	for round := 0; round == 0 || time.Since(begun) < soak; round++ {
		for i, words := range []string{"path=iomap", "path=bridge", "path=legacy"} {
			for j, b := range []string{"1024", "2048", "4096"} {
				s++
				if soak == 0 && i > 0 && j > 0 {
					continue
				}
				img := filepath.Join(dir, "r.img")
				require.NoError(t, os.WriteFile(img, images[b], 0o600))
				sb := open(t, img, vfs.MountOptions{CacheBytes: 1 << 20, Words: []string{words, "commit=1", "nodiscard"}})
				m := model.New(true)
				at := sometimesDirect{&target.Super{SB: sb, Label: words + " " + b}, rand.New(rand.NewPCG(s, 9))}
				stop := restless(sb, s)
				err := fsstress.Run(fsstress.Options{Seed: s, Ops: ops(2000), Names: 6, NoXattr: true}, m, at)
				stop()
				require.NoError(t, sb.Unmount(ctx), "seed %d", s)
				require.NoError(t, err)
				oracle.E2fsck(t, img)
			}
		}
	}
	t.Logf("last seed %d", s)
}
