package images

import (
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/diskfs/go-diskfs/partition/mbr"

	"github.com/iomapfs/iomapfs/vfs/block"
)

// Partition is one entry of a table.
type Partition struct {
	Number      int
	Start, Size int64  // bytes
	Type        string // GUID, or number of an MBR type
	Name, UUID  string
}

// Table is a partition table.
type Table struct {
	Kind       string // gpt, dos or none
	UUID       string
	Partitions []Partition
}

// ReadTable reads the partition table of a device; Kind is none where there is none. Entries that do not lie on the device
// are left out. An image of a disk with sectors of 4 KiB is recognised.
func ReadTable(dev block.Device) (*Table, error) {
	sector := max(dev.Limits().LogicalBlock, 512)
	for _, size := range []uint32{sector, 4096} {
		if size < sector || !saneGPT(dev, int64(size)) {
			continue
		}
		if t := readGPT(dev, size); t != nil {
			return t, nil
		}
	}
	return readMBR(dev, sector)
}

// add keeps an entry that lies on the device.
func (t *Table) add(dev block.Device, p Partition) {
	if p.Start > 0 && p.Size > 0 && p.Start <= dev.Size() && p.Size <= dev.Size()-p.Start {
		t.Partitions = append(t.Partitions, p)
	}
}

// readGPT gives nil where there is none.
func readGPT(dev block.Device, sector uint32) *Table {
	tab, err := gpt.Read(&reader{dev: dev}, int(sector), int(sector))
	if err != nil {
		return nil
	}
	t := &Table{Kind: "gpt", UUID: strings.ToLower(tab.GUID)}
	for _, p := range tab.Partitions {
		if p == nil || p.Type == gpt.Unused || p.End < p.Start || p.End > 1<<50 {
			continue
		}
		t.add(dev, Partition{p.Index, int64(p.Start) * int64(sector), int64(p.End-p.Start+1) * int64(sector), strings.ToLower(string(p.Type)), p.Name, strings.ToLower(p.GUID)})
	}
	return t
}

// readMBR reads the four entries of the boot sector, and the chain of logical partitions behind an extended one.
func readMBR(dev block.Device, sector uint32) (*Table, error) {
	none := &Table{Kind: "none"}
	tab, err := mbr.Read(&reader{dev: dev}, int(sector), int(sector))
	if err != nil {
		return none, nil // no table that is known
	}
	t := &Table{Kind: "dos", UUID: tab.UUID()}
	var extended []Partition
	for _, p := range tab.Partitions {
		if p == nil || p.Type == mbr.Empty {
			continue
		}
		if byte(p.Type) == protective {
			return none, nil // of a GPT that cannot be read
		}
		e := Partition{p.Index, int64(p.Start) * int64(sector), int64(p.Size) * int64(sector), typeName(byte(p.Type)), "", p.UUID()}
		t.add(dev, e)
		if isExtended(byte(p.Type)) {
			extended = append(extended, e)
		}
	}
	if len(t.Partitions) == 0 {
		return none, nil // a boot sector, not a table
	}
	if len(extended) > 0 {
		if err := t.logical(dev, extended[0], int64(sector)); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// reader makes a device look like the file that go-diskfs reads.
type reader struct {
	dev block.Device
	pos int64
}

func (f *reader) ReadAt(p []byte, off int64) (int, error) {
	size := f.dev.Size()
	if off < 0 || off >= size {
		return 0, io.EOF
	}
	// Whole blocks around what is asked, which may be any bytes.
	bs := int64(max(f.dev.Limits().LogicalBlock, 1))
	n := min(int64(len(p)), size-off)
	if n > 64<<20 {
		return 0, io.ErrUnexpectedEOF
	}
	from, to := off/bs*bs, min((off+n+bs-1)/bs*bs, size/bs*bs)
	if to < off+n {
		return 0, io.EOF
	}
	buf := make([]byte, to-from)
	if err := block.ReadAt(f.dev, buf, from); err != nil {
		return 0, err
	}
	copy(p, buf[off-from:off-from+n])
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

func (f *reader) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

func (f *reader) Seek(off int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		off += f.pos
	case io.SeekEnd:
		off += f.dev.Size()
	}
	f.pos = off
	return off, nil
}

func (f *reader) Close() error               { return nil }
func (f *reader) Stat() (fs.FileInfo, error) { return info{f.dev}, nil }

type info struct{ dev block.Device }

func (i info) Name() string       { return i.dev.Name() }
func (i info) Size() int64        { return i.dev.Size() }
func (i info) Mode() fs.FileMode  { return 0 }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return false }
func (i info) Sys() any           { return nil }
