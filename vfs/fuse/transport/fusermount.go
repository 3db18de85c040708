//go:build linux

package transport

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// helperPath finds the setuid helper that mounts for people who are not root.
func helperPath() (string, error) {
	for _, name := range []string{"fusermount3", "/usr/bin/fusermount3", "/bin/fusermount3", "fusermount"} {
		if p, err := exec.LookPath(name); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("mounting without root needs fusermount3 (apt install fuse3): %w", exec.ErrNotFound)
}

// mountHelper lets fusermount3 mount. It opens /dev/fuse itself and passes it to us over the socket whose number it
// finds in _FUSE_COMMFD.
func (m *mountSpec) mountHelper() (fd int, err error) {
	bin, err := helperPath()
	if err != nil {
		return -1, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("mount at %s: socket pair: %w", m.point, err)
	}
	ours, theirs := pair[0], os.NewFile(uintptr(pair[1]), "fusermount")
	defer unix.Close(ours) //nolint:errcheck // read only

	var stderr bytes.Buffer
	cmd := exec.Command(bin, "-o", joinOptions(m.words), "--", m.point)
	cmd.Env = append(os.Environ(), "_FUSE_COMMFD=3")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = &stderr
	err = cmd.Run()
	theirs.Close() //nolint:errcheck // the helper's end
	if err != nil {
		return -1, m.helperError(err, stderr.String())
	}
	return receiveFD(ours)
}

// helperError turns what fusermount3 printed into what to do about it.
func (m *mountSpec) helperError(err error, said string) error {
	said = strings.TrimSpace(said)
	said, _, _ = strings.Cut(said, "\n")
	hint := ""
	switch {
	case strings.Contains(said, "user_allow_other"):
		hint = " (add a line user_allow_other to /etc/fuse.conf, or leave allow_other out)"
	case strings.Contains(said, "/dev/fuse"):
		return fmt.Errorf("mount at %s: %w", m.point, deviceError(unix.EACCES))
	case strings.Contains(said, "no write access"), strings.Contains(said, "not owned"), strings.Contains(said, "user has no"):
		hint = " (the mount point must be a directory of yours that you may write to)"
	}
	if said == "" {
		said = err.Error()
	}
	return fmt.Errorf("mount at %s: %s%s: %w", m.point, said, hint, unix.EPERM)
}

// joinOptions joins with commas for fusermount3; a comma or backslash inside an option is escaped.
func joinOptions(words []string) string {
	esc := strings.NewReplacer(`\`, `\\`, `,`, `\,`)
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = esc.Replace(w)
	}
	return strings.Join(out, ",")
}

// receiveFD takes one file descriptor off a socket.
func receiveFD(sock int) (int, error) {
	var data [4]byte
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(sock, data[:], oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fusermount3: receive the device: %w", err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return -1, errors.New("fusermount3 sent no device")
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.New("fusermount3 sent no device")
	}
	return fds[0], nil
}

func unmountHelper(point string, lazy bool) error {
	bin, err := helperPath()
	if err != nil {
		return err
	}
	args := []string{"-u"}
	if lazy {
		args = append(args, "-z")
	}
	out, err := exec.Command(bin, append(args, "--", point)...).CombinedOutput()
	if err != nil {
		said, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		if strings.Contains(said, "busy") {
			return fmt.Errorf("unmount %s: %w", point, unix.EBUSY)
		}
		return fmt.Errorf("unmount %s: %s", point, said)
	}
	return nil
}
