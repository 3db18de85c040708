//go:build linux

package daemon

import (
	"os"

	"golang.org/x/sys/unix"
)

// OpenLog makes path the standard output and error of this process, so that a panic is found there too. Called again
// for the same path after somebody moved the file away, it goes on in a new one.
func OpenLog(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, fd := range []int{1, 2} {
		if err := unix.Dup3(int(f.Fd()), fd, 0); err != nil {
			return err
		}
	}
	return nil
}

// RotateLog moves the log of an earlier run to path.1, so that path tells of one run.
func RotateLog(path string) error {
	if err := os.Rename(path, path+".1"); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}
