//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// env is where a workload runs, and on how much.
type env struct {
	mnt, dir string
	sizes
}

// sizes is how much a workload does: fusefat would take minutes for what the others do in a second.
type sizes struct {
	big          int64 // bytes of the large file
	many, perDir int   // empty or small files, and how many in a directory
}

// workload does something n times; run gives n in its unit.
type workload struct {
	name, unit string
	image      string // what it begins with, of prepare
	run        func(e *env) (float64, error)
	tool       func(e *env, s *system, img string) (float64, error) // of systems that mount nothing; nil: not for them
}

// ext2Workloads are what is run on ext2.
var ext2Workloads = []workload{
	{"sequential write, 1 MiB, fsync", "MiB/s", "empty", writeBig, nil},
	{"sequential read, cold", "MiB/s", "big", readBig, nil},
	{"random read 4 KiB, cached by us", "reads/s", "big", func(e *env) (float64, error) { return random(e, 1, false, 0) }, nil},
	{"direct random read 4 KiB, 1 job", "reads/s", "big", func(e *env) (float64, error) { return random(e, 1, false, unix.O_DIRECT) }, nil},
	{"direct random read 4 KiB, 16 jobs", "reads/s", "big", func(e *env) (float64, error) { return random(e, 16, false, unix.O_DIRECT) }, nil},
	{"direct random write 4 KiB, 16 jobs", "writes/s", "big", func(e *env) (float64, error) { return random(e, 16, true, unix.O_DIRECT) }, nil},
	{"create", "files/s", "empty", create, nil},
	{"stat, cold", "files/s", "many", stat, nil},
	{"list with attributes, cold", "files/s", "many", list, nil},
	{"unlink", "files/s", "many", unlink, nil},
	{"write files of 8 KiB", "files/s", "empty", small, nil},
	{"unpack a tar of Go's src", "entries/s", "empty", untar, nil},
	{"walk and read it, cold", "entries/s", "tree", walk, nil},
}

// prepare makes the images that the workloads begin with, and the tar file.
func (b *bench) prepare(dir string) error {
	e := &env{filepath.Join(dir, "mnt"), dir, b.sizes}
	if err := os.Mkdir(e.mnt, 0o755); err != nil {
		return err
	}
	empty := filepath.Join(dir, "empty")
	if err := b.mkfs(empty); err != nil {
		return err
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	if err := run("tar", append([]string{"-cf", filepath.Join(dir, "src.tar"), "-C", strings.TrimSpace(string(root))}, b.tar...)...); err != nil {
		return err
	}
	if err := run("tar", "-xf", filepath.Join(dir, "src.tar"), "-C", dir); err != nil {
		return err
	}
	for image, fill := range map[string]func(e *env) (float64, error){"big": writeBig, "many": create, "tree": untar} {
		if !slices.ContainsFunc(b.work, func(w workload) bool { return w.image == image }) {
			continue
		}
		img := filepath.Join(dir, image)
		if err := run("cp", "--sparse=always", empty, img); err != nil {
			return err
		}
		if err := b.filler.mount(img, e.mnt); err != nil {
			return err
		}
		_, err := fill(e)
		if err := errors.Join(err, b.filler.umount(img, e.mnt)); err != nil {
			return fmt.Errorf("fill the image %q: %w", image, err)
		}
	}
	return nil
}

func writeBig(e *env) (float64, error) {
	f, err := os.Create(filepath.Join(e.mnt, "big"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b := make([]byte, 1<<20)
	for i := range b {
		b[i] = byte(i * 7)
	}
	for range e.big >> 20 {
		if _, err := f.Write(b); err != nil {
			return 0, err
		}
	}
	return float64(e.big >> 20), f.Sync()
}

func readBig(e *env) (float64, error) {
	f, err := os.Open(filepath.Join(e.mnt, "big"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b := make([]byte, 1<<20)
	n := 0
	for {
		m, err := f.Read(b)
		n += m
		if err == io.EOF {
			return float64(n >> 20), nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// random does 4 KiB transfers for a second.
func random(e *env, jobs int, write bool, flags int) (float64, error) {
	var n atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, jobs)
	begun := time.Now()
	for j := range jobs {
		wg.Go(func() {
			fd, err := unix.Open(filepath.Join(e.mnt, "big"), unix.O_RDWR|flags, 0)
			if err != nil {
				errs[j] = err
				return
			}
			defer unix.Close(fd)
			mem, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
			if err != nil {
				errs[j] = err
				return
			}
			defer unix.Munmap(mem)
			for r := rand.New(rand.NewPCG(uint64(j), 1)); time.Since(begun) < time.Second; n.Add(1) {
				off := r.Int64N(e.big>>12) << 12
				if write {
					_, err = unix.Pwrite(fd, mem, off)
				} else {
					_, err = unix.Pread(fd, mem, off)
				}
				if err != nil {
					errs[j] = err
					return
				}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return float64(n.Load()), nil
}

func name(e *env, i int) string {
	return filepath.Join(e.mnt, fmt.Sprintf("d%d", i/e.perDir), fmt.Sprintf("file%d", i))
}

func create(e *env) (float64, error) {
	for i := range e.many {
		if i%e.perDir == 0 {
			if err := os.Mkdir(filepath.Dir(name(e, i)), 0o755); err != nil {
				return 0, err
			}
		}
		f, err := os.OpenFile(name(e, i), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return 0, err
		}
		f.Close()
	}
	return float64(e.many), nil
}

func stat(e *env) (float64, error) {
	for i := range e.many {
		if _, err := os.Lstat(name(e, i)); err != nil {
			return 0, err
		}
	}
	return float64(e.many), nil
}

func list(e *env) (float64, error) {
	n := 0
	for i := 0; i < e.many; i += e.perDir {
		des, err := os.ReadDir(filepath.Dir(name(e, i)))
		if err != nil {
			return 0, err
		}
		for _, d := range des {
			if _, err := d.Info(); err != nil {
				return 0, err
			}
			n++
		}
	}
	return float64(n), nil
}

func unlink(e *env) (float64, error) {
	for i := range e.many {
		if err := os.Remove(name(e, i)); err != nil {
			return 0, err
		}
	}
	return float64(e.many), nil
}

func small(e *env) (float64, error) {
	b := make([]byte, 8192)
	for i := range e.many {
		if i%e.perDir == 0 {
			if err := os.Mkdir(filepath.Dir(name(e, i)), 0o755); err != nil {
				return 0, err
			}
		}
		if err := os.WriteFile(name(e, i), b, 0o644); err != nil {
			return 0, err
		}
	}
	return float64(e.many), nil
}

func untar(e *env) (float64, error) {
	if out, err := exec.Command("tar", "--no-same-owner", "--no-same-permissions", "-xf", filepath.Join(e.dir, "src.tar"), "-C", e.mnt).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("tar: %w: %s", err, out)
	}
	return countTree(filepath.Join(e.mnt, "src"), false)
}

func walk(e *env) (float64, error) { return countTree(filepath.Join(e.mnt, "src"), true) }

func countTree(root string, read bool) (float64, error) {
	n := 0.0
	err := filepath.WalkDir(root, func(p string, d os.DirEntry, err error) error {
		n++
		if err != nil || !read || !d.Type().IsRegular() {
			return err
		}
		_, err = os.ReadFile(p)
		return err
	})
	return n, err
}
