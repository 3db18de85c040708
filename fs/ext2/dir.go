package ext2

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Directories: their blocks, and finding a name.
//
//	small (dirLinear bytes)      the blocks are read through
//	larger, on-disk index valid  the index leads to the block: htree.go
//	larger                       an index in memory leads to the entry: dirindex.go; made by reading it all once
//
// Damage in one block does not hide the others: names in good blocks are found and can be removed; that a name is *not*
// there cannot be said any more, so a search that fails, and every new name, gets the error instead.

// dirState is what an inode keeps of a directory. Small, since every inode has one.
type dirState struct {
	mu  sync.Mutex // serialises filling aux and making an index. Inside Rw; buffers are read under it
	aux atomic.Pointer[dirAux]
}

// dirAux is made when a directory is first used.
type dirAux struct {
	parent  atomic.Uint32            // what ".." names; 0 when the first block is damaged
	bad     atomic.Pointer[error]    // the first damage found
	noTree  atomic.Bool              // the index on the medium is damaged: not to be used
	index   atomic.Pointer[dirIndex] // nil until made, and after it was dropped
	checked []atomic.Uint64          // a bit for each block that was verified; the slice changes under Rw held exclusively
}

// dirLinear is up to which size a directory is searched by reading it, in bytes.
const dirLinear = 8192

// dirReadahead is how many blocks are read ahead when a directory is read through.
const dirReadahead = 32

// entry is a name that was found, or the place for a new one. It holds a reference of bh; release drops it.
type entry struct {
	bh   *bufhead.BufferHead // nil: no block has room, one must be appended
	blk  disk.FileBlock
	off  int
	ino  disk.Ino
	left int // place for a new one: the largest room of the block when it is taken, bytes
}

func (e *entry) release() {
	if e.bh != nil {
		e.bh.Put()
		e.bh = nil
	}
}

func (e *entry) block() disk.DirBlock { return disk.DirBlock(e.bh.Data) }

// dirBlocks is the number of blocks of the directory.
func (ip *inode) dirBlocks() disk.FileBlock {
	return disk.FileBlock(min(uint64(ip.Size()), dirBytesMax) >> ip.fs.geo.BlockBits)
}

// dirAux gives the directory's state, reading ".." when it is used for the first time. No lock is needed; whoever changes
// the directory must have called it before.
func (ip *inode) dirAux(ctx context.Context) (*dirAux, error) {
	if aux := ip.dirState.aux.Load(); aux != nil {
		return aux, nil
	}
	ip.dirState.mu.Lock()
	defer ip.dirState.mu.Unlock()
	if aux := ip.dirState.aux.Load(); aux != nil {
		return aux, nil
	}
	aux := &dirAux{checked: make([]atomic.Uint64, (ip.dirBlocks()+63)/64)}
	bh, db, err := ip.dirBlock(ctx, aux, 0)
	switch {
	case err == nil:
		var off int
		if off, err = db.DotDot(disk.Ino(ip.Ino())); err != nil {
			ip.noteBad(aux, ip.badBlock(bh, 0, err))
		} else if parent := db.Ino(off); !ip.fs.geo.FileIno(parent) {
			ip.noteBad(aux, ip.fs.corrupt("directory", ip.Ino(), ip.fs.addr(bh), "\"..\" names inode %d, which holds no directory", parent))
		} else {
			aux.parent.Store(uint32(parent))
		}
		bh.Put()
	case !errors.Is(err, errno.UCLEAN):
		return nil, err
	}
	ip.dirState.aux.Store(aux)
	return aux, nil
}

// addr gives the byte address of a buffer on the device, for messages.
func (fs *fsys) addr(bh *bufhead.BufferHead) uint64 { return bh.Block << fs.geo.BlockBits }

func (ip *inode) badBlock(bh *bufhead.BufferHead, n disk.FileBlock, why error) error {
	return ip.fs.corrupt("directory", ip.Ino(), ip.fs.addr(bh), "block %d: %v", n, why)
}

