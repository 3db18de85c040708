package vfs

import (
	"context"
	"fmt"
	"sync"

	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/invariant"
)

// icache finds inodes by number. Sharded, so that look-ups of different inodes rarely meet. Inodes without references
// stay on their shard's LRU list until it is over its limit.
type icache struct {
	sb     *SuperBlock
	shards [icacheShards]icacheShard
}

const (
	icacheShards = 64
	// icacheKeep is how many unreferenced inodes a shard keeps.
	icacheKeep = 256
)

type icacheShard struct {
	mu   invariant.Mutex[invariant.Shard] // guards everything below and refs, state, lru* of the inodes. AttrMu and the tags of dirty pages are looked at under it
	cond sync.Cond                        // signalled when an inode leaves inodeNew or inodeFreeing
	m    map[uint64]*Inode
	lru  Inode // sentinel of the ring of unreferenced inodes; lruNext is the oldest
	n    int   // inodes on the ring
}

func (ic *icache) init(sb *SuperBlock) {
	ic.sb = sb
	for i := range ic.shards {
		sh := &ic.shards[i]
		sh.m = make(map[uint64]*Inode)
		sh.cond.L = &sh.mu
		sh.lru.lruNext, sh.lru.lruPrev = &sh.lru, &sh.lru
	}
}

func (ic *icache) shard(ino uint64) *icacheShard {
	return &ic.shards[ino*0x9e3779b97f4a7c15>>58]
}

func (sh *icacheShard) unlist(ip *Inode) {
	if ip.lruNext != nil {
		ip.lruPrev.lruNext, ip.lruNext.lruPrev = ip.lruNext, ip.lruPrev
		ip.lruNext, ip.lruPrev = nil, nil
		sh.n--
	}
}

func (sh *icacheShard) list(ip *Inode) {
	last := sh.lru.lruPrev
	last.lruNext, ip.lruPrev, ip.lruNext, sh.lru.lruPrev = ip, last, &sh.lru, ip
	sh.n++
}

// take gives a referenced inode of the cache, or what fresh makes after having inserted it in state inodeNew. It waits for an
// inode of that number to be filled, or to finish leaving. err is what filling it said.
func (sh *icacheShard) take(ino uint64, fresh func() *Inode) (ip *Inode, isNew bool, err error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for {
		ip = sh.m[ino]
		if ip == nil {
			break
		}
		if ip.state != inodeFreeing {
			sh.unlist(ip)
			ip.refs++
			for ip.state == inodeNew {
				sh.cond.Wait()
			}
			return ip, false, ip.readErr
		}
		sh.cond.Wait()
	}
	if fresh == nil {
		return nil, false, nil
	}
	ip = fresh()
	ip.refs, ip.state = 1, inodeNew
	sh.m[ino] = ip
	return ip, true, nil
}

// What an inode can do until its filesystem says more: nothing.
var (
	noInodeOps = &InodeOperations{}
	noFileOps  = &FileOperations{}
)

func (sb *SuperBlock) newInode(ino uint64) *Inode {
	ip := &Inode{sb: sb, ino: ino, Op: noInodeOps, Fop: noFileOps}
	ip.Pages.Init(sb.Cache, sb.WB, ip, nil)
	return ip
}

// Get (iget_locked + ReadInode) gives the inode of a number with a reference, reading it when it is not cached.
// Errors: what ReadInode says, errno.STALE for a number not in use.
func (sb *SuperBlock) Get(ctx context.Context, ino uint64) (*Inode, error) {
	sh := sb.icache.shard(ino)
	ip, isNew, err := sh.take(ino, func() *Inode { return sb.newInode(ino) })
	if isNew {
		err = sb.Op.ReadInode(ctx, ip)
		ip.publish(err)
	}
	if err != nil {
		ip.Put()
		return nil, fmt.Errorf("inode %d: %w", ino, err)
	}
	return ip, nil
}

// Cached gives the inode if it is in memory, with a reference, else nil.
func (sb *SuperBlock) Cached(ino uint64) *Inode {
	ip, _, err := sb.icache.shard(ino).take(ino, nil)
	if err != nil {
		ip.Put()
		return nil
	}
	return ip
}

// Insert makes the inode of a newly allocated number, with a reference. The filesystem fills it and calls Publish.
// errno.UCLEAN when the number is in use in memory: the medium's bitmap is wrong.
func (sb *SuperBlock) Insert(ino uint64) (*Inode, error) {
	sh := sb.icache.shard(ino)
	ip, isNew, _ := sh.take(ino, func() *Inode { return sb.newInode(ino) })
	if !isNew {
		ip.Put()
		return nil, &errno.CorruptError{Dev: sb.Dev.Name(), Struct: "inode bitmap", Ino: ino, Why: "marks an inode free that is in use"}
	}
	return ip, nil
}

