package ext2

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/iomapfs/iomapfs/fstests/oracle"
	"github.com/iomapfs/iomapfs/vfs"
	vfsfuse "github.com/iomapfs/iomapfs/vfs/fuse"
)

const nobody = 65534

// posix runs go-fuse's POSIX tests in a directory.
func posix(t *testing.T, dir string) {
	for name, f := range posixtest.All {
		if why := notExt2[name]; why != "" {
			t.Logf("left out: %s: %s", name, why)
			continue
		}
		t.Run(name, func(t *testing.T) {
			sub := filepath.Join(dir, name)
			require.NoError(t, os.Mkdir(sub, 0o777))
			f(t, sub)
		})
	}
}

// TestPosix runs them through the mount, as root and, in a child, as somebody without privileges.
func TestPosix(t *testing.T) {
	for _, tr := range transports {
		for _, who := range []string{"root", "nobody"} {
			t.Run(tr+" "+who, func(t *testing.T) {
				img := oracle.Mke2fs(t, "256M", "-b", "4096")
				dir, umount := mount(t, img, vfs.MountOptions{}, vfsfuse.Options{Transport: tr})
				if who == "root" {
					posix(t, dir)
				} else {
					sub := filepath.Join(dir, "theirs")
					require.NoError(t, os.Mkdir(sub, 0o700))
					require.NoError(t, os.Chown(sub, nobody, nobody))
					require.NoError(t, os.Chmod(dir, 0o755))
					for p := filepath.Dir(dir); p != "/tmp" && p != "/"; p = filepath.Dir(p) {
						require.NoError(t, os.Chmod(p, 0o755))
					}
					cmd := exec.Command(os.Args[0], "-test.run", "^TestPosixHere$", "-test.v")
					cmd.Env = append(os.Environ(), "IOMAPFS_TEST_NOBODY="+sub)
					out, err := cmd.CombinedOutput()
					require.NoError(t, err, string(out))
					require.Contains(t, string(out), "--- PASS: TestPosixHere/DirectIO")
				}
				umount()
				oracle.E2fsck(t, img)
			})
		}
	}
}

// TestPosixHere is the child.
func TestPosixHere(t *testing.T) {
	dir := os.Getenv("IOMAPFS_TEST_NOBODY")
	if dir == "" {
		t.Skip("a part of TestPosix")
	}
	require.Equal(t, nobody, os.Geteuid())
	posix(t, dir)
}

// become gives up all privileges.
func become(id int) {
	for _, err := range []error{unix.Setgroups(nil), unix.Setresgid(id, id, id), unix.Setresuid(id, id, id), unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)} {
		if err != nil {
			panic(err)
		}
	}
}
