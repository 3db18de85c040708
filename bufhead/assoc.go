package bufhead

import (
	"context"
	"errors"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// association is an inode's list of metadata buffers that fsync must write. It hangs on Inode.Pages.Private.
type association struct {
	pages *pagecache.AddressSpace
	head  *BufferHead
}

func assocOf(ip *vfs.Inode) *association {
	ip.Pages.PrivateMu.Lock()
	defer ip.Pages.PrivateMu.Unlock()
	a, _ := ip.Pages.Private.(*association)
	if a == nil {
		a = &association{pages: &ip.Pages}
		ip.Pages.Private = a
	}
	return a
}

// MarkDirtyInode (mark_buffer_dirty_inode) marks the buffer dirty and puts it on ip's list, if it is on none.
func (d *Device) MarkDirtyInode(bh *BufferHead, ip *vfs.Inode) {
	a := assocOf(ip)
	d.assocMu.Lock()
	if bh.assoc == nil {
		bh.assoc, bh.assocNext, a.head = a, a.head, bh
		bh.Get() // the list's
	}
	d.assocMu.Unlock()
	d.MarkDirty(bh)
}

// dissociate takes a buffer off the list it is on.
func (d *Device) dissociate(bh *BufferHead) {
	d.assocMu.Lock()
	defer d.assocMu.Unlock()
	a := bh.assoc
	if a == nil {
		return
	}
	for p := &a.head; *p != nil; p = &(*p).assocNext {
		if *p == bh {
			*p = bh.assocNext
			break
		}
	}
	bh.assoc, bh.assocNext = nil, nil
	bh.Put()
}

// SyncInode (fsync_buffers_list) writes the buffers of ip's list and waits. What is dirtied meanwhile stays listed for
// the next time. Every buffer is tried; the first error is returned.
func (d *Device) SyncInode(ctx context.Context, ip *vfs.Inode) error {
	a := assocOf(ip)
	d.assocMu.Lock()
	var list []*BufferHead
	for bh := a.head; bh != nil; {
		next := bh.assocNext
		bh.assoc, bh.assocNext = nil, nil
		list = append(list, bh)
		bh = next
	}
	a.head = nil
	d.assocMu.Unlock()
	var errs error
	for _, bh := range list {
		// Off the list before the dirty bit is looked at: who dirties it from now on puts it back.
		if err := d.SyncBuffer(ctx, bh); err != nil {
			errs = errors.Join(errs, err)
		} else if !bh.Has(Uptodate) && bh.Has(WriteEIO) {
			errs = errors.Join(errs, errno.IO) // background writeback had failed with it
		}
		bh.Put()
	}
	return errs
}

// DropInode (invalidate_inode_buffers) empties ip's list when the inode goes; the buffers stay dirty.
func (d *Device) DropInode(ip *vfs.Inode) {
	a := assocOf(ip)
	d.assocMu.Lock()
	for bh := a.head; bh != nil; {
		next := bh.assocNext
		bh.assoc, bh.assocNext = nil, nil
		bh.Put()
		bh = next
	}
	a.head = nil
	d.assocMu.Unlock()
}
