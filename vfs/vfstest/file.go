package vfstest

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

func (fs *FS) read(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
	if err := fs.hook(ctx, "Read", k.Inode); err != nil {
		return 0, err
	}
	ip, n := k.Inode, nodeOf(k.Inode)
	if n.pages == nil {
		return 0, errno.ISDIR
	}
	ip.Rw.RLock()
	defer ip.Rw.RUnlock()
	left := ip.Size() - k.Pos
	if left <= 0 {
		return 0, nil
	}
	p = p[:min(int64(len(p)), left)]
	for at := 0; at < len(p); {
		pg, off := n.pages[k.Pos/BlockSize], k.Pos%BlockSize
		m := min(len(p)-at, BlockSize-int(off))
		if pg == nil {
			clear(p[at : at+m])
		} else {
			copy(p[at:at+m], pg[off:])
		}
		at += m
		k.Pos += int64(m)
	}
	return len(p), nil
}

func (fs *FS) write(ctx context.Context, k *vfs.Kiocb, p []byte) (int, error) {
	if err := fs.hook(ctx, "Write", k.Inode); err != nil {
		return 0, err
	}
	ip, n := k.Inode, nodeOf(k.Inode)
	if n.pages == nil {
		return 0, errno.ISDIR
	}
	ip.Rw.Lock()
	defer ip.Rw.Unlock()
	if k.Append {
		k.Pos = ip.Size()
	}
	for at := 0; at < len(p); {
		off := k.Pos % BlockSize
		m := copy(fs.page(ip, k.Pos)[off:], p[at:])
		at += m
		k.Pos += int64(m)
	}
	ip.SetSize(max(ip.Size(), k.Pos))
	ip.TouchNow(true)
	return len(p), nil
}

// page gives the block at pos, made if it is a hole. Rw is held.
func (fs *FS) page(ip *vfs.Inode, pos int64) *[BlockSize]byte {
	n := nodeOf(ip)
	pg := n.pages[pos/BlockSize]
	if pg == nil {
		pg = new([BlockSize]byte)
		n.pages[pos/BlockSize] = pg
		fs.used.Add(1)
		ip.AddBlocks(BlockSize / 512)
	}
	return pg
}

// punch makes [pos, end) read as zeros and frees whole blocks. Rw is held.
func (fs *FS) punch(ip *vfs.Inode, pos, end int64) {
	for i, pg := range nodeOf(ip).pages {
		a, b := i*BlockSize, (i+1)*BlockSize
		switch {
		case b <= pos || a >= end:
		case pos <= a && b <= end:
			delete(nodeOf(ip).pages, i)
			fs.used.Add(-1)
			ip.AddBlocks(-BlockSize / 512)
		default:
			clear(pg[max(a, pos)-a : min(b, end)-a])
		}
	}
}

func (fs *FS) setAttr(ctx context.Context, ip *vfs.Inode, a *vfs.SetAttr) error {
	if err := fs.hook(ctx, "SetAttr", ip); err != nil {
		return err
	}
	if a.Valid&vfs.SetSize != 0 {
		if a.Size < ip.Size() {
			fs.punch(ip, a.Size, (ip.Size()+BlockSize-1)/BlockSize*BlockSize)
		}
		ip.SetSize(a.Size)
	}
	ip.ApplyAttr(a)
	return nil
}

func (fs *FS) setFlags(_ context.Context, ip *vfs.Inode, f vfs.FileFlags) error {
	if f&^(vfs.FlagSync|vfs.FlagImmutable|vfs.FlagAppend|vfs.FlagNoDump|vfs.FlagNoAtime) != 0 {
		return errno.OPNOTSUPP
	}
	ip.AttrMu.Lock()
	ip.A.Flags = f
	ip.AttrMu.Unlock()
	ip.TouchNow(false)
	return nil
}

