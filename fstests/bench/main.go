//go:build linux

package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	bin := flag.String("bin", "bin/iomapfs", "the program")
	runs := flag.Int("runs", 3, "runs of each workload on each system")
	only := flag.String("only", "", "workloads whose name contains this")
	tmp := flag.String("tmp", "/dev/shm", "where the images lie")
	flag.Parse()
	if err := bench(*bin, *tmp, *runs, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(bin, tmp string, runs int, only string) error {
	dir, err := os.MkdirTemp(tmp, "iomapfs-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := prepare(dir); err != nil {
		return err
	}
	sys := systems(bin)
	cpu, mem := make([]float64, len(sys)), make([]float64, len(sys))
	fmt.Print("| workload | unit |")
	for _, s := range sys {
		fmt.Printf(" %s |", s.name)
	}
	fmt.Print(" iomapfs : fuse2fs |\n|---|---|", strings.Repeat("---:|", len(sys)+1), "\n")
	for _, w := range workloads {
		if !strings.Contains(w.name, only) {
			continue
		}
		rates := make([][]float64, len(sys))
		for range runs {
			for i, s := range sys {
				r, c, m, err := once(dir, s, w)
				if err != nil {
					return fmt.Errorf("%s on %s: %w", w.name, s.name, err)
				}
				rates[i] = append(rates[i], r)
				cpu[i] += c
				mem[i] = max(mem[i], m)
			}
		}
		mid := make([]float64, len(sys))
		fmt.Printf("| %s | %s |", w.name, w.unit)
		for i := range sys {
			slices.Sort(rates[i])
			mid[i] = rates[i][len(rates[i])/2]
			fmt.Printf(" %.0f |", mid[i])
		}
		fmt.Printf(" %.1f / %.1f |\n", mid[2]/mid[1], mid[3]/mid[1])
	}
	fmt.Print("| CPU of the daemon | s |")
	for i := range sys {
		fmt.Printf(" %.1f |", cpu[i])
	}
	fmt.Print(" |\n| peak memory of the daemon | MiB |")
	for i := range sys {
		fmt.Printf(" %.0f |", mem[i])
	}
	fmt.Println(" |")
	return nil
}

// once runs a workload on a fresh filesystem.
func once(dir string, s system, w workload) (rate, cpu, mem float64, err error) {
	img, mnt := filepath.Join(dir, "img"), filepath.Join(dir, "mnt")
	if err = run("cp", "--sparse=always", filepath.Join(dir, "empty"), img); err != nil {
		return
	}
	if err = os.MkdirAll(mnt, 0o755); err != nil {
		return
	}
	if err = s.mount(img, mnt); err != nil {
		return
	}
	mounted := true
	defer func() {
		if mounted {
			_ = s.umount(mnt)
		}
	}()
	cycle := func() error {
		if err := s.umount(mnt); err != nil {
			mounted = false
			return err
		}
		mounted = false
		if err := s.mount(img, mnt); err != nil {
			return err
		}
		mounted = true
		return nil
	}
	e := &env{mnt: mnt, dir: dir, cycle: cycle}
	if w.before != nil {
		if err = w.before(e); err != nil {
			return
		}
		if err = cycle(); err != nil { // cold
			return
		}
	}
	dropCaches()
	c0, _ := usage(s.daemon)
	begun := time.Now()
	n, err := w.run(e)
	took := time.Since(begun).Seconds()
	if err != nil {
		return
	}
	c1, mem := usage(s.daemon)
	rate, cpu = n/took, c1-c0
	mounted = false
	if err = s.umount(mnt); err != nil {
		return
	}
	if err = run("e2fsck", "-fn", img); err != nil {
		return
	}
	return rate, cpu, mem, nil
}

func dropCaches() { _ = os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0) }
