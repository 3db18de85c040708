//go:build linux

package hostmnt

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Finding is one thing looked at.
type Finding struct {
	What string `json:"what"`
	// State is "ok", "note" (works, could be better) or "bad" (mounting will fail).
	State string `json:"state"`
	Text  string `json:"text"`
	Do    string `json:"do,omitempty"` // what to do about it
}

// Findings in their three states.
func ok(what, text string) Finding       { return Finding{what, "ok", text, ""} }
func note(what, text, do string) Finding { return Finding{what, "note", text, do} }
func bad(what, text, do string) Finding  { return Finding{what, "bad", text, do} }

// Doctor looks for what keeps this user from mounting, and at point unless it is empty.
func Doctor(point string, allowOther bool) []Finding {
	list := []Finding{kernel(), device(), helper(), otherUsers(allowOther), ring(), namespaces()}
	if point != "" {
		list = append(list, mountPoint(point))
	}
	return list
}

func root() bool { return os.Geteuid() == 0 }

func kernel() Finding {
	b, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return note("kernel", "cannot read /proc/filesystems: "+err.Error(), "mount /proc")
	}
	for _, l := range strings.Split(string(b), "\n") {
		if strings.TrimSpace(strings.TrimPrefix(l, "nodev")) == "fuse" {
			var u unix.Utsname
			if unix.Uname(&u) == nil {
				return ok("kernel", "FUSE is in kernel "+unix.ByteSliceToString(u.Release[:]))
			}
			return ok("kernel", "FUSE is there")
		}
	}
	return bad("kernel", "the kernel has no FUSE", "modprobe fuse")
}

func device() Finding {
	const dev = "/dev/fuse"
	var st unix.Stat_t
	if err := unix.Stat(dev, &st); err != nil {
		return bad(dev, "is not there", "modprobe fuse; in a container pass the device in (docker run --device /dev/fuse --cap-add SYS_ADMIN)")
	}
	mode := st.Mode & 0o777
	fd, err := unix.Open(dev, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		unix.Close(fd) //nolint:errcheck // nothing was done with it
		if mode != 0o666 && root() {
			return note(dev, fmt.Sprintf("opens; its mode is %04o, so users who are not root cannot mount", mode), "chmod 666 /dev/fuse (the usual mode)")
		}
		return ok(dev, "opens")
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM):
		return bad(dev, fmt.Sprintf("may not be opened: its mode is %04o, owner %d:%d", mode, st.Uid, st.Gid), "as root: chmod 666 /dev/fuse")
	}
	return bad(dev, "does not open: "+err.Error(), "modprobe fuse")
}

// Fusermount finds the helper that mounts and unmounts for users who are not root. Mount units run with a bare PATH.
func Fusermount() (string, error) {
	var err error
	for _, name := range []string{"fusermount3", "/usr/bin/fusermount3", "/bin/fusermount3"} {
		var p string
		if p, err = exec.LookPath(name); err == nil {
			return p, nil
		}
	}
	return "", err
}

func helper() Finding {
	p, err := Fusermount()
	switch {
	case err == nil && root():
		return ok("fusermount3", p+" (root does without)")
	case err != nil && root():
		return note("fusermount3", "is not installed; root does without", "apt install fuse3, for users who are not root")
	case err != nil:
		return bad("fusermount3", "is not installed, and only root mounts without it", "apt install fuse3, or use iomapfs run, which needs no helper")
	}
	var st unix.Stat_t
	if unix.Stat(p, &st) == nil && st.Mode&unix.S_ISUID == 0 {
		return bad("fusermount3", p+" has lost its set-uid bit", "as root: chmod u+s "+p)
	}
	return ok("fusermount3", p)
}

// AllowOtherPermitted reports whether this user may give allow_other.
func AllowOtherPermitted() bool { return root() || fuseConf("user_allow_other") }

