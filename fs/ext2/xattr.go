package ext2

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Extended attributes stand in the inode's body, where ext3 and later put them, and in a block (xattrblock.go). What is in
// the body is honoured there. New attributes go to the block, which the kernel's ext2 sees too, unless the body is in use
// already; the body is also taken when the block is full.

// xattrCache is what an inode keeps of its attributes, so that most questions need no reading: a kernel asks for
// security.capability before every write.
type xattrCache struct {
	// mu is held exclusively to change attributes. Inside Rw and transactions, outside mapMu and buffers.
	mu sync.RWMutex
	// known: bit i, there are attributes of name space i; and the bits below. Changes under mu.
	known atomic.Uint32
	// orphan is the block of a file that lost its last name, when others share it; see orphanXattrs. Guarded by mu.
	orphan disk.XattrBlock
}

const (
	xattrsCounted uint32 = 1 << 31 // the other bits are right
	xattrsInBody  uint32 = 1 << 30 // the body is in use
)

// xattrKey gives name space and stored name, if the mount options have that name space.
func (fs *fsys) xattrKey(name string) (uint8, string, error) {
	index, stored, ok := disk.SplitXattrName(name)
	acl := index == disk.XattrACLAccess || index == disk.XattrACLDefault
	if !ok || fs.opts.NoUserXattr && index == disk.XattrUser || acl && fs.opts.NoACL || index == disk.XattrSystem {
		return 0, "", errno.OPNOTSUPP
	}
	return index, stored, nil
}

// bodyTable gives the attributes in the inode's body. Hold xattrs.mu, shared is enough.
func (ip *inode) bodyTable(ctx context.Context) (disk.XattrTable, func(), error) {
	none := func() {}
	if k := ip.xattrs.known.Load(); k&xattrsCounted != 0 && k&xattrsInBody == 0 {
		return disk.XattrTable{}, none, nil
	}
	ip.AttrMu.Lock()
	body, fresh := ip.ibody, ip.fresh
	ip.AttrMu.Unlock()
	done := none
	if body == nil {
		if fresh || ip.fs.geo.InodeSize <= disk.OldInodeSize {
			return disk.XattrTable{}, none, nil
		}
		// While ibody is nil nothing writes the body.
		bh, off, err := ip.fs.inodeBuffer(ctx, ip.Ino())
		if err != nil {
			return disk.XattrTable{}, none, err
		}
		done = bh.Put
		body = ip.raw.IBody(bh.Data[off : off+int(ip.fs.geo.InodeSize)])
	}
	t, err := disk.XattrBody(body)
	if err != nil {
		done()
		return disk.XattrTable{}, none, ip.fs.corrupt("extended attributes", ip.Ino(), 0, "%v", err)
	}
	return t, done, nil
}

// blockTable gives the attributes in the block, which stays locked against change until done is called. Hold xattrs.mu,
// shared is enough.
func (ip *inode) blockTable(ctx context.Context) (disk.XattrTable, func(), error) {
	b := disk.FSBlock(ip.fileACL.Load())
	if b == 0 {
		if ip.xattrs.orphan != nil {
			return ip.xattrs.orphan.Table(), func() {}, nil
		}
		return disk.XattrTable{}, func() {}, nil
	}
	bh, err := ip.fs.bd.Bread(ctx, uint64(b))
	if err != nil {
		return disk.XattrTable{}, nil, fmt.Errorf("extended attributes of inode %d: %w", ip.Ino(), err)
	}
	lock := ip.fs.shared.lock(b)
	lock.RLock()
	xb, err := disk.AsXattrBlock(bh.Data)
	if err != nil {
		lock.RUnlock()
		bh.Put()
		return disk.XattrTable{}, nil, ip.fs.corrupt("extended attributes", ip.Ino(), ip.fs.addr(bh), "%v", err)
	}
	return xb.Table(), func() { lock.RUnlock(); bh.Put() }, nil
}

// eachXattr calls f with all attributes until it answers false, body before block. Hold xattrs.mu. Names and values are good
// during the call.
func (ip *inode) eachXattr(ctx context.Context, f func(e disk.XattrEntry, body bool) bool) error {
	for _, inBody := range [...]bool{true, false} {
		get := ip.blockTable
		if inBody {
			get = ip.bodyTable
		}
		t, done, err := get(ctx)
		if err != nil {
			return err
		}
		for at := t.First(); !t.End(at); at = t.Next(at) {
			if !f(t.At(at), inBody) {
				done()
				return nil
			}
		}
		done()
	}
	return nil
}

// countXattrs fills known. Hold xattrs.mu exclusively.
func (ip *inode) countXattrs(ctx context.Context) error {
	known := xattrsCounted
	err := ip.eachXattr(ctx, func(e disk.XattrEntry, body bool) bool {
		known |= 1 << (e.Index & 15)
		if body {
			known |= xattrsInBody
		}
		return true
	})
	if err == nil {
		ip.xattrs.known.Store(known)
	}
	return err
}

