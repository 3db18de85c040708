package pagecache

import "context"

// Uncached I/O (RWF_DONTCACHE) goes through the cache and does not stay there. A folio that such a read or write brings in is
// marked drop-behind. It is dropped when a read has come to its end, or when it has been written; only clean, and only
// under its lock, so that what another opener just dirtied stays. Whoever uses it in the ordinary way takes the mark off.

// SetDropBehind asks for the folio to leave the cache after its use.
func (fo *Folio) SetDropBehind() { fo.flags.Or(flagDropBehind) }

// keep takes the mark off.
func (fo *Folio) keep() {
	if fo.flags.Load()&flagDropBehind != 0 {
		fo.flags.And(^flagDropBehind)
	}
}

// GrabUncached is Grab for uncached I/O: a new folio is marked drop-behind, one that exists is left as it is.
func (as *AddressSpace) GrabUncached(_ context.Context, index uint64, sizeHint int64) (*Folio, error) {
	return as.grab(index, sizeHint, true)
}

// dropBehind drops a folio with the mark if it is clean and nobody has its lock. The caller has a reference.
func (fo *Folio) dropBehind() {
	if !fo.TryLock() {
		return // whoever has it uses it; reclaim takes it later
	}
	if f := fo.flags.Load(); f&flagDropBehind != 0 && f&(flagDirty|flagWriteback) == 0 {
		if as := fo.AddressSpace(); as != nil {
			as.evictClean(fo)
		}
	}
	fo.Unlock()
}
