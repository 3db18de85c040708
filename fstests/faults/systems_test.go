package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fs/ext2"
	"github.com/iomapfs/iomapfs/fs/fat"
	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/vfs"
)

// system is a filesystem to try.
type system struct {
	name    string
	fs      *vfs.FileSystem
	make    func(t testing.TB) string          // an image of a few MiB, in units of 1 KiB, and gives its path
	judge   func(img string, clean bool) error // has it repaired as a boot would, where there is such a thing; clean: there must be no need
	without []string                           // workloads of what it does not have
}

var systems = []*system{
	{
		name: "ext2", fs: ext2.Type,
		make: func(t testing.TB) string {
			oracle.Need(t, "mke2fs", "e2fsck")
			return oracle.Mke2fs(t, "4M", "-b", "1024", "-m", "0", "-N", "128")
		},
		judge: e2fsck,
	},
	{
		name: "fat", fs: fat.Type,
		make: func(t testing.TB) string {
			img := filepath.Join(t.TempDir(), "fat.img")
			out, rc := oracle.Run(t, "mkfs.fat", "-F", "16", "-s", "2", "-C", img, "5120")
			require.Zero(t, rc, "%s", out)
			return img
		},
		judge:   fsckFAT,
		without: []string{"punch", "fallocate", "link", "symbolic links", "attributes"},
	},
}

// workloads are those that the system can do.
func (sys *system) workloads() (list []workload) {
	for _, w := range workloads {
		if !slices.Contains(sys.without, w.name) {
			list = append(list, w)
		}
	}
	return list
}

func e2fsck(img string, clean bool) error {
	how, most := "-fp", 1
	if clean {
		how, most = "-fn", 0
	}
	out, err := exec.Command("e2fsck", how, img).CombinedOutput()
	if ee, ok := err.(*exec.ExitError); err != nil && (!ok || ee.ExitCode() > most) {
		return fmt.Errorf("e2fsck %s: %w\n%s", how, err, out)
	}
	return nil
}

// fsckFAT repairs nothing: what a crash may leave does not keep anybody from using the filesystem.
func fsckFAT(img string, clean bool) error {
	if !clean {
		return oracle.FATAfterCrash(img)
	}
	if out, err := exec.Command("fsck.fat", "-n", img).CombinedOutput(); err != nil {
		return fmt.Errorf("fsck.fat -n: %w\n%s", err, out)
	}
	return nil
}

// image makes an image whose free space is poisoned, and gives its bytes.
func (sys *system) image(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(sys.make(t))
	require.NoError(t, err)
	return sys.poisoned(t, data)
}