// getXattr is InodeOperations.GetXattr.
func (fs *fsys) getXattr(ctx context.Context, vi *vfs.Inode, name string) ([]byte, error) {
	index, stored, err := fs.xattrKey(name)
	if err != nil {
		return nil, err
	}
	ip := inodeOf(vi)
	known := ip.xattrs.known.Load()
	if known&xattrsCounted == 0 {
		ip.xattrs.mu.Lock()
		err = ip.countXattrs(ctx)
		known = ip.xattrs.known.Load()
		ip.xattrs.mu.Unlock()
		if err != nil {
			fs.damaged(err)
			return nil, err
		}
	}
	if known&(1<<index) == 0 {
		return nil, errno.NODATA
	}
	var value []byte
	found := false
	ip.xattrs.mu.RLock()
	err = ip.eachXattr(ctx, func(e disk.XattrEntry, _ bool) bool {
		if e.Index != index || string(e.Name) != stored {
			return true
		}
		value, found = append([]byte{}, e.Value...), true
		return false
	})
	ip.xattrs.mu.RUnlock()
	switch {
	case err != nil:
		fs.damaged(err)
		return nil, err
	case !found:
		return nil, errno.NODATA
	}
	if index == disk.XattrACLAccess || index == disk.XattrACLDefault {
		if value, err = disk.ACLFromDisk(value); err != nil {
			err = fs.corrupt("ACL", ip.Ino(), 0, "%v", err)
			fs.damaged(err)
			return nil, err
		}
	}
	return value, nil
}

// damaged reports damage, and nothing else.
func (fs *fsys) damaged(err error) {
	if errors.Is(err, errno.UCLEAN) {
		fs.fail(err)
	}
}

// listXattr is InodeOperations.ListXattr.
func (fs *fsys) listXattr(ctx context.Context, vi *vfs.Inode) ([]string, error) {
	ip := inodeOf(vi)
	if ip.xattrs.known.Load()&^xattrsInBody == xattrsCounted {
		return nil, nil
	}
	var names []string
	ip.xattrs.mu.RLock()
	defer ip.xattrs.mu.RUnlock()
	err := ip.eachXattr(ctx, func(e disk.XattrEntry, _ bool) bool {
		name, ok := disk.XattrFullName(e.Index, string(e.Name))
		if !ok {
			return true
		}
		if _, _, err := fs.xattrKey(name); err == nil {
			names = append(names, name)
		}
		return true
	})
	if err != nil {
		fs.damaged(err)
		return nil, err
	}
	return names, nil
}

// setXattr is InodeOperations.SetXattr.
func (fs *fsys) setXattr(ctx context.Context, vi *vfs.Inode, name string, value []byte, flags int) error {
	index, stored, err := fs.xattrKey(name)
	if err != nil {
		return err
	}
	x := disk.Xattr{Index: index, Name: stored, Value: value}
	if value != nil && (index == disk.XattrACLAccess || index == disk.XattrACLDefault) {
		if x.Value, err = disk.ACLToDisk(value); err != nil {
			return fmt.Errorf("%w: %w", err, errno.INVAL)
		}
	}
	ip := inodeOf(vi)
	if err := fs.needExtAttr(); err != nil {
		return err
	}
	c := xattrChange{share: vi.Nlink() > 0}
	err = ip.planXattr(ctx, &c, x, value == nil, flags)
	if err == nil {
		err = fs.retryFull(ctx, func() error {
			fs.begin()
			defer fs.end()
			ip.xattrs.mu.Lock()
			defer ip.xattrs.mu.Unlock()
			if err := ip.applyXattrs(ctx, &c); err != nil {
				return err
			}
			ip.changedNow()
			return nil
		})
	}
	if err != nil {
		fs.damaged(err)
		return fmt.Errorf("inode %d: attribute %q: %w", ip.Ino(), name, err)
	}
	return nil
}

// xattrChange is what an inode's attributes become. Nil lists that are not to change are told by the flags.
type xattrChange struct {
	body, block       []disk.Xattr
	setBody, setBlock bool
	share             bool // the block may be one with others
}

