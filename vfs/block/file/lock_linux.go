package file

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// lockHost takes the lock of an opened image. Of a file: flock, exclusive for the writer of the whole and shared for everybody
// else, and, unless share leaves it to lockRange, the lock of all bytes. A block device may be locked for moments by the service
// that looks at new devices, so there the lock is tried for a while; it is always locked as a whole.
func lockHost(path string, fd int, st *unix.Stat_t, readOnly, share bool) error {
	device := st.Mode&unix.S_IFMT == unix.S_IFBLK
	how := unix.LOCK_EX
	if readOnly || share && !device {
		how = unix.LOCK_SH
	}
	tries := 1
	if device {
		tries = 20
	}
	if err := flock(path, fd, st, how, tries, readOnly); err != nil || device || share {
		return err
	}
	return lockRange(path, fd, st, 0, 0, readOnly)
}

// flock takes or changes the lock of the file as a whole.
func flock(path string, fd int, st *unix.Stat_t, how, tries int, readOnly bool) error {
	var err error
	for i := range tries {
		if i > 0 {
			time.Sleep(25 * time.Millisecond)
		}
		err = retry(func() error { return unix.Flock(fd, how|unix.LOCK_NB) })
		if err != unix.EWOULDBLOCK {
			break
		}
	}
	return lockError(path, st, err, readOnly)
}

// lockRange locks n bytes from off on, all the rest when n is 0: shared for readers, exclusive for a writer. The lock belongs to
// the open file description, so it goes with the device and not with any close of the file in this process.
func lockRange(path string, fd int, st *unix.Stat_t, off, n int64, readOnly bool) error {
	l := unix.Flock_t{Type: unix.F_WRLCK, Start: off, Len: n}
	if readOnly {
		l.Type = unix.F_RDLCK
	}
	err := retry(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &l) })
	if err == unix.EACCES {
		err = unix.EAGAIN
	}
	return lockError(path, st, err, readOnly)
}

// lockError says what a refused lock means.
func lockError(path string, st *unix.Stat_t, err error, readOnly bool) error {
	switch {
	case err == nil:
		return nil
	case err == unix.EWOULDBLOCK:
		return busy(path, holder(st), readOnly)
	case readOnly:
		return nil // a file system without locks: readers do no harm
	}
	return fmt.Errorf("%s: cannot be locked against a second writer (%v); open it read-only, or without locking: %w", path, err, number(err))
}

// lockRange locks a part of an image file that was opened to be shared; the whole when it is off 0 and all its size.
func (h *host) lockRange(path string, off, n int64, whole, readOnly bool) error {
	if h.device {
		return nil // locked as a whole
	}
	var st unix.Stat_t
	if err := unix.Fstat(h.f, &st); err != nil {
		return fmt.Errorf("%s: %w", path, number(err))
	}
	if !whole {
		return lockRange(path, h.f, &st, off, n, readOnly)
	}
	if !readOnly {
		if err := flock(path, h.f, &st, unix.LOCK_EX, 1, readOnly); err != nil {
			return err
		}
	}
	return lockRange(path, h.f, &st, 0, 0, readOnly)
}

// unlock gives up all locks by name: a child between fork and exec still has the descriptor, and with it the locks.
func (h *host) unlock() {
	_ = unix.Flock(h.f, unix.LOCK_UN) // the close gives it up too, and the other
	_ = unix.FcntlFlock(uintptr(h.f), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK})
}

// busy says who has the image and what to do.
func busy(path, who string, readOnly bool) error {
	if who != "" {
		who = " by " + who
	}
	if readOnly {
		return fmt.Errorf("%s: in use%s, which may write to it; unmount it there, or wait for it to end: %w", path, who, errno.BUSY)
	}
	return fmt.Errorf("%s: in use%s; unmount it there, wait for it to end, or open the image read-only beside other readers: %w",
		path, who, errno.BUSY)
}

// holder finds the process that has the file locked, for the message; "" when it cannot be told. Everybody holds flock, so
// that shows who it is, if it is one: /proc/locks names nobody for the locks of bytes.
func holder(st *unix.Stat_t) string {
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return ""
	}
	key := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	self := strconv.Itoa(os.Getpid())
	pid := ""
	for sc := bufio.NewScanner(bytes.NewReader(locks)); sc.Scan(); {
		w := strings.Fields(sc.Text()) // 1: FLOCK ADVISORY WRITE PID MAJ:MIN:INO START END
		if len(w) < 6 || w[1] != "FLOCK" || w[5] != key || strings.HasPrefix(w[4], "-") || w[4] == "0" {
			continue
		}
		switch {
		case pid == "" || pid == self:
			pid = w[4]
		case w[4] != self && w[4] != pid:
			return "" // several: which of them has these bytes is not told
		}
	}
	if pid == "" {
		return ""
	}
	who := "process " + pid
	if comm, err := os.ReadFile("/proc/" + pid + "/comm"); err == nil {
		who += " (" + strings.TrimSpace(string(comm)) + ")"
	}
	return who
}
