package file

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// lockHost takes the lock of an opened image: exclusive for writers, shared for readers. A device may be locked for moments by
// the service that looks at new devices, so there the lock is tried for a while.
func lockHost(path string, fd int, st *unix.Stat_t, readOnly bool) error {
	how := unix.LOCK_EX
	if readOnly {
		how = unix.LOCK_SH
	}
	tries := 1
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		tries = 20
	}
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

// holder finds a process that has the file locked, for the message; "" when it cannot be told.
func holder(st *unix.Stat_t) string {
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return ""
	}
	key := fmt.Sprintf("%02x:%02x:%d", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	for sc := bufio.NewScanner(bytes.NewReader(locks)); sc.Scan(); {
		w := strings.Fields(sc.Text()) // 1: FLOCK ADVISORY WRITE PID MAJ:MIN:INO START END
		if len(w) < 6 || w[1] != "FLOCK" || w[5] != key || strings.HasPrefix(w[4], "-") || w[4] == "0" {
			continue
		}
		who := "process " + w[4]
		if comm, err := os.ReadFile("/proc/" + w[4] + "/comm"); err == nil {
			who += " (" + strings.TrimSpace(string(comm)) + ")"
		}
		return who
	}
	return ""
}
