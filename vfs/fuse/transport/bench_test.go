//go:build linux

package transport_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/iomapfs/iomapfs/vfs/fuse/transport"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const benchFileSize = 64 << 20

// work is one thing to measure: step does it once. worker and i tell apart what runs at the same time and one after the other.
type work struct {
	name  string
	jobs  int
	bytes int
	step  func(b *benchMount, worker, i int) error
}

var works = []work{
	{"lookup", 1, 0, lookupStep},
	{"lookup", 16, 0, lookupStep},
	{"create+unlink", 1, 0, createStep},
	{"create+unlink", 16, 0, createStep},
	{"read4k", 1, 4096, readStep},
	{"read4k", 16, 4096, readStep},
	{"write4k", 1, 4096, writeStep},
	{"write4k", 16, 4096, writeStep},
	{"read1M", 1, 1 << 20, readStep},
	{"read1M", 4, 1 << 20, readStep},
	{"write1M", 1, 1 << 20, writeStep},
	{"write1M", 4, 1 << 20, writeStep},
}

// benchMount is a mount by a process of its own, with a file open for each worker.
type benchMount struct {
	dir  string
	fds  []int
	bufs [][]byte
	seq  atomic.Int64
}

func lookupStep(b *benchMount, _, _ int) error {
	var st unix.Stat_t
	err := unix.Stat(b.dir+"/absent"+strconv.FormatInt(b.seq.Add(1), 10), &st)
	if err != unix.ENOENT {
		return fmt.Errorf("stat of an absent name: %w", err)
	}
	return nil
}

func createStep(b *benchMount, worker, _ int) error {
	name := b.dir + "/new" + strconv.Itoa(worker)
	fd, err := unix.Open(name, unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, 0o644)
	if err != nil {
		return err
	}
	if err := unix.Close(fd); err != nil {
		return err
	}
	return unix.Unlink(name)
}

func (b *benchMount) place(worker int) int64 {
	n := len(b.bufs[worker])
	return rand.Int64N(int64(benchFileSize/n)) * int64(n)
}

func readStep(b *benchMount, worker, _ int) error {
	n, err := unix.Pread(b.fds[worker], b.bufs[worker], b.place(worker))
	if err == nil && n != len(b.bufs[worker]) {
		err = fmt.Errorf("read %d bytes", n)
	}
	return err
}

func writeStep(b *benchMount, worker, _ int) error {
	_, err := unix.Pwrite(b.fds[worker], b.bufs[worker], b.place(worker))
	return err
}

func (b *benchMount) prepare(tb testing.TB, w work) (done func()) {
	for range w.jobs {
		if w.bytes == 0 {
			break
		}
		fd, err := unix.Open(filepath.Join(b.dir, "big"), unix.O_RDWR|unix.O_DIRECT, 0)
		require.NoError(tb, err)
		buf, err := unix.Mmap(-1, 0, w.bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANONYMOUS|unix.MAP_PRIVATE)
		require.NoError(tb, err)
		b.fds, b.bufs = append(b.fds, fd), append(b.bufs, buf)
	}
	return func() {
		for i := range b.fds {
			require.NoError(tb, unix.Close(b.fds[i]))
			require.NoError(tb, unix.Munmap(b.bufs[i]))
		}
		b.fds, b.bufs = nil, nil
	}
}

// run does a work from all its workers until more says stop, and returns how often it was done.
func (b *benchMount) run(tb testing.TB, w work, more func() bool) int64 {
	var total atomic.Int64
	var wg sync.WaitGroup
	for worker := range w.jobs {
		wg.Go(func() {
			runtime.LockOSThread()
			for i := 0; more(); i++ {
				if err := w.step(b, worker, i); err != nil {
					tb.Error(err)
					return
				}
				total.Add(1)
			}
		})
	}
	wg.Wait()
	return total.Load()
}

// BenchmarkTransport measures each work on each transport by itself: go test -bench Transport.
func BenchmarkTransport(b *testing.B) {
	for _, kind := range []transport.Kind{transport.Ordinary, transport.Ring} {
		b.Run(kind.String(), func(b *testing.B) {
			needRing(b)
			m := &benchMount{dir: startChild(b, kind, "TRANSPORT_TEST_DIRECT=1").dir}
			for _, w := range works {
				b.Run(fmt.Sprintf("%s/jobs=%d", w.name, w.jobs), func(b *testing.B) {
					done := m.prepare(b, w)
					defer done()
					b.SetBytes(int64(w.bytes))
					var n atomic.Int64
					b.ResetTimer()
					m.run(b, w, func() bool { return n.Add(1) <= int64(b.N) })
				})
			}
		})
	}
}

// BenchmarkSideBySide prints all transports next to each other, measured in turns so that a noisy machine is noisy for
// all of them: go test -run - -bench SideBySide -benchtime 1x. The middle of several rounds, and the best.
func BenchmarkSideBySide(b *testing.B) {
	needRing(b)
	const slice = 300 * time.Millisecond
	rounds := 5
	if s := os.Getenv("TRANSPORT_ROUNDS"); s != "" {
		var err error
		rounds, err = strconv.Atoi(s)
		require.NoError(b, err)
	}
	kinds := []transport.Kind{transport.Ordinary, transport.Device, transport.Ring}
	mounts := make([]*benchMount, len(kinds))
	for i, kind := range kinds {
		mounts[i] = &benchMount{dir: startChild(b, kind, "TRANSPORT_TEST_DIRECT=1").dir}
	}
	for b.Loop() {
		fmt.Printf("\n%-20s %20s %20s %20s %8s\n", "operations/s (best)", kinds[0], kinds[1], kinds[2], "ratio")
		for _, w := range works {
			rates := make([][]float64, len(kinds))
			for range rounds {
				for i, m := range mounts {
					done := m.prepare(b, w)
					start := time.Now()
					n := m.run(b, w, func() bool { return time.Since(start) < slice })
					rates[i] = append(rates[i], float64(n)/time.Since(start).Seconds())
					done()
				}
			}
			line := fmt.Sprintf("%-16s j%-2d", w.name, w.jobs)
			for i := range kinds {
				mid, best := middle(rates[i])
				line += fmt.Sprintf(" %10.0f (%7.0f)", mid, best)
			}
			a, _ := middle(rates[0])
			r, _ := middle(rates[2])
			fmt.Printf("%s %7.2fx\n", line, r/a)
		}
	}
}

func middle(v []float64) (mid, best float64) {
	s := append([]float64(nil), v...)
	for i := range s {
		for j := i; j > 0 && s[j] < s[j-1]; j-- {
			s[j], s[j-1] = s[j-1], s[j]
		}
	}
	return s[len(s)/2], s[len(s)-1]
}
