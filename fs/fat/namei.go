package fat

import (
	"context"
	"errors"
	"fmt"

	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// nameTables fills the entries of the operation tables that concern names.
func (fs *fsys) nameTables() {
	d := &fs.tables.dir
	d.Lookup, d.Stored, d.Parent = fs.lookup, fs.stored, fs.parent
	d.Create = func(ctx context.Context, _ *vfs.Cred, dir *vfs.Inode, name string, mode uint32) (*vfs.Inode, error) {
		return fs.create(ctx, dir, name, mode)
	}
	d.Mkdir = d.Create
	d.Unlink, d.Rmdir, d.Rename = fs.unlink, fs.rmdir, fs.rename
	fs.tables.dirFop.ReadDir = fs.readDir
}

// lookup is InodeOperations.Lookup.
func (fs *fsys) lookup(ctx context.Context, dir *vfs.Inode, spelling string) (*vfs.Inode, error) {
	ip := inodeOf(dir)
	n, err := ip.find(ctx, spelling)
	if err != nil {
		return nil, err
	}
	return ip.get(ctx, n)
}

// get gives the inode that a name names, referenced. A number that does not follow from the place of the entry ends with the inode's
// time in memory, maybe after it was found out and before the inode was; then the entry has another number. Hold Rw, shared is enough.
func (ip *inode) get(ctx context.Context, n *name) (*vfs.Inode, error) {
	for {
		ino, err := ip.ino(n)
		if err != nil {
			return nil, err
		}
		vi, err := ip.fs.sb.Get(ctx, ino)
		if err == nil && inodeOf(vi).slot.Load() == n.at {
			return vi, nil
		}
		again, aerr := ip.ino(n)
		switch {
		case err == nil:
			vi.Put()
		case aerr != nil || again == ino:
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// stored is InodeOperations.Stored.
func (fs *fsys) stored(ctx context.Context, dir *vfs.Inode, spelling string) (string, error) {
	n, err := inodeOf(dir).find(ctx, spelling)
	if err != nil {
		return "", err
	}
	return n.long, nil
}

// parent is InodeOperations.Parent.
func (fs *fsys) parent(ctx context.Context, dir *vfs.Inode) (uint64, error) {
	ip := inodeOf(dir)
	if dir.Ino() == rootIno {
		return rootIno, nil
	}
	if _, err := ip.index(ctx); err != nil {
		return 0, err
	}
	up := disk.Cluster(ip.dir.dotdot.Load())
	if up == 0 || up == fs.geo.RootCluster {
		return rootIno, nil
	}
	if !fs.geo.Valid(up) {
		return 0, fs.corrupt("directory", dir.Ino(), 0, "\"..\" leads to cluster %d", up)
	}
	return dirBit | uint64(up), nil
}

// newName is a name that was found to be free, with the slots that it takes.
type newName struct {
	long   string
	units  []uint16
	choice disk.Choice
	first  int
	x      *dirIndex
}

// prepare checks a new name and reserves its slots. Rw held exclusively, outside a transaction.
// Errors: errno.EXIST; errno.INVAL and errno.NAMETOOL for names that cannot be; errno.NOSPC.
// old is the name that it replaces in the same directory, or nil: a name may be spelled anew.
func (ip *inode) prepare(ctx context.Context, spelling string, old *name) (nn newName, err error) {
	units, err := disk.Units(spelling)
	switch {
	case errors.Is(err, disk.ErrNameLong):
		return nn, fmt.Errorf("%q: %w: %w", spelling, err, errno.NAMETOOL)
	case err != nil:
		return nn, fmt.Errorf("%q: %w: %w", spelling, err, errno.INVAL)
	}
	x, err := ip.index(ctx)
	if err != nil {
		return nn, err
	}
	nn.long, nn.units, nn.x = disk.Name(units), units, x
	if e := x.names[disk.Fold(nn.long)]; e != nil && e != old {
		return nn, errno.EXIST
	}
	if x.isLeaving(nn.long) {
		if err := ip.fs.commitNow(ctx); err != nil {
			return nn, err
		}
	}
	return nn, ip.choose(ctx, &nn, old)
}

// choose finds a short name and slots for a new name.
func (ip *inode) choose(ctx context.Context, nn *newName, old *name) (err error) {
	fs := ip.fs
	o := disk.ChooseOptions{KeepCase: fs.opts.ShortName == shortWinNT, NoNumber: fs.opts.NoNumber}
	var ok bool
	nn.choice, ok = disk.Choose(nn.units, fs.opts.codePage, o, func(s [11]byte) bool {
		alias := disk.Name(disk.ShortUnits(s, 0, fs.opts.codePage))
		for _, e := range []*name{nn.x.short[s], nn.x.names[disk.Fold(alias)]} {
			if e != nil && e != old {
				return true
			}
		}
		return nn.x.isLeaving(alias)
	})
	if !ok {
		return fmt.Errorf("%q: no short name is free: %w", nn.long, errno.NOSPC)
	}
	// What is shown without a long name must be what was asked for.
	if !nn.choice.Long && disk.Name(fs.shown(nn.choice.Short, nn.choice.Case)) != nn.long {
		nn.choice.Long, nn.choice.Case = true, 0
	}
	nn.first, err = ip.reserve(ctx, nn.x, nn.slots())
	return err
}

func (nn *newName) slots() int {
	if nn.choice.Long {
		return disk.LongSlots(len(nn.units)) + 1
	}
	return 1
}

// giveUp gives the slots back.
func (nn *newName) giveUp() { nn.x.release(nn.first, nn.slots()) }

// create makes a file or directory. Everything that can fail for want of space comes before the name.
func (fs *fsys) create(ctx context.Context, dvi *vfs.Inode, spelling string, mode uint32) (*vfs.Inode, error) {
	dir, isDir := inodeOf(dvi), mode&vfs.ModeType == vfs.ModeDir
	nn, err := dir.prepare(ctx, spelling, nil)
	if err != nil {
		return nil, err
	}
	var vi *vfs.Inode
	err = fs.retry(ctx, func() error {
		fs.begin()
		defer fs.end()
		n, d, err := dir.createIn(ctx, &nn, isDir, mode)
		if err != nil {
			return err
		}
		if vi, err = dir.born(ctx, n, d); err != nil {
			return errors.Join(err, dir.uncreate(ctx, nn.x, n))
		}
		return nil
	})
	if err != nil {
		if vi != nil {
			vi.Publish(err)
			vi.Put()
		}
		nn.giveUp()
		return nil, fmt.Errorf("inode %d: %q: %w", dir.Ino(), spelling, err)
	}
	vi.Publish(nil)
	dvi.TouchNow(true)
	return vi, nil
}

// createIn stores the entry of a new file or directory. Inside a transaction.
func (dir *inode) createIn(ctx context.Context, nn *newName, isDir bool, mode uint32) (*name, disk.Dirent, error) {
	fs := dir.fs
	now := fs.stamp(fs.sb.Now())
	d := disk.Dirent{Attr: disk.AttrArchive, Created: now, Written: disk.Stamp{Date: now.Date, Time: now.Time}, Accessed: disk.Stamp{Date: now.Date}}
	if isDir {
		d.Attr = disk.AttrDir
		c, _, err := fs.alloc.take(ctx, 0, 1)
		if err != nil {
			return nil, d, err
		}
		d.Start = c
		if err := fs.initCluster(c, dir.dots(d)); err != nil {
			return nil, d, err
		}
		if err := fs.table.fill(ctx, c, 1); err != nil {
			return nil, d, err
		}
	} else if mode&0o222 == 0 {
		d.Attr |= disk.AttrReadOnly
	}
	n, err := dir.store(ctx, nn.x, nn.first, nn.long, nn.units, nn.choice, d)
	if err != nil && d.Start != 0 {
		fs.deferFree(d.Start, 1)
	}
	d.Name, d.Case = nn.choice.Short, nn.choice.Case
	return n, d, err
}

// dots makes the first two entries of a directory in dir whose entry is d.
func (dir *inode) dots(d disk.Dirent) []byte {
	p := make([]byte, 2*disk.DirentSize)
	d.Name, d.Case = disk.Dot, 0
	d.EncodeTo(p, dir.fs.geo.Width)
	d.Name, d.Start = disk.DotDot, dir.dotsStart()
	d.EncodeTo(p[disk.DirentSize:], dir.fs.geo.Width)
	return p
}

// dotsStart is what ".." of a directory in dir names.
func (dir *inode) dotsStart() disk.Cluster {
	if dir.Ino() == rootIno {
		return 0
	}
	return dir.start
}

// born makes the inode of a new name, to be published. With an error too there may be one. Inside a transaction.
func (dir *inode) born(ctx context.Context, n *name, d disk.Dirent) (*vfs.Inode, error) {
	fs := dir.fs
	ino, err := dir.ino(n)
	if err != nil {
		return nil, err
	}
	vi, err := fs.sb.Insert(ino)
	if err != nil {
		if d.IsDir() {
			fs.numbers.moved(ino, n.at, 0) // it is not there
		}
		return nil, err
	}
	ip := &inode{Inode: vi, fs: fs}
	vi.Private = ip
	ip.slot.Store(n.at)
	if d.IsDir() {
		ip.chain.add(d.Start, 1)
	}
	ip.chain.whole = true
	err = ip.fill(ctx, d)
	ip.A.Btime = fs.sb.Now()
	return vi, err
}

// uncreate takes a new name back, which never was on the medium: what it names cannot be in memory, as on damaged filesystems. A
// cluster that it begins with stays lost, since another name leads there. Inside the transaction that stored it. Its slots stay in use.
func (dir *inode) uncreate(ctx context.Context, x *dirIndex, n *name) error {
	x.remove(dir.fs, n)
	return dir.editSlots(ctx, int(n.first), n.slots(), func(_ int, p []byte) { disk.Delete(p) })
}

// unlink is InodeOperations.Unlink.
func (fs *fsys) unlink(ctx context.Context, dvi *vfs.Inode, spelling string, vi *vfs.Inode) error {
	return fs.removeName(ctx, inodeOf(dvi), spelling, inodeOf(vi))
}

// rmdir is InodeOperations.Rmdir.
func (fs *fsys) rmdir(ctx context.Context, dvi *vfs.Inode, spelling string, vi *vfs.Inode) error {
	if err := inodeOf(vi).wantEmpty(ctx); err != nil {
		return err
	}
	return fs.removeName(ctx, inodeOf(dvi), spelling, inodeOf(vi))
}

// wantEmpty wants a directory without names, also on the medium: those that renames took away may be the only ones that lead to their
// files, until a commit has written the new ones. Rw held, outside a transaction.
func (ip *inode) wantEmpty(ctx context.Context) error {
	x, err := ip.index(ctx)
	if err != nil {
		return err
	}
	if len(x.names) > 0 {
		return errno.NOTEMPTY
	}
	if x.anyLeaving() {
		return ip.fs.commitNow(ctx)
	}
	return nil
}

func (fs *fsys) removeName(ctx context.Context, dir *inode, spelling string, ip *inode) error {
	n, err := dir.find(ctx, spelling)
	if err != nil {
		return err
	}
	x, err := dir.index(ctx)
	if err != nil {
		return err
	}
	slots, err := dir.slotsAt(ctx, int(n.first), int(n.slot)+1)
	if err != nil {
		return err
	}
	fs.begin()
	err = dir.unstore(ctx, x, n)
	if err == nil {
		fs.change(func(ep *epoch) { ep.open(slots) })
		ip.died(n.at)
	}
	fs.end()
	if err == nil {
		dir.TouchNow(true)
	}
	return err
}

// died notes that an inode has no name any more; its entry was at a byte address. Inside a transaction.
func (ip *inode) died(at int64) {
	ip.slot.Store(0)
	ip.fs.numbers.moved(ip.Ino(), at, 0)
	now := ip.fs.sb.Now()
	ip.AttrMu.Lock()
	ip.A.Nlink, ip.A.Ctime = 0, now
	ip.AttrMu.Unlock()
}

// readDir is FileOperations.ReadDir. Cookies: 0 and 1 are "." and "..", then 2 and the slot of what follows. Entries never move, so
// a listing that goes on finds every name that was there all the time, once.
func (fs *fsys) readDir(ctx context.Context, f *vfs.File, pos int64, emit func(*vfs.DirEntry) bool) error {
	ip := inodeOf(f.Inode)
	x, err := ip.index(ctx)
	if err != nil {
		return err
	}
	if pos < 0 {
		return errno.INVAL
	}
	for ; pos < 2; pos++ {
		de := vfs.DirEntry{Ino: ip.Ino(), Type: vfs.DTDir, Name: ".", Next: pos + 1}
		if pos == 1 {
			de.Name = ".."
			if de.Ino, err = fs.parent(ctx, f.Inode); err != nil {
				return err
			}
		}
		if !emit(&de) {
			return nil
		}
	}
	de := new(vfs.DirEntry)
	for slot := pos - 2; slot < int64(len(x.order)); slot++ {
		n := x.order[slot]
		if n == nil {
			continue
		}
		ino, err := ip.ino(n)
		if err != nil {
			fs.sb.Log.Warn("a name is left out", "error", err)
			continue
		}
		var vi *vfs.Inode
		if !n.dir && ino != usual(n.at) {
			// The number is good as long as the inode is in memory: until it was told and used.
			if vi, err = ip.get(ctx, n); err == nil { // else whoever looks it up meets the error
				ino = vi.Ino()
			}
		}
		de.Ino, de.Name, de.Next, de.Type = ino, n.long, slot+3, vfs.DTRegular
		if n.dir {
			de.Type = vfs.DTDir
		}
		more := emit(de)
		if vi != nil {
			vi.Put()
		}
		if !more {
			return nil
		}
	}
	return nil
}
