package images

import (
	"encoding/binary"
	"fmt"

	"github.com/iomapfs/iomapfs/vfs/block"
)

// Types of MBR entries that matter here.
const protective = 0xee // the disk has a GPT

func isExtended(t byte) bool { return t == 0x05 || t == 0x0f || t == 0x85 }

func typeName(t byte) string { return fmt.Sprintf("0x%02x", t) }

// maxLogical bounds the chain of logical partitions, which is a list on the medium and may be a ring.
const maxLogical = 128

// logical adds the logical partitions of an extended one, numbered from 5. Each is described by a sector like the boot
// sector, whose first entry is the partition, relative to that sector, and whose second is the next such sector, relative
// to the extended partition.
//
//	446  16  first entry: +4 type, +8 first sector, +12 sectors
//	462  16  second entry
//	510   2  55 aa
func (t *Table) logical(dev block.Device, ext Partition, sector int64) error {
	at := ext.Start
	for n := 5; n < 5+maxLogical; n++ {
		if at < ext.Start || at > ext.Start+ext.Size-sector || at > dev.Size()-sector {
			return nil
		}
		var buf [4096]byte
		b := buf[:sector]
		if sector > int64(len(buf)) {
			return nil
		}
		if err := block.ReadAt(dev, b, at); err != nil {
			return err
		}
		if b[510] != 0x55 || b[511] != 0xaa {
			return nil
		}
		le := binary.LittleEndian
		if first, sectors := int64(le.Uint32(b[446+8:])), int64(le.Uint32(b[446+12:])); b[446+4] != 0 && sectors > 0 {
			uuid := ""
			if t.UUID != "" {
				uuid = fmt.Sprintf("%s-%02x", t.UUID, n)
			}
			t.add(dev, Partition{n, at + first*sector, sectors * sector, typeName(b[446+4]), "", uuid})
		}
		next := int64(le.Uint32(b[462+8:]))
		if !isExtended(b[462+4]) || next == 0 {
			return nil
		}
		at = ext.Start + next*sector
	}
	return nil
}

// saneGPT looks at both headers of a GPT before go-diskfs does, which takes the size of the array of entries from them as it
// is: entries of 128 bytes, 1024 of them at most. False where there is no header at all.
func saneGPT(dev block.Device, sector int64) bool {
	found := false
	for _, at := range []int64{sector, dev.Size()/sector*sector - sector} {
		b := make([]byte, sector)
		if at < sector || at > dev.Size()-sector || block.ReadAt(dev, b, at) != nil || string(b[:8]) != "EFI PART" {
			continue
		}
		if count, size := binary.LittleEndian.Uint32(b[80:]), binary.LittleEndian.Uint32(b[84:]); count > 1024 || size != 128 {
			return false
		}
		found = true
	}
	return found
}
