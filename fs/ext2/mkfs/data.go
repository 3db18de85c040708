package mkfs

import (
	"fmt"
	"io"
	"strings"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// SparseReader may be implemented by the reader of a file to skip holes.
type SparseReader interface {
	io.Reader
	io.ReaderAt

	// NextData finds the first range at or after pos that may hold something else than zeros. io.EOF when there is none.
	NextData(pos int64) (start, end int64, err error)
}

func errTooLarge(g *disk.Geometry) error {
	return fmt.Errorf("a file of blocks of %d bytes has at most %d bytes: %w", g.BlockSize, uint64(g.MaxFileBlocks())<<g.BlockBits, errno.FBIG)
}

// storeSymlink stores the target, in the inode when it fits.
func (bu *Builder) storeSymlink(in *disk.Inode, target string, runs *[]run) error {
	limit := int(min(bu.al.g.BlockSize, 4096)) - 1
	switch {
	case target == "" || strings.IndexByte(target, 0) >= 0:
		return fmt.Errorf("symbolic link to %q: want a target without zero bytes: %w", target, errno.INVAL)
	case len(target) > limit:
		return fmt.Errorf("symbolic link to %d bytes: at most %d: %w", len(target), limit, errno.NAMETOOL)
	case in.SetFastSymlink(target):
		return nil
	}
	in.Size = uint64(len(target))
	b := bu.buf[:bu.al.g.BlockSize]
	clear(b[copy(b, target):])
	bu.fm.reset(in, runs)
	return bu.fm.write(0, b)
}

// storeData stores size bytes of a regular file. Blocks of zeros become holes.
func (bu *Builder) storeData(in *disk.Inode, size int64, r io.Reader, runs *[]run) error {
	g := bu.al.g
	if size < 0 {
		return fmt.Errorf("size %d: %w", size, errno.INVAL)
	}
	if uint64(size) > uint64(g.MaxFileBlocks())<<g.BlockBits {
		return errTooLarge(g)
	}
	in.Size = uint64(size)
	if size > 1<<31-1 {
		bu.large = true
	}
	bu.fm.reset(in, runs)
	holes, _ := r.(SparseReader)
	end := size // of the data known to come
	if holes != nil {
		end = 0
	}
	for pos := int64(0); pos < size; {
		if holes != nil && pos >= end {
			start, stop, err := holes.NextData(pos)
			if err == io.EOF {
				break
			}
			if err != nil {
				return fmt.Errorf("look for data at %d: %w", pos, err)
			}
			start &^= int64(g.BlockSize) - 1
			if start < pos || stop <= pos {
				return fmt.Errorf("look for data at %d: found %d to %d: %w", pos, start, stop, errno.IO)
			}
			if start >= size {
				break
			}
			pos, end = start, min(size, int64(g.BlocksFor(uint64(min(stop, size))))<<g.BlockBits)
		}
		n := min(end-pos, int64(len(bu.buf)))
		var err error
		if holes != nil {
			err = readFullAt(holes, bu.buf[:n], pos)
		} else {
			_, err = io.ReadFull(r, bu.buf[:n])
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return fmt.Errorf("contents end before the %d bytes that were announced: %w", size, errno.IO)
		}
		if err != nil {
			return fmt.Errorf("read contents at %d: %w", pos, err)
		}
		whole := int64(g.BlocksFor(uint64(n))) << g.BlockBits
		clear(bu.buf[n:whole])
		if err := bu.storeBlocks(g.BlockAt(pos), bu.buf[:whole]); err != nil {
			return err
		}
		pos += n
		if err := bu.report(); err != nil {
			return err
		}
	}
	return bu.fm.flush(0)
}

func readFullAt(r io.ReaderAt, b []byte, pos int64) error {
	n, err := r.ReadAt(b, pos)
	if n == len(b) {
		return nil
	}
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// storeBlocks stores whole blocks, but those of zeros.
func (bu *Builder) storeBlocks(fb disk.FileBlock, data []byte) error {
	bs := int(bu.al.g.BlockSize)
	for len(data) > 0 {
		n := 0
		for n < len(data) && !isZero(data[n:n+bs]) {
			n += bs
		}
		if n > 0 {
			if err := bu.fm.write(fb, data[:n]); err != nil {
				return err
			}
		} else {
			for n < len(data) && isZero(data[n:n+bs]) {
				n += bs
			}
		}
		data, fb = data[n:], fb+disk.FileBlock(n/bs)
	}
	return nil
}
