package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"unsafe"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	vfsfuse "github.com/iomapfs/iomapfs/vfs/fuse"
	"golang.org/x/sys/unix"
)

// mountedFiemap asks the server of a mounted file for its extents, a buffer of them at a time.
func mountedFiemap(out *fiemapOut, info *vfs.FiemapInfo) error {
	f, err := os.Open(out.File)
	if err != nil {
		return err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("%s: %w", out.File, err)
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil {
		return fmt.Errorf("%s: %w", out.File, err)
	}
	out.Size, out.BlockSize = st.Size, uint32(fs.Bsize)
	le := binary.LittleEndian
	end := uint64(math.MaxInt64)
	if info.Len < end-info.Start {
		end = info.Start + info.Len
	}
	for pos := info.Start; pos < end; {
		var b [8192]byte
		le.PutUint64(b[0:], pos)
		le.PutUint64(b[8:], end-pos)
		le.PutUint32(b[16:], info.Flags)
		le.PutUint32(b[20:], vfsfuse.FiemapRoom)
		if _, _, e := unix.Syscall(unix.SYS_IOCTL, f.Fd(), vfsfuse.FiemapIoctl, uintptr(unsafe.Pointer(&b))); e != 0 {
			if errors.Is(e, unix.ENOTTY) || errors.Is(e, unix.EINVAL) || errors.Is(e, unix.ENOSYS) {
				return fmt.Errorf("%s: lies on no iomapfs mount (filefrag shows extents of others): %w", out.File, e)
			}
			return fmt.Errorf("%s: fiemap: %w", out.File, e)
		}
		n := le.Uint32(b[24:])
		if n > vfsfuse.FiemapRoom {
			return fmt.Errorf("%s: the server answered %d extents, asked were %d: %w", out.File, n, vfsfuse.FiemapRoom, errno.UCLEAN)
		}
		last := n < vfsfuse.FiemapRoom
		for i := range n {
			x := b[32+i*32:]
			e := vfs.FiemapExtent{Logical: le.Uint64(x), Physical: le.Uint64(x[8:]), Length: le.Uint64(x[16:]), Flags: le.Uint32(x[24:])}
			if err := info.Emit(e); err != nil {
				return err
			}
			last = last || e.Flags&vfs.ExtentLast != 0
			if e.Logical+e.Length <= pos {
				return fmt.Errorf("%s: the server's extents go backwards at byte %d: %w", out.File, e.Logical, errno.UCLEAN)
			}
			pos = e.Logical + e.Length
		}
		if last {
			return nil
		}
	}
	return nil
}

// mountedSeek asks the kernel for data and holes of a file.
func mountedSeek(path string) ([]segment, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is not a file", path)
	}
	list, err := segments(fi.Size(), func(pos int64, whence int) (int64, error) {
		n, err := unix.Seek(int(f.Fd()), pos, whence)
		if err != nil {
			return 0, errno.From(err)
		}
		return n, nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return list, nil
}