// noteBad remembers the first damage of a directory and reports it.
func (ip *inode) noteBad(aux *dirAux, err error) {
	if aux.bad.CompareAndSwap(nil, &err) {
		ip.fs.fail(err)
	}
}

// absent is the answer when a name was not found: that it is not there, if that can be said.
func (aux *dirAux) absent() error {
	if bad := aux.bad.Load(); bad != nil {
		return *bad
	}
	return errno.NOENT
}

// dirBlock reads block n of the directory, referenced and verified: the chain of records is whole. Blocks are verified when
// first seen; later readers still bound every step, so that nothing breaks when a damaged map shares the block.
// A missing block is damage. Damage is remembered.
func (ip *inode) dirBlock(ctx context.Context, aux *dirAux, n disk.FileBlock) (*bufhead.BufferHead, disk.DirBlock, error) {
	var bh *bufhead.BufferHead
	var err error
	if x := aux.index.Load(); x != nil && uint64(n) < uint64(len(x.at)) && x.at[n] != 0 {
		if bh, err = ip.fs.bd.Bread(ctx, uint64(x.at[n])); err != nil {
			err = fmt.Errorf("inode %d: block %d: %w", ip.Ino(), n, err)
		}
	} else {
		bh, err = ip.readBlock(ctx, n)
	}
	if err != nil {
		if errors.Is(err, errno.UCLEAN) {
			ip.noteBad(aux, err)
		}
		return nil, nil, err
	}
	if bh == nil {
		err := ip.fs.corrupt("directory", ip.Ino(), 0, "block %d is missing", n)
		ip.noteBad(aux, err)
		return nil, nil, err
	}
	word, bit := n/64, uint64(1)<<(n%64)
	if uint64(word) < uint64(len(aux.checked)) && aux.checked[word].Load()&bit != 0 {
		return bh, disk.DirBlock(bh.Data), nil
	}
	db, err := disk.AsDirBlock(bh.Data, ip.fs.geo.Inodes)
	if err != nil {
		err = ip.badBlock(bh, n, err)
		ip.noteBad(aux, err)
		bh.Put()
		return nil, nil, err
	}
	if uint64(word) < uint64(len(aux.checked)) {
		aux.checked[word].Or(bit)
	}
	return bh, db, nil
}

// readAhead starts reading the blocks of the directory from n on, at the start of each stretch.
func (ip *inode) readAhead(ctx context.Context, n, blocks disk.FileBlock) {
	if n%dirReadahead != 0 || n+1 >= blocks {
		return
	}
	if e, err := ip.resolve(ctx, n, min(dirReadahead, uint64(blocks-n))); err == nil && e.first != 0 {
		ip.fs.bd.Readahead(ctx, uint64(e.first), e.n)
	}
}

// search looks for a name in one block. broken says that the chain ended early.
func search(db disk.DirBlock, name string) (r disk.DirRecord, found, broken bool) {
	for off := 0; off < len(db); {
		r, ok := db.Record(off)
		if !ok {
			return r, false, true
		}
		if len(r.Name) == len(name) && r.Ino != 0 && string(r.Name) == name {
			return r, true, false
		}
		off = r.Next
	}
	return disk.DirRecord{}, false, false
}

// find looks a name up. Hold Rw, shared is enough. The entry is released by the caller.
// Errors: errno.NOENT; what reading says; damage when the name may be in a damaged block.
func (ip *inode) find(ctx context.Context, name string) (entry, error) {
	aux, err := ip.dirAux(ctx)
	if err != nil {
		return entry{}, err
	}
	if ip.Size() <= dirLinear {
		return ip.findLinear(ctx, aux, name)
	}
	x := aux.index.Load()
	if x == nil && ip.hasTree(aux) {
		if e, known, err := ip.findTree(ctx, aux, name); known || err != nil {
			return e, err
		}
	}
	if x == nil {
		if x, err = ip.makeIndex(ctx, aux); x == nil {
			if ctx.Err() != nil {
				return entry{}, err
			}
			return ip.findLinear(ctx, aux, name)
		}
	}
	return ip.findIndexed(ctx, aux, x, name)
}