// planXattr works out where an attribute goes. Rw is held exclusively, so nothing of the inode's changes meanwhile.
func (ip *inode) planXattr(ctx context.Context, c *xattrChange, x disk.Xattr, remove bool, flags int) error {
	ip.xattrs.mu.Lock()
	err := ip.countXattrs(ctx)
	if err == nil {
		err = ip.eachXattr(ctx, func(e disk.XattrEntry, body bool) bool {
			if body {
				c.body = append(c.body, e.Copy())
			} else {
				c.block = append(c.block, e.Copy())
			}
			return true
		})
	}
	ip.xattrs.mu.Unlock()
	if err != nil {
		return err
	}
	same := func(o disk.Xattr) bool { return o.Index == x.Index && o.Name == x.Name }
	inBody, inBlock := slices.IndexFunc(c.body, same), slices.IndexFunc(c.block, same)
	exists := inBody >= 0 || inBlock >= 0
	switch {
	case exists && !remove && flags&vfs.XattrCreate != 0:
		return errno.EXIST
	case !exists && (remove || flags&vfs.XattrReplace != 0):
		return errno.NODATA
	}
	bodyUsed := len(c.body) > 0
	if inBody >= 0 {
		c.body, c.setBody = slices.Delete(c.body, inBody, inBody+1), true
	}
	if inBlock >= 0 {
		c.block, c.setBlock = slices.Delete(c.block, inBlock, inBlock+1), true
	}
	if remove {
		return nil
	}
	fitsBody := disk.XattrSpace(append(slices.Clip(c.body), x)) <= ip.bodyRoom()
	fitsBlock := disk.XattrSpace(append(slices.Clip(c.block), x)) <= disk.XattrBlockRoom(ip.fs.geo.BlockSize)
	switch {
	case fitsBody && bodyUsed && inBlock < 0, !fitsBlock && fitsBody:
		c.body, c.setBody = append(c.body, x), true
	case fitsBlock:
		c.block, c.setBlock = append(c.block, x), true
	default:
		return errno.NOSPC
	}
	return nil
}

// bodyRoom is the room for attributes in the inode, in bytes.
func (ip *inode) bodyRoom() int {
	if ip.fs.geo.InodeSize <= disk.OldInodeSize {
		return 0
	}
	n := int(ip.fs.geo.InodeSize) - disk.OldInodeSize - int(ip.raw.ExtraSize)
	if ip.raw.ExtraSize < 4 || n < 8 {
		return 0
	}
	return n - 4
}

// applyXattrs makes a planned change. Inside a transaction, xattrs.mu held exclusively. errno.NOSPC changes nothing.
func (ip *inode) applyXattrs(ctx context.Context, c *xattrChange) error {
	if c.setBlock {
		if err := ip.setXattrBlock(ctx, c.block, c.share); err != nil {
			return err
		}
	}
	if c.setBody {
		body := make([]byte, int(ip.fs.geo.InodeSize)-disk.OldInodeSize-int(ip.raw.ExtraSize))
		if !disk.BuildXattrBody(body, c.body) {
			return errno.NOSPC // planned to fit
		}
		ip.AttrMu.Lock()
		ip.ibody = body
		ip.AttrMu.Unlock()
		ip.fs.dirtyInode(ip)
	}
	known := xattrsCounted
	for _, list := range [...][]disk.Xattr{c.body, c.block} {
		for _, x := range list {
			known |= 1 << (x.Index & 15)
		}
	}
	if len(c.body) > 0 {
		known |= xattrsInBody
	}
	ip.xattrs.known.Store(known)
	return nil
}

// initXattrs gives a new inode its first attributes, which may be none. named says that it gets a name in this transaction,
// which is its own.
func (ip *inode) initXattrs(ctx context.Context, list []disk.Xattr, named bool) error {
	ip.xattrs.mu.Lock()
	defer ip.xattrs.mu.Unlock()
	return ip.applyXattrs(ctx, &xattrChange{block: list, setBlock: len(list) > 0, share: named})
}

// inherit works out mode and ACLs of something new in dir, in the form of the medium.
func (fs *fsys) inherit(ctx context.Context, dir *vfs.Inode, cred *vfs.Cred, mode uint32) (uint32, []disk.Xattr, error) {
	mode, access, deflt, err := dir.InheritACL(ctx, cred, mode)
	if err != nil || access == nil && deflt == nil {
		return mode, nil, err
	}
	if err := fs.needExtAttr(); err != nil {
		return 0, nil, err
	}
	var list []disk.Xattr
	for index, acl := range map[uint8][]byte{disk.XattrACLAccess: access, disk.XattrACLDefault: deflt} {
		if acl == nil {
			continue
		}
		v, err := disk.ACLToDisk(acl)
		if err != nil {
			return 0, nil, fs.corrupt("default ACL", dir.Ino(), 0, "%v", err)
		}
		list = append(list, disk.Xattr{Index: index, Value: bytes.Clone(v)})
	}
	return mode, list, nil
}

// needExtAttr makes sure that the superblock says that there may be attributes, on the medium before the first is.
// errno.OPNOTSUPP on revision 0, which has no features.
func (fs *fsys) needExtAttr() error {
	fs.superMu.Lock()
	has, old := fs.super.Compat&disk.CompatExtAttr != 0, fs.super.Revision == disk.RevOld
	if !has && !old {
		fs.super.Compat |= disk.CompatExtAttr
	}
	fs.superMu.Unlock()
	switch {
	case has:
		return nil
	case old:
		return errno.OPNOTSUPP
	}
	fs.begin()
	defer fs.end()
	return fs.writeSuper()
}
