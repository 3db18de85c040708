package fat

import (
	"context"
	"errors"
	"fmt"

	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// fileBlock is the index of a block in a file. Blocks are sectors.
type fileBlock uint64

// extent is the resolver's answer: n blocks of a file that lie together on the medium, or behind the end of its chain.
type extent struct {
	first disk.Sector // 0: not allocated
	n     uint64
}

// perBits is log2 of the blocks of a cluster.
func (fs *fsys) perBits() uint8 { return fs.geo.ClusterBits - fs.geo.SectorBits }

// blockAt gives the block that a byte of a file is in; blocksFor how many blocks length bytes take.
func (fs *fsys) blockAt(pos int64) fileBlock { return fileBlock(uint64(pos) >> fs.geo.SectorBits) }

func (fs *fsys) blocksFor(length int64) uint64 {
	return (uint64(length) + uint64(fs.geo.SectorSize) - 1) >> fs.geo.SectorBits
}

// resolve says where block fb lies and how many of the following, up to limit, lie behind it. Behind the end of the chain nothing is
// allocated, limit blocks long. Takes mapMu.
func (ip *inode) resolve(ctx context.Context, fb fileBlock, limit uint64) (extent, error) {
	bits := ip.fs.perBits()
	if uint64(fb)>>bits > 1<<31 {
		return extent{n: limit}, nil
	}
	c, n, err := ip.clusterAt(ctx, uint32(fb>>bits))
	if err != nil {
		return extent{}, err
	}
	return ip.extentOf(c, n, fb, limit), nil
}

func (ip *inode) extentOf(c disk.Cluster, n uint32, fb fileBlock, limit uint64) extent {
	if n == 0 {
		return extent{n: limit}
	}
	bits := ip.fs.perBits()
	in := uint64(fb) & (1<<bits - 1)
	return extent{first: ip.fs.geo.SectorOf(c) + disk.Sector(in), n: min(limit, uint64(n)<<bits-in)}
}

// writtenBlocks is how many blocks of the file were written: those up to its end, and those that filling a gap is at.
func (ip *inode) writtenBlocks() uint64 { return ip.fs.blocksFor(max(ip.Size(), ip.init.Load())) }

// errSettle says that a commit has to come first: what is to be written would cross what waits for being written.
var errSettle = errors.New("a commit must come first")

// retry runs f, in which a transaction is opened and closed, again after a commit when it met errSettle, or a full device while
// freed clusters wait for one.
func (fs *fsys) retry(ctx context.Context, f func() error) error {
	err := f()
	for try := 0; try < 3; try++ {
		if !errors.Is(err, errSettle) && !(errors.Is(err, errno.NOSPC) && fs.alloc.pending.Load() > 0) {
			break
		}
		if cerr := fs.commitNow(ctx); cerr != nil {
			return cerr
		}
		err = f()
	}
	if errors.Is(err, errSettle) {
		return errno.AGAIN
	}
	return err
}

// allocate is resolve that makes the chain long enough for block fb first, and for as many of the following, up to limit, as there is
// space for in one piece. Everything before fb must be allocated or is allocated too. errno.NOSPC leaves what could be had.
func (ip *inode) allocate(ctx context.Context, fb fileBlock, limit uint64) (e extent, err error) {
	e, err = ip.resolve(ctx, fb, limit)
	if err != nil || e.first != 0 {
		return e, err
	}
	bits := ip.fs.perBits()
	need := uint32(fb>>bits) + 1
	want := uint32(min((uint64(fb)+limit+1<<bits-1)>>bits, uint64(ip.fs.geo.ClustersFor(disk.MaxFileSize))))
	if err := ip.fs.retry(ctx, func() error { return ip.extend(ctx, need, max(want, need)) }); err != nil {
		return extent{}, err
	}
	return ip.resolve(ctx, fb, limit)
}

// extend makes the chain at least need clusters long, and up to want where the space is in one piece. Opens a transaction.
func (ip *inode) extend(ctx context.Context, need, want uint32) error {
	fs := ip.fs
	if limit := fs.geo.ClustersFor(disk.MaxFileSize); need > limit {
		return fmt.Errorf("inode %d: cluster %d: %w", ip.Ino(), need, errno.FBIG)
	}
	fs.begin()
	defer fs.end()
	ip.mapMu.Lock()
	defer ip.mapMu.Unlock()
	if err := ip.loadLocked(ctx, allChain); err != nil {
		return err
	}
	for ip.chain.known < need {
		tail := ip.chain.tail()
		if tail != 0 {
			if e, ok := fs.table.laid(tail); ok && e.IsEnd() {
				return errSettle // it was cut off there, and that is not on the medium yet
			}
		}
		first, n, err := fs.alloc.take(ctx, tail, want-ip.chain.known)
		if err != nil {
			return err
		}
		if err := fs.table.fill(ctx, first, n); err != nil {
			return err
		}
		if ip.dir != nil {
			// Zeros, before anything can lead there.
			for i := range n {
				if err := fs.initCluster(first+disk.Cluster(i), nil); err != nil {
					return err
				}
			}
		} else {
			fs.bd.CleanAliases(uint64(fs.geo.SectorOf(first)), uint64(n)<<fs.perBits())
		}
		if tail == 0 {
			ip.start = first
		} else {
			fs.link(tail, first)
		}
		ip.chain.add(first, n)
		ip.mapSeq.Add(1)
		fs.dirtyInode(ip)
	}
	ip.SetBlocks(int64(ip.chain.known) << (fs.geo.ClusterBits - 9))
	return nil
}

// cutTo frees the clusters from index n on. Opens a transaction.
func (ip *inode) cutTo(ctx context.Context, n uint32) error {
	fs := ip.fs
	ip.mapMu.RLock()
	short := ip.chain.whole && ip.chain.known <= n
	ip.mapMu.RUnlock()
	if short {
		return nil
	}
	fs.begin()
	defer fs.end()
	ip.mapMu.Lock()
	defer ip.mapMu.Unlock()
	if err := ip.loadLocked(ctx, allChain); err != nil {
		// What is known of a damaged chain is all that can be freed: the rest may belong to others.
		fs.fail(err)
		ip.chain.unloop(fs.geo.Last())
		ip.chain.whole = true
	}
	gone := ip.chain.cut(n)
	if len(gone) == 0 {
		return nil
	}
	ip.mapSeq.Add(1)
	if n == 0 {
		ip.start = 0
	} else {
		fs.cutAt(ip.chain.tail())
	}
	for _, r := range gone {
		fs.deferFree(r.first, r.n)
	}
	ip.SetBlocks(int64(ip.chain.known) << (fs.geo.ClusterBits - 9))
	fs.dirtyInode(ip)
	return nil
}

// zeroPiece is how much is made zero on the device at once, bytes.
const zeroPiece = 64 << 20

// zeroBlocks allocates file blocks [from, to) and makes them zeros on the device. They lie behind the end of the file, so nothing of
// them is in the cache. On error some may be allocated.
func (ip *inode) zeroBlocks(ctx context.Context, from, to fileBlock) error {
	fs := ip.fs
	for from < to {
		if err := ctx.Err(); err != nil {
			return err
		}
		e, err := ip.allocate(ctx, from, min(uint64(to-from), zeroPiece>>fs.geo.SectorBits))
		if err != nil {
			return err
		}
		if err := block.WriteZeroes(fs.sb.Dev, fs.geo.BytesOf(e.first), int64(e.n)<<fs.geo.SectorBits); err != nil {
			return err
		}
		from += fileBlock(e.n)
	}
	return nil
}
