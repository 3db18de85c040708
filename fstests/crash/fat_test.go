package crash

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/fat"
	"github.com/iomapfs/iomapfs/fs/fat/check"
	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block/file"
)

var onFAT = system{fat.Type, judgeFAT}

// afterCrash are the findings that a crash may leave on FAT: nothing that costs a file, or that grows worse with use.
var afterCrash = map[check.Code]bool{
	check.Lost: true, check.Info: true, check.FATCopies: true,
	check.LongChain: true, // clusters that a file was about to grow into
	check.LongName:  true, // parts of a name that lay in two sectors
}

func judgeFAT(img string) error {
	f, err := os.Open(img)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	rep, err := check.Check(ctx, f, st.Size(), check.Options{})
	if err != nil {
		return err
	}
	for _, p := range rep.Problems {
		if p.Code == check.SameStart && underTwoNames(img, p.Where) {
			continue // between the two writes of a rename the file has both names
		}
		if !afterCrash[p.Code] {
			return fmt.Errorf("check: %s", p)
		}
	}
	return nil
}

// underTwoNames reports whether another name leads to all of the file at that path: not to a part of it.
func underTwoNames(img, path string) bool {
	dev, err := file.Open(img, file.Options{ReadOnly: true})
	if err != nil {
		return false
	}
	sb, err := fat.Type.Mount(ctx, dev, &vfs.MountOptions{ReadOnly: true, CacheBytes: 2 << 20, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		_ = dev.Close() // it is no file under two names, whatever it is
		return false
	}
	defer sb.Unmount(ctx) //nolint:errcheck // nothing was changed
	type place struct {
		start uint64
		size  int64
	}
	names := map[place][]string{}
	var walk func(dir *vfs.Inode, at string)
	walk = func(dir *vfs.Inode, at string) {
		f, err := dir.Open(ctx, vfs.ORdonly)
		if err != nil {
			return
		}
		defer f.Close()
		_ = f.ReadDir(ctx, 0, func(e *vfs.DirEntry) bool {
			ip, err := dir.Lookup(ctx, e.Name)
			if err != nil || e.Name == "." || e.Name == ".." {
				return true
			}
			defer ip.Put()
			p := at + "/" + e.Name
			if ip.IsDir() {
				walk(ip, p)
				return true
			}
			if start, err := ip.Bmap(ctx, 0); err == nil && start != 0 {
				names[place{start, ip.Size()}] = append(names[place{start, ip.Size()}], p)
			}
			return true
		})
	}
	walk(sb.Root, "")
	for _, all := range names {
		if len(all) == 2 && slices.Contains(all, path) {
			return true
		}
	}
	return false
}

// TestStatesFAT is TestStates for FAT, in each width: the findings of the checker are among those that a crash may leave, and what was
// fsynced is there. Writes tear at 512 bytes.
func TestStatesFAT(t *testing.T) {
	oracle.Need(t, "mkfs.fat")
	for seed := uint64(1); seed <= 24; seed++ {
		if !chosen(seed) {
			continue
		}
		args := [][]string{{"-F", "12", "-s", "1", "-r", "64"}, {"-F", "16", "-s", "1"}, {"-F", "32", "-s", "1"}}[seed%3]
		kib := []int{1 << 10, 4 << 10, 36 << 10}[seed%3]
		img := filepath.Join(t.TempDir(), "fat.img")
		out, err := exec.Command("mkfs.fat", append(append([]string{"-C"}, args...), img, fmt.Sprint(kib))...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		base, rec := loaded(t, img)
		log, promises := onFAT.work(t, rec, seed, 40)
		onFAT.verify(t, base, log, promises, seed, 60, 512)
	}
}

// The checker of TestStatesFAT against fsck.fat: what one calls damage the other does too.
func TestJudgeFAT(t *testing.T) {
	oracle.Need(t, "mkfs.fat", "fsck.fat")
	img := filepath.Join(t.TempDir(), "fat.img")
	out, err := exec.Command("mkfs.fat", "-C", "-F", "16", "-s", "1", img, "4096").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, judgeFAT(img))
	f, err := os.OpenFile(img, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	// A file of one cluster whose FAT entry is free: at the root directory, behind a FAT of 32 sectors twice.
	root := int64(1+2*32) * 512
	b := make([]byte, 32)
	copy(b, "A       TXT\x20")
	b[26], b[28] = 2, 5
	_, err = f.WriteAt(b, root)
	require.NoError(t, err)
	require.ErrorContains(t, judgeFAT(img), string(check.ChainFree))
	said, rc := oracle.Run(t, "fsck.fat", "-n", img)
	require.NotZero(t, rc)
	require.True(t, strings.Contains(said, "free cluster") || strings.Contains(said, "A.TXT"), said)
}
