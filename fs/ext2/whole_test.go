package ext2

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/fs/ext2/disk/disktest"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/file"
	"github.com/iomapfs/iomapfs/vfs/block/record"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// markers walks a tree and gives the paths of files called mark-N, by N.
func markers(t testing.TB, sb *vfs.SuperBlock) map[string][]string {
	found := map[string][]string{}
	var walk func(dir *vfs.Inode, at string)
	walk = func(dir *vfs.Inode, at string) {
		for _, n := range listAll(t, dir, 100)[2:] {
			ip, err := dir.Lookup(tctx, n)
			require.NoError(t, err)
			if ip.IsDir() {
				walk(ip, at+"/"+n)
			} else if strings.HasPrefix(n, "mark-") {
				found[n] = append(found[n], at)
			}
			ip.Put()
		}
	}
	walk(sb.Root, "")
	return found
}

// Directories are moved, renamed and swapped among parents of several blocks, with other changes in between. Every prefix
// of the writes is a filesystem that e2fsck -p repairs without asking, and in which each directory is where it was or where
// it went, once.
func TestDirectoriesMoveWhole(t *testing.T) {
	for _, v := range []struct {
		bs, is string
		whole  bool
	}{{"1024", "128", true}, {"2048", "256", true}, {"4096", "256", true}, {"65536", "256", true}} {
		t.Run(v.bs, func(t *testing.T) {
			t.Parallel()
			seed := rand.Int63()
			if s := os.Getenv("SEED"); s != "" {
				_, err := fmt.Sscan(s, &seed)
				require.NoError(t, err)
			}
			t.Logf("SEED=%d", seed)
			rng := rand.New(rand.NewSource(seed))
			size := "4M"
			if v.bs == "65536" {
				size = "16M"
			}
			img := nameImage(t, size, "-b", v.bs, "-I", v.is, "-N", "400")
			sb := nameMount(t, img)
			mkdir := func(dir *vfs.Inode, n string) *vfs.Inode {
				d, err := dir.Mkdir(tctx, vfs.Root, n, 0o755)
				require.NoError(t, err)
				return d
			}
			var parents []*vfs.Inode
			for i := range 3 {
				p := mkdir(sb.Root, fmt.Sprintf("p%d", i))
				for k := range 12 { // several blocks at 1 KiB
					ip, err := p.Create(tctx, vfs.Root, fmt.Sprintf("%0150d", k), 0o644)
					require.NoError(t, err)
					ip.Put()
				}
				for k := range 4 {
					d := mkdir(p, fmt.Sprintf("d%d", k))
					m, err := d.Create(tctx, vfs.Root, fmt.Sprintf("mark-%d", i*4+k), 0o644)
					require.NoError(t, err)
					m.Put()
					sub := mkdir(d, "sub")
					m, err = sub.Create(tctx, vfs.Root, fmt.Sprintf("mark-%d", 100+i*4+k), 0o644)
					require.NoError(t, err)
					m.Put()
					sub.Put()
					d.Put()
				}
				p.Put()
			}
			nameDone(t, sb, img)
			before, err := os.ReadFile(img)
			require.NoError(t, err)

			dev, err := file.Open(img, file.Options{})
			require.NoError(t, err)
			rec := record.New(dev)
			sb, err = Type.Mount(tctx, rec, &vfs.MountOptions{CacheBytes: 8 << 20, Words: append(pathWords(), "nodiscard"), Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
			require.NoError(t, err)
			for i := range 3 {
				p, err := sb.Walk(tctx, fmt.Sprintf("p%d", i), false)
				require.NoError(t, err)
				parents = append(parents, p)
			}
			pick := func() (*vfs.Inode, string) {
				return parents[rng.Intn(3)], fmt.Sprintf("d%d", rng.Intn(5)) + strings.Repeat("x", rng.Intn(6)/5*120)
			}
			done := 0
			for op := 0; op < 45 || done == 0; op++ {
				from, a := pick()
				to, b := pick()
				flags := uint32(0)
				switch rng.Intn(10) {
				case 0:
					if ip, err := from.Create(tctx, vfs.Root, fmt.Sprintf("f%d", rng.Intn(50)), 0o644); err == nil {
						ip.Put()
					}
				case 1, 2:
					require.NoError(t, sb.Sync(tctx))
				case 3:
					if ip, err := from.Mkdir(tctx, vfs.Root, a, 0o755); err == nil {
						ip.Put()
					}
				case 4:
					_ = from.Rmdir(tctx, a)
				case 5, 6:
					flags = vfs.RenameExchange
					fallthrough
				default:
					err := from.RenameTo(tctx, a, to, b, flags)
					if err == nil {
						done++
					} else {
						require.Contains(t, []errno.Errno{errno.NOENT, errno.NOTEMPTY, errno.INVAL, errno.NOTDIR}, errno.From(err), err)
					}
				}
			}
			require.NotZero(t, done)
			for _, p := range parents {
				p.Put()
			}
			require.NoError(t, sb.Unmount(tctx))
			code, out := disktest.Run(t, "", "e2fsck", "-fn", img)
			require.Zero(t, code, out)

			state := append([]byte{}, before...)
			trial := filepath.Join(t.TempDir(), "trial.img")
			log := rec.Log()
			states, replays := 0, 0
			for i, e := range log {
				require.NoError(t, e.Apply(bytesAt(state)))
				if e.Mark != "" || e.Op != block.OpWrite {
					continue
				}
				states++
				require.NoError(t, os.WriteFile(trial, state, 0o600))
				code, out := disktest.Run(t, "", "e2fsck", "-p", trial)
				require.LessOrEqual(t, code, 1, "SEED=%d state %d of %d: %s", seed, i, len(log), out)
				if strings.Contains(out, "recovering journal") {
					replays++
				}
				if code, out := disktest.Run(t, "", "e2fsck", "-fn", trial); code != 0 {
					require.Zero(t, code, "SEED=%d state %d of %d: %s", seed, i, len(log), out)
				}
				sb := nameMount(t, trial)
				require.Zero(t, fsOf(sb).super.Compat&disk.CompatHasJournal)
				found := markers(t, sb)
				require.Len(t, found, 24, "SEED=%d state %d", seed, i)
				for n, at := range found {
					require.Len(t, at, 1, "SEED=%d state %d: %s", seed, i, n)
				}
				require.NoError(t, sb.Unmount(tctx))
			}
			t.Logf("%d renames, %d states, %d with a journal to replay", done, states, replays)
			require.NotZero(t, replays)
		})
	}
}

// everyPrefix replays each prefix of a log over an image: e2fsck -p repairs it without asking.
func everyPrefix(t *testing.T, before []byte, log []*record.Event) (states, replays int) {
	state := append([]byte{}, before...)
	trial := filepath.Join(t.TempDir(), "trial.img")
	for i, e := range log {
		require.NoError(t, e.Apply(bytesAt(state)))
		if e.Mark != "" || e.Op != block.OpWrite {
			continue
		}
		states++
		require.NoError(t, os.WriteFile(trial, state, 0o600))
		code, out := disktest.Run(t, "", "e2fsck", "-p", trial)
		require.LessOrEqual(t, code, 1, "state %d of %d: %s", i, len(log), out)
		if strings.Contains(out, "recovering journal") {
			replays++
		}
	}
	return states, replays
}

// Attribute blocks with several users, the kernel's and ours, are joined and left; the counts are right at every moment.
func TestSharedCountsWhole(t *testing.T) {
	seed := rand.Int63()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewSource(seed))
	img := nameImage(t, "4M", "-b", "1024", "-I", "128", "-N", "200")
	dir, umount := kernelMount(t, img, "user_xattr")
	for i := range 8 {
		p := filepath.Join(dir, fmt.Sprintf("f%d", i))
		require.NoError(t, os.WriteFile(p, nil, 0o644))
		out, err := exec.Command("setfattr", "-n", "user.v", "-v", fmt.Sprint(i/4), p).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	umount()
	before, err := os.ReadFile(img)
	require.NoError(t, err)
	dev, err := file.Open(img, file.Options{})
	require.NoError(t, err)
	rec := record.New(dev)
	sb, err := Type.Mount(tctx, rec, &vfs.MountOptions{CacheBytes: 8 << 20, Words: append(pathWords(), "nodiscard", "xattrshare"), Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	require.NoError(t, err)
	var open []*vfs.Inode
	for range 50 {
		n := fmt.Sprintf("f%d", rng.Intn(10))
		ip, err := sb.Walk(tctx, n, false)
		if err != nil {
			ip, err = sb.Root.Create(tctx, vfs.Root, n, 0o644)
			require.NoError(t, err)
		}
		switch rng.Intn(6) {
		case 0:
			require.NoError(t, sb.Root.Unlink(tctx, n))
			if rng.Intn(2) == 0 {
				open = append(open, ip.Hold())
			}
		case 1:
			_ = ip.RemoveXattr(tctx, vfs.Root, "user.v")
		case 2:
			require.NoError(t, sb.Sync(tctx))
		default:
			require.NoError(t, ip.SetXattr(tctx, vfs.Root, "user.v", []byte(fmt.Sprint(rng.Intn(3))), 0))
		}
		ip.Put()
	}
	for _, ip := range open {
		ip.Put()
	}
	require.NoError(t, sb.Unmount(tctx))
	code, out := disktest.Run(t, "", "e2fsck", "-fn", img)
	require.Zero(t, code, out)
	states, replays := everyPrefix(t, before, rec.Log())
	t.Logf("%d states, %d with a journal to replay", states, replays)
	require.NotZero(t, replays)
}

// bytesAt writes into a byte slice.
type bytesAt []byte

func (b bytesAt) WriteAt(p []byte, off int64) (int, error) { return copy(b[off:], p), nil }

// An epoch that is larger than one descriptor and the direct blocks of the journal's inode.
func TestWholeLarge(t *testing.T) {
	img := nameImage(t, "64M", "-b", "1024", "-I", "256", "-N", "16000")
	sb := nameMount(t, img, "commit=3600")
	a, err := sb.Root.Mkdir(tctx, vfs.Root, "a", 0o755)
	require.NoError(t, err)
	b, err := sb.Root.Mkdir(tctx, vfs.Root, "b", 0o755)
	require.NoError(t, err)
	d, err := a.Mkdir(tctx, vfs.Root, "d", 0o755)
	require.NoError(t, err)
	require.NoError(t, sb.Sync(tctx))
	for i := range 6000 {
		ip, err := d.Create(tctx, vfs.Root, fmt.Sprintf("file-%d", i), 0o644)
		require.NoError(t, err)
		ip.Put()
	}
	free := fsOf(sb).freeBlocks.Load()
	require.NoError(t, a.RenameTo(tctx, "d", b, "d", 0))
	require.True(t, fsOf(sb).commit.ep.whole)
	require.NoError(t, sb.Sync(tctx))
	require.Equal(t, free, fsOf(sb).freeBlocks.Load(), "the journal's blocks are free again")
	for _, ip := range []*vfs.Inode{a, b, d} {
		ip.Put()
	}
	nameDone(t, sb, img)
}
