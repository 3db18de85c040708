//go:build linux

package daemon

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// MountID names the files of the mount at an absolute mount point: its last element, for people, and a hash, so that
// two mounts differ. Short enough for the path of a socket.
func MountID(point string) string {
	base := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' {
			return r
		}
		return '_'
	}, filepath.Base(point))
	base = strings.TrimLeft(base[:min(len(base), 24)], ".")
	return fmt.Sprintf("%s-%x", base, sha256.Sum256([]byte(point)))[:len(base)+1+12]
}

// RuntimeDir is where sockets lie: /run/iomapfs for root, $XDG_RUNTIME_DIR/iomapfs, or /tmp/iomapfs-UID. It is made,
// mode 0700. One that belongs to somebody else is refused.
func RuntimeDir() (string, error) {
	dir := runtimeDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	if st := fi.Sys().(*syscall.Stat_t); !fi.IsDir() || int(st.Uid) != os.Geteuid() {
		return "", fmt.Errorf("%s is not a directory of yours; remove it, or set XDG_RUNTIME_DIR", dir)
	}
	return dir, nil
}

func runtimeDir() string {
	if d := os.Getenv("IOMAPFS_RUNTIME_DIR"); filepath.IsAbs(d) {
		return d
	}
	if os.Geteuid() == 0 {
		return "/run/iomapfs"
	}
	if d := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(d) {
		return filepath.Join(d, "iomapfs")
	}
	return filepath.Join(os.TempDir(), "iomapfs-"+strconv.Itoa(os.Geteuid()))
}

// Sockets lists the control sockets this user may reach: his own, and for root those of the users too.
func Sockets() []string {
	dirs := []string{runtimeDir()}
	if os.Geteuid() == 0 {
		for _, glob := range []string{"/run/user/*/iomapfs", filepath.Join(os.TempDir(), "iomapfs-*")} {
			more, _ := filepath.Glob(glob) // the patterns are well-formed
			dirs = append(dirs, more...)
		}
	}
	var list []string
	for _, d := range dirs {
		s, _ := filepath.Glob(filepath.Join(d, "*.sock"))
		list = append(list, s...)
	}
	return list
}

// StateDir is where logs lie: $XDG_STATE_HOME/iomapfs, ~/.local/state/iomapfs; for root without a home (systemd's mount
// units run so) /var/log/iomapfs; the RuntimeDir for who has no home, or one that does not exist, as services have. It is made.
func StateDir() (string, error) {
	dir := "/var/log/iomapfs"
	home, _ := os.UserHomeDir() // "" is handled
	switch x := os.Getenv("XDG_STATE_HOME"); {
	case filepath.IsAbs(x):
		dir = filepath.Join(x, "iomapfs")
	case os.Geteuid() == 0:
	case filepath.IsAbs(home):
		dir = filepath.Join(home, ".local", "state", "iomapfs")
		if os.MkdirAll(dir, 0o755) != nil {
			return RuntimeDir()
		}
	default:
		return RuntimeDir()
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// LogFile is the log of the mount at an absolute mount point.
func LogFile(point string) (string, error) {
	dir, err := StateDir()
	return filepath.Join(dir, MountID(point)+".log"), err
}
