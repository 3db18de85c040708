package ext2

import (
	"context"
	"math/bits"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// promises are the blocks of a file for which space is promised but not chosen: data in the cache over a hole, on the iomap path.
// Writeback chooses (delayed allocation). A block is never both promised and in the map. Guarded by inode.mapMu.
//
// What a promise holds of the free space is its block, and for each indirect block of the lowest level that it needs and that
// may be missing, the indirect blocks on the way: promising may ask for more than will be taken, never for less.
type promises struct {
	chunks map[uint64]*promiseChunk // by the number of the lowest indirect block; the direct blocks are chunk 0
	total  int64                    // blocks held of the free space
}

type promiseChunk struct {
	bits []uint64
	n    int   // bits set
	meta int64 // indirect blocks held
}

// chunkOf gives the chunk of a file block, the bit in it, and the chunk's length.
func (ip *inode) chunkOf(fb disk.FileBlock) (chunk uint64, bit, size uint64) {
	if fb < disk.NDirect {
		return 0, uint64(fb), disk.NDirect
	}
	size = 1 << ip.fs.geo.PtrBits
	i := uint64(fb) - disk.NDirect
	return 1 + i/size, i % size, size
}

// promised gives how many blocks from fb on, up to limit, are promised; or, with 0, how many are not. Under mapMu.
func (ip *inode) promised(fb disk.FileBlock, limit uint64) (n, gap uint64) {
	if ip.prom.total == 0 {
		return 0, limit
	}
	for n+gap < limit {
		chunk, bit, size := ip.chunkOf(fb + disk.FileBlock(n+gap))
		c := ip.prom.chunks[chunk]
		if c == nil {
			if n > 0 {
				return n, 0
			}
			gap += min(size-bit, limit-gap)
			continue
		}
		set, clear := c.run(bit, size)
		switch {
		case set > 0 && gap > 0:
			return 0, gap
		case set > 0:
			n += min(set, limit-n)
		case n > 0:
			return n, 0
		default:
			gap += min(clear, limit-gap)
		}
	}
	return n, gap
}

// run gives the length of the run that begins at bit i, of bits set or clear.
func (c *promiseChunk) run(i, size uint64) (set, clear uint64) {
	want := c.bits[i/64]>>(i%64)&1 == 1
	j := i
	for j < size {
		w := c.bits[j/64]
		if !want {
			w = ^w
		}
		k := uint64(bits.TrailingZeros64(^(w >> (j % 64))))
		k = min(k, 64-j%64)
		j += k
		if k == 0 || j%64 != 0 {
			break
		}
	}
	if j = min(j, size); want {
		return j - i, 0
	}
	return 0, j - i
}

// promise promises up to n blocks from fb on, none of which is promised or mapped yet, and gives how many there was room for. level is
// where walk found the hole at fb: the indirect blocks above it exist.
// errno.NOSPC when there was none at all. Under mapMu exclusively.
func (ip *inode) promise(fb disk.FileBlock, n uint64, level int) (uint64, error) {
	done := uint64(0)
	for done < n {
		chunk, bit, size := ip.chunkOf(fb + disk.FileBlock(done))
		k := min(size-bit, n-done)
		c := ip.prom.chunks[chunk]
		meta := int64(0)
		if c == nil || c.n == 0 {
			if path, ok := ip.fs.geo.PathOf(fb + disk.FileBlock(done)); ok {
				if meta = int64(path.Depth) - 1; done == 0 {
					meta -= int64(level)
				}
			}
		}
		got := ip.fs.claim(ip, int64(k)+meta, meta+1)
		if got == 0 {
			break
		}
		k = min(k, uint64(got-meta))
		if c == nil {
			if ip.prom.chunks == nil {
				ip.prom.chunks = map[uint64]*promiseChunk{}
			}
			c = &promiseChunk{bits: make([]uint64, (size+63)/64)}
			ip.prom.chunks[chunk] = c
		}
		for i := bit; i < bit+k; i++ {
			c.bits[i/64] |= 1 << (i % 64)
		}
		c.n += int(k)
		c.meta += meta
		ip.prom.total += got
		done += k
	}
	if done == 0 {
		return 0, errno.NOSPC
	}
	return done, nil
}

// keep ends the promise of [fb, fb+n), as far as there is one: the blocks were chosen, or nobody wants them any more. Under mapMu
// exclusively.
func (ip *inode) keep(fb disk.FileBlock, n uint64) {
	if ip.prom.total == 0 {
		return
	}
	held := int64(0)
	release := func(chunk uint64, c *promiseChunk, from, to uint64) {
		for i := from; i < to; i++ {
			if c.bits[i/64]>>(i%64)&1 == 1 {
				c.bits[i/64] &^= 1 << (i % 64)
				c.n--
				held++
			}
		}
		if c.n == 0 {
			held += c.meta
			delete(ip.prom.chunks, chunk)
		}
	}
	_, _, size := ip.chunkOf(disk.NDirect)
	if n/size > uint64(len(ip.prom.chunks)) {
		// A long range: better by what is promised.
		end := fb + disk.FileBlock(n)
		for chunk, c := range ip.prom.chunks {
			first, size := disk.FileBlock(0), uint64(disk.NDirect)
			if chunk > 0 {
				size = 1 << ip.fs.geo.PtrBits
				first = disk.NDirect + disk.FileBlock((chunk-1)*size)
			}
			lo, hi := max(first, fb), min(first+disk.FileBlock(size), end)
			if lo < hi {
				release(chunk, c, uint64(lo-first), uint64(hi-first))
			}
		}
	} else {
		for done := uint64(0); done < n; {
			chunk, bit, size := ip.chunkOf(fb + disk.FileBlock(done))
			k := min(size-bit, n-done)
			if c := ip.prom.chunks[chunk]; c != nil {
				release(chunk, c, bit, bit+k)
			}
			done += k
		}
	}
	ip.prom.total -= held
	ip.fs.promised.Add(-held)
}

// holdBranches makes every promise hold all indirect blocks that could lead to it, since one that was there is being freed: others may
// take its place before the promise is kept. Under mapMu exclusively.
func (ip *inode) holdBranches() {
	for chunk, c := range ip.prom.chunks {
		first := disk.FileBlock(0)
		if chunk > 0 {
			first = disk.NDirect + disk.FileBlock((chunk-1)<<ip.fs.geo.PtrBits)
		}
		path, ok := ip.fs.geo.PathOf(first)
		if more := int64(path.Depth) - 1 - c.meta; ok && more > 0 {
			c.meta += more
			ip.prom.total += more
			ip.fs.promised.Add(more)
		}
	}
}

// isHole says whether block fb is neither in the map nor promised, and for how many blocks, up to limit, that is so.
func (ip *inode) isHole(ctx context.Context, fb disk.FileBlock, limit uint64) (n uint64, hole bool, err error) {
	ip.mapMu.RLock()
	defer ip.mapMu.RUnlock()
	e, _, err := ip.walk(ctx, fb, limit)
	if err != nil || e.first != 0 {
		return e.n, false, err
	}
	promised, gap := ip.promised(fb, e.n)
	return max(promised, gap), promised == 0, nil
}

// mapChanged notes that size or map changed: a commit that begins later makes that durable.
func (ip *inode) mapChanged() { ip.mapCommit.Store(ip.fs.commit.begun.Load() + 1) }

// mapDurable reports whether size and map are on the medium as they are.
func (ip *inode) mapDurable() bool { return ip.mapCommit.Load() <= ip.fs.commit.durable.Load() }

// claim sets up to n blocks of the free space aside on behalf of ip, at least atLeast or none, and gives how many. Who claimed takes
// them, or gives them back by fs.promised.
func (fs *fsys) claim(ip *inode, n, atLeast int64) int64 {
	for {
		p := fs.promised.Load()
		got := min(n, fs.spendable(ip)-p)
		if got < atLeast {
			return 0
		}
		if fs.promised.CompareAndSwap(p, p+got) {
			return got
		}
	}
}

// spendable is how much of the free space ip may use: the last blocks are the superuser's. Who writes is not known when a
// kernel's cache is written back, so the file's owner counts.
func (fs *fsys) spendable(ip *inode) int64 {
	free := fs.freeBlocks.Load()
	ip.AttrMu.Lock()
	uid, gid := ip.A.UID, ip.A.GID
	ip.AttrMu.Unlock()
	if uid == 0 || uid == fs.opts.ResUID || fs.opts.ResGID != 0 && gid == fs.opts.ResGID {
		return free
	}
	return free - int64(fs.reserved)
}
