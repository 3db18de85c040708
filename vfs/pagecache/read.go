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
	// DontCache leaves nothing in the cache that was not there before (RWF_DONTCACHE).
	DontCache
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
	r := reader{as: as, flags: flags}
	if ra != nil {
		r.st = ra.at(pos)
		if pos != r.st.end {
			if d := ra.strided(pos, len(dst)); d != 0 && flags&NoWait == 0 {
				as.strided(ctx, pos, len(dst), d, flags&DontCache != 0)
			}
		}
	}
	n := 0
	for n < len(dst) {
		fo, err := r.folio(ctx, pos, len(dst)-n)
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
		n += m
		pos += int64(m)
		switch {
		case flags&DontCache != 0:
			if fo.flags.Load()&flagDropBehind != 0 && (pos == fo.End() || pos >= size) {
				fo.dropBehind()
			}
		case r.st == nil || pos-int64(m) != r.st.end || pos-int64(m) == fo.Pos(): // not the next piece of the same folio
			fo.keep()
			fo.MarkAccessed()
		}
		fo.Put()
		if r.st != nil {
			r.st.end = pos
		}
		if m == 0 {
			break
		}
	}
	return n, nil
}

// reader is one call of Read.
type reader struct {
	as    *AddressSpace
	st    *stream // nil: no readahead
	flags ReadFlags
}

// folio gives the folio over pos with a reference, uptodate at least from pos for the bytes wanted in it.
func (r *reader) folio(ctx context.Context, pos int64, want int) (*Folio, error) {
	as, flags, drop := r.as, r.flags, r.flags&DontCache != 0
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
				as.miss(ctx, r.st, index, pageEnd(pos+int64(want))-index, drop)
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
		if f&flagReadahead != 0 && r.st != nil && flags&NoWait == 0 && fo.flags.And(^flagReadahead)&flagReadahead != 0 {
			as.ahead(ctx, r.st, fo.index, drop)
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
		fo.Disown()
	} else {
		fo.Unlock()
	}
	as.InvalidateLock.RUnlock()
	if werr := fo.waitRead(ctx); werr != nil {
		fo.Put()
		return nil, werr
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
	if err := fo.LockCtx(ctx); err != nil {
		as.InvalidateLock.RUnlock()
		return false, err
	}
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
	fo.Disown()
	as.InvalidateLock.RUnlock()
	if werr := fo.waitRead(ctx); werr != nil {
		return false, werr
	}
	switch {
	case fo.Uptodate():
		return true, nil
	case err == nil && fo.AddressSpace() == as:
		err = as.readError(fo.index)
	}
	return false, err
}

// waitRead (folio_wait_locked_killable) waits for the end of a read, or of ctx.
func (fo *Folio) waitRead(ctx context.Context) error {
	if !fo.Locked() {
		return nil
	}
	return fo.waitCtx(ctx, func(fo *Folio) bool { return !fo.Locked() })
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
