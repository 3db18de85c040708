package crash

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/ext2"
	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/fstests/target"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/block/overlay"
	"github.com/iomapfs/iomapfs/vfs/block/record"
)

// loaded gives the image at img in memory, and a recorder over an overlay of it.
func loaded(t *testing.T, img string) (block.Device, *record.Device) {
	b, err := os.ReadFile(img)
	require.NoError(t, err)
	m, err := mem.New(int64(len(b)), mem.Options{VolatileCache: true, NoDirect: true})
	require.NoError(t, err)
	t.Cleanup(func() { m.Close() })
	require.NoError(t, block.WriteAt(m, b, 0, 0))
	return m, record.New(overlay.New(m))
}

// verify checks states of the log, at most most of them; all in the soak. IOMAPFS_STATE picks one by a part of its name. Writes tear
// between blocks of the filesystem: within one, nothing in the format tells an old half of a directory block from a new one.
func (sys system) verify(t *testing.T, base block.Device, log []*record.Event, promises []promise, seed uint64, most, blockSize int) {
	if os.Getenv("IOMAPFS_SOAK") != "" {
		most = 0
	}
	one := os.Getenv("IOMAPFS_STATE")
	if one != "" {
		most = 0
	}
	img := filepath.Join(t.TempDir(), "state.img")
	n := 0
	for st, err := range record.States(base, log, record.StateOptions{Seed: seed, Max: most, Sector: blockSize}) {
		require.NoError(t, err)
		if !strings.Contains(st.Name, one) {
			continue
		}
		n++
		require.NoError(t, block.Export(st.Device(), img))
		if err := sys.check(img, st.At, promises); err != nil {
			require.NoError(t, block.Export(st.Device(), filepath.Join(os.TempDir(), "iomapfs-crash-state.img")))
			var tail []string
			for _, e := range log[:st.At][max(0, st.At-40):] {
				tail = append(tail, e.String())
			}
			t.Fatalf("IOMAPFS_SEED=%d IOMAPFS_STATE=%q (at event %d of %d; the state is in %s):\n%s\n%v", seed, st.Name, st.At, len(log),
				filepath.Join(os.TempDir(), "iomapfs-crash-state.img"), strings.Join(tail, "\n"), err)
		}
	}
	t.Logf("seed %d: %d events, %d states", seed, len(log), n)
}

// chosen says whether a seed is to be run.
func chosen(seed uint64) bool {
	s := os.Getenv("IOMAPFS_SEED")
	return s == "" || s == fmt.Sprint(seed)
}

// TestStates is TestEveryPrefix with writes missing, alone, in subsets and torn between blocks.
func TestStates(t *testing.T) {
	oracle.Need(t, "e2fsck", "mke2fs")
	for seed := uint64(1); seed <= 50; seed++ {
		if chosen(seed) {
			bs := 1024 << (seed % 3)
			img := oracle.Mke2fs(t, "4M", "-b", fmt.Sprint(bs), "-N", "128")
			base, rec := loaded(t, img)
			log, promises := onExt2.work(t, rec, seed, 40)
			onExt2.verify(t, base, log, promises, seed, 12, bs)
		}
	}
}

// TestStatesDirs does the same for directories: made, moved into each other, over each other, exchanged, removed, grown and shrunk.
func TestStatesDirs(t *testing.T) {
	oracle.Need(t, "e2fsck", "mke2fs")
	for seed := uint64(1); seed <= 12; seed++ {
		if chosen(seed) {
			bs := 1024 << (seed % 3)
			img := oracle.Mke2fs(t, "4M", "-b", fmt.Sprint(bs), "-N", "256")
			base, rec := loaded(t, img)
			onExt2.verify(t, base, dirs(t, rec, seed, 60), nil, seed, 16, bs)
		}
	}
}

