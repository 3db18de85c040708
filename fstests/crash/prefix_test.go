package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/ext2"
	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/fstests/target"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/file"
	"github.com/iomapfs/iomapfs/vfs/block/record"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

var ctx = context.Background()

// promise is what an fsync promised: from the event on, until something is done to the file again.
type promise struct {
	at   int // event from which it holds
	path string
	data []byte // nil: nothing is promised of path any more
	gone bool   // the name may be gone
}

// system is a filesystem whose promises are tested.
type system struct {
	fs *vfs.FileSystem
	// judge has the checker look at the state in an image, which it may repair as a boot would. Every finding beyond what may be there
	// after a crash is an error.
	judge func(img string) error
}

var onExt2 = system{ext2.Type, preen}

// preen is e2fsck -p, which must repair by itself.
func preen(img string) error {
	out, err := exec.Command("e2fsck", "-p", img).CombinedOutput()
	if ee := (*exec.ExitError)(nil); err != nil && !(errors.As(err, &ee) && ee.ExitCode() <= 1) {
		return fmt.Errorf("e2fsck -p: %w\n%s", err, out)
	}
	return nil
}

// workload runs random operations on the image at img: see work.
func workload(t *testing.T, img string, seed uint64, n int) ([]*record.Event, []promise) {
	dev, err := file.Open(img, file.Options{})
	require.NoError(t, err)
	return onExt2.work(t, record.New(dev), seed, n)
}

// work runs random operations, each followed now and then by an fsync or a sync, and gives the log and the promises.
func (sys system) work(t *testing.T, rec *record.Device, seed uint64, n int) ([]*record.Event, []promise) {
	sb, err := sys.fs.Mount(ctx, rec, &vfs.MountOptions{CacheBytes: 4 << 20, Words: append(target.PathWords(), "nodiscard")})
	require.NoError(t, err)
	fs := &target.Super{SB: sb}
	r := rand.New(rand.NewPCG(seed, 5))
	names := []string{"foo", "bar", "A/foo", "A/bar", "B/foo", "A/C/foo", "B/bar", "long-" + strings.Repeat("n", 200), "A/x", "A/y", "A/z"}
	dirs := []string{"A", "B", "A/C"}
	name := func() string { return names[r.IntN(len(names))] }
	var promises []promise
	now := func() int { return len(rec.Log()) }
	touch := func(paths ...string) {
		for _, p := range paths {
			promises = append(promises, promise{at: now(), path: p})
		}
	}
	keep := func(p string) {
		if i, e := fs.Stat(p); e == 0 && i.Mode&vfs.ModeType == vfs.ModeRegular {
			rec.Mark("fsync %s", p)
			if fs.Fsync(p) == 0 {
				b, e := fs.Read(p, 0, int(i.Size))
				require.Zero(t, e)
				rec.Mark("fsynced %s", p) // so that the promise is later than the flush that makes it true
				promises = append(promises, promise{at: now(), path: p, data: append([]byte{}, b...)})
			}
		}
	}
	// linked are the other names of what p names: a change through one is a change of all.
	linked := func(p string) []string {
		all := []string{p}
		if i, e := fs.Stat(p); e == 0 && i.Nlink > 1 {
			for _, q := range names {
				if j, e := fs.Stat(q); e == 0 && j.Ino == i.Ino && q != p {
					all = append(all, q)
				}
			}
		}
		return all
	}
	for range n {
		p, q, d := name(), name(), dirs[r.IntN(len(dirs))]
		rec.Mark("op")
		switch k := r.IntN(100); {
		case k < 12:
			fs.Mkdir(d, 0o755)
		case k < 24:
			fs.Create(p, 0o644)
		case k < 40:
			touch(linked(p)...)
			fs.Write(p, r.Int64N(60000), bytes.Repeat([]byte{byte(1 + r.IntN(255))}, 1+r.IntN(30000)))
		case k < 45:
			touch(linked(p)...)
			fs.Append(p, bytes.Repeat([]byte{byte(1 + r.IntN(255))}, 1+r.IntN(3000)))
		case k < 50:
			touch(linked(p)...)
			fs.Truncate(p, r.Int64N(50000))
		case k < 53:
			touch(linked(p)...)
			fs.Punch(p, r.Int64N(40000), 1+r.Int64N(20000))
		case k < 61:
			touch(p, q)
			if i, e := fs.Stat(p); e == 0 && i.Mode&vfs.ModeType != vfs.ModeDir {
				fs.Rename(p, q, 0)
			}
		case k < 64:
			touch(p, q)
			fs.Rename(p, q, vfs.RenameExchange)
		case k < 69:
			fs.Link(p, q)
		case k < 77:
			touch(p)
			fs.Unlink(p)
		case k < 80:
			fs.Rmdir(d)
		case k < 83:
			fs.Symlink(strings.Repeat("t", 1+r.IntN(200)), p)
		case k < 87:
			fs.SetXattr(p, "user.a", bytes.Repeat([]byte{7}, r.IntN(300)), 0)
		case k < 89:
			fs.RemoveXattr(p, "user.a")
		case k < 93:
			require.Zero(t, fs.Sync())
		default:
			keep(p)
		}
	}
	require.NoError(t, sb.Unmount(ctx))
	return rec.Log(), promises
}

