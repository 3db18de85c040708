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
	runs := flag.Int("runs", 3, "rounds at most: each runs every workload on every system")
	budget := flag.Duration("budget", 330*time.Second, "no further round begins that would end later than this")
	only := flag.String("only", "", "workloads whose name contains this")
	tmp := flag.String("tmp", "/dev/shm", "where the images lie")
	flag.Parse()
	b := bench{bin: *bin, runs: *runs, budget: *budget, only: *only}
	if err := b.run(*tmp); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one comparison.
type bench struct {
	bin, only string
	runs      int
	budget    time.Duration

	sys      []system
	rates    map[string][][]float64 // of a workload: system, round
	cpu, mem []float64              // of the daemons
}

// ringSwitch lets new mounts use io_uring; asking for that turns it on for the whole machine.
const ringSwitch = "/sys/module/fuse/parameters/enable_uring"

func (b *bench) run(tmp string) error {
	dir, err := os.MkdirTemp(tmp, "iomapfs-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := prepare(dir); err != nil {
		return err
	}
	if was, err := os.ReadFile(ringSwitch); err == nil {
		defer func() {
			if err := os.WriteFile(ringSwitch, was, 0); err != nil {
				fmt.Fprintln(os.Stderr, "bench: io_uring stays switched on:", err)
			}
		}()
	}
	b.sys = systems(b.bin)
	b.rates = map[string][][]float64{}
	b.cpu, b.mem = make([]float64, len(b.sys)), make([]float64, len(b.sys))
	begun, longest, rounds := time.Now(), time.Duration(0), 0
	for ; rounds < b.runs && (rounds == 0 || time.Since(begun)+longest < b.budget); rounds++ {
		at := time.Now()
		if err := b.round(dir, rounds); err != nil {
			return err
		}
		longest = max(longest, time.Since(at))
		fmt.Fprintf(os.Stderr, "round %d: %v\n", rounds+1, time.Since(at).Round(time.Second))
	}
	b.print(rounds)
	return nil
}

// round runs every workload once on every system. Who begins changes, so that nobody always has the warmest machine.
func (b *bench) round(dir string, n int) error {
	for _, w := range workloads {
		if !strings.Contains(w.name, b.only) {
			continue
		}
		if b.rates[w.name] == nil {
			b.rates[w.name] = make([][]float64, len(b.sys))
		}
		for i := range b.sys {
			i = (i + n) % len(b.sys)
			r, c, m, err := once(dir, b.sys[i], w)
			if err != nil {
				return fmt.Errorf("%s on %s: %w", w.name, b.sys[i].name, err)
			}
			b.rates[w.name][i] = append(b.rates[w.name][i], r)
			b.cpu[i] += c
			b.mem[i] = max(b.mem[i], m)
		}
	}
	return nil
}

// print writes the table: the middle of the rounds, and how many times the rate of fuse2fs in the same round, the middle
// and from the least to the most.
func (b *bench) print(rounds int) {
	fmt.Print("| workload | unit |")
	for _, s := range b.sys {
		fmt.Printf(" %s |", s.name)
	}
	fmt.Print(" iomapfs : fuse2fs | io_uring : fuse2fs |\n|---|---|", strings.Repeat("---:|", len(b.sys)+2), "\n")
	for _, w := range workloads {
		rates := b.rates[w.name]
		if rates == nil {
			continue
		}
		fmt.Printf("| %s | %s |", w.name, w.unit)
		for i := range b.sys {
			fmt.Printf(" %.0f |", middle(rates[i]))
		}
		for _, i := range []int{2, 3} {
			var ratio []float64
			for r := range rates[i] {
				ratio = append(ratio, rates[i][r]/rates[1][r])
			}
			fmt.Printf(" %.1f (%.1f to %.1f) |", middle(ratio), slices.Min(ratio), slices.Max(ratio))
		}
		fmt.Println()
	}
	fmt.Print("| CPU of the daemon, a round | s |")
	for i := range b.sys {
		fmt.Printf(" %.1f |", b.cpu[i]/float64(rounds))
	}
	fmt.Print(" | |\n| peak memory of the daemon | MiB |")
	for i := range b.sys {
		fmt.Printf(" %.0f |", b.mem[i])
	}
	fmt.Printf(" | |\n\n%d rounds\n", rounds)
}

func middle(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
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
