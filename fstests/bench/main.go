//go:build linux

package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	fsname := flag.String("fs", "ext2", "the filesystem: ext2 or fat")
	bin := flag.String("bin", "bin/iomapfs", "the program")
	rounds := flag.Int("rounds", 3, "rounds at most: each runs every workload on every system")
	budget := flag.Duration("budget", 6*time.Minute, "no further round begins that would end later than this")
	only := flag.String("run", "", "workloads whose name matches this regular expression")
	on := flag.String("on", "", "systems whose name matches this regular expression")
	opts := flag.String("fuse2fs", fuse2fsOptions, "mount options of fuse2fs")
	tmp := flag.String("tmp", "/dev/shm", "where the images lie")
	flag.Parse()
	b := bench{rounds: *rounds, budget: *budget}
	err := b.choose(*fsname, *bin, *opts, *only, *on)
	if err == nil {
		err = b.run(*tmp)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one comparison.
type bench struct {
	rounds int // at most; those that were run, after run
	budget time.Duration

	suite
	results map[string][][]result // of a workload: system, round; no rounds where the system cannot do it
}

// result is what a workload did once on one system.
type result struct {
	rate           float64 // operations or MiB a second
	daemon, caller float64 // seconds of the processor for one of them
	peak           float64 // largest resident memory of the daemon, MiB
}

// choose picks workloads and systems by regular expressions.
func (b *bench) choose(fs, bin, opts, only, on string) error {
	rw, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	rs, err := regexp.Compile(on)
	if err != nil {
		return err
	}
	b.suite, err = suiteOf(fs, bin, opts)
	if err != nil {
		return err
	}
	b.work = slices.DeleteFunc(slices.Clone(b.work), func(w workload) bool { return !rw.MatchString(w.name) })
	b.sys = slices.DeleteFunc(b.sys, func(s system) bool { return !rs.MatchString(s.name) })
	if len(b.work) == 0 || len(b.sys) == 0 {
		return fmt.Errorf("no workload matches %q, or no system %q", only, on)
	}
	return nil
}

func (b *bench) run(tmp string) error {
	dir, err := os.MkdirTemp(tmp, "iomapfs-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // temporary files at worst
	if err := b.prepare(dir); err != nil {
		return err
	}
	b.results = map[string][][]result{}
	begun, longest, n := time.Now(), time.Duration(0), 0
	for ; n < b.rounds && (n == 0 || time.Since(begun)+longest < b.budget); n++ {
		at := time.Now()
		if err := b.round(dir, n); err != nil {
			return err
		}
		longest = max(longest, time.Since(at))
		fmt.Fprintf(os.Stderr, "round %d: %v\n", n+1, time.Since(at).Round(time.Second))
	}
	b.rounds = n
	b.print()
	return nil
}

// round runs every workload once on every system. Who begins changes, so that nobody always has the warmest machine.
func (b *bench) round(dir string, n int) error {
	for _, w := range b.work {
		if b.results[w.name] == nil {
			b.results[w.name] = make([][]result, len(b.sys))
		}
		for i := range b.sys {
			i = (i + n) % len(b.sys)
			if b.sys[i].mount == nil && w.tool == nil {
				continue
			}
			r, err := b.once(dir, b.sys[i], w)
			if s := b.sys[i]; err == nil && s.other != nil {
				s.mount = s.other
				var o result
				if o, err = b.once(dir, s, w); o.rate > r.rate {
					r = o
				}
			}
			if err != nil {
				return fmt.Errorf("%s on %s: %w", w.name, b.sys[i].name, err)
			}
			b.results[w.name][i] = append(b.results[w.name][i], r)
		}
	}
	return nil
}

// once runs a workload on a fresh copy of its image, just mounted. The image is judged afterwards.
func (b *bench) once(dir string, s system, w workload) (r result, err error) {
	e := &env{filepath.Join(dir, "mnt"), dir, b.sizes}
	img := filepath.Join(dir, "img")
	if err := run("cp", "--sparse=always", filepath.Join(dir, w.image), img); err != nil {
		return r, err
	}
	work := w.run
	if s.mount == nil {
		work = func(e *env) (float64, error) { return w.tool(e, &s, img) }
	} else if err := s.mount(img, e.mnt); err != nil {
		return r, err
	}
	pid := 0
	if s.daemon {
		pid = daemonOf(img)
	}
	dropCaches()
	c0, d0, begun := ownCPU(), cpuOf(pid), time.Now()
	n, err := work(e)
	took, c1, d1 := time.Since(begun).Seconds(), ownCPU(), cpuOf(pid)
	r = result{rate: n / took, daemon: (d1 - d0) / n, caller: (c1 - c0) / n, peak: peakOf(pid)}
	if s.mount != nil {
		if uerr := s.umount(img, e.mnt); err == nil {
			err = uerr
		}
	}
	if err == nil && !s.unjudged {
		err = b.fsck(img)
	}
	return r, err
}

// dropCaches has the host forget names and inodes; file data lies in memory anyway.
func dropCaches() { _ = os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0) }

// ownCPU is the time that this process and the children it waited for have spent, in seconds.
func ownCPU() (sum float64) {
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			sum += float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
		}
	}
	return sum
}

func middle(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
