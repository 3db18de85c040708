package fat

import (
	"context"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// allocator knows which clusters are free: a bitmap in memory. It is made of the FAT in pieces, when a piece is first needed, so that
// mounting a large medium costs nothing. A piece is read before anything in it is freed; what is allocated comes from pieces that
// were read; so reading the medium past the buffers of the FAT finds the truth.
type allocator struct {
	fs      *fsys
	pending atomic.Int64 // clusters freed, which may not be handed out before a commit
	free    atomic.Int64 // free clusters; as FSInfo said until all pieces are read

	mu     sync.Mutex   // guards the rest. Taken inside inode.mapMu; the device is read under it
	used   []uint64     // a bit for each cluster, set when it is not free
	read   []bool       // pieces whose bits are right
	unread int          // pieces that are not
	next   disk.Cluster // where to look for space for a new file
	hint   bool         // free is what FSInfo said, give or take what happened since
}

// pieceBits is log2 of the clusters of a piece: whole sectors of the FAT in every width, and all of FAT12 and FAT16.
const pieceBits = 16

func (a *allocator) init(fs *fsys) {
	a.fs = fs
	last := uint32(fs.geo.Last())
	a.used = make([]uint64, last/64+1)
	a.unread = int(last>>pieceBits) + 1
	a.read = make([]bool, a.unread)
	a.next = disk.FirstCluster
}

// trust takes over the hints of FSInfo.
func (a *allocator) trust(i disk.FSInfo) {
	if i.Free <= a.fs.geo.Clusters {
		a.free.Store(int64(i.Free))
		a.hint = true
	}
	if a.fs.geo.Valid(disk.Cluster(i.Next)) {
		a.next = disk.Cluster(i.Next)
	}
}

// readPiece fills the bits of a piece. Hold mu.
func (a *allocator) readPiece(k int) error {
	if a.read[k] {
		return nil
	}
	g := a.fs.geo
	from := disk.Cluster(k << pieceBits)
	to := min(from+1<<pieceBits, g.Last()+1)
	start, _ := g.EntryAt(from)
	end, _ := g.EntryAt(to)
	end = uint32(min(int64((end+4+g.SectorSize-1)&^(g.SectorSize-1)), g.FATLength()))
	buf := make([]byte, end-start+4)
	if err := block.ReadAt(a.fs.sb.Dev, buf[:end-start], g.BytesOf(g.FATStart(g.Active))+int64(start)); err != nil {
		return fmt.Errorf("FAT: %w", err)
	}
	v := disk.FATView{G: g, B: buf, Off: start}
	for c := from; c < to; c++ {
		if c < disk.FirstCluster || v.At(c) != disk.Free {
			a.used[c/64] |= 1 << (c % 64)
		}
	}
	for c := to; c < disk.Cluster(len(a.used)*64) && c/64 == (to-1)/64; c++ {
		a.used[c/64] |= 1 << (c % 64)
	}
	a.read[k] = true
	if a.unread--; a.unread == 0 {
		a.count()
	}
	return nil
}

// count finds how many are free. Hold mu; all pieces are read.
func (a *allocator) count() {
	n := int64(0)
	for _, w := range a.used {
		n += int64(64 - bits.OnesCount64(w))
	}
	a.free.Store(n)
	a.hint = false
}

// readAll reads all pieces, so that the number of free clusters is exact.
func (a *allocator) readAll(ctx context.Context) error {
	for k := range a.read {
		if err := ctx.Err(); err != nil {
			return err
		}
		a.mu.Lock()
		err := a.readPiece(k)
		a.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// known makes sure that the number of free clusters is known at least as FSInfo says.
func (a *allocator) known(ctx context.Context) error {
	a.mu.Lock()
	ok := a.hint || a.unread == 0
	a.mu.Unlock()
	if ok {
		return nil
	}
	return a.readAll(ctx)
}

func (a *allocator) isFree(c disk.Cluster) bool { return a.used[c/64]&(1<<(c%64)) == 0 }

// nextFree gives the first free cluster in [c, end), or end; nextUsed likewise.
func (a *allocator) nextFree(c, end disk.Cluster) disk.Cluster {
	for c < end {
		w := ^a.used[c/64] >> (c % 64)
		if w != 0 {
			return min(c+disk.Cluster(bits.TrailingZeros64(w)), end)
		}
		c = (c/64 + 1) * 64
	}
	return end
}

func (a *allocator) nextUsed(c, end disk.Cluster) disk.Cluster {
	for c < end {
		w := a.used[c/64] >> (c % 64)
		if w != 0 {
			return min(c+disk.Cluster(bits.TrailingZeros64(w)), end)
		}
		c = (c/64 + 1) * 64
	}
	return end
}

// searchPieces is in how many pieces a longer run is looked for than was found.
const searchPieces = 4

// take marks up to want clusters that lie together as used: those behind cluster after, if that is not 0 and they are free; else the
// first run that is long enough, or the longest of some. At least one. errno.NOSPC when there is none.
func (a *allocator) take(ctx context.Context, after disk.Cluster, want uint32) (first disk.Cluster, n uint32, err error) {
	g := a.fs.geo
	a.mu.Lock()
	defer a.mu.Unlock()
	want = max(want, 1)
	start := a.next
	if after != 0 && g.Valid(after+1) {
		start = after + 1
		if err := a.readPiece(int(start >> pieceBits)); err != nil {
			return 0, 0, err
		}
		if a.isFree(start) {
			n := min(uint32(a.nextUsed(start, g.Last()+1)-start), want)
			a.mark(start, n)
			return start, n, nil
		}
	}
	if !g.Valid(start) {
		start = disk.FirstCluster
	}
	pieces := len(a.read)
	k0 := int(start >> pieceBits)
	for i := 0; i <= pieces; i++ { // the first piece twice: from start on, and up to it
		if i >= searchPieces && n > 0 {
			break
		}
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		k := (k0 + i) % pieces
		if err := a.readPiece(k); err != nil {
			return 0, 0, err
		}
		from, end := disk.Cluster(k<<pieceBits), min(disk.Cluster((k+1)<<pieceBits), g.Last()+1)
		if i == 0 {
			from = start
		}
		for c := a.nextFree(max(from, disk.FirstCluster), end); c < end; {
			stop := a.nextUsed(c, min(g.Last()+1, c+disk.Cluster(want)))
			if m := uint32(stop - c); m > n {
				if first, n = c, m; n >= want {
					i = pieces
					break
				}
			}
			c = a.nextFree(stop, end)
		}
	}
	if n == 0 {
		return 0, 0, fmt.Errorf("%s: no free clusters: %w", a.fs.sb.Dev.Name(), errno.NOSPC)
	}
	a.mark(first, n)
	return first, n, nil
}

// mark takes clusters. Those behind them are where the next file begins. Hold mu.
func (a *allocator) mark(first disk.Cluster, n uint32) {
	for c := first; c < first+disk.Cluster(n); c++ {
		a.used[c/64] |= 1 << (c % 64)
	}
	a.next = first + disk.Cluster(n)
	a.free.Add(-int64(n))
}

// prepareFree reads the pieces that clusters about to be freed lie in.
func (a *allocator) prepareFree(first disk.Cluster, n uint32) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k := int(first >> pieceBits); k <= int((first+disk.Cluster(n)-1)>>pieceBits); k++ {
		if err := a.readPiece(k); err != nil {
			return err
		}
	}
	return nil
}

// release hands clusters out again, all at once. Nothing on the medium points to them any more. On damaged filesystems a cluster may
// be among them twice; twice is such a one, else 0.
func (a *allocator) release(freed []clusters) (twice disk.Cluster) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range freed {
		for c := r.first; c < r.first+disk.Cluster(r.n); c++ {
			if a.isFree(c) {
				twice = c
				continue
			}
			a.used[c/64] &^= 1 << (c % 64)
			a.free.Add(1)
		}
		a.pending.Add(-int64(r.n))
	}
	return twice
}

// freeRuns calls f for each run of free clusters, which are not handed out meanwhile; f gives false to end.
func (a *allocator) freeRuns(ctx context.Context, f func(first disk.Cluster, n uint32) bool) error {
	last := a.fs.geo.Last() + 1
	for k := range a.read {
		if err := ctx.Err(); err != nil {
			return err
		}
		a.mu.Lock()
		if err := a.readPiece(k); err != nil {
			a.mu.Unlock()
			return err
		}
		end := min(disk.Cluster((k+1)<<pieceBits), last)
		for c := a.nextFree(max(disk.Cluster(k<<pieceBits), disk.FirstCluster), end); c < end; {
			stop := a.nextUsed(c, end)
			if !f(c, uint32(stop-c)) {
				a.mu.Unlock()
				return nil
			}
			c = a.nextFree(stop, end)
		}
		a.mu.Unlock()
	}
	return nil
}
