package bufhead

import (
	"context"
	"errors"
	"fmt"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// association is an inode's list of metadata buffers that fsync must write. It hangs on Inode.Pages.Private. The list holds no
// references: a buffer that is clean and unused may leave the cache, and then leaves the list. All buffers of an inode are one
// device's.
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
	d.MarkDirty(bh)
	d.assocMu.Lock()
	bh.enlist(a)
	d.assocMu.Unlock()
}

// enlist puts a buffer on a list if it is on none. Under assocMu.
func (bh *BufferHead) enlist(a *association) {
	if bh.assoc != nil {
		return
	}
	bh.assoc, bh.assocNext, bh.assocPrev = a, a.head, &a.head
	if a.head != nil {
		a.head.assocPrev = &bh.assocNext
	}
	a.head = bh
}

// unlist takes a buffer off the list it is on. Under assocMu.
func (bh *BufferHead) unlist() {
	if bh.assoc == nil {
		return
	}
	if *bh.assocPrev = bh.assocNext; bh.assocNext != nil {
		bh.assocNext.assocPrev = bh.assocPrev
	}
	bh.assoc, bh.assocNext, bh.assocPrev = nil, nil, nil
}

// take empties a list and gives what was on it, with a reference each.
func (d *Device) take(a *association) (list []*BufferHead) {
	d.assocMu.Lock()
	defer d.assocMu.Unlock()
	for a.head != nil {
		bh := a.head
		bh.unlist()
		bh.Get()
		list = append(list, bh)
	}
	return list
}

// SyncInode (sync_mapping_buffers) writes the buffers of ip's list and waits, also for writes that others began. What is dirtied
// meanwhile is listed again, for the next time. Every buffer is tried. Errors name device and block.
func (d *Device) SyncInode(ctx context.Context, ip *vfs.Inode) error {
	a := assocOf(ip)
	// Off the list before the dirty bit is looked at: who dirties a buffer from now on puts it back.
	list := d.take(a)
	for _, bh := range list {
		d.StartWrite(bh)
	}
	var errs error
	for _, bh := range list {
		bh.Wait()
		if !bh.Has(Uptodate) {
			errs = errors.Join(errs, fmt.Errorf("%s: block %d could not be written: %w", d.dev.Name(), bh.Block, errno.IO))
		}
		if bh.Has(Dirty) { // by somebody who did not tell whose it is
			d.assocMu.Lock()
			bh.enlist(a)
			d.assocMu.Unlock()
		}
		bh.Put()
	}
	return errs
}

// DropInode (invalidate_inode_buffers) empties ip's list when the inode goes; the buffers stay dirty.
func (d *Device) DropInode(ip *vfs.Inode) {
	for _, bh := range d.take(assocOf(ip)) {
		bh.Put()
	}
}

// Fsync (generic_buffers_fsync) makes [start, end) of a file durable: its data; the metadata buffers on its list; the inode, which
// writeInode writes and waits for when it changed, or with datasync when its size or map did; then the cache of the device. Stops
// at the first error; what writeback recorded earlier is the caller's to report (vfs.File does).
func (d *Device) Fsync(ctx context.Context, ip *vfs.Inode, start, end int64, datasync bool, writeInode func(ctx context.Context, datasync bool) error) error {
	if err := ip.Pages.WriteAndWait(ctx, start, end); err != nil {
		return err
	}
	if err := d.SyncInode(ctx, ip); err != nil {
		return err
	}
	if writeInode != nil {
		if err := writeInode(ctx, datasync); err != nil {
			return err
		}
	}
	return block.Flush(d.dev)
}
