package vfstest

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// BlockSize is the filesystem's, in bytes.
const BlockSize = 4096

// Type is the filesystem's entry in a table of types.
var Type = &vfs.FileSystem{Name: "ram"}

// FS is the filesystem behind a super block.
type FS struct {
	// Hook, set before the super block is used, is called when an operation begins, by the name of its table entry, with
	// the inode it works on. It may wait for ctx, and its error is the operation's.
	Hook func(ctx context.Context, op string, ip *vfs.Inode) error

	// Evicted counts inodes whose contents were freed.
	Evicted atomic.Int64

	sb   *vfs.SuperBlock
	iop  vfs.InodeOperations
	fop  vfs.FileOperations
	used atomic.Int64 // blocks

	mu    sync.Mutex // guards what follows; leaf
	nodes map[uint64]*node
	next  uint64
}

// FoldNames makes names that differ in case the same. To be called before the super block is used.
func (fs *FS) FoldNames() { fs.iop.Stored = fs.stored }

// node is what of an inode outlives its time in memory.
type node struct {
	ino    uint64
	gen    uint32
	attr   vfs.Attr
	size   int64
	xattrs map[string][]byte
	target string

	pages map[int64]*[BlockSize]byte // a file's blocks; a missing one is a hole

	parent  uint64 // a directory's
	entries []entry
	names   map[string]int // index in entries
}

// New makes an empty filesystem, mounted. The caller unmounts.
func New(t testing.TB, o vfs.MountOptions) (*vfs.SuperBlock, *FS) {
	t.Helper()
	dev, err := mem.New(1<<20, mem.Options{})
	require.NoError(t, err)
	if o.CacheBytes == 0 {
		o.CacheBytes = 1 << 20
	}
	sb := vfs.NewSuperBlock(Type, dev, &o)
	fs := &FS{sb: sb, nodes: map[uint64]*node{}, next: 1}
	sb.Private, sb.BlockBits, sb.MaxBytes = fs, 12, 1<<44
	sb.Op = &vfs.SuperOperations{ReadInode: fs.readInode, EvictInode: fs.evict, StatFS: fs.statFS}
	fs.fillTables()
	root, err := fs.insert(&vfs.Cred{}, nil, vfs.ModeDir|0o755)
	require.NoError(t, err)
	n := nodeOf(root)
	n.parent, root.A.Nlink = n.ino, 2
	root.Publish(nil)
	sb.Root = root
	sb.Start()
	return sb, fs
}

func (fs *FS) hook(ctx context.Context, op string, ip *vfs.Inode) error {
	if fs.Hook == nil {
		return nil
	}
	return fs.Hook(ctx, op, ip)
}

// Nodes is how many inodes there are, in memory or not.
func (fs *FS) Nodes() int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return len(fs.nodes)
}

// Used is how many blocks hold data.
func (fs *FS) Used() int64 { return fs.used.Load() }

func nodeOf(ip *vfs.Inode) *node { return ip.Private.(*node) }

// insert makes a new inode, to be published.
func (fs *FS) insert(cred *vfs.Cred, dir *vfs.Inode, mode uint32) (*vfs.Inode, error) {
	fs.mu.Lock()
	n := &node{ino: fs.next, gen: uint32(fs.next) * 7, xattrs: map[string][]byte{}}
	fs.next++
	fs.nodes[n.ino] = n
	fs.mu.Unlock()
	switch mode & vfs.ModeType {
	case vfs.ModeDir:
		n.names = map[string]int{}
	case vfs.ModeRegular:
		n.pages = map[int64]*[BlockSize]byte{}
	}
	ip, err := fs.sb.Insert(n.ino)
	if err != nil {
		return nil, err
	}
	fs.bind(ip, n)
	if dir == nil {
		dir = ip
	}
	ip.InitOwner(cred, dir, mode)
	ip.A.Nlink, ip.A.HasBtime = 1, true
	return ip, nil
}

func (fs *FS) bind(ip *vfs.Inode, n *node) {
	ip.Private, ip.Gen, ip.Op, ip.Fop = n, n.gen, &fs.iop, &fs.fop
}

func (fs *FS) readInode(_ context.Context, ip *vfs.Inode) error {
	fs.mu.Lock()
	n := fs.nodes[ip.Ino()]
	fs.mu.Unlock()
	if n == nil {
		return errno.STALE
	}
	fs.bind(ip, n)
	ip.A = n.attr
	ip.SetSize(n.size)
	ip.SetBlocks(int64(len(n.pages)) * (BlockSize / 512))
	return nil
}

func (fs *FS) evict(ip *vfs.Inode) {
	ip.Pages.Evict()
	n := nodeOf(ip)
	n.attr, n.size = ip.A, ip.Size()
	if n.attr.Nlink > 0 {
		return
	}
	fs.used.Add(-int64(len(n.pages)))
	fs.mu.Lock()
	delete(fs.nodes, n.ino)
	fs.mu.Unlock()
	fs.Evicted.Add(1)
}

func (fs *FS) statFS() (vfs.StatFS, error) {
	const blocks, files = 1 << 20, 1 << 20
	free := uint64(blocks - fs.used.Load())
	return vfs.StatFS{BlockSize: BlockSize, Blocks: blocks, Free: free, Avail: free, Files: files, FilesFree: files - uint64(fs.Nodes()), NameMax: 255}, nil
}
