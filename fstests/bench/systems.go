//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// system is one way to mount an ext2 image.
type system struct {
	name   string
	mount  func(img, dir string) error
	umount func(dir string) error
	daemon string // name of its process, "" for the kernel
}

func run(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

func systems(bin string) []system {
	um := func(dir string) error { return retry(func() error { return run("umount", dir) }) }
	ours := func(opts string) func(img, dir string) error {
		return func(img, dir string) error { return run(bin, "mount", "-o", opts, img, dir) }
	}
	return []system{
		{"kernel", func(img, dir string) error { return run("mount", "-t", "ext2", "-o", "loop", img, dir) }, func(dir string) error {
			if err := um(dir); err != nil {
				return err
			}
			// The loop device lets go of the image a little later.
			return retry(func() error {
				out, err := exec.Command("losetup", "-j", filepath.Join(filepath.Dir(dir), "img")).Output()
				if err == nil && len(out) > 0 {
					err = fmt.Errorf("still attached: %s", out)
				}
				return err
			})
		}, ""},
		{"fuse2fs", func(img, dir string) error {
			return run("fuse2fs", img, dir, "-o", "kernel_cache,big_writes,entry_timeout=3600,attr_timeout=3600,negative_timeout=3600,allow_other")
		}, func(dir string) error {
			if err := um(dir); err != nil {
				return err
			}
			return gone("fuse2fs")
		}, "fuse2fs"},
		{"iomapfs", ours("transport=fuse"), func(dir string) error { return run(bin, "umount", "--wait", dir) }, "iomapfs"},
		{"iomapfs io_uring", ours("transport=uring"), func(dir string) error { return run(bin, "umount", "--wait", dir) }, "iomapfs"},
	}
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

// gone waits until no process of that name is left: the image is closed.
func gone(name string) error {
	return retry(func() error {
		if pid := pidOf(name); pid != 0 {
			return fmt.Errorf("%s is still there", name)
		}
		return nil
	})
}

// pidOf finds the newest process of that name, other than this one.
func pidOf(name string) int {
	best := 0
	dirs, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, d := range dirs {
		b, err := os.ReadFile(d)
		if err != nil || strings.TrimSpace(string(b)) != name {
			continue
		}
		if pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(d))); pid > best {
			best = pid
		}
	}
	return best
}

// usage is what a daemon has cost so far: CPU seconds and its largest resident memory in MiB.
func usage(daemon string) (cpu, mem float64) {
	pid := pidOf(daemon)
	if daemon == "" || pid == 0 {
		return 0, 0
	}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if i := strings.LastIndexByte(string(b), ')'); i > 0 {
		f := strings.Fields(string(b[i+1:]))
		u, _ := strconv.ParseFloat(f[11], 64)
		s, _ := strconv.ParseFloat(f[12], 64)
		cpu = (u + s) / 100
	}
	b, _ = os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for _, l := range strings.Split(string(b), "\n") {
		if v, ok := strings.CutPrefix(l, "VmHWM:"); ok {
			mem, _ = strconv.ParseFloat(strings.Fields(v)[0], 64)
			mem /= 1024
		}
	}
	return cpu, mem
}
