package ext2

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// rename is InodeOperations.Rename. The new name is stored, or made to name the moved inode, before the old one goes; the
// ordered writeback keeps that order on the medium. Replacing makes the victim dead before its name names another. A
// directory may not have two names even for a moment: when its names lie in two blocks, the epoch is committed as a whole.
func (fs *fsys) rename(ctx context.Context, r *vfs.Rename) error {
	if r.Exchange {
		return fs.exchange(ctx, r)
	}
	from, to, old := inodeOf(r.From), inodeOf(r.To), inodeOf(r.Old)
	var target *inode
	if r.New != nil {
		target = inodeOf(r.New)
		if target.IsDir() {
			if empty, err := target.isEmpty(ctx); err != nil {
				return err
			} else if !empty {
				return errno.NOTEMPTY
			}
		}
	}
	moves := old.IsDir() && from != to
	if moves && target == nil && to.Nlink() >= disk.LinkMax {
		return errno.MLINK
	}
	if err := fs.settleRename(ctx, r); err != nil {
		return err
	}
	src, prev, err := from.victim(ctx, r.OldName, old)
	if err != nil {
		return err
	}
	defer src.release()
	if from == to && target == nil && src.roomWithout(prev) >= disk.DirRecLen(len(r.NewName)) {
		return fs.renameInBlock(ctx, from, old, &src, prev, r)
	}
	var dst entry
	if target != nil {
		dst, _, err = to.victim(ctx, r.NewName, target)
	} else {
		dst, err = to.placeFor(ctx, r.NewName)
	}
	if err != nil {
		return err
	}
	defer dst.release()
	var up *dotdot
	if moves {
		if up, err = old.dotdot(ctx); err != nil {
			return err
		}
		defer up.bh.Put()
	}
	return fs.retryFull(ctx, func() error {
		fs.begin()
		defer fs.end()
		if target != nil {
			to.point(&dst, old)
			fs.dropLink(to, target)
			fs.nameRemoved(to, dst.bh, target)
		} else {
			if err := to.makeRoom(ctx, &dst, len(r.NewName)); err != nil {
				return err
			}
			to.store(&dst, r.NewName, old)
		}
		prev, err = from.prevOf(&src) // after the store: that may have put a record before it
		if err != nil {
			return err
		}
		from.unstore(&src, prev, r.OldName)
		fs.nameRemoved(from, src.bh, old)
		if moves {
			up.set(to)
			from.dropSubdir()
			to.addLinks(1)
		}
		if old.IsDir() && (moves || src.bh != dst.bh) {
			fs.mustBeWhole()
		}
		old.changedNow()
		return nil
	})
}

// roomWithout is the room for a name in the record that is left when the entry behind prev goes, bytes.
func (e *entry) roomWithout(prev int) int {
	db := e.block()
	r, ok := db.Record(e.off)
	if !ok {
		return 0
	}
	room := r.Next - r.Off
	if p, ok := db.Record(prev); ok {
		room += p.Room()
	}
	return room
}

// renameInBlock gives an entry another name in the room it has: one write, so that a crash leaves one of the names, and a
// directory never has two.
func (fs *fsys) renameInBlock(ctx context.Context, dir, ip *inode, src *entry, prev int, r *vfs.Rename) error {
	if e, err := dir.find(ctx, r.NewName); err == nil {
		e.release()
		return errno.EXIST
	} else if errno.From(err) != errno.NOENT {
		return err
	}
	fs.begin()
	defer fs.end()
	dir.unstore(src, prev, r.OldName)
	dst := entry{bh: src.bh, blk: src.blk}
	var ok bool
	if dst.off, dst.left, ok = src.block().Place(len(r.NewName)); !ok || dst.off < 0 {
		return dir.badBlock(src.bh, src.blk, errBroken)
	}
	dir.store(&dst, r.NewName, ip)
	fs.nameRemoved(dir, src.bh, ip)
	ip.changedNow()
	return nil
}

// dotdot is the ".." of a directory that moves. bh is referenced.
type dotdot struct {
	ip  *inode
	bh  *bufhead.BufferHead
	off int
}

// dotdot finds "..". The directory must be whole, as far as its first block shows.
func (ip *inode) dotdot(ctx context.Context) (*dotdot, error) {
	aux, err := ip.dirAux(ctx)
	if err != nil {
		return nil, err
	}
	bh, db, err := ip.dirBlock(ctx, aux, 0)
	if err != nil {
		return nil, err
	}
	off, err := db.DotDot(disk.Ino(ip.Ino()))
	if err != nil {
		bh.Put()
		return nil, ip.badBlock(bh, 0, err)
	}
	return &dotdot{ip, bh, off}, nil
}

