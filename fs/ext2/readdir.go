package ext2

import (
	"context"
	"errors"
	"unsafe"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// readDir is FileOperations.ReadDir. A cookie is the byte offset of what follows: entries never move, so a listing that
// goes on finds every name that was there all the time, once, whatever came and went around it. A cookie inside a record
// that grew over a removed name goes on behind that record.
//
// Damaged blocks are passed over; the error comes at the end, so that what can be read is read.
func (fs *fsys) readDir(ctx context.Context, f *vfs.File, pos int64, emit func(*vfs.DirEntry) bool) error {
	ip := inodeOf(f.Inode)
	if pos < 0 {
		return errno.INVAL
	}
	aux, err := ip.dirAux(ctx)
	if err != nil {
		return err
	}
	bits, blocks, types := fs.geo.BlockBits, ip.dirBlocks(), fs.super.HasFileType()
	de := new(vfs.DirEntry)
	emitted := false
	for n := disk.FileBlock(uint64(pos) >> bits); n < blocks; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		ip.readAhead(ctx, n, blocks)
		base := int64(n) << bits
		bh, db, err := ip.dirBlock(ctx, aux, n)
		if err != nil {
			if errors.Is(err, errno.UCLEAN) {
				continue // remembered
			}
			if emitted {
				return nil // the next call meets the error
			}
			return err
		}
		start, ok := db.Seek(int(max(pos-base, 0)))
		for off := start; ok && off < len(db); {
			var r disk.DirRecord
			if r, ok = db.Record(off); !ok {
				break
			}
			off = r.Next
			if r.Ino == 0 {
				continue
			}
			de.Ino, de.Next, de.Type = uint64(r.Ino), base+int64(r.Next), vfs.DTUnknown
			// The bytes of the block do not change while Rw is held, and the name is valid during emit only.
			de.Name = unsafe.String(unsafe.SliceData(r.Name), len(r.Name))
			if !disk.ValidName(de.Name) {
				ip.noteBad(aux, fs.corrupt("directory", ip.Ino(), fs.addr(bh), "block %d: the name %q has characters that no name has", n, string(r.Name)))
				continue
			}
			if types {
				de.Type = vfs.DType(uint32(r.Type.Mode()))
			}
			if !emit(de) {
				bh.Put()
				return nil
			}
			emitted = true
		}
		if !ok {
			ip.noteBad(aux, ip.badBlock(bh, n, errBroken))
		}
		bh.Put()
	}
	if bad := aux.bad.Load(); bad != nil && !emitted {
		return *bad
	}
	return nil
}
