package ext2

import (
	"context"
	"errors"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// The index on the medium (htree) serves look-ups in large directories that nobody added names to since mke2fs, e2fsck -D
// or ext4 wrote it: two or three blocks are read instead of all. Names are removed and made to name another inode under it,
// which leaves it right; the first new name gives it up for good (dirChanged), and from then on an index in memory serves.
// When it is damaged the directory is served as if it had none: the blocks themselves are what counts.

// hasTree reports whether the directory's index on the medium may be used.
func (ip *inode) hasTree(aux *dirAux) bool {
	return ip.fs.super.HasDirIndex() && ip.Flags()&vfs.FlagIndex != 0 && !aux.noTree.Load()
}

// findTree looks a name up by the index on the medium. known is false when that cannot tell.
func (ip *inode) findTree(ctx context.Context, aux *dirAux, name string) (e entry, known bool, err error) {
	fs := ip.fs
	if fs.super.Flags&(disk.FlagSignedHash|disk.FlagUnsignedHash) == 0 && !isASCII(name) {
		return entry{}, false, nil // nobody wrote down how such characters were hashed
	}
	w := treeWalk{ip: ip, aux: aux}
	err = w.run(ctx, name)
	switch {
	case err == nil && w.found.bh != nil:
		return w.found, true, nil
	case err == nil:
		return entry{}, true, aux.absent()
	case errors.Is(err, errTree):
		if !aux.noTree.Swap(true) {
			fs.sb.Log.Warn("index of a directory is damaged and not used; e2fsck -D makes it anew", "device", fs.sb.Dev.Name(), "inode", ip.Ino(), "why", err)
		}
		return entry{}, false, nil
	case errors.Is(err, errno.UCLEAN):
		return entry{}, false, nil // noted; reading through the rest may still find the name
	}
	return entry{}, false, err
}

// errTree marks what is wrong with an index.
var errTree = errors.New("index")

type treeError struct{ why error }

func (e treeError) Error() string        { return e.why.Error() }
func (e treeError) Is(target error) bool { return target == errTree }

// treeWalk is one look-up.
type treeWalk struct {
	ip    *inode
	aux   *dirAux
	found entry
	done  bool
}

// run goes down from the root to the leaf for the name's hash, and on to the following leaves as long as they are marked to
// continue the same hash.
func (w *treeWalk) run(ctx context.Context, name string) error {
	ip := w.ip
	bh, _, err := ip.dirBlock(ctx, w.aux, 0)
	if err != nil {
		return err
	}
	defer bh.Put()
	root, err := disk.AsIndexRoot(bh.Data)
	if err != nil {
		return treeError{err}
	}
	version := ip.fs.super.HashVersionOf(root.HashVersion())
	hash, _, ok := disk.HashName(version, ip.fs.super.HashSeed, []byte(name))
	if !ok {
		return treeError{errors.New("unknown hash version")}
	}
	top := root.Entries()
	for i := top.Search(hash); i < top.Count(); i++ {
		if root.Levels() == 0 {
			err = w.leaf(ctx, top.Block(i), name)
		} else {
			err = w.node(ctx, top.Block(i), hash, name)
		}
		if err != nil || w.done {
			return err
		}
		if i+1 == top.Count() || top.Hash(i+1) != hash|1 {
			return nil
		}
	}
	return nil
}

// node searches the leaves below an inner block. It is done when the name was found or cannot follow.
func (w *treeWalk) node(ctx context.Context, n disk.FileBlock, hash uint32, name string) error {
	if n == 0 || n >= w.ip.dirBlocks() {
		return treeError{errors.New("points beyond the directory")}
	}
	bh, _, err := w.ip.dirBlock(ctx, w.aux, n)
	if err != nil {
		return err
	}
	defer bh.Put()
	node, err := disk.AsIndexNode(bh.Data)
	if err != nil {
		return treeError{err}
	}
	list := node.Entries()
	for i := list.Search(hash); i < list.Count(); i++ {
		if err := w.leaf(ctx, list.Block(i), name); err != nil || w.done {
			return err
		}
		if i+1 < list.Count() && list.Hash(i+1) != hash|1 {
			w.done = true
			return nil
		}
	}
	return nil
}

func (w *treeWalk) leaf(ctx context.Context, n disk.FileBlock, name string) error {
	if n == 0 || n >= w.ip.dirBlocks() {
		return treeError{errors.New("points beyond the directory")}
	}
	bh, db, err := w.ip.dirBlock(ctx, w.aux, n)
	if err != nil {
		return err
	}
	r, found, broken := search(db, name)
	switch {
	case found:
		w.found, w.done = entry{bh: bh, blk: n, off: r.Off, ino: r.Ino}, true
		return nil
	case broken:
		err = w.ip.badBlock(bh, n, errBroken)
		w.ip.noteBad(w.aux, err)
	}
	bh.Put()
	return err
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
