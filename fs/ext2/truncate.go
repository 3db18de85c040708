package ext2

import (
	"context"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs"
)

// setSize changes the length of a regular file. Hold Rw exclusively. It is not interrupted halfway.
func (ip *inode) setSize(ctx context.Context, size int64) error {
	ctx = context.WithoutCancel(ctx)
	old := ip.Size()
	ip.DirectWait()
	if size >= old {
		if size > old {
			// What lies behind the old end in its block must be zeros when it comes into sight.
			if err := ip.fs.tables.truncatePage(ctx, ip.Inode, old); err != nil {
				return err
			}
			ip.fs.needLargeFile(size)
			ip.SetSize(size)
			ip.Pages.Extended(old, size)
			ip.Dirty(vfs.DirtySize)
		}
		return nil
	}
	if err := ip.fs.tables.truncatePage(ctx, ip.Inode, size); err != nil {
		return err
	}
	ip.Pages.InvalidateLock.Lock()
	defer ip.Pages.InvalidateLock.Unlock()
	if err := ip.breakLayout(ctx, size, 0); err != nil {
		return err
	}
	ip.SetSize(size)
	ip.Pages.Truncate(size)
	ip.mapMu.Lock()
	ip.fs.dropWindow(ip)
	ip.mapMu.Unlock()
	return ip.freeFrom(ctx, disk.FileBlock(ip.fs.geo.BlocksFor(uint64(size))))
}

// freeFrom frees the blocks of the file from index from on, one indirect subtree a transaction. The cache is gone already.
func (ip *inode) freeFrom(ctx context.Context, from disk.FileBlock) error {
	return ip.freeRange(ctx, from, 1<<62)
}

// freeRange frees file blocks [from, to).
func (ip *inode) freeRange(ctx context.Context, from, to disk.FileBlock) error {
	fs, g := ip.fs, ip.fs.geo
	ip.mapMu.Lock()
	ip.keep(from, uint64(to-from))
	ip.mapSeq.Add(1)
	ip.mapMu.Unlock()
	for entry := 0; entry < disk.NBlocks; {
		next := entry + 1
		if entry < disk.NDirect {
			next = disk.NDirect // the direct ones in one go
		}
		fs.begin()
		ip.mapMu.Lock()
		var err error
		for i := entry; i < next && err == nil; i++ {
			if ip.data[i] == 0 {
				continue
			}
			height := max(0, i-disk.NDirect+1)
			lo := g.LevelStart(i)
			hi := lo + disk.FileBlock(g.LevelSpan(height))
			if lo >= to || hi <= from {
				continue
			}
			var gone bool
			f := freeing{ip: ip, from: from, to: to}
			if gone, err = f.subtree(ctx, disk.FSBlock(ip.data[i]), height, lo); gone {
				ip.data[i] = 0
			}
			f.flush()
			ip.mapSeq.Add(1)
			ip.mapChanged()
			fs.dirtyInode(ip)
		}
		ip.mapMu.Unlock()
		fs.end()
		if err != nil {
			return err
		}
		entry = next
	}
	return nil
}

// freeing walks a part of a block map and gives its blocks back in runs.
type freeing struct {
	ip       *inode
	from, to disk.FileBlock
	run      run
}

func (f *freeing) free(b disk.FSBlock) {
	if !f.ip.fs.dataBlock(b) {
		f.ip.fs.fail(f.ip.fs.corrupt("block map", f.ip.Ino(), 0, "points to block %d, which holds no file", b))
		return
	}
	f.ip.AddBlocks(-int64(f.ip.fs.geo.BlockSize / disk.SectorSize))
	if f.run.n > 0 && f.run.first+disk.FSBlock(f.run.n) == b {
		f.run.n++
		return
	}
	f.flush()
	f.run = run{b, 1}
}

func (f *freeing) flush() {
	if f.run.n > 0 {
		f.ip.fs.deferFree(f.ip, f.run.first, f.run.n)
	}
	f.run = run{}
}

