//go:build linux

package fuse

import (
	"sync"

	"github.com/iomapfs/iomapfs/vfs"
)

// nodeTable finds inodes by node id. Each entry holds one reference of its inode, and counts the look-ups that the kernel
// has not forgotten.
type nodeTable struct {
	root   uint64 // the root's inode number
	shards [64]nodeShard
}

type nodeShard struct {
	mu sync.RWMutex // guards m; leaf
	m  map[uint64]node
}

type node struct {
	ip     *vfs.Inode
	lookup uint64
}

func (t *nodeTable) init(root *vfs.Inode) {
	for i := range t.shards {
		t.shards[i].m = make(map[uint64]node)
	}
	t.root = root.Ino()
	t.add(root.Hold())
}

// id gives the node id of an inode number and back: the root's is swapped for 1.
func (t *nodeTable) id(ino uint64) uint64 {
	switch ino {
	case t.root:
		return 1
	case 1:
		return t.root
	}
	return ino
}

func (t *nodeTable) shard(id uint64) *nodeShard { return &t.shards[id%uint64(len(t.shards))] }

// get gives the inode of a node id, nil when the kernel made it up. The entry's reference lasts as long as the request,
// since the kernel forgets a node only when nothing uses it.
func (t *nodeTable) get(id uint64) *vfs.Inode {
	sh := t.shard(id)
	sh.mu.RLock()
	n := sh.m[id]
	sh.mu.RUnlock()
	return n.ip
}

// add counts a look-up of ip, whose reference it takes over, and gives the node id.
func (t *nodeTable) add(ip *vfs.Inode) uint64 {
	id := t.id(ip.Ino())
	sh := t.shard(id)
	sh.mu.Lock()
	n := sh.m[id]
	sh.m[id] = node{ip, n.lookup + 1}
	sh.mu.Unlock()
	if n.ip != nil {
		n.ip.Put() // one reference is enough
	}
	return id
}

// forget takes back look-ups.
func (t *nodeTable) forget(id, count uint64) {
	sh := t.shard(id)
	sh.mu.Lock()
	n := sh.m[id]
	if n.ip == nil || id == 1 {
		sh.mu.Unlock()
		return
	}
	if n.lookup > count {
		sh.m[id] = node{n.ip, n.lookup - count}
		sh.mu.Unlock()
		return
	}
	delete(sh.m, id)
	sh.mu.Unlock()
	n.ip.Put()
}

func (t *nodeTable) len() (n int) {
	for i := range t.shards {
		t.shards[i].mu.RLock()
		n += len(t.shards[i].m)
		t.shards[i].mu.RUnlock()
	}
	return n
}

// drop forgets everything, after the connection ended.
func (t *nodeTable) drop() {
	for i := range t.shards {
		sh := &t.shards[i]
		sh.mu.Lock()
		m := sh.m
		sh.m = make(map[uint64]node)
		sh.mu.Unlock()
		for _, n := range m {
			n.ip.Put()
		}
	}
}

// fileTable gives open files their handles: indexes from 1, reused.
type fileTable struct {
	mu    sync.RWMutex // guards the rest; leaf
	files []*vfs.File
	free  []uint64
}

func (t *fileTable) add(f *vfs.File) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k := len(t.free); k > 0 {
		fh := t.free[k-1]
		t.free = t.free[:k-1]
		t.files[fh-1] = f
		return fh
	}
	t.files = append(t.files, f)
	return uint64(len(t.files))
}

// get gives the file of a handle, nil for one that was never given out.
func (t *fileTable) get(fh uint64) *vfs.File {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if fh == 0 || fh > uint64(len(t.files)) {
		return nil
	}
	return t.files[fh-1]
}

func (t *fileTable) remove(fh uint64) *vfs.File {
	t.mu.Lock()
	defer t.mu.Unlock()
	if fh == 0 || fh > uint64(len(t.files)) {
		return nil
	}
	f := t.files[fh-1]
	if f != nil {
		t.files[fh-1] = nil
		t.free = append(t.free, fh)
	}
	return f
}

func (t *fileTable) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.files) - len(t.free)
}

func (t *fileTable) drop() {
	t.mu.Lock()
	files := t.files
	t.files, t.free = nil, nil
	t.mu.Unlock()
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
