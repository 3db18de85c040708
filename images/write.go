package images

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/diskfs/go-diskfs/partition/gpt"
	"github.com/diskfs/go-diskfs/partition/mbr"

	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// align is where the first partition begins and what its size is a multiple of, as partitioning tools have it.
const align = 1 << 20

// Content says what a partition is for.
type Content struct {
	gpt gpt.Type
	mbr mbr.Type
}

// What partitions are for.
var (
	ForLinux = Content{gpt.LinuxFilesystem, mbr.Linux}
	ForFAT   = Content{gpt.MicrosoftBasicData, mbr.Fat32LBA}
)

// WriteTable makes a new partition table of the kind gpt or mbr, with one partition for what over all that it leaves, and
// gives that partition. What the first and the last MiB held is erased. The identifiers of disk and partition follow from
// seed; a seed of zeros is replaced by chance.
// Errors: errno.INVAL for another kind, a device that is too small, or one too large for an MBR.
func WriteTable(dev block.Device, kind string, what Content, seed [16]byte) (*Partition, error) {
	sector := int64(max(dev.Limits().LogicalBlock, 512))
	end := dev.Size() / align * align
	if kind == "gpt" && dev.Size()-end < 40*max(sector, 512) {
		end -= align // the second copy of the table lies behind the last partition
	}
	switch {
	case kind != "gpt" && kind != "mbr":
		return nil, fmt.Errorf("partition table %q: the kinds are gpt and mbr: %w", kind, errno.INVAL)
	case end < 2*align:
		return nil, fmt.Errorf("%s: %d bytes are too few for a partition table; 3 MiB are the least: %w", dev.Name(), dev.Size(), errno.INVAL)
	case kind == "mbr" && end/sector > 1<<32-1:
		return nil, fmt.Errorf("%s: an MBR reaches 2^32 sectors of %d bytes; make a gpt: %w", dev.Name(), sector, errno.INVAL)
	}
	if seed == [16]byte{} {
		if _, err := rand.Read(seed[:]); err != nil {
			return nil, err
		}
	}
	w := &writableReader{Writer: WriterAt(dev), reader: reader{dev: dev}}
	last := max(dev.Size()-align, align)
	if err := w.ZeroRange(0, align); err != nil {
		return nil, err
	}
	if err := w.ZeroRange(last, dev.Size()-last); err != nil {
		return nil, err
	}
	var err error
	if kind == "gpt" {
		err = writeGPT(w, sector, end, what, seed)
	} else {
		err = writeMBR(w, sector, end, what, seed)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %s partition table: %w", dev.Name(), kind, err)
	}
	t, err := ReadTable(dev)
	if err != nil {
		return nil, err
	}
	if len(t.Partitions) != 1 {
		return nil, fmt.Errorf("%s: the partition table reads back with %d partitions: %w", dev.Name(), len(t.Partitions), errno.IO)
	}
	return &t.Partitions[0], nil
}

func writeGPT(w *writableReader, sector, end int64, what Content, seed [16]byte) error {
	t := &gpt.Table{
		LogicalSectorSize: int(sector), PhysicalSectorSize: int(sector), GUID: derive(seed, "disk"), ProtectiveMBR: true,
		Partitions: []*gpt.Partition{{
			Index: 1, Start: uint64(align / sector), End: uint64(end/sector - 1), Size: uint64(end - align),
			Type: what.gpt, GUID: derive(seed, "partition"),
		}},
	}
	return t.Write(w, w.reader.dev.Size())
}

func writeMBR(w *writableReader, sector, end int64, what Content, seed [16]byte) error {
	t := &mbr.Table{
		LogicalSectorSize: int(sector), PhysicalSectorSize: int(sector),
		Partitions: []*mbr.Partition{{Index: 1, Type: what.mbr, Start: uint32(align / sector), Size: uint32((end - align) / sector)}},
	}
	if err := t.Write(w, w.reader.dev.Size()); err != nil {
		return err
	}
	// The disk's identifier, which tools and kernels make partition UUIDs of.
	id := sha256.Sum256(seed[:])
	_, err := w.Writer.WriteAt(binary.LittleEndian.AppendUint32(nil, max(binary.LittleEndian.Uint32(id[:]), 1)), 440)
	return err
}

// derive makes a random-looking UUID (version 4) out of a seed.
func derive(seed [16]byte, what string) string {
	h := sha256.Sum256(append(seed[:], what...))
	h[6], h[8] = h[6]&0xf|0x40, h[8]&0x3f|0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])
}

// writableReader makes a device look like the file that go-diskfs writes.
type writableReader struct {
	*Writer
	reader
}

// Sync makes what was written durable: go-diskfs asks for it between the copies of a GPT.
func (w *writableReader) Sync() error { return block.Flush(w.reader.dev) }
