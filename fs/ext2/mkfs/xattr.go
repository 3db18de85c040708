package mkfs

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// attrBlock is an attribute block that inodes with equal attributes share.
type attrBlock struct {
	block disk.FSBlock
	refs  uint32
	key   [32]byte
}

// storeXattrs puts attributes into the body of the inode raw, which in is encoded in, as far as they fit, and the rest into a
// block. It sets FileACL and Sectors of in. The result is nil when no block is needed.
func (bu *Builder) storeXattrs(in *disk.Inode, raw []byte, xattrs map[string][]byte) (*attrBlock, error) {
	if len(xattrs) == 0 {
		return nil, nil
	}
	if !bu.extAttr {
		return nil, fmt.Errorf("has extended attributes, and the filesystem no feature ext_attr: %w", errno.OPNOTSUPP)
	}
	list := make([]disk.Xattr, 0, len(xattrs))
	for name, value := range xattrs {
		index, rest, ok := disk.SplitXattrName(name)
		if !ok {
			return nil, fmt.Errorf("attribute %q: no name space that ext2 knows: %w", name, errno.OPNOTSUPP)
		}
		if index == disk.XattrACLAccess || index == disk.XattrACLDefault {
			acl, err := disk.ACLToDisk(value)
			if err != nil {
				return nil, fmt.Errorf("attribute %q: %w: %w", name, err, errno.INVAL)
			}
			value = acl
		}
		list = append(list, disk.Xattr{Index: index, Name: rest, Value: value})
	}
	slices.SortFunc(list, disk.CompareXattr)
	body := in.IBody(raw)
	var inside, outside []disk.Xattr
	for _, x := range list {
		if disk.XattrSpace(append(inside, x)) <= disk.XattrBodyRoom(body) {
			inside = append(inside, x)
		} else {
			outside = append(outside, x)
		}
	}
	disk.BuildXattrBody(body, inside)
	if len(outside) == 0 {
		return nil, nil
	}
	b := bu.buf[:bu.al.g.BlockSize]
	if _, ok := disk.BuildXattrBlock(b, outside); !ok {
		return nil, fmt.Errorf("extended attributes need %d bytes, a block has room for %d: %w", disk.XattrSpace(outside), disk.XattrBlockRoom(bu.al.g.BlockSize), errno.NOSPC)
	}
	key := sha256.Sum256(b)
	ab := bu.shared[key]
	if ab == nil || ab.refs == disk.XattrRefMax {
		r, err := bu.al.alloc(1)
		if err != nil {
			return nil, err
		}
		if err := bu.out.block(r.first, b, "an attribute block"); err != nil {
			return nil, err
		}
		ab = &attrBlock{block: r.first, key: key}
		bu.shared[key] = ab
		bu.blocks = append(bu.blocks, ab)
	}
	ab.refs++
	in.FileACL = ab.block
	in.Sectors += bu.al.g.BlockSize / disk.SectorSize
	return ab, nil
}

// dropAttrs takes back one use of a block.
func (bu *Builder) dropAttrs(ab *attrBlock) {
	if ab.refs--; ab.refs == 0 {
		bu.al.free(run{ab.block, 1})
		if bu.shared[ab.key] == ab {
			delete(bu.shared, ab.key)
		}
	}
}

// finishAttrs writes the reference counts of the blocks that are shared.
func (bu *Builder) finishAttrs() error {
	for _, ab := range bu.blocks {
		if ab.refs > 1 {
			off := bu.al.g.BytesOf(ab.block) + 4
			if err := bu.out.writeAt(binary.LittleEndian.AppendUint32(nil, ab.refs), off, "a reference count"); err != nil {
				return err
			}
		}
	}
	return nil
}