// Publish makes an inserted inode visible to others; err non-nil makes them fail instead.
func (ip *Inode) Publish(err error) { ip.publish(err) }

func (ip *Inode) publish(err error) {
	sh := ip.sb.icache.shard(ip.ino)
	sh.mu.Lock()
	ip.readErr = err
	if err == nil {
		ip.state = inodeLive
	} else {
		ip.state = inodeBad
	}
	sh.cond.Broadcast()
	sh.mu.Unlock()
}

// Hold takes another reference; the caller has one.
func (ip *Inode) Hold() *Inode {
	sh := ip.sb.icache.shard(ip.ino)
	sh.mu.Lock()
	ip.refs++
	sh.mu.Unlock()
	return ip
}

// Pin takes a reference unless the inode is being evicted (igrab). pagecache.Host.
func (ip *Inode) Pin() bool {
	sh := ip.sb.icache.shard(ip.ino)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if ip.state == inodeFreeing || ip.state == inodeBad {
		return false
	}
	sh.unlist(ip)
	ip.refs++
	return true
}

// Unpin drops what Pin took. pagecache.Host.
func (ip *Inode) Unpin() { ip.Put() }

// Put (iput) drops a reference. The last one evicts an inode without links, whose blocks are freed now.
func (ip *Inode) Put() {
	sh := ip.sb.icache.shard(ip.ino)
	nlink := uint32(1)
	sh.mu.Lock()
	if ip.refs == 1 && ip.state == inodeLive {
		nlink = ip.Nlink() // AttrMu is a leaf below the shard lock
	}
	ip.refs--
	if ip.refs > 0 || ip.state == inodeFreeing { // the latter: evicted at unmount although somebody held it
		sh.mu.Unlock()
		return
	}
	if nlink == 0 || ip.state != inodeLive {
		live := ip.state == inodeLive
		ip.state = inodeFreeing
		sh.mu.Unlock()
		ip.leave(sh, live)
		return
	}
	sh.list(ip)
	var old *Inode
	if sh.n > icacheKeep {
		// One out for one in. Inodes with dirty pages are passed over: their eviction would have to write.
		for o, tries := sh.lru.lruNext, 0; o != &sh.lru && tries < 8; o, tries = o.lruNext, tries+1 {
			if !o.Pages.IsDirty() {
				old = o
				sh.unlist(old)
				old.state = inodeFreeing
				break
			}
		}
	}
	sh.mu.Unlock()
	if old != nil {
		old.leave(sh, true)
	}
}

// leave evicts an inode in state inodeFreeing and takes it out of the cache.
func (ip *Inode) leave(sh *icacheShard, live bool) {
	if live && ip.sb.Op.EvictInode != nil {
		ip.sb.Op.EvictInode(ip)
	} else {
		ip.Pages.Evict()
	}
	sh.mu.Lock()
	delete(sh.m, ip.ino)
	sh.mu.Unlock()
	sh.cond.Broadcast()
}

// evictAll empties the cache at unmount, whatever is still referenced.
func (ic *icache) evictAll() {
	for i := range ic.shards {
		sh := &ic.shards[i]
		for {
			sh.mu.Lock()
			var ip *Inode
			for _, c := range sh.m {
				if c.state != inodeFreeing {
					ip = c
					break
				}
			}
			if ip == nil {
				for len(sh.m) > 0 {
					sh.cond.Wait() // somebody else is evicting the rest
				}
				sh.mu.Unlock()
				break
			}
			live := ip.state == inodeLive
			sh.unlist(ip)
			ip.state = inodeFreeing
			sh.mu.Unlock()
			ip.leave(sh, live)
		}
	}
}

// DropInodes evicts every unreferenced clean inode (drop_caches).
func (sb *SuperBlock) DropInodes() {
	for i := range sb.icache.shards {
		sh := &sb.icache.shards[i]
		for {
			sh.mu.Lock()
			var ip *Inode
			for o := sh.lru.lruNext; o != &sh.lru; o = o.lruNext {
				if !o.Pages.IsDirty() {
					ip = o
					break
				}
			}
			if ip == nil {
				sh.mu.Unlock()
				break
			}
			sh.unlist(ip)
			ip.state = inodeFreeing
			sh.mu.Unlock()
			ip.leave(sh, true)
		}
	}
}

// InodeCount is the number of inodes in memory.
func (sb *SuperBlock) InodeCount() int {
	n := 0
	for i := range sb.icache.shards {
		sh := &sb.icache.shards[i]
		sh.mu.Lock()
		n += len(sh.m)
		sh.mu.Unlock()
	}
	return n
}
