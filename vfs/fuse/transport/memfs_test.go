//go:build linux

package transport_test

import (
	"sort"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// memFS is a small filesystem in memory: enough for real work through a mount, and with files that misbehave on purpose.
type memFS struct {
	fuse.RawFileSystem

	mu    sync.RWMutex // guards everything below but what says otherwise
	nodes map[uint64]*memNode
	next  uint64

	server  *fuse.Server  // given to Init
	inits   atomic.Int32  // calls of Init
	unmount atomic.Int32  // calls of OnUnmount
	forgets atomic.Int64  // nodes forgotten
	inside  atomic.Int32  // operations now blocked in a file named block*
	cancels atomic.Int32  // of those, ended by their cancel channel
	release chan struct{} // closed to let all blocked operations go; see letGo

	direct  bool          // open files FOPEN_DIRECT_IO with parallel writes
	timeout time.Duration // of entries and attributes
}

type memNode struct {
	ino    uint64
	mode   uint32
	kids   map[string]*memNode
	target string
	lookup uint64
	nlink  uint32

	data []byte
}

const blockSize = 4096

func newMemFS() *memFS {
	fs := &memFS{RawFileSystem: fuse.NewDefaultRawFileSystem(), nodes: map[uint64]*memNode{}, next: 1, release: make(chan struct{}), timeout: time.Hour}
	fs.nodes[1] = &memNode{ino: 1, mode: syscall.S_IFDIR | 0o755, kids: map[string]*memNode{}, nlink: 2, lookup: 1}
	return fs
}

// add makes a file in the root before the mount.
func (fs *memFS) add(name string, data []byte) *memNode {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n := fs.newNodeLocked(syscall.S_IFREG | 0o644)
	n.data = data
	fs.nodes[1].kids[name] = n
	return n
}

func (fs *memFS) newNodeLocked(mode uint32) *memNode {
	fs.next++
	n := &memNode{ino: fs.next, mode: mode, nlink: 1}
	if mode&syscall.S_IFMT == syscall.S_IFDIR {
		n.kids, n.nlink = map[string]*memNode{}, 2
	}
	fs.nodes[n.ino] = n
	return n
}

func (fs *memFS) node(id uint64) *memNode {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	return fs.nodes[id]
}

func (n *memNode) attr(a *fuse.Attr) {
	*a = fuse.Attr{Ino: n.ino, Mode: n.mode, Nlink: n.nlink, Size: uint64(len(n.data)), Blocks: uint64(len(n.data)+511) / 512, Blksize: blockSize}
}

func (fs *memFS) entryLocked(n *memNode, out *fuse.EntryOut) {
	n.lookup++
	out.NodeId, out.Generation = n.ino, 1
	out.SetEntryTimeout(fs.timeout)
	out.SetAttrTimeout(fs.timeout)
	n.attr(&out.Attr)
}

func (fs *memFS) String() string        { return "memfs" }
func (fs *memFS) Init(srv *fuse.Server) { fs.server = srv; fs.inits.Add(1) }
func (fs *memFS) OnUnmount()            { fs.unmount.Add(1) }

func (fs *memFS) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	dir := fs.nodes[h.NodeId]
	if dir == nil {
		return fuse.ENOENT
	}
	n := dir.kids[name]
	if n == nil {
		return fuse.ENOENT
	}
	fs.entryLocked(n, out)
	return fuse.OK
}

func (fs *memFS) Forget(id, nlookup uint64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n := fs.nodes[id]
	if n == nil {
		return
	}
	n.lookup -= nlookup
	if n.lookup == 0 && n.nlink == 0 {
		delete(fs.nodes, id)
		fs.forgets.Add(1)
	}
}

func (fs *memFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	n := fs.nodes[in.NodeId]
	if n == nil {
		return fuse.ENOENT
	}
	n.attr(&out.Attr)
	out.SetTimeout(fs.timeout)
	return fuse.OK
}

func (fs *memFS) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n := fs.nodes[in.NodeId]
	if n == nil {
		return fuse.ENOENT
	}
	if size, ok := in.GetSize(); ok {
		n.resize(int(size))
	}
	if mode, ok := in.GetMode(); ok {
		n.mode = n.mode&syscall.S_IFMT | mode
	}
	n.attr(&out.Attr)
	out.SetTimeout(fs.timeout)
	return fuse.OK
}

func (n *memNode) resize(size int) {
	if size <= len(n.data) {
		clear(n.data[size:])
		n.data = n.data[:size]
		return
	}
	if size > cap(n.data) {
		grown := make([]byte, len(n.data), max(size, 2*cap(n.data)))
		copy(grown, n.data)
		n.data = grown
	}
	n.data = n.data[:size]
}

func (fs *memFS) make(dir uint64, name string, mode uint32, out *fuse.EntryOut) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	d := fs.nodes[dir]
	if d == nil || d.kids == nil {
		return fuse.ENOTDIR
	}
	if d.kids[name] != nil {
		return fuse.Status(syscall.EEXIST)
	}
	n := fs.newNodeLocked(mode)
	d.kids[name] = n
	fs.entryLocked(n, out)
	return fuse.OK
}

func (fs *memFS) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	return fs.make(in.NodeId, name, in.Mode&0o7777|syscall.S_IFDIR, out)
}

func (fs *memFS) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	return fs.make(in.NodeId, name, in.Mode, out)
}

func (fs *memFS) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	out.OpenFlags = fs.openFlags()
	return fs.make(in.NodeId, name, in.Mode&0o7777|syscall.S_IFREG, &out.EntryOut)
}

