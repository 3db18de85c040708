//go:build !linux

package file

import (
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// maxVecs is the most pieces of memory one call takes.
const maxVecs = 1024

// host is an opened file of a host other than Linux.
type host struct{ f *os.File }

// number makes the host's error one of ours, and keeps its words.
func number(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%v: %w", err, errno.From(err))
}

// openHost opens, locks and measures.
func openHost(path string, opt *Options) (h *host, f facts, err error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, f, number(err)
	}
	if !st.Mode().IsRegular() {
		return nil, f, fmt.Errorf("%s: is no image file; devices can be opened on Linux only: %w", path, errno.INVAL)
	}
	if opt.Direct {
		return nil, f, fmt.Errorf("%s: direct I/O is offered on Linux only: %w", path, errno.OPNOTSUPP)
	}
	flags := os.O_RDWR
	if opt.ReadOnly {
		flags = os.O_RDONLY
	}
	file, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, f, number(err)
	}
	if !opt.NoLock {
		if err := lockFile(file, opt.ReadOnly); err != nil {
			_ = file.Close() // the first error is the one that matters
			if err == errLocked {
				return nil, f, fmt.Errorf("%s: in use by another program; close it there, or open the image read-only beside other readers: %w",
					path, errno.BUSY)
			}
			return nil, f, fmt.Errorf("%s: lock: %w", path, number(err))
		}
	}
	if st, err = file.Stat(); err != nil || st.Mode()&fs.ModeType != 0 {
		_ = file.Close() // the first error is the one that matters
		return nil, f, fmt.Errorf("%s: was replaced while it was opened: %w", path, errno.AGAIN)
	}
	f.size, f.physical = st.Size(), 4096
	return &host{file}, f, nil
}

// lockRange has nothing to do: the file was locked as a whole.
func (h *host) lockRange(string, int64, int64, bool, bool) error { return nil }

func (h *host) fd() uintptr  { return h.f.Fd() }
func (h *host) close() error { return h.f.Close() }
func (h *host) sync() error  { return number(h.f.Sync()) }

// readv reads into bufs.
func (h *host) readv(bufs [][]byte, off int64, nowait bool) (int, error) {
	total := 0
	for _, b := range bufs {
		n, err := h.f.ReadAt(b, off)
		total, off = total+n, off+int64(n)
		if err == io.EOF {
			break
		}
		if err != nil {
			return total, number(err)
		}
	}
	return total, nil
}

// writev writes bufs. dsync makes them durable.
func (h *host) writev(bufs [][]byte, off int64, dsync bool) (int, error) {
	total := 0
	for _, b := range bufs {
		n, err := h.f.WriteAt(b, off)
		total, off = total+n, off+int64(n)
		if err != nil {
			return total, number(err)
		}
	}
	if dsync {
		return total, h.sync()
	}
	return total, nil
}

func (h *host) tailIO(bufs [][]byte, off int64, write, dsync bool) (int, error) {
	return 0, errno.OPNOTSUPP // direct I/O was refused when the file was opened
}

func (h *host) discard(off, n int64) error          { return errUnsupported }
func (h *host) zero(off, n int64, unmap bool) error { return errUnsupported }

// nextData: this host tells nothing about holes.
func (h *host) nextData(off int64) (start, end int64, err error) { return off, 1<<63 - 1, nil }
