package copytree

import (
	"syscall"

	"github.com/iomapfs/iomapfs/vfs"
	"golang.org/x/sys/unix"
)

const noAttr = unix.ENOATTR

func atimeOf(st *syscall.Stat_t) vfs.Time {
	return vfs.Time{Sec: st.Atimespec.Sec, Nsec: uint32(st.Atimespec.Nsec)}
}
