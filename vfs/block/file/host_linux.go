package file

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// canMap says that files can be mapped on this host.
const canMap = true

// host is an opened file of a Linux host.
type host struct {
	f      int  // descriptor; immutable
	tail   int  // direct: buffered descriptor for an incomplete last unit, or -1; immutable
	device bool // immutable

	noNowait atomic.Bool // the file's system cannot read without waiting
}

// retry repeats a call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// number makes the host's error number one of ours.
func number(err error) error {
	if err == nil {
		return nil
	}
	if e := errno.From(err); e != 0 {
		return e
	}
	return err
}

// openHost opens, locks and measures.
func openHost(path string, opt *Options) (_ *host, f facts, err error) {
	var st unix.Stat_t
	if err := retry(func() error { return unix.Stat(path, &st) }); err != nil {
		return nil, f, fmt.Errorf("%s: %w", path, number(err))
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFREG && kind != unix.S_IFBLK {
		return nil, f, fmt.Errorf("%s: is a %s; want an image file or a block device: %w", path, kindName(kind), errno.INVAL)
	}
	f.device = kind == unix.S_IFBLK
	fd, err := openFD(path, opt, f.device)
	if err != nil {
		return nil, f, err
	}
	h := &host{f: fd, tail: -1, device: f.device}
	defer func() {
		if err != nil {
			_ = h.close() // the first error is the one that matters
		}
	}()
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, f, fmt.Errorf("%s: %w", path, number(err))
	}
	if (st.Mode&unix.S_IFMT == unix.S_IFBLK) != f.device {
		return nil, f, fmt.Errorf("%s: was replaced while it was opened: %w", path, errno.AGAIN)
	}
	if !opt.NoLock {
		if err := lockHost(path, fd, &st, opt.ReadOnly, opt.Share); err != nil {
			return nil, f, err
		}
	}
	if f.device {
		err = h.deviceFacts(&f, &st, opt)
	} else {
		h.fileFacts(&f, &st, opt)
	}
	if err != nil {
		return nil, f, fmt.Errorf("%s: %w", path, err)
	}
	f.fua, f.nowait = true, !opt.Direct
	if opt.Direct {
		if err := h.directFacts(path, &f, opt); err != nil {
			return nil, f, err
		}
	}
	return h, f, nil
}

func kindName(kind uint32) string {
	switch kind {
	case unix.S_IFDIR:
		return "directory"
	case unix.S_IFCHR:
		return "character device"
	case unix.S_IFIFO:
		return "fifo"
	case unix.S_IFSOCK:
		return "socket"
	}
	return "file of an unknown kind"
}

// openFD opens with the words that the options ask for, and explains a refusal.
func openFD(path string, opt *Options, device bool) (int, error) {
	flags := unix.O_RDWR | unix.O_CLOEXEC
	if opt.ReadOnly {
		flags = unix.O_RDONLY | unix.O_CLOEXEC
	}
	if opt.Direct {
		flags |= unix.O_DIRECT
	}
	if device && !opt.ReadOnly && !opt.NoLock {
		flags |= unix.O_EXCL
	}
	fd := -1
	err := retry(func() (err error) {
		fd, err = unix.Open(path, flags, 0)
		return err
	})
	switch {
	case err == nil:
		return fd, nil
	case err == unix.EBUSY:
		return -1, fmt.Errorf("%s: in use: mounted, or opened by another program; unmount it first, or open it read-only: %w", path, errno.BUSY)
	case !opt.ReadOnly && (err == unix.EACCES || err == unix.EPERM || err == unix.EROFS):
		return -1, fmt.Errorf("%s: may not be written; open it read-only, or change its permissions: %w", path, number(err))
	case opt.Direct && err == unix.EINVAL:
		return -1, fmt.Errorf("%s: its file system has no direct I/O; leave direct I/O out: %w", path, errno.OPNOTSUPP)
	}
	return -1, fmt.Errorf("%s: %w", path, number(err))
}

// fileFacts measures an image file.
func (h *host) fileFacts(f *facts, st *unix.Stat_t, opt *Options) {
	f.size = st.Size
	f.physical = uint32(st.Blksize)
	if bits.OnesCount32(f.physical) != 1 || f.physical > 1<<20 {
		f.physical = 4096
	}
	if opt.ReadOnly {
		return
	}
	// A hole beyond the end of the file changes nothing and tells whether holes can be made.
	const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
	if retry(func() error { return unix.Fallocate(h.f, punch, st.Size+int64(f.physical), int64(f.physical)) }) == nil {
		f.discard, f.zeroes = f.physical, true
	}
}

