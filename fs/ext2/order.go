package ext2

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/vfs"
)

// order is what the ordered writeback knows of an inode. Fields without a remark are guarded by the inode's Rw (or by
// being new) inside transactions, and belong to commits while they hold the transactions off.
type order struct {
	mu    sync.Mutex  // serialises getting onto the list of changed inodes. Outside committer.inodesMu
	dirty atomic.Bool // on that list
	ghost atomic.Bool // without a name and not on the medium: nothing of it is ever written
	slot  int         // place on the list; guarded by inodesMu

	live bool        // the medium knows it as live, or will when the commit in progress ends
	dead atomic.Bool // the medium knows that it is dead: what it pointed to may be reused
	// level of a birth: how many directories above it are not live either.
	level int

	diedIn     uint64 // epoch of the death
	deathLevel int    // levels of dying inodes below
	childDied  uint64 // epoch in which a child died …
	childLevel int    // … and the highest level so far

	lostIn uint64 // directory: epoch in which it lost a name of an inode that lives on under a new name
	gains  []gain // names gained in the epoch of the last of them
}

// gain is a name that an inode got.
type gain struct {
	seq uint64
	dir *inode
	bh  *bufhead.BufferHead // not referenced: the epoch has a reference as long as it counts
}

// seq is the number of the running epoch. Stable inside a transaction.
func (fs *fsys) seq() uint64 { return fs.commit.ep.seq }

// bornInode notes a new inode that will get its first name in dir.
func (fs *fsys) bornInode(ip, dir *inode) {
	ip.ord.live = false
	ip.ord.ghost.Store(false)
	ip.ord.level = 0
	if dir != nil && !dir.ord.live {
		ip.ord.level = dir.ord.level + 1
	}
}

// nameAdded notes that block bh of dir now holds a name of ip. Inside a transaction.
func (fs *fsys) nameAdded(dir *inode, bh *bufhead.BufferHead, ip *inode) {
	if !ip.ord.live {
		if !dir.ord.live {
			ip.ord.level = max(ip.ord.level, dir.ord.level+1)
		}
		return
	}
	seq := fs.seq()
	if k := len(ip.ord.gains); k > 0 && ip.ord.gains[k-1].seq != seq {
		ip.ord.gains = ip.ord.gains[:0]
	}
	ip.ord.gains = append(ip.ord.gains, gain{seq, dir, bh})
}

// nameRemoved notes that block bh of dir no longer holds the name of ip that it held. Inside a transaction. The blocks
// with the names that ip gained in this epoch are copied as they are now, to be written before bh.
func (fs *fsys) nameRemoved(dir *inode, bh *bufhead.BufferHead, ip *inode) {
	if !ip.ord.live || ip.Nlink() == 0 {
		return
	}
	seq := fs.seq()
	for _, g := range ip.ord.gains {
		if g.seq != seq {
			continue
		}
		dir.ord.lostIn = seq
		if g.bh != bh {
			fs.capture(g.bh)
		}
	}
}

// capture copies a directory block as it is now, to be written ahead of the final directory blocks in phase C. The
// copies are written in the order in which they were taken, so each holds every name whose counterpart a later one
// lacks. Copying the same block twice in a row replaces the first copy: nothing between the two depends on it.
func (fs *fsys) capture(bh *bufhead.BufferHead) {
	ep := fs.commit.ep
	ep.mu.Lock()
	defer ep.mu.Unlock()
	if k := len(ep.captures) - 1; k >= 0 && ep.captures[k].block == bh.Block {
		copy(ep.captures[k].data, bh.Data)
		return
	}
	ep.captures = append(ep.captures, image{bh.Block, slices.Clone(bh.Data)})
	if len(ep.captures) > capturesMax {
		fs.kick()
	}
}

// inodeDied notes that the last link of ip went away, its name in dir. Inside a transaction, after Nlink became 0.
// An inode that the medium never knew is taken off the list of changes: nothing of it is ever written.
func (fs *fsys) inodeDied(ip, dir *inode) {
	if !ip.ord.live {
		ip.ord.ghost.Store(true)
		fs.cleanInode(ip)
		return
	}
	seq := fs.seq()
	ip.ord.diedIn, ip.ord.deathLevel = seq, 0
	if ip.ord.childDied == seq {
		ip.ord.deathLevel = ip.ord.childLevel
	}
	if dir.ord.childDied != seq {
		dir.ord.childDied, dir.ord.childLevel = seq, 0
	}
	dir.ord.childLevel = max(dir.ord.childLevel, ip.ord.deathLevel+1)
	fs.dirtyInode(ip)
}

// settleRemove commits first when the removal of a name of ip from dir could not be ordered within the running epoch:
// when ip, live, got another name in a directory that is not live yet; or when ip is a directory that dies after
// having lost a name to elsewhere. Call before the transaction, with the locks of the operation held, which keep the
// answer true: others can only make things more settled.
func (fs *fsys) settleRemove(ctx context.Context, dir, ip *inode) error {
	if fs.needsSettling(ip) {
		return fs.commitNow(ctx)
	}
	return nil
}

func (fs *fsys) needsSettling(ip *inode) bool {
	fs.commit.lock.RLock()
	defer fs.commit.lock.RUnlock()
	if !ip.ord.live {
		return false
	}
	seq := fs.seq()
	if ip.ord.lostIn == seq && ip.IsDir() {
		return true
	}
	for _, g := range ip.ord.gains {
		if g.seq == seq && !g.dir.ord.live {
			return true
		}
	}
	return false
}

// settleRename does the same for a rename: also when a live inode moves into a directory that is not live yet, and
// when a directory moves that is not live itself, since the births below it are counted from where it was.
func (fs *fsys) settleRename(ctx context.Context, r *vfs.Rename) error {
	move := func(ip, to *inode) bool {
		if ip == nil {
			return false
		}
		fs.commit.lock.RLock()
		live, toLive := ip.ord.live, to.ord.live
		fs.commit.lock.RUnlock()
		return live && !toLive || !live && ip.IsDir() || fs.needsSettling(ip)
	}
	var target *inode
	if r.New != nil {
		target = inodeOf(r.New)
	}
	from, to := inodeOf(r.From), inodeOf(r.To)
	need := move(inodeOf(r.Old), to)
	if r.Exchange {
		need = need || move(target, from)
	} else if target != nil {
		need = need || fs.needsSettling(target)
	}
	if need {
		return fs.commitNow(ctx)
	}
	return nil
}
