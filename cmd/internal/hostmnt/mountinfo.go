//go:build linux

package hostmnt

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is one line of /proc/self/mountinfo.
type Mount struct {
	ID, Parent   int
	Major, Minor uint32 // st_dev of what is in it
	Point        string // absolute, without escapes
	Type         string // "fuse.iomapfs"
	Source       string
	Options      []string // of the mount
	SuperOptions []string // of the filesystem
}

// ReadOnly reports whether the mount or its filesystem refuses changes.
func (m *Mount) ReadOnly() bool {
	for _, o := range append(m.Options, m.SuperOptions...) {
		if o == "ro" {
			return true
		}
	}
	return false
}

// Mounts lists the mounts that this process sees, in the order they were made.
func Mounts() ([]Mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parse(f)
}

// parse reads mountinfo. Source: proc_pid_mountinfo(5).
func parse(r io.Reader) ([]Mount, error) {
	var list []Mount
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		left, right, ok := strings.Cut(sc.Text(), " - ")
		l, r := strings.Fields(left), strings.Fields(right)
		if !ok || len(l) < 6 || len(r) < 2 {
			return nil, fmt.Errorf("mountinfo: line %q is not of the known form", sc.Text())
		}
		m := Mount{Point: unescape(l[4]), Options: strings.Split(l[5], ","), Type: r[0], Source: unescape(r[1])}
		if len(r) > 2 {
			m.SuperOptions = strings.Split(r[2], ",")
		}
		var err error
		if m.ID, err = strconv.Atoi(l[0]); err != nil {
			return nil, fmt.Errorf("mountinfo: %w", err)
		}
		if m.Parent, err = strconv.Atoi(l[1]); err != nil {
			return nil, fmt.Errorf("mountinfo: %w", err)
		}
		if _, err := fmt.Sscanf(l[2], "%d:%d", &m.Major, &m.Minor); err != nil {
			return nil, fmt.Errorf("mountinfo: device %q: %w", l[2], err)
		}
		list = append(list, m)
	}
	return list, sc.Err()
}

// unescape turns the kernel's \040 forms back.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// At finds the topmost mount whose mount point is exactly the absolute path.
func At(path string) (*Mount, error) {
	list, err := Mounts()
	if err != nil {
		return nil, err
	}
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Point == path {
			return &list[i], nil
		}
	}
	return nil, nil
}

// Holding finds the topmost mount in which the absolute path lies.
func Holding(path string) (*Mount, error) {
	list, err := Mounts()
	if err != nil {
		return nil, err
	}
	var best *Mount
	for i := range list {
		p := list[i].Point
		if path != p && p != "/" && !strings.HasPrefix(path, p+"/") {
			continue
		}
		if best == nil || len(p) >= len(best.Point) {
			best = &list[i]
		}
	}
	return best, nil
}

// Point makes a mount point absolute and free of symbolic links, also when a dead FUSE server sits on it.
func Point(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	if err != nil {
		return "", err
	}
	p := filepath.Join(dir, filepath.Base(abs))
	if m, err := At(p); err == nil && m != nil {
		return p, nil // a mount point is no symbolic link, and looking at it might fail
	}
	return filepath.EvalSymlinks(p)
}

// Dead reports whether path is the mount point of a FUSE mount whose server is gone. Asked is statfs, which the kernel
// never answers from a cache, and for FUSE mounts only, so that no other file server can make this wait.
func Dead(path string) bool {
	p, err := Point(path)
	if err != nil {
		return errors.Is(err, unix.ENOTCONN)
	}
	m, err := At(p)
	if err != nil || m == nil || !strings.HasPrefix(m.Type, "fuse") {
		return false
	}
	var st unix.Statfs_t
	err = unix.Statfs(p, &st)
	return err == unix.ENOTCONN || err == unix.ECONNABORTED
}
