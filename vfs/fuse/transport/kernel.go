//go:build linux

package transport

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const ringSwitch = "/sys/module/fuse/parameters/enable_uring"

// RingEnabled reports whether the kernel offers FUSE over io_uring to new mounts. known is false where the kernel has
// no such switch: older than 6.14, or built without it.
func RingEnabled() (on, known bool) {
	b, err := os.ReadFile(ringSwitch)
	if err != nil {
		return false, false
	}
	return strings.HasPrefix(string(b), "Y") || strings.HasPrefix(string(b), "1"), true
}

// EnableRing turns the kernel's switch for FUSE over io_uring on or off, for new mounts of the whole machine. Root only.
func EnableRing(on bool) error {
	word := "N"
	if on {
		word = "Y"
	}
	if err := os.WriteFile(ringSwitch, []byte(word), 0); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("this kernel has no FUSE over io_uring (needs Linux 6.14 with CONFIG_FUSE_IO_URING): %w", err)
		}
		return fmt.Errorf("turn FUSE over io_uring on or off: %w", err)
	}
	return nil
}

// switchPatience is how long a mount waits for others that have the switch turned on for a moment.
const switchPatience = 2 * time.Second

// lendRing turns the kernel's switch on until giveBack is called. Once a connection has agreed to io_uring the kernel does
// not look at the switch again, so it is on for the moment of a mount only and the machine stays as its administrator wants
// it. Mounts at the same time wait for each other, by a lock on the switch's file, so that none turns it off under another.
func lendRing() (giveBack func() error, err error) {
	nothing := func() error { return nil }
	f, err := os.OpenFile(ringSwitch, os.O_RDWR, 0)
	if err != nil {
		return nothing, fmt.Errorf("turn FUSE over io_uring on: %w", err)
	}
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Since(began) > switchPatience {
			f.Close() //nolint:errcheck // nothing was written
			return nothing, fmt.Errorf("%s: lock: %w", ringSwitch, err)
		}
	}
	if on, _ := RingEnabled(); on {
		return nothing, f.Close()
	}
	if _, err := f.WriteString("Y"); err != nil {
		f.Close() //nolint:errcheck // nothing was written
		return nothing, fmt.Errorf("turn FUSE over io_uring on: %w", err)
	}
	return func() error { return errors.Join(EnableRing(false), f.Close()) }, nil
}

// maxWriteLimit is the most bytes a request may carry on this kernel.
func maxWriteLimit() int {
	const pages = 256 // before the limit could be set
	if b, err := os.ReadFile("/proc/sys/fs/fuse/max_pages_limit"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil && n > 0 {
			return n * os.Getpagesize()
		}
	}
	return pages * os.Getpagesize()
}

// cpuList reads one of the kernel's lists of CPUs, as "0-3,8".
func cpuList(name string) ([]int, error) {
	b, err := os.ReadFile("/sys/devices/system/cpu/" + name)
	if err != nil {
		return nil, err
	}
	return parseCPUList(strings.TrimSpace(string(b)))
}

// maxCPUs bounds what a list may name: queue numbers have 16 bits.
const maxCPUs = 1 << 16

func parseCPUList(s string) ([]int, error) {
	var cpus []int
	for part := range strings.SplitSeq(s, ",") {
		lo, hi, isRange := strings.Cut(part, "-")
		a, err := strconv.Atoi(lo)
		b := a
		if err == nil && isRange {
			b, err = strconv.Atoi(hi)
		}
		if err != nil || a < 0 || b < a || b >= maxCPUs {
			return nil, fmt.Errorf("list of CPUs %q: cannot read %q", s, part)
		}
		for c := a; c <= b; c++ {
			cpus = append(cpus, c)
		}
	}
	return cpus, nil
}

// mountID names a mount: by the device number that stat calls st_dev, after which FUSE names the connection and the
// backing device info, and by the number of the mount, as device numbers are used again at once.
type mountID struct {
	major, minor uint32
	id           uint64
}

// mountedAt says what is mounted at path, without asking the server behind it.
func mountedAt(path string) (mountID, error) {
	var st unix.Statx_t
	// Before Linux 6.8 the kernel ignores the first and gives the second, a number that is used again later.
	const mask = unix.STATX_MNT_ID_UNIQUE | unix.STATX_MNT_ID
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, mask, &st); err != nil {
		return mountID{}, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	return mountID{st.Dev_major, st.Dev_minor, st.Mnt_id}, nil
}

// setReadAhead sets the readahead of a mount's backing device info, in KiB.
func (d mountID) setReadAhead(kib int, block bool) error {
	name := fmt.Sprintf("/sys/class/bdi/%d:%d", d.major, d.minor)
	if block {
		name += "-fuseblk"
	}
	return os.WriteFile(name+"/read_ahead_kb", strconv.AppendInt(nil, int64(kib), 10), 0)
}

// abort cuts the connection: every request in the kernel ends with an error, and so do later ones.
// It uses the control filesystem where that is mounted, or as root mounts one aside.
func (d mountID) abort() error {
	const usual = "/sys/fs/fuse/connections"
	// The kernel's own form of a device number.
	file := filepath.Join(strconv.FormatUint(uint64(d.major)<<20|uint64(d.minor), 10), "abort")
	err := os.WriteFile(filepath.Join(usual, file), []byte("1"), 0)
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	dir, err := os.MkdirTemp("", "fusectl")
	if err != nil {
		return err
	}
	defer os.Remove(dir) //nolint:errcheck // an empty directory in the temporary folder at worst
	if err := unix.Mount("fusectl", dir, "fusectl", 0, ""); err != nil {
		return fmt.Errorf("abort: no control filesystem at %s (mount -t fusectl none %s): %w", usual, usual, err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH) //nolint:errcheck // nothing is open in it
	return os.WriteFile(filepath.Join(dir, file), []byte("1"), 0)
}
