package crash

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/fat"
	"github.com/iomapfs/iomapfs/fs/fat/check"
	"github.com/iomapfs/iomapfs/fstests/oracle"
)

var onFAT = system{fat.Type, oracle.FATAfterCrash}

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
	require.NoError(t, oracle.FATAfterCrash(img))
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
	require.ErrorContains(t, oracle.FATAfterCrash(img), string(check.ChainFree))
	said, rc := oracle.Run(t, "fsck.fat", "-n", img)
	require.NotZero(t, rc)
	require.True(t, strings.Contains(said, "free cluster") || strings.Contains(said, "A.TXT"), said)
}
