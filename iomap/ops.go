package iomap

import (
	"context"
	"strings"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// OpFlags tell Begin and End what the mapping is for (IOMAP_WRITE and so on). Buffered reads pass none.
type OpFlags uint16

// Operation flags.
const (
	OpWrite         OpFlags = 1 << iota // the range will be written: allocate or reserve. Hole is no answer, unless OpUnshare
	OpZero                              // zeroing, without OpWrite: allocate nothing where zeros are read anyway
	OpReport                            // fiemap, seek, bmap, swap
	OpFault                             // a store to a mapped page; the folio lock is held
	OpDirect                            // direct I/O
	OpNoWait                            // errno.AGAIN rather than wait, and unless one mapping serves the whole range
	OpOverwriteOnly                     // direct write under the shared lock: errno.AGAIN unless one written mapping serves it all
	OpUnshare                           // make the range the file's own
	OpDax                               // through memory: answer with Dax
	OpAtomic                            // untorn write: the mapping must serve the whole range
	OpDontCache                         // the cache is not to keep what passes through
	OpWriteThrough                      // the cache and the device are written at once: mapped or unwritten space
)

var opFlagNames = [...]string{"write", "zero", "report", "fault", "direct", "nowait", "overwrite-only", "unshare", "dax", "atomic", "dontcache", "writethrough"}

// String lists the flags, joined by "|"; "read" for none.
func (f OpFlags) String() string {
	if f == 0 {
		return "read"
	}
	var s []string
	for i, n := range opFlagNames {
		if f&(1<<i) != 0 {
			s = append(s, n)
		}
	}
	return strings.Join(s, "|")
}

// Ops (struct iomap_ops) is how a filesystem answers where a file's bytes are. A filesystem has several, one for each kind of
// operation, rather than one that looks at the flags.
type Ops struct {
	// Begin (iomap_begin) fills m with a mapping that covers pos; length is all that is left to do, so that space can be
	// allocated in one piece. src, empty at first, is filled too when the old contents lie elsewhere than the new will
	// (copy on write). m arrives empty but for Addr and src likewise: NullAddr.
	//
	// It may sleep, take the filesystem's map lock and run transactions, and must hold none of them when it returns. It is
	// called again for the same pos when a mapping went stale. Errors end the operation; vfs.ErrNotBlock from a direct
	// write hands the rest to the buffered path.
	Begin func(ctx context.Context, ip *vfs.Inode, pos, length int64, flags OpFlags, m, src *Mapping) error
	// End (iomap_end) runs exactly once for each Begin that succeeded: length is how much of the range could be used, done how
	// much was, 0 after an error. It gives back what was reserved and not used. Nil: nothing to do.
	// Its error counts only when nothing was done.
	End func(ctx context.Context, ip *vfs.Inode, pos, length, done int64, flags OpFlags, m *Mapping) error
}

// FolioOps (struct iomap_folio_ops) lets a filesystem take part in each folio of a buffered write. Nil entries mean the
// usual way.
type FolioOps struct {
	// GetFolio gives the folio over pos locked and referenced. Usual: it.GetFolio.
	GetFolio func(ctx context.Context, it *Iter, pos, length int64) (*pagecache.Folio, error)
	// PutFolio unlocks and releases it, with its lock held on entry, after copied bytes were stored: once for each GetFolio.
	PutFolio func(ip *vfs.Inode, pos, copied int64, fo *pagecache.Folio)
	// Valid reports, with the folio locked, whether m is still what the map says; usually by its Cookie.
	Valid func(ip *vfs.Inode, m *Mapping) bool
}

// BufferHooks serves a mapping with FlagBufferHead: page cache work is done in buffer heads. The bridge between the layers
// implements it. The folio is locked.
type BufferHooks interface {
	// WriteBegin prepares bytes [off, off+n) of the folio for being stored to (__block_write_begin_int with a mapping).
	WriteBegin(ctx context.Context, ip *vfs.Inode, fo *pagecache.Folio, off, n int, m *Mapping) error
	// WriteEnd accepts copied of the n bytes and gives how many count (block_write_end).
	WriteEnd(ip *vfs.Inode, fo *pagecache.Folio, off, n, copied int) int
	// Mkwrite marks bytes [off, off+n) of the folio, which m covers, as about to be stored to by a page fault.
	Mkwrite(ctx context.Context, ip *vfs.Inode, fo *pagecache.Folio, off, n int, m *Mapping) error
}
