package mkfs

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
)

// output writes blocks and inodes. Inodes that follow each other go out together.
type output struct {
	w      io.WriterAt
	bits   uint8
	zeroed bool // the device reads as zeros where nothing was written

	inodes   []byte // inodes not written yet …
	inodesAt int64  // … and where they belong
}

const inodeBuffer = 64 << 10

func (ot *output) writeAt(b []byte, off int64, what string) error {
	if _, err := ot.w.WriteAt(b, off); err != nil {
		return fmt.Errorf("mkfs: write %s, %d bytes at %d: %w", what, len(b), off, err)
	}
	return nil
}

// block writes data, whole blocks, from block b on.
func (ot *output) block(b disk.FSBlock, data []byte, what string) error {
	return ot.writeAt(data, int64(b)<<ot.bits, what)
}

// freshBlock is block, but leaves zeros out where the device already has them: b was not written before.
func (ot *output) freshBlock(b disk.FSBlock, data []byte, what string) error {
	if ot.zeroed && isZero(data) {
		return nil
	}
	return ot.block(b, data, what)
}

// zero makes a range read as zeros that was not written before.
func (ot *output) zero(off, length int64, what string) error {
	if ot.zeroed || length <= 0 {
		return nil
	}
	return ot.forceZero(off, length, what)
}

func (ot *output) forceZero(off, length int64, what string) error {
	if z, ok := ot.w.(Zeroer); ok {
		if err := z.ZeroRange(off, length); err != nil {
			return fmt.Errorf("mkfs: zero %s, %d bytes at %d: %w", what, length, off, err)
		}
		return nil
	}
	buf := zeros[:]
	for length > 0 {
		n := min(length, int64(len(buf)))
		if err := ot.writeAt(buf[:n], off, what); err != nil {
			return err
		}
		off, length = off+n, length-n
	}
	return nil
}

var zeros [256 << 10]byte

// inode writes one inode at a byte address; in is encoded over size bytes of zeros with body as its attributes.
func (ot *output) inode(off int64, raw []byte) error {
	if len(ot.inodes) > 0 && (ot.inodesAt+int64(len(ot.inodes)) != off || len(ot.inodes)+len(raw) > inodeBuffer) {
		if err := ot.flush(); err != nil {
			return err
		}
	}
	if len(ot.inodes) == 0 {
		ot.inodesAt = off
	}
	ot.inodes = append(ot.inodes, raw...)
	return nil
}

// patchLinks changes the link count of an inode that was written before.
func (ot *output) patchLinks(off int64, links uint16) error {
	const at = 26 // i_links_count
	if d := off - ot.inodesAt; d >= 0 && d < int64(len(ot.inodes)) {
		binary.LittleEndian.PutUint16(ot.inodes[d+at:], links)
		return nil
	}
	return ot.writeAt(binary.LittleEndian.AppendUint16(nil, links), off+at, "a link count")
}

// flush writes the inodes that wait.
func (ot *output) flush() error {
	if len(ot.inodes) == 0 {
		return nil
	}
	b := ot.inodes
	ot.inodes = ot.inodes[:0]
	return ot.writeAt(b, ot.inodesAt, "inodes")
}

// isZero reports whether b, a multiple of 8 bytes, is all zeros.
func isZero(b []byte) bool {
	for ; len(b) >= 32; b = b[32:] {
		if binary.LittleEndian.Uint64(b)|binary.LittleEndian.Uint64(b[8:])|binary.LittleEndian.Uint64(b[16:])|binary.LittleEndian.Uint64(b[24:]) != 0 {
			return false
		}
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
