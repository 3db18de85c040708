package images

import (
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/diskfs/go-diskfs/partition"
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
// are left out.
func ReadTable(dev block.Device) (t *Table, err error) {
	t = &Table{Kind: "none"}
	defer func() {
		if r := recover(); r != nil { // the library trusts its input more than we do
			t, err = &Table{Kind: "none"}, nil
		}
	}()
	raw, err := partition.Read(&reader{dev: dev}, int(max(dev.Limits().LogicalBlock, 512)), int(max(dev.Limits().PhysicalBlock, 512)))
	if err != nil {
		return t, nil // no table that is known
	}
	sector := int64(max(dev.Limits().LogicalBlock, 512))
	add := func(p Partition) {
		if p.Start > 0 && p.Size > 0 && p.Start <= dev.Size() && p.Size <= dev.Size()-p.Start {
			t.Partitions = append(t.Partitions, p)
		}
	}
	switch tab := raw.(type) {
	case *gpt.Table:
		t.Kind, t.UUID = "gpt", strings.ToLower(tab.GUID)
		for i, p := range tab.Partitions {
			if p == nil || p.Type == gpt.Unused || p.Start == 0 || p.End < p.Start || p.End > 1<<50 {
				continue
			}
			n := p.Index
			if n == 0 {
				n = i + 1
			}
			add(Partition{n, int64(p.Start) * sector, int64(p.End-p.Start+1) * sector, strings.ToLower(string(p.Type)), p.Name, strings.ToLower(p.GUID)})
		}
	case *mbr.Table:
		t.Kind = "dos"
		for i, p := range tab.Partitions {
			if p == nil || p.Type == mbr.Empty {
				continue
			}
			n := p.Index
			if n == 0 {
				n = i + 1
			}
			add(Partition{n, int64(p.Start) * sector, int64(p.Size) * sector, fmt.Sprintf("0x%02x", byte(p.Type)), "", strings.ToLower(p.UUID())})
		}
		if len(t.Partitions) == 0 {
			t.Kind = "none" // a boot sector, not a table
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
