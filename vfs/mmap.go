package vfs

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// Store puts p at pos as a program's stores through a shared mapping do: for each folio a fault, the filesystem's page_mkwrite, and
// the copy. The size of the file does not change. What is stored behind the end, up to the end of its page, is seen in memory and
// never reaches the medium. It gives the bytes stored before the error. It may wait for dirty data to be written.
//
// The inode lock is not taken: truncation is kept out by the invalidate lock and the folio's.
//
// Errors: errno.FAULT for a page behind the end of the file, where a program gets SIGBUS; errno.NODEV for what cannot be mapped;
// those of reading and of reserving space.
func (f *File) Store(ctx context.Context, p []byte, pos int64) (int, error) {
	ip := f.Inode
	switch {
	case pos < 0:
		return 0, errno.INVAL
	case !ip.IsRegular() || ip.Fop.PageMkwrite == nil:
		return 0, errno.NODEV
	case f.Flags&OAccMode != ORdwr: // a shared mapping for writing wants both
		return 0, errno.ACCES
	}
	done := 0
	for done < len(p) {
		n, err := ip.store(ctx, p[done:], pos+int64(done))
		if err != nil {
			return done, fmt.Errorf("store: inode %d at byte %d: %w", ip.ino, pos+int64(done), err)
		}
		done += n
	}
	return done, nil
}

// store stores into one folio.
func (ip *Inode) store(ctx context.Context, p []byte, pos int64) (int, error) {
	if err := ip.sb.WantWrite(); err != nil {
		return 0, err
	}
	defer ip.sb.EndWrite()
	for {
		if pos >= pageEnd(ip.Size()) {
			return 0, errno.FAULT
		}
		fo, err := ip.Pages.ReadFolio(ctx, uint64(pos)>>pagecache.PageShift)
		if err != nil {
			return 0, err
		}
		n, again, err := ip.storeFolio(ctx, fo, p, pos)
		fo.Put()
		switch {
		case again:
			continue
		case err != nil:
			return 0, err
		}
		ip.TouchNow(true)
		return n, ip.sb.WB.Balance(ctx, &ip.Pages)
	}
}

// storeFolio stores into fo; again is true when the folio is no longer what it was read as.
func (ip *Inode) storeFolio(ctx context.Context, fo *pagecache.Folio, p []byte, pos int64) (n int, again bool, err error) {
	ip.Pages.InvalidateLock.RLock()
	defer ip.Pages.InvalidateLock.RUnlock()
	fo.Lock()
	defer fo.Unlock()
	end := min(fo.End(), pageEnd(ip.Size()))
	if fo.AddressSpace() != &ip.Pages || !fo.Uptodate() || pos >= end {
		return 0, true, nil
	}
	if err := ip.Fop.PageMkwrite(ctx, ip, fo); err != nil {
		return 0, false, err
	}
	return copy(fo.Data()[pos-fo.Pos():end-fo.Pos()], p), false, nil
}

// pageEnd rounds up to a page.
func pageEnd(size int64) int64 {
	return (size + pagecache.PageSize - 1) &^ (pagecache.PageSize - 1)
}
