package file

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/blocktest"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// blocksOf is how much space a file takes, in bytes.
func blocksOf(t *testing.T, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	require.NoError(t, unix.Stat(path, &st))
	return st.Blocks * 512
}

func TestSparseStaysSparse(t *testing.T) {
	p := image(t, 64<<20)
	d := open(t, p, Options{})
	if d.Limits().DiscardGrain == 0 {
		t.Skip("the file system of the temporary directory makes no holes")
	}
	require.NoError(t, block.WriteAt(d, make([]byte, 1<<20), 8<<20, 0))
	require.NoError(t, block.Flush(d))
	require.GreaterOrEqual(t, blocksOf(t, p), int64(1<<20))
	require.NoError(t, block.WriteZeroes(d, 32<<20, 16<<20))
	require.Less(t, blocksOf(t, p), int64(2<<20), "zeroing a hole leaves it a hole")
	require.NoError(t, block.Discard(d, 8<<20, 1<<20))
	require.Less(t, blocksOf(t, p), int64(64<<10))
	require.NoError(t, block.SubmitWait(d, &block.Bio{Op: block.OpWriteZeroes, Flags: block.NoUnmap, Len: 1 << 20}))
	require.GreaterOrEqual(t, blocksOf(t, p), int64(1<<20), "NoUnmap keeps the space")
	st, err := os.Stat(p)
	require.NoError(t, err)
	require.EqualValues(t, 64<<20, st.Size(), "nothing changes the size")
}

// The zeroes that no system call makes are written.
func TestZeroesByHand(t *testing.T) {
	p := image(t, 4<<20)
	d := open(t, p, Options{Direct: true, directAlign: 4096})
	full := make([]byte, 4<<20)
	for i := range full {
		full[i] = 0xee
	}
	require.NoError(t, block.WriteAt(d, full, 0, 0))
	require.NoError(t, d.writeZeroes(512, 3<<20))
	got := make([]byte, 4<<20)
	require.NoError(t, block.ReadAt(d, got, 0))
	clear(full[512 : 512+3<<20])
	require.True(t, string(full) == string(got))
}

func TestReadOnlyFileOfSomebodyElse(t *testing.T) {
	if path := os.Getenv("FILE_TEST_UNPRIVILEGED"); path != "" {
		d, err := Open(path, Options{ReadOnly: true})
		require.NoError(t, err)
		require.NoError(t, block.ReadAt(d, make([]byte, 4096), 0))
		require.NoError(t, d.Close())
		_, err = Open(path, Options{})
		require.ErrorIs(t, err, errno.ACCES)
		require.ErrorContains(t, err, "open it read-only")
		return
	}
	if os.Getuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	dir, err := os.MkdirTemp("/tmp", "iomapfs-file")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	p, bin := filepath.Join(dir, "disk.img"), filepath.Join(dir, "test.bin")
	require.NoError(t, os.WriteFile(p, make([]byte, 8192), 0o444))
	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(bin, self, 0o755))
	cmd := exec.Command(bin, "-test.run", "^TestReadOnlyFileOfSomebodyElse$", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "FILE_TEST_UNPRIVILEGED="+p)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: TestReadOnlyFileOfSomebodyElse")
}

// loop attaches an image to a loop device, or skips.
func loop(t *testing.T, size int64, args ...string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for a loop device")
	}
	p := image(t, size)
	out, err := exec.Command("losetup", append(append([]string{"--show", "-f"}, args...), p)...).CombinedOutput()
	if err != nil {
		t.Skipf("no loop device here: %v: %s", err, out)
	}
	dev := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		out, err := exec.Command("losetup", "-d", dev).CombinedOutput()
		require.NoError(t, err, "%s", out)
	})
	return dev
}

func TestBlockDevice(t *testing.T) {
	for _, c := range []struct {
		name   string
		args   []string
		sector uint32
		opt    Options
	}{
		{"512", nil, 512, Options{}},
		{"512Direct", nil, 512, Options{Direct: true}},
		{"4096Direct", []string{"-b", "4096"}, 4096, Options{Direct: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dev := loop(t, 1<<20+8192, c.args...)
			blocktest.Run(t, blocktest.Config{Dirty: true, Steps: 150, Open: func(t *testing.T) block.Device {
				d, err := Open(dev, c.opt)
				require.NoError(t, err)
				require.EqualValues(t, 1<<20+8192, d.Size())
				require.Equal(t, c.sector, d.Limits().LogicalBlock)
				return d
			}})
		})
	}
}

func TestBlockDeviceInUse(t *testing.T) {
	dev := loop(t, 8<<20)
	d, err := Open(dev, Options{})
	require.NoError(t, err)
	_, err = Open(dev, Options{})
	require.ErrorIs(t, err, errno.BUSY)
	require.ErrorContains(t, err, dev)
	_, err = Open(dev, Options{ReadOnly: true})
	require.ErrorIs(t, err, errno.BUSY, "a reader beside a writer")
	require.NoError(t, d.Close())

	out, err := exec.Command("mkfs.ext2", "-q", dev).CombinedOutput()
	if err != nil {
		t.Skipf("no mkfs.ext2: %s", out)
	}
	mnt := t.TempDir()
	if out, err := exec.Command("mount", dev, mnt).CombinedOutput(); err != nil {
		t.Skipf("cannot mount here: %s", out)
	}
	defer func() { require.NoError(t, exec.Command("umount", mnt).Run()) }()
	_, err = Open(dev, Options{})
	require.ErrorIs(t, err, errno.BUSY, "mounted by the kernel")
	require.ErrorContains(t, err, "unmount it")
	open(t, dev, Options{ReadOnly: true})
}