// dirs runs random operations on directories and names.
func dirs(t *testing.T, rec *record.Device, seed uint64, n int) []*record.Event {
	sb, err := ext2.Type.Mount(ctx, rec, &vfs.MountOptions{CacheBytes: 4 << 20, Words: append(target.PathWords(), "nodiscard")})
	require.NoError(t, err)
	fs := &target.Super{SB: sb}
	r := rand.New(rand.NewPCG(seed, 6))
	paths := []string{"a", "b", "c", "a/a", "a/b", "b/a", "b/b", "a/a/a", "a/a/b", "b/a/a", "c/a"}
	pick := func() string { return paths[r.IntN(len(paths))] }
	for i := range n {
		p, q := pick(), pick()
		switch k := r.IntN(100); {
		case k < 25:
			rec.Mark("mkdir %s: %v", p, fs.Mkdir(p, 0o755))
		case k < 35:
			rec.Mark("rename %s %s: %v", p, q, fs.Rename(p, q, 0))
		case k < 45:
			rec.Mark("exchange %s %s: %v", p, q, fs.Rename(p, q, vfs.RenameExchange))
		case k < 50:
			rec.Mark("noreplace %s %s: %v", p, q, fs.Rename(p, q, vfs.RenameNoReplace))
		case k < 58:
			rec.Mark("rmdir %s: %v", p, fs.Rmdir(p))
		case k < 64:
			rec.Mark("create %s: %v", p, fs.Create(p, 0o644))
		case k < 68:
			rec.Mark("unlink %s: %v", p, fs.Unlink(p))
		case k < 72:
			rec.Mark("link %s %s: %v", p, q, fs.Link(p, q))
		case k < 75:
			rec.Mark("mknod %s: %v", p, fs.Mknod(p, vfs.ModeFIFO|0o600, vfs.Dev{}))
		case k < 78:
			rec.Mark("symlink %s: %v", p, fs.Symlink(strings.Repeat("s", 1+r.IntN(100)), p))
		case k < 84: // several blocks of names
			for j := range 12 {
				fs.Create(fmt.Sprintf("%s/%d-%d-%s", p, i, j, strings.Repeat("n", 200)), 0o644)
			}
			rec.Mark("grew %s", p)
		case k < 88:
			if names, e := fs.ReadDir(p); e == 0 {
				for _, name := range names {
					if len(name) > 100 {
						fs.Unlink(p + "/" + name)
					}
				}
			}
			rec.Mark("shrank %s", p)
		case k < 94:
			rec.Mark("fsync %s: %v", p, fs.Fsync(p))
		default:
			require.Zero(t, fs.Sync())
			rec.Mark("sync")
		}
	}
	require.NoError(t, sb.Unmount(ctx))
	return rec.Log()
}

// TestStatesFull works on an image with hardly a free block, so that blocks are used again as soon as they may be. A file that was
// fsynced and then removed is gone or whole.
func TestStatesFull(t *testing.T) {
	oracle.Need(t, "e2fsck", "mke2fs")
	for seed := uint64(1); seed <= 6; seed++ {
		if chosen(seed) {
			img := oracle.Mke2fs(t, "1M", "-b", "1024", "-N", "64", "-m", "0")
			base, rec := loaded(t, img)
			log, promises := full(t, rec, seed, 60)
			onExt2.verify(t, base, log, promises, seed, 40, 1024)
		}
	}
}

func full(t *testing.T, rec *record.Device, seed uint64, n int) ([]*record.Event, []promise) {
	sb, err := ext2.Type.Mount(ctx, rec, &vfs.MountOptions{CacheBytes: 4 << 20, Words: append(target.PathWords(), "nodiscard")})
	require.NoError(t, err)
	fs := &target.Super{SB: sb}
	r := rand.New(rand.NewPCG(seed, 7))
	require.Zero(t, fs.Create("fill", 0o644))
	for off := int64(0); ; off += 1024 {
		st, err := sb.StatFS()
		require.NoError(t, err)
		if st.Free <= 110 {
			break
		}
		_, e := fs.Write("fill", off, bytes.Repeat([]byte{0xee}, 1024))
		require.Zero(t, e)
	}
	require.Zero(t, fs.Sync())
	var promises []promise
	now := func() int { return len(rec.Log()) }
	held := map[string][]byte{} // fsynced, not touched since
	names := []string{"0", "1", "2", "3", "4"}
	for range n {
		p := names[r.IntN(len(names))]
		switch k := r.IntN(100); {
		case k < 55: // a new file in the place of the old one
			if data := held[p]; data != nil {
				promises = append(promises, promise{at: now(), path: p, data: data, gone: true})
				delete(held, p)
			} else {
				promises = append(promises, promise{at: now(), path: p})
			}
			rec.Mark("unlink %s: %v", p, fs.Unlink(p))
			q := names[r.IntN(len(names))]
			if q == p || held[q] != nil {
				continue
			}
			promises = append(promises, promise{at: now(), path: q})
			rec.Mark("create %s: %v", q, fs.Create(q, 0o644))
			data := bytes.Repeat([]byte{byte(1 + r.IntN(200))}, 14000+r.IntN(30000))
			k, e := fs.Write(q, 0, data)
			rec.Mark("write %s: %d %v", q, k, e)
			if e == 0 && k == len(data) && fs.Fsync(q) == 0 {
				rec.Mark("fsync %s", q)
				promises = append(promises, promise{at: now(), path: q, data: data})
				held[q] = data
			}
		case k < 75:
			promises = append(promises, promise{at: now(), path: p})
			delete(held, p)
			rec.Mark("truncate %s: %v", p, fs.Truncate(p, r.Int64N(20000)))
		case k < 95:
			promises = append(promises, promise{at: now(), path: p})
			delete(held, p)
			_, e := fs.Append(p, bytes.Repeat([]byte{byte(1 + r.IntN(200))}, 1+r.IntN(20000)))
			rec.Mark("append %s: %v", p, e)
			fs.Fsync(p)
		default:
			require.Zero(t, fs.Sync())
		}
	}
	require.NoError(t, sb.Unmount(ctx))
	return rec.Log(), promises
}