func (ip *inode) findLinear(ctx context.Context, aux *dirAux, name string) (entry, error) {
	blocks := ip.dirBlocks()
	var failed error
	for n := range blocks {
		ip.readAhead(ctx, n, blocks)
		bh, db, err := ip.dirBlock(ctx, aux, n)
		if err != nil {
			if failed == nil {
				failed = err
			}
			if ctx.Err() != nil {
				return entry{}, err
			}
			continue
		}
		r, found, broken := search(db, name)
		if found {
			return entry{bh: bh, blk: n, off: r.Off, ino: r.Ino}, nil
		}
		if broken {
			ip.noteBad(aux, ip.badBlock(bh, n, errBroken))
		}
		bh.Put()
	}
	if failed != nil {
		return entry{}, failed
	}
	return entry{}, aux.absent()
}

var errBroken = errors.New("the chain of records is broken")

func (ip *inode) findIndexed(ctx context.Context, aux *dirAux, x *dirIndex, name string) (entry, error) {
	ip.fs.dirs.use(x)
	hash, bits := hashName(name), ip.fs.geo.BlockBits
	i, p, ok := x.probe(hash, -1)
	for ; ok; i, p, ok = x.probe(hash, i) {
		n, off := p.split(bits)
		bh, db, err := ip.dirBlock(ctx, aux, n)
		if err != nil {
			return entry{}, err
		}
		if r, ok := db.Record(off); ok && r.Ino != 0 && string(r.Name) == name {
			return entry{bh: bh, blk: n, off: off, ino: r.Ino}, nil
		}
		bh.Put()
	}
	return entry{}, aux.absent()
}

// makeIndex reads the directory through and makes its index. Hold Rw, shared is enough. Nil without error: it would be too
// large, and the directory is searched by reading.
func (ip *inode) makeIndex(ctx context.Context, aux *dirAux) (*dirIndex, error) {
	ip.dirState.mu.Lock()
	defer ip.dirState.mu.Unlock()
	if x := aux.index.Load(); x != nil {
		return x, nil
	}
	blocks, bits := ip.dirBlocks(), ip.fs.geo.BlockBits
	x := newDirIndex(int(blocks))
	for n := range blocks {
		ip.readAhead(ctx, n, blocks)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		bh, db, err := ip.dirBlock(ctx, aux, n)
		if errors.Is(err, errno.UCLEAN) {
			x.at = append(x.at, 0)
			x.room.set(n, 0)
			continue
		}
		if err != nil {
			return nil, err
		}
		room := 0
		for off := 0; off < len(db); {
			r, ok := db.Record(off)
			if !ok {
				ip.noteBad(aux, ip.badBlock(bh, n, errBroken))
				room = 0
				break
			}
			if r.Ino != 0 && !disk.IsDots(r.Name) {
				x.add(hashNameBytes(r.Name), placeOf(n, off, bits))
			}
			room = max(room, r.Room())
			off = r.Next
		}
		x.at = append(x.at, uint32(min(bh.Block, math.MaxUint32)))
		x.room.set(n, room)
		bh.Put()
		if x.size() > ip.fs.dirs.limit {
			return nil, nil
		}
	}
	if !ip.fs.dirs.publish(aux, x) {
		return nil, nil
	}
	return x, nil
}

// dropDir forgets what is kept of a directory when its inode leaves memory.
func (ip *inode) dropDir() {
	if aux := ip.dirState.aux.Load(); aux != nil {
		ip.fs.dirs.drop(aux)
	}
}

// placeFor finds where a new name can go; the name must not be there yet. Hold Rw exclusively; the answer holds until then.
// Errors: errno.EXIST; what find says.
func (ip *inode) placeFor(ctx context.Context, name string) (entry, error) {
	e, err := ip.find(ctx, name)
	if err == nil {
		e.release()
		return entry{}, errno.EXIST
	}
	if !errors.Is(err, errno.NOENT) {
		return entry{}, err
	}
	return ip.roomFor(ctx, len(name))
}

