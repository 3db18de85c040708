package mkfs

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Format makes a filesystem of the first size bytes of w and gives its boot sector.
func Format(w io.WriterAt, size int64, o Options) (*disk.BootSector, error) {
	if size < 0 {
		return nil, invalid("size %d is negative", size)
	}
	o, label, err := o.complete()
	if err != nil {
		return nil, err
	}
	b, g, err := layout(&o, size)
	if err != nil {
		return nil, err
	}
	b.Serial, b.Label = *o.Serial, label
	out := &output{w: w, zeroed: o.Zeroed}
	// Nothing that looks like a filesystem before all is there.
	if err := out.forceZero(0, int64(g.SectorSize), "boot sector"); err != nil {
		return nil, err
	}
	if err := out.zero(int64(g.SectorSize), g.BytesOf(g.DataStart)-int64(g.SectorSize), "FATs and root directory"); err != nil {
		return nil, err
	}
	bu := newBuilder(&o, g, out)
	if o.Label != "" {
		bu.root.volume = &label
	}
	if o.Fill != nil {
		err = o.Fill(bu)
		if err == nil {
			err = bu.err
		}
		if err != nil {
			return nil, err
		}
	}
	if err := bu.finish(); err != nil {
		return nil, err
	}
	if err := writeFATs(out, g, b.Media, bu.runs); err != nil {
		return nil, err
	}
	sector := make([]byte, g.SectorSize)
	b.EncodeTo(sector)
	code := sector[int(b.Jump[1])+2:]
	copy(code, []byte{0xFA, 0xF4, 0xEB, 0xFD}) // cli; hlt; again: there is nothing to boot
	if g.Width == disk.FAT32 {
		info := make([]byte, g.SectorSize)
		next := uint32(bu.next)
		if !g.Valid(bu.next) {
			next = uint32(disk.FirstCluster)
		}
		disk.FSInfo{Free: g.Clusters - uint32(bu.next-disk.FirstCluster), Next: next}.EncodeTo(info)
		for _, at := range []disk.Sector{g.Info, g.Backup + 1} {
			if err := out.writeAt(info, g.BytesOf(at), "FSInfo"); err != nil {
				return nil, err
			}
		}
		if err := out.writeAt(sector, g.BytesOf(g.Backup), "copy of the boot sector"); err != nil {
			return nil, err
		}
	}
	return b, out.writeAt(sector, 0, "boot sector")
}

// FormatFile makes a filesystem in a new, sparse file of size bytes; a file that is there is an error unless overwrite. When that
// fails there is no file.
func FormatFile(path string, size int64, overwrite bool, o Options) (b *disk.BootSector, err error) {
	flags := os.O_RDWR | os.O_CREATE | os.O_EXCL
	if overwrite {
		flags = os.O_RDWR | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return nil, fmt.Errorf("mkfs: %w", err)
	}
	defer func() {
		if cerr := f.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("mkfs: %w", cerr)
		}
		if err != nil {
			err = errors.Join(err, os.Remove(path))
		}
	}()
	if err := f.Truncate(size); err != nil {
		return nil, fmt.Errorf("mkfs: %w", err)
	}
	o.Zeroed = true
	return Format(f, size, o)
}

// writeFATs writes all copies of a FAT in which each run is a chain, and the rest free.
func writeFATs(out *output, g *disk.Geometry, media uint8, runs []run) error {
	const piece = 3 << 17 // bytes: whole entries of every width, whole sectors of every size
	buf := make([]byte, piece+1)
	end := g.FATLength()
	r := 0
	for off := int64(0); off < end; off += piece {
		n := min(piece, end-off)
		clear(buf)
		v := disk.FATView{G: g, B: buf, Off: uint32(off)}
		first := disk.Cluster(off * 8 / int64(g.Width))
		stop := first + disk.Cluster(piece*8/int64(g.Width))
		if off == 0 {
			zero, one := disk.Reserved(media)
			v.Set(0, zero)
			v.Set(1, one)
		}
		for r < len(runs) && runs[r].first < stop {
			c := max(runs[r].first, first)
			last := runs[r].first + disk.Cluster(runs[r].n) - 1
			for ; c <= last && c < stop; c++ {
				e := disk.Entry(c + 1)
				if c == last {
					if e = disk.End; runs[r].next != 0 {
						e = disk.Entry(runs[r].next)
					}
				}
				v.Set(c, e)
			}
			if last >= stop {
				break
			}
			r++
		}
		if out.zeroed && off > 0 && r == len(runs) && isZero(buf[:n]) {
			break
		}
		for copy := range g.FATs {
			if err := out.writeAt(buf[:n], g.BytesOf(g.FATStart(copy))+off, "FAT"); err != nil {
				return err
			}
		}
		if off > 0 && r == len(runs) && isZero(buf[:n]) {
			break // the rest was zeroed before
		}
	}
	return nil
}

// output writes to the device.
type output struct {
	w      io.WriterAt
	zeroed bool // the device reads as zeros where nothing was written
}

func (ot *output) writeAt(b []byte, off int64, what string) error {
	if _, err := ot.w.WriteAt(b, off); err != nil {
		return fmt.Errorf("mkfs: write %s, %d bytes at %d: %w", what, len(b), off, err)
	}
	return nil
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
		if err := z.ZeroRange(off, length); err == nil {
			return nil
		} else if !errors.Is(err, errno.OPNOTSUPP) {
			return fmt.Errorf("mkfs: zero %s, %d bytes at %d: %w", what, length, off, err)
		}
	}
	for length > 0 {
		n := min(length, int64(len(zeros)))
		if err := ot.writeAt(zeros[:n], off, what); err != nil {
			return err
		}
		off, length = off+n, length-n
	}
	return nil
}

var zeros [256 << 10]byte

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
