package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/faulty"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// poison is what free blocks hold: it must never be seen in a file.
const poison = 0xAA

var paths = []string{"path=legacy", "path=bridge", "path=iomap"}

// poisoned gives an image with its free space poisoned.
func (sys *system) poisoned(t testing.TB, data []byte) []byte {
	m := onDevice(t, data)
	defer m.Close()
	sb, err := sys.mounted(kept{m})
	require.NoError(t, err)
	// A file over everything that is free, removed again.
	b := newBox(t, sys, sb)
	b.create("poison")
	chunk := make([]byte, 64<<10)
	for i := range chunk {
		chunk[i] = poison
	}
	for pos := int64(0); ; pos += int64(len(chunk)) {
		if n, e := b.fs.Write("poison", pos, chunk); e != 0 || n < len(chunk) {
			require.Contains(t, []errno.Errno{0, errno.NOSPC}, e)
			break
		}
	}
	require.Zero(t, b.fs.Sync())
	b.done()
	require.Zero(t, b.fs.Unlink("poison"))
	require.NoError(t, sb.Unmount(ctx))
	return contents(t, m)
}

// contents gives all bytes of a device.
func contents(t testing.TB, dev block.Device) []byte {
	data := make([]byte, dev.Size())
	require.NoError(t, block.ReadAt(dev, data, 0))
	return data
}

// prepared gives the image that a workload begins with.
func (sys *system) prepared(t testing.TB, clean []byte, w workload) []byte {
	m := onDevice(t, clean)
	defer m.Close()
	sb, err := sys.mounted(kept{m})
	require.NoError(t, err)
	b := newBox(t, sys, sb)
	w.prepare(b)
	b.done()
	require.Empty(t, b.errs)
	require.Empty(t, b.odd)
	require.NoError(t, sb.Unmount(ctx))
	return contents(t, m)
}

// seed is IOMAPFS_SEED, or the clock.
func seed(t testing.TB) uint64 {
	s := uint64(time.Now().UnixNano())
	if v, err := strconv.ParseUint(os.Getenv("IOMAPFS_SEED"), 10, 64); err == nil {
		s = v
	}
	t.Logf("IOMAPFS_SEED=%d", s)
	return s
}

// fault is one way to fail.
type fault struct {
	name string
	rule faulty.Rule
}

var kinds = []fault{
	{"read EIO", faulty.Rule{Op: block.OpRead, Err: errno.IO}},
	{"write EIO", faulty.Rule{Op: block.OpWrite, Err: errno.IO}},
	{"write ENOSPC", faulty.Rule{Op: block.OpWrite, Err: errno.NOSPC}},
	{"write torn", faulty.Rule{Op: block.OpWrite, Err: errno.IO, Torn: 1}},
	{"flush EIO", faulty.Rule{Op: block.OpFlush, Err: errno.IO}},
}

// found are faults that once went wrong: an fallocate that stayed half done, a large write that left the old contents of new blocks, a
// sync that kept quiet about a write that had failed already, a failed write of a part of a folio that was forgotten in memory.
var found = []string{
	"ext2: fallocate, path=legacy, read EIO 4 always=false",
	"ext2: around the cache, path=legacy, write EIO 2 always=false",
	"ext2: around the cache, path=iomap, write EIO 2 always=false",
	"ext2: many small, path=bridge, write ENOSPC 4 always=false",
	"ext2: append, path=legacy, write EIO 1 always=true",
	"ext2: holes, path=legacy, write torn 5 always=false",
}

// TestNth fails the n-th read, write or flush of each workload on each path, once and from then on. A run in make test takes some n
// by lot; IOMAPFS_SOAK takes all. IOMAPFS_FAULT, what a failure is called, runs that one.
func TestNth(t *testing.T) {
	for _, sys := range systems {
		t.Run(sys.name, sys.nth)
	}
}

func (sys *system) nth(t *testing.T) {
	clean := sys.image(t)
	s := seed(t)
	rng := rand.New(rand.NewPCG(s, 11))
	all := os.Getenv("IOMAPFS_SOAK") != "" || os.Getenv("IOMAPFS_FAULT") != ""
	dir := t.TempDir()
	runs := 0
	for _, w := range sys.workloads() {
		t.Run(w.name, func(t *testing.T) {
			start := sys.prepared(t, clean, w)
			for _, word := range paths {
				totals := map[block.Op]int{} // how many there are to fail
				for _, kind := range kinds {
					total, ok := totals[kind.rule.Op]
					if !ok {
						total = sys.run(t, start, w, word, kind, never, false, dir)
						totals[kind.rule.Op] = total
					}
					for n := 1; n <= total; n++ {
						for _, always := range []bool{false, true} {
							if !all && rng.IntN(total*5) > 0 && !slices.Contains(found, sys.describe(w, word, kind, n, always)) {
								continue
							}
							sys.run(t, start, w, word, kind, n, always, dir)
							runs++
						}
					}
				}
			}
		})
	}
	t.Logf("%d runs", runs)
}

const never = 1 << 30

// describe names a run.
func (sys *system) describe(w workload, word string, kind fault, n int, always bool) string {
	return fmt.Sprintf("%s: %s, %s, %s %d always=%v", sys.name, w.name, word, kind.name, n, always)
}

// run runs a workload with one fault and gives the number of bios that could have failed.
func (sys *system) run(t *testing.T, start []byte, w workload, word string, kind fault, n int, always bool, dir string) int {
	t.Helper()
	what := sys.describe(w, word, kind, n, always)
	if only := os.Getenv("IOMAPFS_FAULT"); only != "" && n < never && only != what {
		return n
	}
	m := onDevice(t, start)
	defer m.Close()
	count := &counter{Device: kept{m}, op: kind.rule.Op}
	dev := faulty.New(count)
	sb, err := sys.mounted(dev, word)
	require.NoError(t, err, what)
	rule := kind.rule
	rule.Nth, rule.Always = n, always
	mountedWith := count.n.Load()
	dev.Add(rule)
	b := newBox(t, sys, sb)
	w.run(b)
	b.done()
	b.failed(b.fs.Sync(), "sync at the end")
	var bad []string
	if n < never {
		bad = b.inspect(m, dir, false) // as after a crash
	}
	if err := sb.Unmount(ctx); err != nil {
		b.errs = append(b.errs, "unmount: "+err.Error())
	}
	total := int(count.n.Load()-mountedWith) + dev.Hits()
	if n > total {
		require.Empty(t, b.errs, what)
		bad = append(bad, b.inspect(m, dir, true)...)
	} else {
		for _, s := range b.inspect(m, dir, false) {
			bad = append(bad, "unmounted: "+s)
		}
	}
	bad = append(bad, b.odd...)
	if dev.Hits() > 0 && kind.rule.Op != block.OpRead && kind.rule.Err == errno.IO && len(b.errs) == 0 { // no space may be there the second time
		bad = append(bad, "nobody was told")
	}
	require.Empty(t, bad, "%s\nfailed: %s", what, strings.Join(b.errs, "\n\t"))
	return total
}
