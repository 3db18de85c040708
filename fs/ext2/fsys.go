package ext2

import (
	"sync"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/invariant"
)

// fsys is one mounted ext2. It hangs on vfs.SuperBlock.Private.
type fsys struct {
	sb   *vfs.SuperBlock
	bd   *bufhead.Device // metadata: superblock, descriptors, bitmaps, inode tables, directories, indirect blocks
	geo  *disk.Geometry  // immutable after mount
	opts Options         // immutable after mount

	// superMu guards super (all but the counters below) and its buffer. Leaf but for buffers.
	superMu sync.Mutex
	super   disk.Superblock
	superBH *bufhead.BufferHead // the buffer holding the primary superblock; referenced for the life of the mount

	groups []group               // one a block group
	descBH []*bufhead.BufferHead // blocks of group descriptors; referenced for the life of the mount

	groupsMu    sync.Mutex // guards groupsDirty. Leaf
	groupsDirty []disk.Group

	reserved   uint32      // blocks kept for the superuser; immutable
	overhead   uint32      // blocks of metadata; immutable
	superDirty atomic.Bool // the superblock changed beyond its counters
	broken     atomic.Bool // metadata could not be written: no more commits
	writable   atomic.Bool // mounted read-write, even if an error stopped changes; changed at mount, remount and unmount only
	cleanState uint16      // the clean flag as it was found; guarded by superMu
	tables     tables      // immutable after mount

	freeBlocks, freeInodes, usedDirs atomic.Int64 // sums over the groups
	promised                         atomic.Int64 // of the free blocks: set aside for data in the cache; see promise.go

	dax block.Mapper // immutable; the device's memory, with -o dax

	dirs   dirIndexes   // indexes of directories in memory; see dirindex.go
	shared sharedXattrs // blocks of extended attributes; see xattrblock.go

	commit committer // ordered metadata writeback
	gen    atomic.Uint32
}

// inode is an ext2 inode in memory: vfs.Inode.Private.
//
// Locks: names and entries are guarded by vfs.Inode.Rw; attributes by AttrMu; the rest as said below.
type inode struct {
	*vfs.Inode
	fs *fsys

	// mapMu (truncate_mutex) guards the block map: data and what the indirect blocks hold, and the reservation window.
	// Taken inside a transaction (fsys.begin) and inside folio locks; buffers and allocation groups come after it.
	mapMu  invariant.RWMutex[invariant.Map]
	data   [disk.NBlocks]uint32 // i_block: block pointers, or the target of a fast symlink, or a device number
	resv   reservation
	anchor struct { // where the file was last extended: the block after fb-1, and the place after that of fb-1; zero: not yet
		fb disk.FileBlock
		at disk.FSBlock
	}
	prom      promises
	dax       iomap.DaxSpace // of a regular file, with -o dax
	spending  bool           // blocks that are taken now were promised
	mapCommit atomic.Uint64  // the commit that makes size and map durable as they are; 0: they are
	mapSeq    atomic.Uint64  // counts changes of the map but promises made; changed under mapMu, read anywhere

	fileACL  atomic.Uint32 // block of the extended attributes, 0 for none
	raw      disk.Inode    // what was read from the medium: keeps the fields that we do not change. Guarded by AttrMu
	fresh    bool          // not yet encoded: its place in the inode table holds an older inode. Guarded by AttrMu
	ibody    []byte        // the in-inode attributes when they changed, else nil. Guarded by AttrMu
	xattrs   xattrCache    // see xattr.go
	noACL    atomic.Bool   // known to have no default ACL
	dirState dirState      // index and free space of a directory; see dir.go
	ord      order         // what the ordered writeback knows of the inode; see order.go
}

// inodeOf gives the ext2 inode of a VFS inode.
func inodeOf(ip *vfs.Inode) *inode { return ip.Private.(*inode) }

// fsOf gives the ext2 of a super block.
func fsOf(sb *vfs.SuperBlock) *fsys { return sb.Private.(*fsys) }
