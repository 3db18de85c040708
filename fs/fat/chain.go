package fat

import (
	"context"
	"sort"

	"github.com/iomapfs/iomapfs/fs/fat/disk"
)

// run is clusters that follow each other both in a file and on the medium.
type run struct {
	at    uint32 // index in the file of the first
	first disk.Cluster
	n     uint32
}

// chain is what is known of a file's clusters: runs from its beginning on, as far as anybody asked. Guarded by inode.mapMu.
type chain struct {
	runs  []run
	known uint32 // clusters in runs
	whole bool   // there are no more
}

// aheadClusters is how many clusters more than asked for are looked up: a chain is mostly read on.
const aheadClusters = 1 << 14

// find gives the place of cluster i of the file and how many follow it in one piece. ok is false when it is not known.
func (ch *chain) find(i uint32) (c disk.Cluster, n uint32, ok bool) {
	if i >= ch.known {
		return 0, 0, false
	}
	k := sort.Search(len(ch.runs), func(k int) bool { return ch.runs[k].at > i }) - 1
	r := ch.runs[k]
	return r.first + disk.Cluster(i-r.at), r.n - (i - r.at), true
}

// add appends a run.
func (ch *chain) add(first disk.Cluster, n uint32) {
	if k := len(ch.runs) - 1; k >= 0 && ch.runs[k].first+disk.Cluster(ch.runs[k].n) == first {
		ch.runs[k].n += n
	} else {
		ch.runs = append(ch.runs, run{ch.known, first, n})
	}
	ch.known += n
}

// tail is the last known cluster, 0 when there is none.
func (ch *chain) tail() disk.Cluster {
	if len(ch.runs) == 0 {
		return 0
	}
	r := ch.runs[len(ch.runs)-1]
	return r.first + disk.Cluster(r.n) - 1
}

// cut takes everything from cluster n on off and gives it.
func (ch *chain) cut(n uint32) (gone []run) {
	for k := len(ch.runs) - 1; k >= 0; k-- {
		r := &ch.runs[k]
		if r.at+r.n <= n {
			break
		}
		if r.at >= n {
			gone = append(gone, *r)
			ch.runs = ch.runs[:k]
			continue
		}
		keep := n - r.at
		gone = append(gone, run{n, r.first + disk.Cluster(keep), r.n - keep})
		r.n = keep
	}
	ch.known = min(ch.known, n)
	return gone
}

// unloop ends a damaged chain, whose clusters are up to last, before the first that is in it for the second time.
func (ch *chain) unloop(last disk.Cluster) {
	seen := make([]uint64, last/64+1)
	for _, r := range ch.runs {
		for i := range r.n {
			c := r.first + disk.Cluster(i)
			if seen[c/64]&(1<<(c%64)) != 0 {
				ch.cut(r.at + i)
				return
			}
			seen[c/64] |= 1 << (c % 64)
		}
	}
}

// loadLocked looks the chain up until cluster i is known, or its end. Hold mapMu exclusively.
func (ip *inode) loadLocked(ctx context.Context, i uint32) error {
	ch := &ip.chain
	if ch.whole || i < ch.known {
		return nil
	}
	if ip.start == 0 {
		ch.whole = true
		return nil
	}
	from, skip := ch.tail(), true
	if from == 0 {
		from, skip = ip.start, false
	}
	want := uint64(i) + aheadClusters
	limit := uint64(ip.fs.geo.ClustersFor(disk.MaxFileSize))
	if ip.dir != nil {
		limit = uint64(ip.fs.geo.ClustersFor(disk.MaxDirEntries * disk.DirentSize))
	}
	var long bool
	last, err := ip.fs.table.walk(ctx, ip.Ino(), from, func(c disk.Cluster) bool {
		if skip {
			skip = false
			return true
		}
		if uint64(ch.known) > want {
			return false
		}
		if uint64(ch.known) >= limit {
			long = true
			return false
		}
		ch.add(c, 1)
		return true
	})
	if err == nil && long {
		err = ip.fs.corrupt("FAT", ip.Ino(), 0, "the chain has more than the %d clusters that a file of its kind may have", limit)
	}
	ch.whole = last != 0 && err == nil
	return err
}

// allChain is "to its end" for loadLocked.
const allChain = 1<<32 - 1

// clusterAt gives the place of cluster i of the file and how many follow in one piece; n is 0 behind the end of the chain.
// Takes mapMu.
func (ip *inode) clusterAt(ctx context.Context, i uint32) (c disk.Cluster, n uint32, err error) {
	ip.mapMu.RLock()
	c, n, ok := ip.chain.find(i)
	whole := ip.chain.whole
	ip.mapMu.RUnlock()
	if ok || whole {
		return c, n, nil
	}
	ip.mapMu.Lock()
	defer ip.mapMu.Unlock()
	if err := ip.loadLocked(ctx, i); err != nil {
		return 0, 0, err
	}
	c, n, _ = ip.chain.find(i)
	return c, n, nil
}
