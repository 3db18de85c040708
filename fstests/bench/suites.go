//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// suite is what is compared on one filesystem.
type suite struct {
	sizes
	sys        []system
	work       []workload
	references []string // systems that the ratios are taken against
	filler     system   // fills the images to begin with
	mkfs, fsck func(img string) error
	tar        []string // parts of GOROOT that are unpacked
}

func suiteOf(fs, bin, fuse2fs string) (suite, error) {
	switch fs {
	case "ext2":
		return ext2Suite(bin, fuse2fs), nil
	case "fat":
		return fatSuite(bin), nil
	}
	return suite{}, fmt.Errorf("no benchmarks of %q: there are ext2 and fat", fs)
}

// fuse2fsOptions suit fuse2fs best of all it has: the kernel keeps data, names and attributes, requests are large. Whether
// one thread or several are faster depends on the workload.
const fuse2fsOptions = "kernel_cache,big_writes,entry_timeout=3600,attr_timeout=3600,negative_timeout=3600,allow_other"

func ext2Suite(bin, opts string) suite {
	return suite{
		sizes: sizes{big: 256 << 20, many: 10000, perDir: 500},
		sys: []system{
			kernel,
			{
				name: "fuse2fs", daemon: true, umount: fuseUnmount,
				mount: func(img, dir string) error { return run("fuse2fs", img, dir, "-o", opts) },
				other: func(img, dir string) error { return run("fuse2fs", "-s", img, dir, "-o", opts) },
			},
			mounted(bin, "iomapfs", "transport=fuse"),
			mounted(bin, "iomapfs io_uring", "transport=uring"),
		},
		work: ext2Workloads, references: []string{"fuse2fs"}, filler: kernel,
		mkfs: func(img string) error {
			return run("mke2fs", "-q", "-F", "-t", "ext2", "-b", "4096", "-N", "65536", img, "1G")
		},
		fsck: func(img string) error { return run("e2fsck", "-fn", img) },
		tar:  []string{"src/cmd", "src/net", "src/runtime", "src/crypto"},
	}
}

// fusefatOptions allow fusefat to write, and let the kernel keep what it may.
const fusefatOptions = "rw+,kernel_cache,big_writes,entry_timeout=3600,attr_timeout=3600,negative_timeout=3600,allow_other"

func fatSuite(bin string) suite {
	fuse := mounted(bin, "iomapfs", "transport=fuse,quiet")
	return suite{
		sizes: sizes{big: 64 << 20, many: 500, perDir: 100},
		sys: []system{
			{
				name: "fusefat", daemon: true, umount: fuseUnmount, unjudged: true,
				mount: func(img, dir string) error { return run("fusefat", img, dir, "-s", "-o", fusefatOptions) },
			},
			{
				name: "mtools",
				copyIn: func(img, host string) error {
					return run("mcopy", "-s", "-Q", "-i", img, filepath.Join(host, "src"), "::")
				},
				copyOut: func(img, host string) error { return run("mcopy", "-s", "-Q", "-n", "-i", img, "::src", host) },
			},
			fuse,
			mounted(bin, "iomapfs io_uring", "transport=uring,quiet"),
			{
				name: "iomapfs cp", ours: true,
				copyIn:  func(img, host string) error { return run(bin, "cp", "-r", filepath.Join(host, "src"), img+":/") },
				copyOut: func(img, host string) error { return run(bin, "cp", "-r", img+":/src", host) },
			},
		},
		work: fatWorkloads, references: []string{"fusefat", "mtools"}, filler: fuse,
		mkfs: func(img string) error { return run("mkfs.fat", "-F", "32", "-s", "8", "-C", img, "409600") },
		fsck: func(img string) error { return run("fsck.fat", "-n", img) },
		tar:  []string{"src/net/http", "src/encoding"},
	}
}

// fatWorkloads are what is run on FAT.
var fatWorkloads = []workload{
	{"sequential write, 1 MiB, fsync", "MiB/s", "empty", writeBig, nil},
	{"sequential read, cold", "MiB/s", "big", readBig, nil},
	{"random read 4 KiB, cached by us", "reads/s", "big", func(e *env) (float64, error) { return random(e, 1, false, 0) }, nil},
	{"direct random read 4 KiB, 1 job", "reads/s", "big", func(e *env) (float64, error) { return random(e, 1, false, unix.O_DIRECT) }, nil},
	{"direct random read 4 KiB, 16 jobs", "reads/s", "big", func(e *env) (float64, error) { return random(e, 16, false, unix.O_DIRECT) }, nil},
	{"create", "files/s", "empty", create, nil},
	{"stat, cold", "files/s", "many", stat, nil},
	{"list with attributes, cold", "files/s", "many", list, nil},
	{"unlink", "files/s", "many", unlink, nil},
	{"write files of 8 KiB", "files/s", "empty", small, nil},
	{"unpack a tar of Go's net/http", "entries/s", "empty", untar, nil},
	{"copy that tree in, sync", "entries/s", "empty", copyIn, func(e *env, s *system, img string) (float64, error) {
		if err := s.copyIn(img, e.dir); err != nil {
			return 0, err
		}
		return countTree(filepath.Join(e.dir, "src"), false)
	}},
	{"copy it out", "entries/s", "tree", copyOut, func(e *env, s *system, img string) (float64, error) {
		return out(e, func(to string) error { return s.copyOut(img, to) })
	}},
	{"walk and read it, cold", "entries/s", "tree", walk, nil},
}

// copyIn copies a tree into the mount, until it is on the medium.
func copyIn(e *env) (float64, error) {
	if err := run("cp", "-r", filepath.Join(e.dir, "src"), e.mnt); err != nil {
		return 0, err
	}
	f, err := os.Open(e.mnt)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return 0, err
	}
	return countTree(filepath.Join(e.dir, "src"), false)
}

func copyOut(e *env) (float64, error) {
	return out(e, func(to string) error { return run("cp", "-r", filepath.Join(e.mnt, "src"), to) })
}

// out has f copy a tree into a new directory, and takes that away.
func out(e *env, f func(to string) error) (float64, error) {
	to := filepath.Join(e.dir, "out")
	defer os.RemoveAll(to) //nolint:errcheck // in a temporary directory
	if err := os.Mkdir(to, 0o755); err != nil {
		return 0, err
	}
	if err := f(to); err != nil {
		return 0, err
	}
	return countTree(filepath.Join(to, "src"), false)
}
