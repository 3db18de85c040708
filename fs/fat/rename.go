package fat

import (
	"context"
	"errors"
	"fmt"

	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// rename is InodeOperations.Rename. The new name is written before the old one goes. A name that is replaced keeps its place: its
// entry becomes that of the other file in one write; then it is spelled anew if need be.
func (fs *fsys) rename(ctx context.Context, r *vfs.Rename) error {
	from, to, ip := inodeOf(r.From), inodeOf(r.To), inodeOf(r.Old)
	old, err := from.find(ctx, r.OldName)
	if err != nil {
		return err
	}
	if r.New != nil && r.New.IsDir() && !r.Exchange {
		if err := inodeOf(r.New).wantEmpty(ctx); err != nil {
			return err
		}
	}
	// The indexes, which cannot be made inside a transaction; of a directory that moves too, since ".." is going to change.
	for _, dir := range []*vfs.Inode{r.From, r.To, r.Old, r.New} {
		if dir == nil || !dir.IsDir() {
			continue
		}
		if _, err := inodeOf(dir).index(ctx); err != nil {
			return err
		}
	}
	switch {
	case r.Exchange:
		err = fs.exchange(ctx, r, old)
	case r.New != nil:
		err = fs.renameOver(ctx, r, old)
	default:
		err = fs.renameTo(ctx, from, to, ip, old, r.NewName)
	}
	if err != nil {
		return err
	}
	fs.dirtyInode(ip)
	r.From.TouchNow(true)
	if from != to {
		r.To.TouchNow(true)
	}
	return nil
}

// renameTo gives ip, whose name old is in from, a new name in to.
func (fs *fsys) renameTo(ctx context.Context, from, to, ip *inode, old *name, newName string) error {
	var same *name
	if from == to {
		same = old
	}
	nn, err := to.prepare(ctx, newName, same)
	if err != nil {
		return err
	}
	x := from.dir.index.Load()
	fs.begin()
	defer fs.end()
	x.remove(fs, old) // first: the new name may be the old one, spelled otherwise
	d := ip.dirent()
	n, err := to.store(ctx, nn.x, nn.first, nn.long, nn.units, nn.choice, d)
	if err != nil {
		x.insert(fs, old)
		nn.giveUp()
		return err
	}
	d.Name, d.Case = nn.choice.Short, nn.choice.Case
	ip.movedTo(n.at, d)
	if from != to && ip.dir != nil {
		if err := ip.setParent(ctx, to); err != nil {
			return err
		}
	}
	piece := nn.first / groupSlots
	if from == to && piece == int(n.slot)/groupSlots && piece == int(old.first)/groupSlots && piece == int(old.slot)/groupSlots {
		slots, err := from.slotsAt(ctx, int(old.first), int(old.slot)+1)
		if err != nil {
			return err
		}
		fs.change(func(ep *epoch) { ep.keep(slots) })
		from.leaving(x, old, nil)
		return from.unstore(ctx, x, old) // all in 512 bytes, which are written at once
	}
	return from.leave(ctx, x, old)
}

// renameOver is rename over a name that is there.
func (fs *fsys) renameOver(ctx context.Context, r *vfs.Rename, old *name) error {
	from, to, ip, victim := inodeOf(r.From), inodeOf(r.To), inodeOf(r.Old), inodeOf(r.New)
	target, err := to.find(ctx, r.NewName)
	if err != nil {
		return err
	}
	n, err := fs.renameOverIn(ctx, from, to, ip, victim, old, target)
	if err != nil || n.long == r.NewName {
		return err
	}
	if err := fs.renameTo(ctx, to, to, ip, n, r.NewName); err != nil && !errors.Is(err, errno.NOSPC) {
		return err
	}
	return nil // without room for another spelling it stays as it was
}

func (fs *fsys) renameOverIn(ctx context.Context, from, to, ip, victim *inode, old, target *name) (*name, error) {
	fs.begin()
	defer fs.end()
	n, err := to.point(ctx, target, ip.dirent())
	if err != nil {
		return nil, err
	}
	victim.died(target.at)
	ip.movedTo(n.at, n.entry)
	if from != to && ip.dir != nil {
		if err := ip.setParent(ctx, to); err != nil {
			return nil, err
		}
	}
	return &n.name, from.leave(ctx, from.dir.index.Load(), old)
}

// pointed is a name that names another file now.
type pointed struct {
	name
	entry disk.Dirent // as it is stored
}

// point makes a name of ip, a directory, name the file whose entry is d. Long and short name stay. Inside a transaction.
func (ip *inode) point(ctx context.Context, n *name, d disk.Dirent) (*pointed, error) {
	x := ip.dir.index.Load()
	err := ip.editSlots(ctx, int(n.slot), 1, func(_ int, p []byte) {
		was := disk.DecodeDirent(p, ip.fs.geo.Width)
		d.Name, d.Case = was.Name, was.Case
		d.EncodeTo(p, ip.fs.geo.Width)
	})
	if err != nil {
		return nil, err
	}
	m := &pointed{*n, d}
	m.dir, m.start = d.IsDir(), d.Start
	x.remove(ip.fs, n)
	x.insert(ip.fs, &m.name)
	return m, nil
}

// movedTo notes that the entry of a file is at a byte address now, as d. Inside a transaction.
func (ip *inode) movedTo(at int64, d disk.Dirent) {
	ip.fs.numbers.moved(ip.Ino(), ip.slot.Load(), at)
	ip.AttrMu.Lock()
	ip.raw = d
	ip.AttrMu.Unlock()
	ip.slot.Store(at)
}

// setParent makes ".." of a directory lead to dir. Inside a transaction.
func (ip *inode) setParent(ctx context.Context, dir *inode) error {
	up := dir.dotsStart()
	ip.dir.dotdot.Store(uint32(up))
	return ip.editSlots(ctx, 1, 1, func(_ int, p []byte) {
		d := disk.DecodeDirent(p, ip.fs.geo.Width)
		if d.Name == disk.DotDot {
			d.Start = up
			d.EncodeTo(p, ip.fs.geo.Width)
		}
	})
}

// exchange swaps what two names name. Where both entries do not lie in the same 512 bytes, one file gets a third name meanwhile, and
// each step is committed before the next: so that each file has a name at any moment of a crash.
func (fs *fsys) exchange(ctx context.Context, r *vfs.Rename, a *name) error {
	da, db, ia, ib := inodeOf(r.From), inodeOf(r.To), inodeOf(r.Old), inodeOf(r.New)
	b, err := db.find(ctx, r.NewName)
	if err != nil {
		return err
	}
	if a.at/512 == b.at/512 {
		return fs.swap(ctx, da, db, ia, ib, a, b)
	}
	third := fmt.Sprintf("~exchange-%x.tmp", ib.Ino())
	if err := fs.renameTo(ctx, db, db, ib, b, third); err != nil {
		return err
	}
	if err := fs.commitNow(ctx); err != nil {
		return err
	}
	if err := fs.renameTo(ctx, da, db, ia, a, b.long); err != nil {
		return fs.undo(ctx, db, db, ib, third, b.long, err)
	}
	if err := fs.commitNow(ctx); err != nil {
		return err
	}
	if err := fs.renameBack(ctx, db, da, ib, third, a.long); err != nil {
		return err
	}
	fs.dirtyInode(ib)
	return nil
}

// renameBack is renameTo of a name that is found by its spelling.
func (fs *fsys) renameBack(ctx context.Context, from, to, ip *inode, spelling, newName string) error {
	n, err := from.find(ctx, spelling)
	if err != nil {
		return err
	}
	return fs.renameTo(ctx, from, to, ip, n, newName)
}

// undo takes back the first step of an exchange, which failed because of err.
func (fs *fsys) undo(ctx context.Context, from, to, ip *inode, spelling, newName string, err error) error {
	return errors.Join(err, fs.renameBack(ctx, from, to, ip, spelling, newName))
}

// swap exchanges two entries that are written at once.
func (fs *fsys) swap(ctx context.Context, da, db, ia, ib *inode, a, b *name) error {
	fs.begin()
	defer fs.end()
	ea, eb := ia.dirent(), ib.dirent()
	na, err := da.point(ctx, a, eb)
	if err != nil {
		return err
	}
	nb, err := db.point(ctx, b, ea)
	if err != nil {
		return err
	}
	fs.numbers.moved(ia.Ino(), a.at, 0)
	ib.movedTo(a.at, na.entry)
	ia.movedTo(b.at, nb.entry)
	fs.dirtyInode(ia)
	fs.dirtyInode(ib)
	return nil
}
