package ext2

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
)

// Attribute blocks. Inodes with equal attributes may share one, counted in its header. A block of one inode is changed in
// place; a shared one never, but for its count: the inode that changes gets a block of its own. Blocks made by others are
// honoured in any case; that two of ours become one happens with -o xattrshare only. A count and the inodes it counts lie in
// two blocks, and e2fsck -p refuses one that is wrong, so an epoch in which one changes is committed as a whole: twice the
// writing, see whole.go.

// sharedXattrs guards the attribute blocks of a mount and finds equal ones.
type sharedXattrs struct {
	// locks, by block, guard what the blocks hold: shared to read, exclusively to change. Inside inode.xattrs.mu, outside
	// group locks; never two at once.
	locks [16]sync.RWMutex

	mu     sync.Mutex              // guards the rest. Leaf
	known  map[uint32]disk.FSBlock // hash of a block to a block with that hash: a hint, to be checked
	hashes map[disk.FSBlock]uint32 // the other way
}

// sharedMax bounds the blocks remembered.
const sharedMax = 4096

func (s *sharedXattrs) lock(b disk.FSBlock) *sync.RWMutex { return &s.locks[uint32(b)*2654435761>>28] }

func (s *sharedXattrs) note(hash uint32, b disk.FSBlock) {
	if hash == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known, s.hashes = make(map[uint32]disk.FSBlock), make(map[disk.FSBlock]uint32)
	}
	s.drop(s.known[hash])
	s.drop(b)
	if len(s.known) >= sharedMax {
		for _, any := range s.known {
			s.drop(any)
			break
		}
	}
	s.known[hash], s.hashes[b] = b, hash
}

// drop takes a block off both maps. Hold mu.
func (s *sharedXattrs) drop(b disk.FSBlock) {
	if hash, ok := s.hashes[b]; ok {
		delete(s.known, hash)
		delete(s.hashes, b)
	}
}

func (s *sharedXattrs) lookup(hash uint32) disk.FSBlock {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[hash]
}

// forget drops a block that changes or goes.
func (s *sharedXattrs) forget(b disk.FSBlock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(b)
}

// setXattrBlock makes list, which fits, the contents of the inode's attribute block. share says that the block may be one
// with others: not for an inode without a name, whose use the medium does not know. Inside a transaction, xattrs.mu held
// exclusively. errno.NOSPC changes nothing.
func (ip *inode) setXattrBlock(ctx context.Context, list []disk.Xattr, share bool) error {
	fs := ip.fs
	share = share && fs.opts.ShareXattr
	old := disk.FSBlock(ip.fileACL.Load())
	if len(list) == 0 {
		return ip.leaveXattrBlock(ctx, 0)
	}
	image := make([]byte, fs.geo.BlockSize)
	xb, ok := disk.BuildXattrBlock(image, list)
	if !ok {
		return fmt.Errorf("%d bytes of attributes do not fit into a block", disk.XattrSpace(list))
	}
	if share {
		if b, err := fs.shareXattrBlock(ctx, xb, old); b != 0 || err != nil {
			if err != nil || b == old {
				return err
			}
			return ip.leaveXattrBlock(ctx, b)
		}
	}
	if old != 0 {
		if done, err := ip.rewriteXattrBlock(ctx, old, xb, share); done || err != nil {
			return err
		}
	}
	ip.mapMu.Lock()
	b, _, err := fs.allocBlocks(ctx, ip, ip.goal(ctx, 0), 1)
	ip.mapMu.Unlock()
	if err != nil {
		return err
	}
	bh, err := fs.bd.GetZeroed(ctx, uint64(b))
	if err != nil {
		fs.clearBlocks(b, 1)
		return err
	}
	copy(bh.Data, image)
	fs.dirtyBuffer(bh, kindNew)
	bh.Put()
	if err := ip.leaveXattrBlock(ctx, b); err != nil {
		return err
	}
	if share {
		fs.shared.note(xb.Hash(), b)
	}
	return nil
}

// rewriteXattrBlock stores xb over the inode's block b if that is nobody else's.
func (ip *inode) rewriteXattrBlock(ctx context.Context, b disk.FSBlock, xb disk.XattrBlock, share bool) (bool, error) {
	fs := ip.fs
	bh, err := fs.bd.Bread(ctx, uint64(b))
	if err != nil {
		return false, err
	}
	defer bh.Put()
	lock := fs.shared.lock(b)
	lock.Lock()
	defer lock.Unlock()
	old, err := disk.AsXattrBlock(bh.Data)
	if err != nil {
		return false, fs.corrupt("extended attributes", ip.Ino(), fs.addr(bh), "%v", err)
	}
	if old.RefCount() > 1 {
		return false, nil
	}
	fs.shared.forget(b)
	if share {
		defer fs.shared.note(xb.Hash(), b)
	}
	copy(bh.Data, xb)
	fs.dirtyBuffer(bh, kindXattr)
	return true, nil
}

