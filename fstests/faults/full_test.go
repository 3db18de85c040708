package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fstests/target"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// most is how many free blocks the sweep begins with.
const most = 40

// fill writes to a file until no more than left blocks are free.
func fill(t testing.TB, fs *target.Super, left uint64) {
	t.Helper()
	chunk := make([]byte, 64<<10)
	for {
		st, err := fs.SB.StatFS()
		require.NoError(t, err)
		if st.Free <= left {
			return
		}
		n := 1024
		if st.Free > left+100 {
			n = len(chunk)
		}
		if _, e := fs.Append("fill", chunk[:n]); e != 0 {
			require.Equal(t, errno.NOSPC, e)
			return
		}
	}
}

// TestFull runs each workload with 0, 1, 2 … blocks left. Only ENOSPC is answered; what is refused leaves no trace; counts are right,
// e2fsck finds nothing; and when space comes back it can be used. A run in make test takes some of them by lot, IOMAPFS_SOAK all.
func TestFull(t *testing.T) {
	for _, sys := range systems {
		t.Run(sys.name, sys.fullest)
	}
}

func (sys *system) fullest(t *testing.T) {
	clean := sys.image(t)
	rng := rand.New(rand.NewPCG(seed(t), 12))
	all := os.Getenv("IOMAPFS_SOAK") != ""
	dir := t.TempDir()
	for _, w := range sys.workloads() {
		t.Run(w.name, func(t *testing.T) {
			start := sys.prepared(t, clean, workload{prepare: func(b *box) {
				w.prepare(b)
				require.Zero(t, b.fs.Create("fill", 0o644))
				fill(t, &b.fs, most)
			}})
			for _, word := range paths {
				for left := uint64(0); left <= most; left++ {
					if !all && rng.IntN(most) >= 1 {
						continue
					}
					sys.full(t, onDevice(t, start), w, word, left, dir)
				}
			}
		})
	}
}

func (sys *system) full(t *testing.T, m *mem.Device, w workload, word string, left uint64, dir string) {
	t.Helper()
	defer m.Close()
	what := fmt.Sprintf("%s, %s, %d left", w.name, word, left)
	sb, err := sys.mounted(kept{m}, word)
	require.NoError(t, err, what)
	b := newBox(t, sys, sb)
	fill(t, &b.fs, left)
	require.Zero(t, b.fs.Sync(), what)
	w.run(b)
	b.done()
	before, err := sb.StatFS()
	require.NoError(t, err)
	b.failed(b.fs.Sync(), "sync at the end")
	after, err := sb.StatFS()
	require.NoError(t, err)
	for _, e := range b.errs {
		follows := false // from what was refused before
		for _, why := range []errno.Errno{errno.NOSPC, errno.NOENT, errno.NODATA} {
			follows = follows || strings.HasSuffix(e, why.Error())
		}
		if !follows {
			b.odd = append(b.odd, e)
		}
	}
	if after.Free < before.Free { // more it may be: what was removed is given back, iomap's promises ask for more than is taken
		b.odd = append(b.odd, fmt.Sprintf("%d blocks were free before the sync, %d after it", before.Free, after.Free))
	}
	// Space that comes back is there at once.
	if e := b.fs.Unlink("fill"); e != 0 {
		b.odd = append(b.odd, "unlink: "+e.Error())
	}
	if b.create("again"); b.find("again") != nil {
		b.write("again", 0, 500_000, 0)
		if b.fsync("again"); len(b.find("again").want) != 500_000 {
			b.odd = append(b.odd, "no space after space was made")
		}
		b.find("again").close()
	} else {
		b.odd = append(b.odd, "no file after space was made")
	}
	require.NoError(t, sb.Unmount(ctx), what)
	bad := append(b.odd, b.inspect(m, dir, true)...)
	require.Empty(t, bad, "%s\nfailed: %s", what, strings.Join(b.errs, "\n\t"))
}
