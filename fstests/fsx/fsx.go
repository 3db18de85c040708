//go:build linux

package fsx

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"

	"golang.org/x/sys/unix"
)

// Options of a run; the zero value of all but Path and Seed is right.
type Options struct {
	Path string // made if it is not there, emptied if it is
	Seed uint64
	Ops  int // 20,000
	Max  int // bytes of the file: 256 KiB
	Span int // bytes of one operation: 64 KiB
	// NoMap, NoDirect and NoPunch leave out what the filesystem does not have.
	NoMap, NoDirect, NoPunch bool
}

// Counts says how often each operation ran.
type Counts map[string]int

type run struct {
	o          Options
	r          *rand.Rand
	fd, direct int
	good       []byte // what the file must hold
	buf        []byte
	log        []string // the last operations
	n          Counts
}

const (
	page   = 4096
	keptOp = 40 // operations shown with a failure
)

// Run works until an operation fails, bytes differ, or all are done. The error tells the seed and the last operations.
func Run(o Options) (Counts, error) {
	if o.Ops == 0 {
		o.Ops = 20_000
	}
	if o.Max == 0 {
		o.Max = 256 << 10
	}
	if o.Span == 0 {
		o.Span = 64 << 10
	}
	x := &run{o: o, r: rand.New(rand.NewPCG(o.Seed, 5)), fd: -1, direct: -1, buf: make([]byte, o.Max), n: Counts{}}
	err := x.open(unix.O_CREAT | unix.O_TRUNC)
	for i := 0; err == nil && i < o.Ops; i++ {
		if err = x.step(i); err != nil {
			err = fmt.Errorf("fsx: seed %d, operation %d: %w\n%s", o.Seed, i, err, strings.Join(x.log, "\n"))
		}
	}
	if err == nil {
		err = x.whole()
	}
	return x.n, errors.Join(err, x.close())
}

func (x *run) open(flags int) (err error) {
	if x.fd, err = unix.Open(x.o.Path, unix.O_RDWR|unix.O_CLOEXEC|flags, 0o644); err != nil {
		return err
	}
	if !x.o.NoDirect {
		x.direct, err = unix.Open(x.o.Path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_DIRECT, 0)
	}
	return err
}

func (x *run) close() (err error) {
	for _, fd := range []*int{&x.fd, &x.direct} {
		if *fd >= 0 {
			err = errors.Join(err, unix.Close(*fd))
			*fd = -1
		}
	}
	return err
}

// note logs and counts an operation about to run.
func (x *run) note(i int, what string, pos, n int) {
	if len(x.log) == keptOp {
		x.log = x.log[1:]
	}
	x.log = append(x.log, fmt.Sprintf("%d %s %#x..%#x size %#x", i, what, pos, pos+n, len(x.good)))
	x.n[what]++
}

// step runs one operation.
func (x *run) step(i int) error {
	pos := x.r.IntN(x.o.Max)
	n := 1 + x.r.IntN(min(x.o.Span, x.o.Max-pos))
	if x.r.IntN(4) == 0 { // whole blocks, where short cuts are taken
		pos, n = pos&^(page-1), min(max(n&^(page-1), page), x.o.Max-pos&^(page-1))
	}
	switch k := x.r.IntN(100); {
	case k < 18:
		x.note(i, "read", pos, n)
		return x.read(x.fd, pos, n)
	case k < 36:
		x.note(i, "write", pos, n)
		return x.write(x.fd, pos, n)
	case k < 50 && !x.o.NoMap:
		pos, n = x.inside(pos, n)
		x.note(i, "mapped read", pos, n)
		return x.mapped(pos, n, false)
	case k < 64 && !x.o.NoMap:
		x.note(i, "mapped write", pos, n)
		return x.mapped(pos, n, true)
	case k < 70 && !x.o.NoDirect:
		pos, n = pos&^(page-1), (n+page-1)&^(page-1)
		x.note(i, "direct read", pos, n)
		return x.read(x.direct, pos, n)
	case k < 76 && !x.o.NoDirect:
		pos = pos &^ (page - 1)
		n = min((n+page-1)&^(page-1), x.o.Max-pos)
		x.note(i, "direct write", pos, n)
		return x.write(x.direct, pos, n)
	case k < 82:
		x.note(i, "truncate", pos, 0)
		x.resize(pos)
		return unix.Ftruncate(x.fd, int64(pos))
	case k < 88 && !x.o.NoPunch:
		return x.zero(i, pos, n, "punch", unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE)
	case k < 91 && !x.o.NoPunch:
		return x.zero(i, pos, n, "zero range", unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE)
	case k < 94:
		return x.copy(i, pos, n)
	case k < 96:
		x.note(i, "fsync", 0, 0)
		return unix.Fsync(x.fd)
	case k < 97:
		x.note(i, "reopen", 0, 0)
		if err := x.close(); err != nil {
			return err
		}
		return x.open(0)
	case k < 98:
		x.note(i, "drop", 0, 0)
		return unix.Fadvise(x.fd, 0, 0, unix.FADV_DONTNEED)
	case i%10 == 0:
		x.note(i, "whole", 0, 0)
		return x.whole()
	}
	return nil
}