// roomFor finds room for a name of that length; an entry without buffer when a block must be appended.
func (ip *inode) roomFor(ctx context.Context, nameLen int) (entry, error) {
	aux, err := ip.dirAux(ctx)
	if err != nil {
		return entry{}, err
	}
	x := aux.index.Load()
	if x == nil && ip.Size() > dirLinear {
		if x, err = ip.makeIndex(ctx, aux); err != nil {
			return entry{}, err
		}
	}
	if bad := aux.bad.Load(); bad != nil {
		return entry{}, *bad // nothing new in a damaged directory
	}
	need := disk.DirRecLen(nameLen)
	blocks := ip.dirBlocks()
	for n := disk.FileBlock(0); n < blocks; n++ {
		if x != nil {
			var ok bool
			if n, ok = x.room.first(need); !ok || n >= blocks {
				break
			}
		}
		bh, db, err := ip.dirBlock(ctx, aux, n)
		if err != nil {
			return entry{}, err
		}
		off, left, ok := db.Place(nameLen)
		if ok && off >= 0 {
			return entry{bh: bh, blk: n, off: off, left: left}, nil
		}
		bh.Put()
		if !ok {
			err := ip.badBlock(bh, n, errBroken)
			ip.noteBad(aux, err)
			return entry{}, err
		}
		if x != nil {
			x.room.set(n, left) // what was noted was too much
		}
	}
	return entry{blk: blocks}, nil
}

// makeRoom appends an empty block for an entry that found no room. Inside a transaction. errno.NOSPC changes nothing; an
// empty block that is not used after all does no harm.
func (ip *inode) makeRoom(ctx context.Context, e *entry, nameLen int) error {
	if e.bh != nil {
		return nil
	}
	if ip.Size() >= dirBytesMax {
		return fmt.Errorf("inode %d: the directory cannot grow beyond %d bytes: %w", ip.Ino(), int64(dirBytesMax), errno.NOSPC)
	}
	bh, n, err := ip.appendBlock(ctx)
	if err != nil {
		return err
	}
	disk.InitDirBlock(bh.Data)
	ip.fs.newDirBlock(ip, bh)
	*e = entry{bh: bh, blk: n, left: len(bh.Data) - disk.DirRecLen(nameLen)}
	aux := ip.dirState.aux.Load()
	ip.blockAdded(aux, bh, n)
	return nil
}

// blockAdded brings the directory's state up to a new block, which is empty and valid.
func (ip *inode) blockAdded(aux *dirAux, bh *bufhead.BufferHead, n disk.FileBlock) {
	if need := int(n/64) + 1; need > len(aux.checked) {
		more := make([]atomic.Uint64, max(need, 2*len(aux.checked)))
		for i := range aux.checked {
			more[i].Store(aux.checked[i].Load())
		}
		aux.checked = more
	}
	aux.checked[n/64].Or(1 << (n % 64))
	if x := aux.index.Load(); x != nil && uint64(len(x.at)) == uint64(n) {
		x.at = append(x.at, uint32(bh.Block))
		if x.room.set(n, len(bh.Data)) {
			ip.fs.dirs.grew(aux, x)
		}
	}
}

// store puts a name for child into the room that e names. Inside a transaction, dir.Rw held exclusively. The index on the
// medium does not know the name, so it is given up: the inode without the flag reaches the medium before the block.
func (ip *inode) store(e *entry, name string, child *inode) {
	fs, db := ip.fs, e.block()
	e.off = db.Insert(e.off, name, disk.Ino(child.Ino()), fs.fileType(child.Mode()))
	e.ino = disk.Ino(child.Ino())
	aux := ip.dirState.aux.Load()
	if x := aux.index.Load(); x != nil {
		grew := x.add(hashName(name), placeOf(e.blk, e.off, fs.geo.BlockBits))
		x.room.set(e.blk, e.left)
		if grew {
			fs.dirs.grew(aux, x)
		}
	}
	fs.dirtyBuffer(e.bh, kindDir)
	fs.nameAdded(ip, e.bh, child)
	ip.dirChanged(true)
}