func (fs *memFS) Symlink(_ <-chan struct{}, h *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	st := fs.make(h.NodeId, name, syscall.S_IFLNK|0o777, out)
	if st.Ok() {
		fs.mu.Lock()
		fs.nodes[out.NodeId].target = target
		fs.mu.Unlock()
	}
	return st
}

func (fs *memFS) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	return []byte(fs.node(h.NodeId).target), fuse.OK
}

func (fs *memFS) remove(dir uint64, name string, isDir bool) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	d := fs.nodes[dir]
	n := d.kids[name]
	switch {
	case n == nil:
		return fuse.ENOENT
	case isDir && len(n.kids) > 0:
		return fuse.Status(syscall.ENOTEMPTY)
	}
	delete(d.kids, name)
	n.nlink = 0
	return fuse.OK
}

func (fs *memFS) Unlink(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return fs.remove(h.NodeId, name, false)
}

func (fs *memFS) Rmdir(_ <-chan struct{}, h *fuse.InHeader, name string) fuse.Status {
	return fs.remove(h.NodeId, name, true)
}

func (fs *memFS) Rename(_ <-chan struct{}, in *fuse.RenameIn, from, to string) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	a, b := fs.nodes[in.NodeId], fs.nodes[in.Newdir]
	n := a.kids[from]
	if n == nil {
		return fuse.ENOENT
	}
	if over := b.kids[to]; over != nil {
		over.nlink = 0
	}
	delete(a.kids, from)
	b.kids[to] = n
	return fuse.OK
}

func (fs *memFS) openFlags() uint32 {
	if fs.direct {
		return fuse.FOPEN_NOFLUSH | fuse.FOPEN_DIRECT_IO | fuse.FOPEN_PARALLEL_DIRECT_WRITES
	}
	return fuse.FOPEN_NOFLUSH | fuse.FOPEN_KEEP_CACHE
}

func (fs *memFS) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	out.OpenFlags = fs.openFlags()
	return fuse.OK
}

func (fs *memFS) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status { return fuse.OK }
func (fs *memFS) ReleaseDir(*fuse.ReleaseIn)                                       {}
func (fs *memFS) Release(<-chan struct{}, *fuse.ReleaseIn)                         {}
func (fs *memFS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status                 { return fuse.OK }

func (fs *memFS) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	n := fs.nodes[in.NodeId]
	if n == nil {
		return nil, fuse.ENOENT
	}
	if in.Offset >= uint64(len(n.data)) {
		return fuse.ReadResultVector(nil), fuse.OK
	}
	m := copy(buf, n.data[in.Offset:])
	return fuse.ReadResultVector([][]byte{buf[:m]}), fuse.OK
}

func (fs *memFS) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	n := fs.node(in.NodeId)
	if n == nil {
		return 0, fuse.ENOENT
	}
	end := int(in.Offset) + len(data)
	fs.mu.RLock()
	if end <= len(n.data) {
		// Writers of one place are the kernel's to keep apart.
		copy(n.data[in.Offset:], data)
		fs.mu.RUnlock()
		return uint32(len(data)), fuse.OK
	}
	fs.mu.RUnlock()
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if end > len(n.data) {
		n.resize(end)
	}
	copy(n.data[in.Offset:], data)
	return uint32(len(data)), fuse.OK
}

// Fsync blocks until cancelled or released.
func (fs *memFS) Fsync(cancel <-chan struct{}, _ *fuse.FsyncIn) fuse.Status {
	fs.mu.RLock()
	release := fs.release
	fs.mu.RUnlock()
	fs.inside.Add(1)
	defer fs.inside.Add(-1)
	select {
	case <-cancel:
		fs.cancels.Add(1)
		return fuse.EINTR
	case <-release:
		return fuse.OK
	}
}

// letGo ends the operations that are blocked now.
func (fs *memFS) letGo() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	close(fs.release)
	fs.release = make(chan struct{})
}

// Ioctl gives its input back with every byte changed, from the last to the first, so that input and output in one
// memory would show.
func (fs *memFS) Ioctl(_ <-chan struct{}, in *fuse.IoctlIn, inbuf []byte, out *fuse.IoctlOut, outbuf []byte) fuse.Status {
	for i := range outbuf {
		outbuf[i] = inbuf[len(inbuf)-1-i] ^ 0xff
	}
	out.Result = 7
	return fuse.OK
}

func (fs *memFS) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	*out = fuse.StatfsOut{Blocks: 1 << 20, Bfree: 1 << 19, Bavail: 1 << 19, Bsize: blockSize, Frsize: blockSize, NameLen: 255}
	return fuse.OK
}

func (fs *memFS) readDir(in *fuse.ReadIn, out *fuse.DirEntryList, plus bool) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	d := fs.nodes[in.NodeId]
	names := make([]string, 0, len(d.kids))
	for name := range d.kids {
		names = append(names, name)
	}
	sort.Strings(names)
	for i := int(in.Offset); i < len(names); i++ {
		n := d.kids[names[i]]
		e := fuse.DirEntry{Name: names[i], Ino: n.ino, Mode: n.mode, Off: uint64(i + 1)}
		if !plus {
			if !out.AddDirEntry(e) {
				break
			}
			continue
		}
		eo := out.AddDirLookupEntry(e)
		if eo == nil {
			break
		}
		fs.entryLocked(n, eo)
	}
	return fuse.OK
}

func (fs *memFS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return fs.readDir(in, out, false)
}

func (fs *memFS) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return fs.readDir(in, out, true)
}