// set makes ".." name parent. Inside a transaction.
func (d *dotdot) set(parent *inode) {
	disk.DirBlock(d.bh.Data).SetIno(d.off, disk.Ino(parent.Ino()))
	d.ip.dirState.aux.Load().parent.Store(uint32(parent.Ino()))
	d.ip.fs.dirtyBuffer(d.bh, kindDir)
}

// exchange swaps two names. In one block that is one write. In two, the epoch is committed as a whole. Where that cannot be,
// neither inode may be without a name between the writes: the first gets a hidden name besides, durable before the swap, and
// the block that takes the second inode's name is written before the one that loses it.
func (fs *fsys) exchange(ctx context.Context, r *vfs.Rename) error {
	from, to, old, other := inodeOf(r.From), inodeOf(r.To), inodeOf(r.Old), inodeOf(r.New)
	moves := from != to && old.IsDir() != other.IsDir()
	if moves && (old.IsDir() && to.Nlink() >= disk.LinkMax || other.IsDir() && from.Nlink() >= disk.LinkMax) {
		return errno.MLINK
	}
	if err := fs.settleRename(ctx, r); err != nil {
		return err
	}
	a, _, err := from.victim(ctx, r.OldName, old)
	if err != nil {
		return err
	}
	defer a.release()
	b, _, err := to.victim(ctx, r.NewName, other)
	if err != nil {
		return err
	}
	defer b.release()
	var ups []*dotdot
	defer func() {
		for _, up := range ups {
			up.bh.Put()
		}
	}()
	for _, ip := range [...]*inode{old, other} {
		if from != to && ip.IsDir() {
			up, err := ip.dotdot(ctx)
			if err != nil {
				return err
			}
			ups = append(ups, up)
		}
	}
	hidden := ""
	whole := fs.canBeWhole()
	if a.bh != b.bh && !whole {
		if hidden, err = fs.addHidden(ctx, from, old); err != nil {
			return err
		}
	}
	fs.begin()
	if a.bh != b.bh && whole {
		fs.mustBeWhole()
	}
	from.point(&a, other)
	to.point(&b, old)
	if hidden == "" {
		fs.nameRemoved(from, a.bh, old)
	}
	fs.nameRemoved(to, b.bh, other)
	for _, up := range ups {
		parent := to
		if up.ip == other {
			parent = from
		}
		up.set(parent)
	}
	if moves {
		gains, loses := to, from
		if other.IsDir() {
			gains, loses = from, to
		}
		loses.dropSubdir()
		gains.addLinks(1)
	}
	old.changedNow()
	other.changedNow()
	fs.end()
	if hidden == "" {
		return nil
	}
	err = fs.commitNow(ctx)
	if rerr := fs.removeHidden(ctx, from, old, hidden); err == nil {
		err = rerr
	}
	return err
}

// addHidden gives ip a second name in dir that no program uses, and makes it durable. dir is locked, so nobody sees it, but
// after a crash.
func (fs *fsys) addHidden(ctx context.Context, dir, ip *inode) (string, error) {
	for try := range 100 {
		name := fmt.Sprintf(".exchange-%d-%d", ip.Ino(), try)
		e, err := dir.placeFor(ctx, name)
		if err == errno.EXIST {
			continue
		}
		if err != nil {
			return "", err
		}
		err = fs.retryFull(ctx, func() error {
			fs.begin()
			defer fs.end()
			if err := dir.makeRoom(ctx, &e, len(name)); err != nil {
				return err
			}
			if !ip.IsDir() {
				ip.addLinks(1)
			}
			dir.store(&e, name, ip)
			return nil
		})
		e.release()
		if err != nil {
			return "", err
		}
		if err := fs.commitNow(ctx); err != nil {
			_ = fs.removeHidden(ctx, dir, ip, name) // nothing can be written any more: the commit's error counts
			return "", err
		}
		return name, nil
	}
	return "", errno.EXIST
}

func (fs *fsys) removeHidden(ctx context.Context, dir, ip *inode, name string) error {
	e, prev, err := dir.victim(ctx, name, ip)
	if err != nil {
		return err
	}
	defer e.release()
	fs.begin()
	defer fs.end()
	dir.unstore(&e, prev, name)
	if !ip.IsDir() {
		ip.addLinks(-1)
	}
	fs.nameRemoved(dir, e.bh, ip)
	return nil
}
