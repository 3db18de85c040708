//go:build linux

package transport_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/iomapfs/iomapfs/vfs/fuse/transport"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// loopDevice makes a block device of a file.
func loopDevice(t *testing.T) string {
	t.Helper()
	img, err := os.Create(filepath.Join(t.TempDir(), "image"))
	require.NoError(t, err)
	defer img.Close() //nolint:errcheck // the loop device holds it
	require.NoError(t, img.Truncate(1<<20))
	ctl, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("SKIPPED: NO LOOP DEVICES HERE, FUSEBLK WAS NOT TESTED: %v", err)
	}
	defer unix.Close(ctl) //nolint:errcheck // nothing to write back
	for range 20 {
		n, err := unix.IoctlRetInt(ctl, unix.LOOP_CTL_GET_FREE)
		require.NoError(t, err)
		name := fmt.Sprintf("/dev/loop%d", n)
		fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		err = unix.IoctlLoopConfigure(fd, &unix.LoopConfig{Fd: uint32(img.Fd())})
		if err == nil {
			t.Cleanup(func() {
				require.NoError(t, unix.IoctlSetInt(fd, unix.LOOP_CLR_FD, 0))
				require.NoError(t, unix.Close(fd))
			})
			return name
		}
		require.NoError(t, unix.Close(fd))
		if !errors.Is(err, unix.EBUSY) { // somebody else was faster
			require.NoError(t, err)
		}
	}
	t.Fatal("no free loop device")
	return ""
}

func TestBlockMount(t *testing.T) {
	for _, kind := range []transport.Kind{transport.Device, transport.Ring} {
		t.Run(kind.String(), func(t *testing.T) {
			if kind == transport.Ring {
				needRing(t)
			}
			needFUSE(t)
			dev := loopDevice(t)
			var destroyed, synced atomic.Int32
			var figetbsz atomic.Uint32 // in which FIBMAP counts; the kernel's page size since 6.17, whatever blksize says
			fs := newMemFS()
			m := mount(t, kind, fs, func(o *fuse.MountOptions, to *transport.Options) {
				o.Name, o.FsName = "iomapfs", dev
				to.Block, to.BlockSize = true, 1024
				to.ReadAheadKiB = 512
				to.Hooks = transport.Hooks{
					Bmap: func(node, block uint64, size uint32) (uint64, fuse.Status) {
						if size != figetbsz.Load() {
							return 0, fuse.EINVAL
						}
						if block > 1000 {
							return 0, fuse.Status(unix.ENXIO)
						}
						return node*10000 + block, fuse.OK
					},
					SyncFS:  func() fuse.Status { synced.Add(1); return fuse.OK },
					Destroy: func() { destroyed.Add(1) },
				}
			})
			require.Equal(t, "fuseblk.iomapfs", mountLine(t, m.dir)[2])
			require.Contains(t, mountLine(t, m.dir)[3], "blksize=")
			var st unix.Stat_t
			require.NoError(t, unix.Stat(m.dir, &st))
			b, err := os.ReadFile(fmt.Sprintf("/sys/class/bdi/%d:%d-fuseblk/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev)))
			require.NoError(t, err)
			require.Equal(t, "512\n", string(b))

			f, err := os.Create(filepath.Join(m.dir, "f"))
			require.NoError(t, err)
			n, err := unix.IoctlGetInt(int(f.Fd()), 2)
			require.NoError(t, err)
			figetbsz.Store(uint32(n))
			fibmap := func(n int32) (int32, error) {
				_, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), 1, uintptr(unsafe.Pointer(&n)))
				if e != 0 {
					return 0, e
				}
				return n, nil
			}
			got, err := fibmap(7)
			require.NoError(t, err)
			require.EqualValues(t, 2*10000+7, got)
			got, err = fibmap(5000)
			require.NoError(t, err)
			require.Zero(t, got, "the kernel makes a hole of an error")

			require.NoError(t, unix.Syncfs(int(f.Fd())))
			t.Logf("SyncFS was asked %d times", synced.Load())
			require.NoError(t, f.Close())
			require.Zero(t, destroyed.Load())
			require.NoError(t, unix.Unmount(m.dir, 0))
			require.EqualValues(t, 1, destroyed.Load(), "before umount(2) returns")
		})
	}
}