// check has the state in an image judged, and looks for what was promised.
func (sys system) check(img string, at int, promises []promise) error {
	if err := sys.judge(img); err != nil {
		return err
	}
	want := map[string]promise{}
	for _, p := range promises {
		if p.at <= at {
			want[p.path] = p
		}
	}
	dev, err := file.Open(img, file.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	sb, err := sys.fs.Mount(ctx, dev, &vfs.MountOptions{ReadOnly: true, CacheBytes: 2 << 20, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		_ = dev.Close() // the mount's error says more
		return err
	}
	defer sb.Unmount(ctx) //nolint:errcheck // nothing was changed
	fs := &target.Super{SB: sb}
	for p, w := range want {
		data := w.data
		if data == nil {
			continue
		}
		got, e := fs.Read(p, 0, len(data)+1)
		if e == errno.NOENT && w.gone {
			continue
		}
		if e != 0 || len(got) < len(data) || !bytes.Equal(got[:len(data)], data) {
			return fmt.Errorf("%s was fsynced with %d bytes, now %d bytes (%v)", p, len(data), len(got), e)
		}
	}
	return nil
}

// TestEveryPrefix replays every prefix of the writes of 50 workloads: e2fsck -p repairs each by itself, and every fsynced
// file is whole. IOMAPFS_SEED picks one workload.
func TestEveryPrefix(t *testing.T) {
	oracle.Need(t, "e2fsck", "mke2fs")
	for seed := uint64(1); seed <= 50; seed++ {
		if s := os.Getenv("IOMAPFS_SEED"); s != "" && s != fmt.Sprint(seed) {
			continue
		}
		bs := []string{"1024", "2048", "4096"}[seed%3]
		img := oracle.Mke2fs(t, "4M", "-b", bs, "-N", "128")
		before, err := os.ReadFile(img)
		require.NoError(t, err)
		log, promises := workload(t, img, seed, 40)
		oracle.E2fsck(t, img)
		state := filepath.Join(t.TempDir(), "state.img")
		trial := filepath.Join(t.TempDir(), "trial.img")
		require.NoError(t, os.WriteFile(state, before, 0o600))
		f, err := os.OpenFile(state, os.O_RDWR, 0)
		require.NoError(t, err)
		for i, e := range log {
			require.NoError(t, e.Apply(f))
			if e.Mark != "" || e.Op != block.OpWrite {
				continue
			}
			b, err := os.ReadFile(state)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(trial, b, 0o600))
			if err := onExt2.check(trial, i+1, promises); err != nil {
				var tail []string
				for _, e := range log[max(0, i-25) : i+1] {
					tail = append(tail, e.String())
				}
				t.Fatalf("seed %d (%s-byte blocks), after event %d of %d:\n%s\n%v", seed, bs, i, len(log), strings.Join(tail, "\n"), err)
			}
		}
		f.Close()
	}
}