// subtree frees what lies in range below block p, whose subtree of the given height begins at file block lo. gone says
// that p itself was freed.
func (f *freeing) subtree(ctx context.Context, p disk.FSBlock, height int, lo disk.FileBlock) (gone bool, err error) {
	fs := f.ip.fs
	if height == 0 {
		if !f.ip.IsRegular() && fs.dataBlock(p) {
			// A block of a directory or symbolic link is metadata, which the running epoch may want to write.
			if bh, err := fs.bd.GetBlk(ctx, uint64(p)); err == nil {
				fs.forget(bh)
			}
		}
		f.free(p)
		return true, nil
	}
	if !fs.dataBlock(p) {
		f.free(p) // reports the damage
		return true, nil
	}
	bh, err := f.ip.indirect(ctx, p)
	if err != nil {
		return false, err
	}
	pb := disk.PtrBlock(bh.Data)
	span := disk.FileBlock(fs.geo.LevelSpan(height - 1))
	changed := false
	for i := range uint32(pb.Len()) {
		at := lo + disk.FileBlock(i)*span
		q := pb.At(i)
		if q == 0 || at >= f.to || at+span <= f.from {
			continue
		}
		var sub bool
		if sub, err = f.subtree(ctx, q, height-1, at); err != nil {
			break
		}
		if sub {
			pb.Set(i, 0)
			changed = true
		}
	}
	if err == nil && pb.Empty() {
		f.ip.holdBranches()
		fs.forget(bh)
		f.free(p)
		return true, nil
	}
	if changed {
		fs.dirtyBuffer(bh, kindMap)
	}
	bh.Put()
	return false, err
}

// punch frees the whole blocks of [pos, end) and zeroes the parts of blocks at its edges. Hold Rw and the invalidate lock
// exclusively.
func (ip *inode) punch(ctx context.Context, pos, end int64) error {
	end = min(end, (ip.Size()+int64(ip.fs.geo.BlockSize)-1)&^int64(ip.fs.geo.BlockSize-1))
	if pos >= end {
		return nil
	}
	bs := int64(ip.fs.geo.BlockSize)
	first, last := (pos+bs-1)&^(bs-1), end&^(bs-1)
	if first > last {
		return ip.fs.tables.zeroRange(ctx, ip.Inode, pos, end)
	}
	if pos < first {
		if err := ip.fs.tables.zeroRange(ctx, ip.Inode, pos, first); err != nil {
			return err
		}
	}
	if last < end {
		if err := ip.fs.tables.zeroRange(ctx, ip.Inode, last, end); err != nil {
			return err
		}
	}
	if first == last {
		return nil
	}
	if err := ip.breakLayout(ctx, first, last); err != nil {
		return err
	}
	ip.Pages.TruncateRange(first, last)
	return ip.freeRange(ctx, disk.FileBlock(first/bs), disk.FileBlock(last/bs))
}

// fileRun is a run of file blocks.
type fileRun struct {
	first disk.FileBlock
	n     uint64
}

// holes lists the runs of [fb, end) that are neither in the map nor promised.
func (ip *inode) holes(ctx context.Context, fb, end disk.FileBlock) (list []fileRun, err error) {
	for fb < end {
		n, hole, err := ip.isHole(ctx, fb, uint64(end-fb))
		if err != nil {
			return nil, err
		}
		if hole {
			list = append(list, fileRun{fb, n})
		}
		fb += disk.FileBlock(n)
	}
	return list, nil
}

// makeHoles makes holes again of runs that an operation filled which then failed: their blocks may hold anything. Hold Rw and the
// invalidate lock exclusively.
func (ip *inode) makeHoles(ctx context.Context, list []fileRun) {
	ctx = context.WithoutCancel(ctx)
	for _, r := range list {
		pos := int64(r.first) << ip.fs.geo.BlockBits
		ip.Pages.TruncateRange(pos, pos+int64(r.n)<<ip.fs.geo.BlockBits)
		if err := ip.freeRange(ctx, r.first, r.first+disk.FileBlock(r.n)); err != nil {
			ip.fs.fail(err)
		}
	}
}