func (fs *FS) fallocate(_ context.Context, f *vfs.File, mode uint32, pos, n int64) error {
	ip := f.Inode
	if mode&^(vfs.FallocKeepSize|vfs.FallocPunchHole|vfs.FallocZeroRange) != 0 {
		return errno.OPNOTSUPP
	}
	ip.Rw.Lock()
	defer ip.Rw.Unlock()
	if mode&(vfs.FallocPunchHole|vfs.FallocZeroRange) != 0 {
		fs.punch(ip, pos, pos+n)
	}
	if mode&vfs.FallocPunchHole == 0 {
		for at := pos; at < pos+n; at += BlockSize - at%BlockSize {
			fs.page(ip, at)
		}
	}
	if mode&vfs.FallocKeepSize == 0 {
		ip.SetSize(max(ip.Size(), pos+n))
	}
	ip.TouchNow(true)
	return nil
}

func (fs *FS) seek(_ context.Context, f *vfs.File, pos int64, whence int) (int64, error) {
	ip, n := f.Inode, nodeOf(f.Inode)
	ip.Rw.RLock()
	defer ip.Rw.RUnlock()
	size := ip.Size()
	for ; pos < size; pos += BlockSize - pos%BlockSize {
		if (n.pages[pos/BlockSize] != nil) == (whence == vfs.SeekData) {
			return pos, nil
		}
	}
	if whence == vfs.SeekHole {
		return size, nil
	}
	return 0, errno.NXIO
}

// fiemap reports blocks that follow each other as one extent, at made up addresses.
func (fs *FS) fiemap(_ context.Context, ip *vfs.Inode, info *vfs.FiemapInfo) error {
	if err := info.Prep(0, 1<<62); err != nil {
		return err
	}
	ip.Rw.RLock()
	defer ip.Rw.RUnlock()
	blocks := slices.Sorted(maps.Keys(nodeOf(ip).pages))
	for i := 0; i < len(blocks); {
		first := blocks[i]
		for i++; i < len(blocks) && blocks[i] == blocks[i-1]+1; i++ {
		}
		e := vfs.FiemapExtent{Logical: uint64(first) * BlockSize, Physical: ip.Ino()<<40 + uint64(first)*BlockSize, Length: uint64(blocks[i-1]-first+1) * BlockSize}
		if i == len(blocks) {
			e.Flags = vfs.ExtentLast
		}
		if e.Logical+e.Length <= info.Start || e.Logical >= info.Start+info.Len {
			continue
		}
		if info.Max > 0 && info.Mapped == info.Max {
			return nil
		}
		info.Mapped++
		if info.Max == 0 || info.Emit == nil {
			continue
		}
		if err := info.Emit(e); err != nil {
			return err
		}
	}
	return nil
}

// Extended attributes are guarded by AttrMu, as they are read without Rw.

func (fs *FS) getXattr(_ context.Context, ip *vfs.Inode, name string) ([]byte, error) {
	ip.AttrMu.Lock()
	defer ip.AttrMu.Unlock()
	v, ok := nodeOf(ip).xattrs[name]
	if !ok {
		return nil, errno.NODATA
	}
	return v, nil
}

func (fs *FS) listXattr(_ context.Context, ip *vfs.Inode) ([]string, error) {
	ip.AttrMu.Lock()
	defer ip.AttrMu.Unlock()
	return slices.Sorted(maps.Keys(nodeOf(ip).xattrs)), nil
}

func (fs *FS) setXattr(_ context.Context, ip *vfs.Inode, name string, value []byte, flags int) error {
	space, _, _ := strings.Cut(name, ".")
	if !slices.Contains([]string{"user", "trusted", "security", "system"}, space) {
		return errno.OPNOTSUPP
	}
	ip.AttrMu.Lock()
	x := nodeOf(ip).xattrs
	_, there := x[name]
	switch {
	case there && flags&vfs.XattrCreate != 0:
		ip.AttrMu.Unlock()
		return errno.EXIST
	case !there && (flags&vfs.XattrReplace != 0 || value == nil):
		ip.AttrMu.Unlock()
		return errno.NODATA
	case value == nil:
		delete(x, name)
	default:
		x[name] = slices.Clone(value)
	}
	ip.AttrMu.Unlock()
	ip.TouchNow(false)
	return nil
}
