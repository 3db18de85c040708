package iomap

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// SwapActivate (iomap_swapfile_activate) reports the whole pages of a swap file that lie aligned on the device, up to maxPages in all,
// counted from page 0, the header. Mappings that follow each other on the device count as one, whatever their types in the file; of
// each such run the parts of pages at its edges are passed over. Hold ip.Rw exclusively; the file was written back.
//
// Errors: errno.INVAL, naming the place, for a hole, for delayed, inline or shared blocks, for a map that is not yet on the medium, for a
// second device, and for a file without a usable page; Begin's; add's.
// Source: Documentation/filesystems/iomap/operations.rst, "Swap File Activation".
func SwapActivate(ctx context.Context, ip *vfs.Inode, maxPages uint64, add func(vfs.SwapExtent) error, ops *Ops) error {
	s := swapping{ip: ip, left: maxPages, add: add}
	it := NewIter(ip, 0, ip.Size()&^(pagecache.PageSize-1), OpReport, ops)
	defer it.Close(ctx)
	for it.Next(ctx) {
		it.Fail(s.take(it))
		it.Advance(it.Usable())
	}
	if err := it.Err(); err != nil {
		return err
	}
	if err := s.flush(); err != nil {
		return err
	}
	if s.page == 0 {
		return fmt.Errorf("swap file: inode %d has no page that is aligned on the device: %w", ip.Ino(), errno.INVAL)
	}
	return nil
}

// swapping is an activation under way: the run on the device that is being collected, and what was reported.
type swapping struct {
	ip        *vfs.Inode
	dev       block.Device
	addr, len int64 // bytes
	page      uint64
	left      uint64
	add       func(vfs.SwapExtent) error
}

// take adds the mapping in use to the run, or ends the run and begins another.
func (s *swapping) take(it *Iter) error {
	m, pos := &it.Map, it.Pos()
	why := ""
	switch {
	case m.Type == Inline:
		why = "data in its inode"
	case m.Type != Mapped && m.Type != Unwritten:
		why = "a hole"
	case m.Flags&FlagDirty != 0:
		why = "a map that is not on the medium yet"
	case m.Flags&FlagShared != 0:
		why = "blocks shared with another file"
	case s.dev != nil && s.dev != m.Dev:
		why = "blocks on a second device"
	}
	if why != "" {
		return fmt.Errorf("swap file: inode %d has %s at byte %d: %w", s.ip.Ino(), why, pos, errno.INVAL)
	}
	addr, n := m.AddrOf(pos), it.Usable()
	if s.dev = m.Dev; s.len > 0 && s.addr+s.len == addr {
		s.len += n
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	s.addr, s.len = addr, n
	return nil
}

// flush reports the whole pages of the run.
func (s *swapping) flush() error {
	const mask = pagecache.PageSize - 1
	first, end := (s.addr+mask)&^mask, (s.addr+s.len)&^mask
	s.len = 0
	if first >= end || s.left == 0 {
		return nil
	}
	n := min(uint64(end-first)>>pagecache.PageShift, s.left)
	e := vfs.SwapExtent{Page: s.page, Pages: n, Addr: first}
	s.page += n
	s.left -= n
	return s.add(e)
}
