package block

import (
	"fmt"
	"os"

	"github.com/iomapfs/iomapfs/vfs/arena"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Sparse is a Device that knows where it holds nothing but zeros, so that copies and exports skip what is empty.
type Sparse interface {
	// NextData gives the first range at or after off that may hold something else than zeros. start is the device's size
	// when there is none. The answer is a hint: what it skips reads as zeros as long as nobody writes there.
	NextData(off int64) (start, end int64, err error)
}

// NextData asks d when it is Sparse, and else takes the rest of the device for data.
func NextData(d Device, off int64) (start, end int64, err error) {
	if s, ok := d.(Sparse); ok {
		return s.NextData(off)
	}
	return min(off, d.Size()), d.Size(), nil
}

// exportUnit is the smallest hole that Export makes.
const exportUnit = 4096

// Export writes the contents of d to the file at path, which is created or replaced, with holes where d holds zeros.
func Export(d Device, path string) (err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return fmt.Errorf("export %s: %w", d.Name(), err)
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			err = fmt.Errorf("export %s to %s: %w", d.Name(), path, err)
		}
	}()
	if err := f.Truncate(d.Size()); err != nil {
		return err
	}
	buf, err := arena.Alloc(arena.MaxOrder)
	if err != nil {
		return err
	}
	defer arena.Free(buf)
	mask := int64(max(d.Limits().LogicalBlock, 512) - 1)
	if d.Size()&mask != 0 {
		mask = int64(d.Limits().LogicalBlock - 1)
	}
	for off := int64(0); off < d.Size(); {
		start, end, err := NextData(d, off)
		if err != nil {
			return err
		}
		if start < off || end < start || start < d.Size() && end == start {
			return fmt.Errorf("data at %d to %d after %d: %w", start, end, off, errno.IO)
		}
		start, end = max(start&^mask, off), min((end+mask)&^mask, d.Size())
		for off = start; off < end; {
			n := min(end-off, int64(len(buf)))
			if err := ReadAt(d, buf[:n], off); err != nil {
				return err
			}
			if err := writeSparse(f, buf[:n], off); err != nil {
				return err
			}
			off += n
		}
	}
	return nil
}

// writeSparse writes the parts of p that are not zeros.
func writeSparse(f *os.File, p []byte, off int64) error {
	for len(p) > 0 {
		n := 0
		for n < len(p) && !zeros(p[n:min(n+exportUnit, len(p))]) {
			n = min(n+exportUnit, len(p))
		}
		if n > 0 {
			if _, err := f.WriteAt(p[:n], off); err != nil {
				return err
			}
		}
		n = min(n+exportUnit, len(p)) // the unit of zeros that stopped the run
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// zeros says whether p holds nothing else.
func zeros(p []byte) bool {
	for len(p) >= 8 {
		if p[0]|p[1]|p[2]|p[3]|p[4]|p[5]|p[6]|p[7] != 0 {
			return false
		}
		p = p[8:]
	}
	for _, c := range p {
		if c != 0 {
			return false
		}
	}
	return true
}
