package fat

import (
	"sync"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs"
)

// fsys is one mounted FAT. It hangs on vfs.SuperBlock.Private.
type fsys struct {
	sb   *vfs.SuperBlock
	bd   *bufhead.Device // metadata: the FAT, directories. Its blocks are sectors
	geo  *disk.Geometry  // immutable after mount
	opts Options         // immutable after mount

	// bootMu guards boot and label. Leaf.
	bootMu sync.Mutex
	boot   disk.BootSector
	label  string // of the root directory, or else of the boot sector

	table   table      // the FAT
	alloc   allocator  // free clusters
	commit  committer  // what is to be written, in which order
	numbers numbers    // of inodes
	tables  operations // immutable after mount

	writable bool        // mounted read-write; changed at mount, remount and unmount only
	wasDirty bool        // found in use, or with errors: the mark stays at unmount
	marked   bool        // the mark of a filesystem in use is on the medium; guarded by committer.mu
	broken   atomic.Bool // metadata could not be written: no more commits
}

// inode is a file or directory in memory: vfs.Inode.Private.
//
// Locks: names and entries of a directory are guarded by vfs.Inode.Rw; attributes by AttrMu; the rest as said below.
type inode struct {
	*vfs.Inode
	fs *fsys

	// mapMu is the map lock: it guards chain and start. Taken inside a transaction and inside folio locks; allocator and FAT come after
	// it.
	mapMu  sync.RWMutex
	chain  chain
	start  disk.Cluster  // first cluster, 0: none. Never changes for a directory
	mapSeq atomic.Uint64 // counts changes of the map; changed under mapMu, read anywhere

	// init is the initialised size, bytes: what lies before it was written. Raised under Rw held exclusively, or by writeback that
	// maps the block at it.
	init atomic.Int64
	// keep is how far fallocate wants clusters behind the end of the file, bytes; 0: not. Guarded by Rw.
	keep int64

	raw  disk.Dirent // as it is stored. Guarded by AttrMu
	attr disk.Attr   // guarded by AttrMu

	dir *dirState // of a directory

	slot  atomic.Int64 // byte address of the entry on the medium; 0: none (the root, or a file without a name)
	dirty atomic.Bool  // on the committer's list

	commit atomic.Uint64 // the commit that took the inode off that list last; stored before dirty is
}

// inodeOf gives the FAT inode of a VFS inode.
func inodeOf(ip *vfs.Inode) *inode { return ip.Private.(*inode) }
