//go:build linux

package hostmnt

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	list, err := parse(strings.NewReader(
		`36 35 98:0 / /mnt rw,noatime master:1 - ext3 /dev/root rw,errors=continue
37 36 0:44 / /mnt/a\040b\134c ro,nosuid - fuse.iomapfs /srv/x\040y.img@2 rw,user_id=0
38 36 0:45 / /mnt/q rw - tmpfs tmpfs
`))
	require.NoError(t, err)
	require.Len(t, list, 3)
	require.Equal(t, `/mnt/a b\c`, list[1].Point)
	require.Equal(t, "fuse.iomapfs", list[1].Type)
	require.Equal(t, "/srv/x y.img@2", list[1].Source)
	require.True(t, list[1].ReadOnly())
	require.False(t, list[0].ReadOnly())
	require.Equal(t, uint32(98), list[0].Major)

	_, err = parse(strings.NewReader("nonsense\n"))
	require.ErrorContains(t, err, "mountinfo")
}

func TestMountsOfThisMachine(t *testing.T) {
	m, err := At("/")
	require.NoError(t, err)
	require.NotNil(t, m, "/ is a mount")
	h, err := Holding("/proc/self/status")
	require.NoError(t, err)
	require.Equal(t, "/proc", h.Point)
}

func TestPoint(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(dir, "real"), 0o755))
	require.NoError(t, os.Symlink("real", filepath.Join(dir, "link")))
	p, err := Point(filepath.Join(dir, "link"))
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "real"), p)
	_, err = Point(filepath.Join(dir, "nothing"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestHoldersNamesTheProcess(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	require.NoError(t, err)
	require.Empty(t, Holders(dir, 4))
	cmd := exec.Command("sleep", "60")
	cmd.Dir = dir
	require.NoError(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	require.Eventually(t, func() bool {
		h := Holders(dir, 4)
		return len(h) == 1 && strings.HasPrefix(h[0], "sleep[") && strings.HasSuffix(h[0], "] is in "+dir)
	}, 5e9, 1e7)
}

func TestMountPointFindings(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o644))
	require.Equal(t, "note", mountPoint(dir).State, "a directory with something in it is hidden by the mount")
	require.ErrorContains(t, CheckPoint(file), "is not a directory")
	require.ErrorContains(t, CheckPoint(filepath.Join(dir, "none")), "mkdir ")
	require.NoError(t, os.Remove(file))
	require.Equal(t, "ok", mountPoint(dir).State)
	for _, f := range Doctor(dir, false) {
		require.NotEmpty(t, f.What)
		if f.State == "bad" {
			require.NotEmpty(t, f.Do, f.What)
		}
	}
}