// fileType gives the type byte of an entry, none without the feature.
func (fs *fsys) fileType(mode uint32) disk.FileType {
	if !fs.super.HasFileType() {
		return disk.TypeUnknown
	}
	return disk.FileTypeOf(uint16(mode))
}

// point makes an entry that is there name child instead. Inside a transaction, Rw held exclusively.
func (ip *inode) point(e *entry, child *inode) {
	db := e.block()
	db.SetIno(e.off, disk.Ino(child.Ino()))
	db.SetFileType(e.off, ip.fs.fileType(child.Mode()))
	e.ino = disk.Ino(child.Ino())
	ip.fs.dirtyBuffer(e.bh, kindDir)
	ip.fs.nameAdded(ip, e.bh, child)
	ip.dirChanged(false)
}

// prevOf finds the record before an entry, -1 when it is the first of its block. Rw held exclusively.
func (ip *inode) prevOf(e *entry) (int, error) {
	db, prev := e.block(), -1
	for off := 0; off < len(db); {
		r, ok := db.Record(off)
		if !ok {
			break
		}
		if off == e.off {
			return prev, nil
		}
		prev, off = off, r.Next
	}
	return 0, ip.badBlock(e.bh, e.blk, fmt.Errorf("no entry at byte %d", e.off))
}

// unstore takes the name at e out. prev is from prevOf. Inside a transaction, Rw held exclusively; the caller calls
// nameRemoved when the inode's links are counted. What is left of the block keeps its place, so the index on the medium
// stays right.
func (ip *inode) unstore(e *entry, prev int, name string) {
	db, fs := e.block(), ip.fs
	db.Remove(e.off, prev)
	if aux := ip.dirState.aux.Load(); aux != nil {
		if x := aux.index.Load(); x != nil {
			x.remove(hashName(name), placeOf(e.blk, e.off, fs.geo.BlockBits))
			at := e.off
			if prev >= 0 {
				at = prev
			}
			if r, ok := db.Record(at); ok {
				x.room.set(e.blk, max(x.room.get(e.blk), r.Room()))
			}
		}
	}
	fs.dirtyBuffer(e.bh, kindDir)
	ip.dirChanged(false)
}

// dirChanged moves the times of a directory, and drops the mark of its index when names were added.
func (ip *inode) dirChanged(added bool) {
	now := ip.fs.sb.Now()
	ip.AttrMu.Lock()
	ip.A.Mtime, ip.A.Ctime = now, now
	if added {
		ip.A.Flags &^= vfs.FlagIndex
	}
	ip.AttrMu.Unlock()
	ip.fs.dirtyInode(ip)
}

// isEmpty reports whether a directory has no name but "." and "..". Hold Rw. A directory with damaged blocks is not known
// to be empty: the error.
func (ip *inode) isEmpty(ctx context.Context) (bool, error) {
	aux, err := ip.dirAux(ctx)
	if err != nil {
		return false, err
	}
	if x := aux.index.Load(); x != nil {
		if x.used > 0 {
			return false, nil
		}
	} else {
		blocks := ip.dirBlocks()
		for n := range blocks {
			ip.readAhead(ctx, n, blocks)
			bh, db, err := ip.dirBlock(ctx, aux, n)
			if err != nil {
				return false, err
			}
			for off := 0; off < len(db); {
				r, ok := db.Record(off)
				if !ok {
					err := ip.badBlock(bh, n, errBroken)
					ip.noteBad(aux, err)
					bh.Put()
					return false, err
				}
				if r.Ino != 0 && !disk.IsDots(r.Name) {
					bh.Put()
					return false, nil
				}
				off = r.Next
			}
			bh.Put()
		}
	}
	if bad := aux.bad.Load(); bad != nil {
		return false, *bad
	}
	return true, nil
}