// inside moves a range into the file.
func (x *run) inside(pos, n int) (int, int) {
	pos = min(pos, max(len(x.good)-1, 0))
	return pos, min(n, len(x.good)-pos)
}

func (x *run) resize(n int) {
	if n <= len(x.good) {
		x.good = x.good[:n]
		return
	}
	x.good = append(x.good, make([]byte, n-len(x.good))...)
}

// fill makes bytes that tell the operation they came from.
func (x *run) fill(pos, n int) []byte {
	x.resize(max(len(x.good), pos+n))
	b := x.good[pos : pos+n]
	v := byte(1 + x.r.IntN(255))
	for i := range b {
		b[i] = v + byte((pos+i)/512)
	}
	return b
}

func (x *run) differ(how string, pos int, got []byte) error {
	want := x.good[pos : pos+len(got)]
	for i := range got {
		if got[i] != want[i] {
			k := i
			for k < len(got) && got[k] != want[k] {
				k++
			}
			return fmt.Errorf("%s: bytes %#x..%#x differ: %#x where %#x was written", how, pos+i, pos+k, got[i], want[i])
		}
	}
	return nil
}

// aligned is memory that O_DIRECT takes.
func aligned(n int) ([]byte, func(), error) {
	b, err := unix.Mmap(-1, 0, (n+page-1)&^(page-1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, nil, err
	}
	return b[:n], func() { _ = unix.Munmap(b) }, nil // our own mapping
}

func (x *run) read(fd, pos, n int) error {
	b := x.buf[:n]
	if fd == x.direct {
		m, free, err := aligned(n)
		if err != nil {
			return err
		}
		defer free()
		b = m
	}
	got, err := unix.Pread(fd, b, int64(pos))
	if err != nil {
		return err
	}
	if want := max(0, min(n, len(x.good)-pos)); got != want {
		return fmt.Errorf("read %d bytes, want %d", got, want)
	}
	if got == 0 {
		return nil
	}
	return x.differ("read", pos, b[:got])
}

func (x *run) write(fd, pos, n int) error {
	b := x.fill(pos, n)
	if fd == x.direct {
		m, free, err := aligned(n)
		if err != nil {
			return err
		}
		defer free()
		copy(m, b)
		b = m
	}
	got, err := unix.Pwrite(fd, b, int64(pos))
	if err == nil && got != n {
		err = fmt.Errorf("wrote %d bytes of %d", got, n)
	}
	return err
}

// mapped reads or writes through a shared mapping made for the purpose. A write beyond the end has the file grow first.
func (x *run) mapped(pos, n int, write bool) error {
	if n == 0 {
		return nil
	}
	if write && pos+n > len(x.good) {
		if err := unix.Ftruncate(x.fd, int64(pos+n)); err != nil {
			return err
		}
		x.resize(pos + n)
	}
	first := pos &^ (page - 1)
	full, err := unix.Mmap(x.fd, int64(first), (pos+n-first+page-1)&^(page-1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	defer unix.Munmap(full) //nolint:errcheck // our own mapping
	mem := full[:pos+n-first]
	if write {
		copy(mem[pos-first:], x.fill(pos, n))
		if x.r.IntN(3) == 0 {
			err = unix.Msync(mem, unix.MS_SYNC)
		}
		return err
	}
	if err := x.differ("mapping", first, mem); err != nil {
		return err
	}
	// What is mapped past the end of the file, in its last page, is zeros.
	if pos+n == len(x.good) {
		for i, c := range full[len(mem):] {
			if c != 0 {
				return fmt.Errorf("mapping: %#x at %#x, past the end at %#x", c, len(x.good)+i, len(x.good))
			}
		}
	}
	return nil
}

func (x *run) zero(i, pos, n int, what string, mode uint32) error {
	x.note(i, what, pos, n)
	if at, m := x.inside(pos, n); at == pos && m > 0 {
		clear(x.good[at : at+m])
	}
	return unix.Fallocate(x.fd, mode, int64(pos), int64(n))
}

// copy has the filesystem copy within the file, to where it does not overlap.
func (x *run) copy(i, pos, n int) error {
	pos, n = x.inside(pos, n)
	to := x.r.IntN(x.o.Max)
	n = min(n, x.o.Max-to)
	if n <= 0 || to < pos+n && pos < to+n {
		return nil
	}
	x.note(i, fmt.Sprintf("copy to %#x", to), pos, n)
	delete(x.n, fmt.Sprintf("copy to %#x", to))
	x.n["copy"]++
	from, dst := int64(pos), int64(to)
	for left := n; left > 0; {
		m, err := unix.CopyFileRange(x.fd, &from, x.fd, &dst, left, 0)
		if err != nil {
			return err
		}
		if m == 0 {
			return fmt.Errorf("copied %d bytes of %d", n-left, n)
		}
		left -= m
	}
	x.resize(max(len(x.good), to+n))
	copy(x.good[to:to+n], x.good[pos:pos+n])
	return nil
}

// whole compares size and contents.
func (x *run) whole() error {
	var st unix.Stat_t
	if err := unix.Fstat(x.fd, &st); err != nil {
		return err
	}
	if st.Size != int64(len(x.good)) {
		return fmt.Errorf("the size is %#x, want %#x", st.Size, len(x.good))
	}
	return x.read(x.fd, 0, x.o.Max)
}
