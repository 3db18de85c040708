package pagecache

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/vfs/errno"
)

// ReadFlags modify Read.
type ReadFlags uint8

// Flags.
const (
	// NoWait answers errno.AGAIN, or a short count, rather than wait for I/O.
	NoWait ReadFlags = 1 << iota
)

// Read (filemap_read) copies from the cache into dst, reading what is missing. It gives fewer bytes only at EOF, as the
// host's size says when each folio is copied, or after an error. ra may be nil.
// Errors: what the filesystem said, errno.IO for a folio that could not be read; only when no byte was copied.
func (as *AddressSpace) Read(ctx context.Context, ra *Readahead, dst []byte, pos int64, flags ReadFlags) (int, error) {
	size := as.host.Size()
	if pos >= size {
		return 0, nil
	}
	if int64(len(dst)) > size-pos {
		dst = dst[:size-pos]
	}
	if ra != nil && pos != ra.end {
		as.request(ctx, ra, pos, len(dst))
	}
	n := 0
	for n < len(dst) {
		fo, err := as.folioForRead(ctx, ra, pos, len(dst)-n, flags)
		if err != nil {
			if n > 0 {
				break
			}
			return 0, err
		}
		// The size is looked at after the folio became uptodate: bytes of a truncated file are not given out.
		size = as.host.Size()
		if pos >= size {
			fo.Put()
			break
		}
		m := copy(dst[n:], fo.data[pos-fo.Pos():min(int64(fo.Len()), size-fo.Pos())])
		if ra == nil || pos != ra.end || pos == fo.Pos() {
			fo.MarkAccessed()
		}
		fo.Put()
		n += m
		pos += int64(m)
		if ra != nil {
			ra.end = pos
		}
		if m == 0 {
			break
		}
	}
	return n, nil
}

// folioForRead gives the folio over pos with a reference, uptodate at least from pos for the bytes wanted in it.
func (as *AddressSpace) folioForRead(ctx context.Context, ra *Readahead, pos int64, want int, flags ReadFlags) (*Folio, error) {
	index := uint64(pos) >> PageShift
	for try := 0; ; try++ {
		fo := as.Get(index)
		if fo == nil {
			if flags&NoWait != 0 {
				return nil, errno.AGAIN
			}
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			if try == 0 {
				as.cache.misses.Add(1)
				as.miss(ctx, ra, index, pageEnd(pos+int64(want))-index)
				continue
			}
			var err error
			if fo, err = as.readNew(ctx, index); err != nil {
				return nil, err
			}
			if fo == nil {
				continue
			}
			return fo, nil
		}
		f := fo.flags.Load()
		if f&flagReadahead != 0 && flags&NoWait == 0 && fo.flags.And(^flagReadahead)&flagReadahead != 0 {
			as.ahead(ctx, ra, fo.index)
		}
		if f&flagUptodate != 0 {
			if try == 0 {
				as.cache.hits.Add(1)
			}
			return fo, nil
		}
		if flags&NoWait != 0 {
			fo.Put()
			return nil, errno.AGAIN
		}
		ok, err := as.makeUptodate(ctx, fo, pos, want)
		if ok {
			return fo, nil
		}
		fo.Put()
		if err != nil {
			return nil, err
		}
	}
}

// readNew makes and reads the folio at index, which readahead did not bring; nil when it left the cache meanwhile.
func (as *AddressSpace) readNew(ctx context.Context, index uint64) (*Folio, error) {
	as.InvalidateLock.RLock()
	fo, err := as.Grab(ctx, index, 0)
	if err != nil {
		as.InvalidateLock.RUnlock()
		return nil, err
	}
	if !fo.Uptodate() {
		err = as.ops.ReadFolio(ctx, fo)
	} else {
		fo.Unlock()
	}
	as.InvalidateLock.RUnlock()
	if fo.Locked() {
		fo.wait(func(fo *Folio) bool { return !fo.Locked() })
	}
	if fo.Uptodate() {
		return fo, nil
	}
	gone := fo.AddressSpace() == nil
	fo.Put()
	if err == nil && !gone {
		err = as.readError(index)
	}
	return nil, err
}

func (as *AddressSpace) readError(index uint64) error {
	return fmt.Errorf("read of inode %d at byte %d: %w", as.host.Ino(), index<<PageShift, errno.IO)
}

// makeUptodate waits for a read in progress and reads what is still missing. False without error: look again.
func (as *AddressSpace) makeUptodate(ctx context.Context, fo *Folio, pos int64, want int) (bool, error) {
	as.InvalidateLock.RLock()
	fo.Lock()
	switch {
	case fo.AddressSpace() != as:
		fo.Unlock()
		as.InvalidateLock.RUnlock()
		return false, nil
	case fo.Uptodate():
		fo.Unlock()
		as.InvalidateLock.RUnlock()
		return true, nil
	}
	if part := as.ops.IsPartiallyUptodate; part != nil && fo.private != nil {
		from := int(pos - fo.Pos())
		if part(fo, from, min(want, fo.Len()-from)) && pos+int64(want) <= fo.End() {
			fo.Unlock()
			as.InvalidateLock.RUnlock()
			return true, nil
		}
	}
	err := as.ops.ReadFolio(ctx, fo)
	as.InvalidateLock.RUnlock()
	if fo.Locked() {
		fo.wait(func(fo *Folio) bool { return !fo.Locked() })
	}
	switch {
	case fo.Uptodate():
		return true, nil
	case err == nil && fo.AddressSpace() == as:
		err = as.readError(fo.index)
	}
	return false, err
}

// ReadFolio (read_mapping_folio) gives the folio over page index, uptodate and with a reference.
func (as *AddressSpace) ReadFolio(ctx context.Context, index uint64) (*Folio, error) {
	for {
		fo := as.Get(index)
		if fo != nil {
			if fo.Uptodate() {
				return fo, nil
			}
			ok, err := as.makeUptodate(ctx, fo, fo.Pos(), fo.Len())
			if ok {
				return fo, nil
			}
			fo.Put()
			if err != nil {
				return nil, err
			}
			continue
		}
		fo, err := as.readNew(ctx, index)
		if fo != nil || err != nil {
			return fo, err
		}
	}
}
