//go:build linux

package fuse_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/hanwen/go-fuse/v2/posixtest"
	"github.com/stretchr/testify/require"

	vfsfuse "github.com/iomapfs/iomapfs/vfs/fuse"
)

const nobody = 65534

// notPosix wants two descriptors of one process to conflict: POSIX locks belong to the process.
const notPosix = "FcntlFlockLocksFile"

func TestPosix(t *testing.T) {
	each(t, func(t *testing.T, tr string) {
		posix(t, mount(t, vfsfuse.Options{Transport: tr}, nil).dir)
	})
}

func posix(t *testing.T, dir string) {
	for name, f := range posixtest.All {
		if name == notPosix {
			continue
		}
		t.Run(name, func(t *testing.T) {
			sub := filepath.Join(dir, name)
			require.NoError(t, os.Mkdir(sub, 0o777))
			f(t, sub)
		})
	}
}

// TestPosixUnprivileged is the same as somebody who may do nothing, through allow_other.
func TestPosixUnprivileged(t *testing.T) {
	each(t, func(t *testing.T, tr string) {
		m := mount(t, vfsfuse.Options{Transport: tr, AllowOther: true}, nil)
		sub := filepath.Join(m.dir, "theirs")
		require.NoError(t, os.Mkdir(sub, 0o700))
		require.NoError(t, os.Chown(sub, nobody, nobody))
		out, err := child(t, nobody, "posix", sub, "-test.run", "^TestPosixHere$", "-test.v").CombinedOutput()
		require.NoError(t, err, string(out))
		require.Contains(t, string(out), "--- PASS: TestPosixHere/DirectIO")
		require.NotContains(t, string(out), "SKIP")
	})
}

// TestPosixHere is the child of the above.
func TestPosixHere(t *testing.T) {
	if os.Getenv(childName) == "" {
		t.Skip("a part of TestPosixUnprivileged")
	}
	require.Equal(t, nobody, os.Geteuid())
	posix(t, os.Getenv(childDir))
}
