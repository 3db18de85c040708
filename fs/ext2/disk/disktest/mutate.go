package disktest

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"strings"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
)

// Mutator damages copies of an image where it hurts: it knows where each kind of structure lies.
type Mutator struct {
	base  []byte
	spots [kinds][]spot
}

// spot is one structure: where it begins, how many bytes of it matter.
type spot struct{ at, n int }

const (
	kindSuper = iota
	kindDesc
	kindBitmap
	kindInode
	kindDir
	kindPtr
	kindXattr
	kindLink
	kinds
)

var kindNames = [kinds]string{"superblock", "descriptor", "bitmap", "inode", "directory", "pointers", "attributes", "link target"}

// NewMutator finds the structures of a clean image.
func NewMutator(image []byte) (*Mutator, error) {
	m := &Mutator{base: image}
	sb, err := disk.DecodeSuperblock(image[disk.SuperOffset:])
	if err != nil {
		return nil, err
	}
	g, err := disk.NewGeometry(&sb, int64(len(image)))
	if err != nil {
		return nil, err
	}
	m.add(kindSuper, disk.SuperOffset, 384)
	for gr := range disk.Group(g.Groups) {
		blk, off := g.DescAt(gr)
		at := int(g.BytesOf(blk)) + int(off)
		m.add(kindDesc, at, disk.GroupDescSize)
		d, err := disk.DecodeGroupDesc(image[at:])
		if err != nil {
			return nil, err
		}
		m.add(kindBitmap, int(g.BytesOf(d.BlockBitmap)), int(g.GroupBlocks(gr)+7)/8)
		m.add(kindBitmap, int(g.BytesOf(d.InodeBitmap)), int(sb.InodesPerGroup+7)/8)
		for i := range sb.InodesPerGroup {
			blk, off := g.InodeAt(g.InoOf(gr, i), d.InodeTable)
			at := int(g.BytesOf(blk)) + int(off)
			in, err := disk.DecodeInode(image[at : at+int(g.InodeSize)])
			if err == nil && in.Live() {
				m.inode(g, &in, at)
			}
		}
	}
	return m, nil
}

func (m *Mutator) add(kind, at, n int) { m.spots[kind] = append(m.spots[kind], spot{at, n}) }

// inode notes an inode and the blocks of metadata that belong to it.
func (m *Mutator) inode(g *disk.Geometry, in *disk.Inode, at int) {
	m.add(kindInode, at, int(g.InodeSize))
	bs := int(g.BlockSize)
	if in.FileACL != 0 {
		m.add(kindXattr, int(g.BytesOf(disk.FSBlock(in.FileACL))), bs)
	}
	if !in.HasBlockMap(g) {
		return
	}
	for i, b := range in.Block {
		m.blocks(g, in, b, max(0, i-disk.NDirect+1))
	}
}

// blocks notes what lies at block b and below, height levels of pointers above the data.
func (m *Mutator) blocks(g *disk.Geometry, in *disk.Inode, b uint32, height int) {
	bs := int(g.BlockSize)
	at := int(g.BytesOf(disk.FSBlock(b)))
	if b == 0 || at+bs > len(m.base) {
		return
	}
	switch {
	case height > 0:
		m.add(kindPtr, at, bs)
		for i := 0; i < bs; i += 4 {
			m.blocks(g, in, binary.LittleEndian.Uint32(m.base[at+i:]), height-1)
		}
	case in.IsDir():
		m.add(kindDir, at, bs)
	case in.IsSymlink():
		m.add(kindLink, at, bs)
	}
}

// Next gives a damaged copy of the image, and what was done to it: one to twelve changes, of kinds that rng picks.
func (m *Mutator) Next(rng *rand.Rand) (image []byte, what string) {
	image = append([]byte(nil), m.base...)
	var done []string
	for range 1 + rng.Intn(1+rng.Intn(12)) {
		if rng.Intn(20) == 0 {
			for range 1 + rng.Intn(64) {
				image[disk.SuperOffset+rng.Intn(len(image)-disk.SuperOffset)] = byte(rng.Intn(256))
			}
			done = append(done, "random bytes")
			continue
		}
		kind := rng.Intn(kinds)
		if len(m.spots[kind]) == 0 {
			continue
		}
		s := m.spots[kind][rng.Intn(len(m.spots[kind]))]
		off := s.at + rng.Intn(s.n)
		if rng.Intn(2) == 0 {
			off = s.at + rng.Intn(min(s.n, 64)) // where the headers are
		}
		m.change(image, s, off, rng)
		done = append(done, fmt.Sprintf("%s at %d+%d", kindNames[kind], s.at, off-s.at))
	}
	if rng.Intn(50) == 0 {
		image = image[:4096+rng.Intn(len(image)-4096)]
		done = append(done, fmt.Sprintf("cut to %d", len(image)))
	}
	return image, strings.Join(done, ", ")
}

// change damages the field at off of a structure.
func (m *Mutator) change(image []byte, s spot, off int, rng *rand.Rand) {
	off32, off16 := min(off&^3, len(image)-4), min(off&^1, len(image)-2)
	le := binary.LittleEndian
	switch rng.Intn(9) {
	case 0:
		image[off] ^= 1 << rng.Intn(8)
	case 1:
		image[off] = byte(rng.Intn(256))
	case 2:
		le.PutUint32(image[off32:], []uint32{0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffffe, 0x10000}[rng.Intn(8)])
	case 3:
		le.PutUint32(image[off32:], le.Uint32(image[off32:])+uint32(rng.Intn(9))-4)
	case 4:
		le.PutUint16(image[off16:], []uint16{0, 1, 0x7fff, 0x8000, 0xffff, 12, 8}[rng.Intn(7)])
	case 5: // a pointer into some other structure
		kind := rng.Intn(kinds)
		if list := m.spots[kind]; len(list) > 0 {
			le.PutUint32(image[off32:], uint32(list[rng.Intn(len(list))].at>>(10+uint(m.base[disk.SuperOffset+24]))))
		}
	case 6: // an inode number, or a block of the device
		le.PutUint32(image[off32:], uint32(rng.Intn(len(image)>>10)))
	case 7: // the whole structure is another of its kind or of any other
		kind := rng.Intn(kinds)
		if list := m.spots[kind]; len(list) > 0 {
			o := list[rng.Intn(len(list))]
			copy(image[s.at:s.at+s.n], m.base[o.at:])
		}
	default: // a hole in it
		clear(image[off:min(off+1+rng.Intn(64), s.at+s.n)])
	}
}
