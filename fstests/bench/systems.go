//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// system is one way to work with an image.
type system struct {
	name   string
	mount  func(img, dir string) error // nil: copies in and out without mounting
	other  func(img, dir string) error // another way to mount, nil for none; the faster one counts
	umount func(img, dir string) error // returns when the image is closed
	daemon bool                        // a process serves it, which has the image in its arguments
	ours   bool

	unjudged        bool                         // what it leaves behind is its own affair
	copyIn, copyOut func(img, host string) error // a tree src in the directory host to or from an image, of systems that mount nothing
}

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// mounted is iomapfs with mount options.
func mounted(bin, name, opts string) system {
	return system{
		name: name, daemon: true, ours: true,
		mount:  func(img, dir string) error { return run(bin, "mount", "-o", opts, img, dir) },
		umount: func(_, dir string) error { return run(bin, "umount", "--wait", dir) },
	}
}

// fuseUnmount unmounts what a daemon of libfuse serves.
func fuseUnmount(img, dir string) error {
	return unmount(dir, func() error {
		if pid := daemonOf(img); pid != 0 {
			return fmt.Errorf("process %d is still there", pid)
		}
		return nil
	})
}

var kernel = system{
	name:  "kernel",
	mount: func(img, dir string) error { return run("mount", "-t", "ext2", "-o", "loop", img, dir) },
	umount: func(img, dir string) error {
		// The loop device lets go of the image a little later.
		return unmount(dir, func() error {
			out, err := exec.Command("losetup", "-j", img).Output()
			if err == nil && len(out) > 0 {
				err = fmt.Errorf("still attached: %s", out)
			}
			return err
		})
	},
}

// unmount takes the mount away and waits until the image is closed.
func unmount(dir string, closed func() error) error {
	err := retry(func() error { return run("umount", dir) })
	if err == nil {
		err = retry(closed)
	}
	return err
}

func retry(f func() error) (err error) {
	for range 3000 {
		if err = f(); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

// daemonOf finds the process that has img among its arguments, 0 when there is none.
func daemonOf(img string) int {
	list, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range list {
		b, err := os.ReadFile(p)
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(p)))
		if err == nil && pid != os.Getpid() && bytes.Contains(b, []byte(img+"\x00")) {
			return pid
		}
	}
	return 0
}

// cpuOf is the time of the processor that a process has spent, in seconds.
func cpuOf(pid int) float64 {
	var t unix.Timespec
	// clock_getcpuclockid(3): the complement of the process, and 2 for what the scheduler counted.
	if pid == 0 || unix.ClockGettime(int32(^pid<<3|2), &t) != nil {
		return 0
	}
	return float64(t.Nano()) / 1e9
}

// peakOf is the largest resident memory of a process, in MiB.
func peakOf(pid int) float64 {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for l := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(l, "VmHWM:"); ok {
			kib, _ := strconv.ParseFloat(strings.Fields(v)[0], 64)
			return kib / 1024
		}
	}
	return 0
}