// deviceFacts measures a block device.
func (h *host) deviceFacts(f *facts, st *unix.Stat_t, opt *Options) error {
	size, err := ioctlUint64(h.f, unix.BLKGETSIZE64)
	if err != nil {
		return fmt.Errorf("size of the block device: %w", number(err))
	}
	if size > 1<<63-1 {
		return fmt.Errorf("block device of %d bytes: %w", size, errno.FBIG)
	}
	f.size = int64(size)
	logical, err := unix.IoctlGetUint32(h.f, unix.BLKSSZGET)
	if err != nil || bits.OnesCount32(logical) != 1 || logical < 512 || logical > 1<<20 {
		logical = 512
	}
	f.logical, f.physical = logical, logical
	if p, err := unix.IoctlGetUint32(h.f, unix.BLKPBSZGET); err == nil && bits.OnesCount32(p) == 1 && p > logical {
		f.physical = p
	}
	queue := fmt.Sprintf("/sys/dev/block/%d:%d/queue", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	if _, err := os.Stat(queue); err != nil {
		queue = fmt.Sprintf("/sys/dev/block/%d:%d/../queue", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	f.rotational = sysNumber(queue+"/rotational") == 1
	if opt.ReadOnly {
		return nil
	}
	if g := sysNumber(queue + "/discard_granularity"); g > 0 && g <= 1<<31 && sysNumber(queue+"/discard_max_bytes") > 0 {
		f.discard = max(logical, 1<<(bits.Len64(g)-1))
	}
	f.zeroes = sysNumber(queue+"/write_zeroes_max_bytes") > 0
	return nil
}

// directFacts asks how direct I/O must be aligned, and opens the descriptor for a last unit that is incomplete.
func (h *host) directFacts(path string, f *facts, opt *Options) error {
	f.memAlign, f.offAlign = max(f.logical, 512), max(f.logical, 512)
	if !f.device {
		f.memAlign, f.offAlign = 4096, 4096
	}
	var sx unix.Statx_t
	if err := unix.Statx(h.f, "", unix.AT_EMPTY_PATH, unix.STATX_DIOALIGN, &sx); err == nil && sx.Mask&unix.STATX_DIOALIGN != 0 {
		if sx.Dio_offset_align == 0 {
			return fmt.Errorf("%s: the host cannot do direct I/O on it; leave direct I/O out: %w", path, errno.OPNOTSUPP)
		}
		if bits.OnesCount32(sx.Dio_mem_align) == 1 && bits.OnesCount32(sx.Dio_offset_align) == 1 &&
			sx.Dio_mem_align <= 4096 && sx.Dio_offset_align <= 1<<18 {
			f.memAlign, f.offAlign = sx.Dio_mem_align, sx.Dio_offset_align
		}
	}
	if max(opt.directAlign, f.offAlign) > f.logical && !f.device {
		flags := unix.O_RDWR | unix.O_CLOEXEC
		if opt.ReadOnly {
			flags = unix.O_RDONLY | unix.O_CLOEXEC
		}
		fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", h.f), flags, 0)
		if err != nil {
			return fmt.Errorf("%s: second descriptor for the unaligned end: %w", path, number(err))
		}
		h.tail = fd
	}
	return nil
}

// sysNumber reads a number from sysfs; 0 when it is not there.
func sysNumber(path string) uint64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	var n uint64
	if _, err := fmt.Sscan(strings.TrimSpace(string(b)), &n); err != nil {
		return 0
	}
	return n
}

func (h *host) fd() uintptr { return uintptr(h.f) }

// close closes both descriptors; the locks go with them.
func (h *host) close() error {
	h.unlock()
	err := unix.Close(h.f)
	if h.tail >= 0 {
		err = errors.Join(err, unix.Close(h.tail))
	}
	return err
}

// sync makes completed writes durable.
func (h *host) sync() error {
	return number(retry(func() error { return unix.Fdatasync(h.f) }))
}

// discard punches a hole, or discards on a device.
func (h *host) discard(off, n int64) error {
	var err error
	if h.device {
		err = ioctlRange(h.f, unix.BLKDISCARD, off, n)
	} else {
		err = retry(func() error {
			return unix.Fallocate(h.f, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
		})
	}
	return orUnsupported(err)
}

// zero makes zeros without moving data. unmap allows the space to be given up.
func (h *host) zero(off, n int64, unmap bool) error {
	mode := uint32(unix.FALLOC_FL_ZERO_RANGE)
	if unmap {
		mode = unix.FALLOC_FL_PUNCH_HOLE
	}
	err := retry(func() error { return unix.Fallocate(h.f, mode|unix.FALLOC_FL_KEEP_SIZE, off, n) })
	if err != nil && h.device {
		err = ioctlRange(h.f, unix.BLKZEROOUT, off, n)
	}
	return orUnsupported(err)
}

func orUnsupported(err error) error {
	switch err {
	case unix.EOPNOTSUPP, unix.ENOSYS, unix.ENOTTY:
		return errUnsupported
	}
	return number(err)
}

// nextData finds the next range that is no hole. The descriptor's position, which this changes, is used by nothing else.
func (h *host) nextData(off int64) (start, end int64, err error) {
	const far = 1<<63 - 1
	start, err = unix.Seek(h.f, off, unix.SEEK_DATA)
	switch err {
	case nil:
	case unix.ENXIO:
		return far, far, nil
	case unix.EINVAL, unix.EOPNOTSUPP:
		return off, far, nil // a file system that does not know
	default:
		return 0, 0, number(err)
	}
	if end, err = unix.Seek(h.f, start, unix.SEEK_HOLE); err != nil || end <= start {
		return start, far, nil
	}
	return start, end, nil
}

// mapFile maps the whole image.
func (h *host) mapFile(size int64, write bool) ([]byte, error) {
	if int64(int(size)) != size {
		return nil, errno.NOMEM
	}
	prot := unix.PROT_READ
	if write {
		prot |= unix.PROT_WRITE
	}
	m, err := unix.Mmap(h.f, 0, int(size), prot, unix.MAP_SHARED)
	return m, number(err)
}

func unmapFile(m []byte) {
	// It can only fail for memory that was never mapped.
	_ = unix.Munmap(m)
}

// syncFile makes what was stored in a mapping durable; m begins at a page of the host.
func syncFile(m []byte) error { return retry(func() error { return unix.Msync(m, unix.MS_SYNC) }) }
