package compare

import (
	"fmt"
	"hash/crc64"

	"github.com/iomapfs/iomapfs/fs/all"
	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs/block"
)

// ext2Reader finds the tree in an image of ext2 by the format alone: no cache, no buffer heads, no mappings, no index of directories.
type ext2Reader struct {
	dev    block.Device
	g      *disk.Geometry
	tables []disk.FSBlock // the first block of each group's inode table
	list   []entry
}

// readExt2 is readers' for ext2.
func readExt2(dev block.Device) ([]entry, error) {
	raw := make([]byte, disk.SuperSize)
	if _, err := all.ReaderAt(dev).ReadAt(raw, disk.SuperOffset); err != nil {
		return nil, err
	}
	sb, err := disk.DecodeSuperblock(raw)
	if err != nil {
		return nil, err
	}
	r := &ext2Reader{dev: dev}
	if r.g, err = disk.NewGeometry(&sb, dev.Size()); err != nil {
		return nil, err
	}
	for gr := range disk.Group(r.g.Groups) {
		at, off := r.g.DescAt(gr)
		b, err := r.block(at)
		if err != nil {
			return nil, err
		}
		desc, err := disk.DecodeGroupDesc(b[off:])
		if err != nil {
			return nil, err
		}
		r.tables = append(r.tables, desc.InodeTable)
	}
	if err := r.walk(disk.RootIno, "", 0); err != nil {
		return nil, err
	}
	sortTree(r.list)
	return r.list, nil
}

func (r *ext2Reader) block(b disk.FSBlock) ([]byte, error) {
	if !r.g.ValidBlock(b) {
		return nil, fmt.Errorf("block %d is not on the device", b)
	}
	p := make([]byte, r.g.BlockSize)
	return p, block.ReadAt(r.dev, p, r.g.BytesOf(b))
}

func (r *ext2Reader) inode(ino disk.Ino) (in disk.Inode, err error) {
	if !r.g.ValidIno(ino) {
		return in, fmt.Errorf("inode %d does not exist", ino)
	}
	at, off := r.g.InodeAt(ino, r.tables[r.g.InodeGroup(ino)])
	b, err := r.block(at)
	if err != nil {
		return in, err
	}
	return disk.DecodeInode(b[off : off+r.g.InodeSize])
}

// walk adds what an inode and the names below it are.
func (r *ext2Reader) walk(ino disk.Ino, path string, depth int) error {
	in, err := r.inode(ino)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	e := entry{
		path: path, mode: uint32(in.Mode), links: uint32(in.Links), uid: in.UID, gid: in.GID, mtime: in.Mtime.Sec, size: int64(in.Size),
		blocks: int64(in.Sectors),
	}
	switch in.Type() {
	case disk.ModeSymlink:
		if in.IsFastSymlink(r.g) {
			target, err := in.FastSymlink()
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			e.sum = crc64.Checksum([]byte(target), crcTable)
			break
		}
		fallthrough
	case disk.ModeRegular:
		zeros := make([]byte, r.g.BlockSize)
		err = r.blocks(&in, func(pos int64, b []byte) error {
			end := min(pos+int64(r.g.BlockSize), e.size)
			if b != nil && in.IsRegular() {
				e.data = addSpan(e.data, pos, end, e.size)
			}
			if b == nil {
				b = zeros
			}
			e.sum = crc64.Update(e.sum, crcTable, b[:end-pos])
			return nil
		})
	case disk.ModeDir:
		if depth > 200 {
			return fmt.Errorf("%s: too deep", path)
		}
		e.path += "/"
		err = r.blocks(&in, func(_ int64, b []byte) error {
			if b == nil {
				return fmt.Errorf("a directory with a hole")
			}
			db, err := disk.AsDirBlock(b, r.g.Inodes)
			if err != nil {
				return err
			}
			for off := 0; off < len(db); off = db.Next(off) {
				if db.Ino(off) == 0 || disk.IsDots(db.Name(off)) {
					continue
				}
				if err := r.walk(db.Ino(off), path+"/"+string(db.Name(off)), depth+1); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	r.list = append(r.list, e)
	return nil
}

// blocks gives each block of a file, nil for a hole.
func (r *ext2Reader) blocks(in *disk.Inode, each func(pos int64, b []byte) error) error {
	var at [3]disk.FSBlock
	var ptrs [3]disk.PtrBlock
	for fb := range disk.FileBlock(r.g.BlocksFor(in.Size)) {
		path, ok := r.g.PathOf(fb)
		if !ok {
			return fmt.Errorf("block %d: beyond what a file has", fb)
		}
		b := disk.FSBlock(in.Block[path.Index[0]])
		for d := 1; d < path.Depth && b != 0; d++ {
			if at[d-1] != b {
				p, err := r.block(b)
				if err != nil {
					return err
				}
				at[d-1], ptrs[d-1] = b, p
			}
			b = ptrs[d-1].At(path.Index[d])
		}
		var data []byte
		if b != 0 {
			var err error
			if data, err = r.block(b); err != nil {
				return err
			}
		}
		if err := each(int64(fb)<<r.g.BlockBits, data); err != nil {
			return err
		}
	}
	return nil
}