// shareXattrBlock looks for a block that holds the same as xb and counts one more user in. 0: there is none. own is the
// block that the inode has already: found, it stays as it is.
func (fs *fsys) shareXattrBlock(ctx context.Context, xb disk.XattrBlock, own disk.FSBlock) (disk.FSBlock, error) {
	if xb.Hash() == 0 {
		return 0, nil
	}
	b := fs.shared.lookup(xb.Hash())
	if b == 0 {
		return 0, nil
	}
	bh, err := fs.bd.Bread(ctx, uint64(b))
	if err != nil {
		return 0, err
	}
	defer bh.Put()
	lock := fs.shared.lock(b)
	lock.Lock()
	defer lock.Unlock()
	// The hint counts only while the block is in use, which it is as long as it is remembered.
	if fs.shared.lookup(xb.Hash()) != b {
		return 0, nil
	}
	other, err := disk.AsXattrBlock(bh.Data)
	if err != nil || !other.Equal(xb) {
		return 0, nil
	}
	if b == own {
		return b, nil
	}
	if other.RefCount() >= disk.XattrRefMax {
		return 0, nil
	}
	other.SetRefCount(other.RefCount() + 1)
	fs.dirtyBuffer(bh, kindXattr)
	fs.mustBeWhole()
	return b, nil
}

// leaveXattrBlock makes b, 0 for none, the inode's attribute block and gives up the old one. Inside a transaction,
// xattrs.mu held exclusively.
func (ip *inode) leaveXattrBlock(ctx context.Context, b disk.FSBlock) error {
	fs := ip.fs
	old := disk.FSBlock(ip.fileACL.Load())
	sectors := int64(fs.geo.BlockSize / disk.SectorSize)
	switch {
	case old == 0 && b != 0:
		ip.AddBlocks(sectors)
	case old != 0 && b == 0:
		ip.AddBlocks(-sectors)
	}
	ip.fileACL.Store(uint32(b))
	ip.xattrs.orphan = nil
	fs.dirtyInode(ip)
	if old == 0 {
		return nil
	}
	return fs.putXattrBlock(ctx, ip, old)
}

// putXattrBlock counts a user of block b out; the last one frees it. A damaged block is left as it is.
func (fs *fsys) putXattrBlock(ctx context.Context, ip *inode, b disk.FSBlock) error {
	bh, err := fs.bd.Bread(ctx, uint64(b))
	if err != nil {
		return fmt.Errorf("extended attributes of inode %d: %w", ip.Ino(), err)
	}
	lock := fs.shared.lock(b)
	lock.Lock()
	defer lock.Unlock()
	xb, err := disk.AsXattrBlock(bh.Data)
	if err != nil {
		err = fs.corrupt("extended attributes", ip.Ino(), fs.addr(bh), "%v", err)
		bh.Put()
		return err
	}
	if n := xb.RefCount(); n > 1 {
		xb.SetRefCount(n - 1)
		fs.dirtyBuffer(bh, kindXattr)
		fs.mustBeWhole()
		bh.Put()
		return nil
	}
	fs.shared.forget(b)
	fs.forget(bh)
	fs.deferFree(ip, b, 1)
	return nil
}

// orphanXattrs counts a file that loses its last name out of a block that others share, in the transaction of the death: so
// that count and inode reach the medium in one commit, though the file may live on in memory for long. It keeps a copy. A
// block that is its own will not be shared any more.
func (ip *inode) orphanXattrs() {
	b := disk.FSBlock(ip.fileACL.Load())
	if b == 0 {
		return
	}
	bh, err := ip.fs.bd.Bread(context.Background(), uint64(b))
	if err != nil {
		return // freeXattr will meet it again, and say so
	}
	ip.xattrs.mu.Lock()
	defer ip.xattrs.mu.Unlock()
	lock := ip.fs.shared.lock(b)
	lock.Lock()
	xb, err := disk.AsXattrBlock(bh.Data)
	shared := err == nil && xb.RefCount() > 1
	if shared {
		xb = slices.Clone(xb)
	} else {
		ip.fs.shared.forget(b)
	}
	lock.Unlock()
	bh.Put()
	if shared && ip.leaveXattrBlock(context.Background(), 0) == nil {
		ip.xattrs.orphan = xb
	}
}

// freeXattr gives up the attribute block of an inode that goes for good. Inside a transaction; nobody else has the inode.
func (fs *fsys) freeXattr(ip *inode) {
	if b := disk.FSBlock(ip.fileACL.Swap(0)); b != 0 {
		if err := fs.putXattrBlock(context.Background(), ip, b); err != nil {
			fs.fail(err)
		}
	}
}