func fuseConf(word string) bool {
	b, err := os.ReadFile("/etc/fuse.conf")
	if err != nil {
		return false
	}
	for _, l := range strings.Split(string(b), "\n") {
		if strings.TrimSpace(l) == word {
			return true
		}
	}
	return false
}

func otherUsers(wanted bool) Finding {
	switch {
	case root():
		return ok("allow_other", "root may give it")
	case fuseConf("user_allow_other"):
		return ok("allow_other", "/etc/fuse.conf has user_allow_other")
	case wanted:
		return bad("allow_other", "only root may give it here", "add a line user_allow_other to /etc/fuse.conf, or leave allow_other out")
	}
	return note("allow_other", "only root may give it here", "for mounts that others see, add a line user_allow_other to /etc/fuse.conf")
}

func ring() Finding {
	const sw = "/sys/module/fuse/parameters/enable_uring"
	b, err := os.ReadFile(sw)
	if err != nil {
		return note("io_uring", "this kernel has no FUSE over io_uring (Linux 6.14 has); small operations are two to three times as fast with it", "")
	}
	if strings.TrimSpace(string(b)) == "Y" {
		return ok("io_uring", "FUSE over io_uring is on")
	}
	if root() {
		return ok("io_uring", "FUSE over io_uring is off; a mount by root turns it on for itself")
	}
	return note("io_uring", "FUSE over io_uring is off; small operations are two to three times as fast with it", "as root: echo 1 > "+sw)
}

func namespaces() Finding {
	b, err := os.ReadFile("/proc/sys/user/max_user_namespaces")
	if err == nil && strings.TrimSpace(string(b)) == "0" {
		return note("namespaces", "user namespaces are switched off, so iomapfs run works for root only", "as root: sysctl user.max_user_namespaces=10000")
	}
	if b, err := os.ReadFile("/proc/sys/kernel/unprivileged_userns_clone"); err == nil && strings.TrimSpace(string(b)) == "0" && !root() {
		return note("namespaces", "user namespaces are root's here, so iomapfs run works for root only", "as root: sysctl kernel.unprivileged_userns_clone=1")
	}
	return ok("namespaces", "iomapfs run can use one")
}

// CheckPoint tells why a mount at point would fail, or nil. The text says what to do.
func CheckPoint(point string) error {
	if f := mountPoint(point); f.State == "bad" {
		return fmt.Errorf("%s: %s (%s)", f.What, f.Text, f.Do)
	}
	return nil
}

func mountPoint(point string) Finding {
	if Dead(point) {
		return bad(point, "is the mount of a server that is gone", "iomapfs umount "+point)
	}
	var st unix.Stat_t
	if err := unix.Stat(point, &st); err != nil {
		switch {
		case errors.Is(err, unix.ENOENT):
			return bad(point, "does not exist", "mkdir "+point)
		case errors.Is(err, unix.EACCES):
			return bad(point, "lies in a directory that you may not enter", "mount it in a directory of yours")
		}
		return bad(point, err.Error(), "use another mount point")
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return bad(point, "is not a directory", "use an empty directory")
	}
	if p, err := Point(point); err == nil {
		if m, err := At(p); err == nil && m != nil && m.Type == "fuse.iomapfs" {
			return bad(point, m.Source+" is mounted there already", "iomapfs umount "+point+", or use another directory")
		}
	}
	if !root() {
		switch {
		case unix.Access(point, unix.W_OK) != nil:
			return bad(point, "is not writable for you, which fusermount3 wants", "use a directory of yours")
		case st.Mode&unix.S_ISVTX != 0 && int(st.Uid) != os.Geteuid():
			return bad(point, "has the sticky bit and is not yours, which fusermount3 refuses", "use a directory of yours")
		}
	}
	if names, err := os.ReadDir(point); err == nil && len(names) > 0 {
		return note(point, fmt.Sprintf("is not empty; the mount will hide %s and the rest", filepath.Join(point, names[0].Name())), "")
	}
	return ok(point, "can be mounted on")
}
