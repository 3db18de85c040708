package compare

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc64"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/iomapfs/iomapfs/fs/all"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// entry is one name of a tree and what it leads to, as a path or the independent reader sees it.
type entry struct {
	path   string
	mode   uint32
	links  uint32
	uid    uint32
	gid    uint32
	mtime  int64 // seconds
	size   int64
	blocks int64  // units of 512 bytes
	sum    uint64 // of the contents: a file's bytes, a symbolic link's target
	data   []span // a regular file's ranges that are not holes, joined and cut at its end
}

// span is the range [from, to) of a file.
type span struct{ from, to int64 }

// differ says in what two entries differ, "" when in nothing.
func (a *entry) differ(b *entry) string {
	switch {
	case a.path != b.path:
		return fmt.Sprintf("one has %s where the other has %s", a.path, b.path)
	case a.mode != b.mode, a.links != b.links, a.uid != b.uid, a.gid != b.gid, a.mtime != b.mtime:
		return fmt.Sprintf("%s: mode %o, links %d, owner %d:%d, changed %d; and %o, %d, %d:%d, %d", a.path, a.mode, a.links, a.uid, a.gid, a.mtime,
			b.mode, b.links, b.uid, b.gid, b.mtime)
	case a.size != b.size, a.blocks != b.blocks:
		return fmt.Sprintf("%s: %d bytes in %d sectors, and %d in %d", a.path, a.size, a.blocks, b.size, b.blocks)
	case a.sum != b.sum:
		return a.path + ": different contents"
	case !slices.Equal(a.data, b.data):
		return fmt.Sprintf("%s: different holes: data at %v, and at %v", a.path, a.data, b.data)
	}
	return ""
}

// sameTree compares two trees.
func sameTree(a, b []entry) error {
	for i := range min(len(a), len(b)) {
		if why := a[i].differ(&b[i]); why != "" {
			return errors.New(why)
		}
	}
	if len(a) != len(b) {
		return fmt.Errorf("%d names, and %d", len(a), len(b))
	}
	return nil
}

// addSpan puts a range behind those that are there, joined with the last if it follows it.
func addSpan(list []span, from, to, size int64) []span {
	if to = min(to, size); from >= to {
		return list
	}
	if n := len(list); n > 0 && list[n-1].to == from {
		list[n-1].to = to
		return list
	}
	return append(list, span{from, to})
}

// seen gives the tree as the mounted filesystem shows it, sorted by path, after making sure that it agrees with itself. dev is what
// it is mounted from.
func seen(ctx context.Context, sb *vfs.SuperBlock, dev block.Device) ([]entry, error) {
	w := walker{ctx: ctx, dev: dev, buf: make([]byte, 1<<20), other: make([]byte, 1<<20)}
	if err := w.dir(sb.Root, ""); err != nil {
		return nil, err
	}
	sortTree(w.list)
	return w.list, nil
}

func sortTree(list []entry) {
	slices.SortFunc(list, func(a, b entry) int { return strings.Compare(a.path, b.path) })
}

type walker struct {
	ctx        context.Context
	dev        block.Device
	buf, other []byte
	list       []entry
}

func (w *walker) dir(dir *vfs.Inode, path string) error {
	w.list = append(w.list, entryOf(dir, path+"/"))
	f, err := dir.Open(w.ctx, vfs.ORdonly)
	if err != nil {
		return err
	}
	defer f.Close()
	var names []string
	err = f.ReadDir(w.ctx, 0, func(d *vfs.DirEntry) bool {
		if d.Name != "." && d.Name != ".." {
			names = append(names, strings.Clone(d.Name))
		}
		return true
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		ip, err := dir.Lookup(w.ctx, name)
		if err != nil {
			return fmt.Errorf("%s/%s: %w", path, name, err)
		}
		if ip.IsDir() {
			err = w.dir(ip, path+"/"+name)
		} else {
			err = w.file(ip, path+"/"+name)
		}
		ip.Put()
		if err != nil {
			return err
		}
	}
	return nil
}

func entryOf(ip *vfs.Inode, path string) entry {
	st := ip.Stat()
	return entry{
		path: path, mode: st.Mode, links: st.Nlink, uid: st.UID, gid: st.GID, mtime: st.Mtime.Sec, size: st.Size, blocks: st.Blocks,
	}
}

// file adds a file that is no directory.
func (w *walker) file(ip *vfs.Inode, path string) error {
	e := entryOf(ip, path)
	switch {
	case ip.IsSymlink():
		target, err := ip.Readlink(w.ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		e.sum = crc64.Checksum([]byte(target), crcTable)
	case ip.IsRegular():
		f, err := ip.Open(w.ctx, vfs.ORdonly)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		defer f.Close()
		if e.data, err = w.mapOf(f); err == nil {
			e.sum, err = w.contents(f)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	w.list = append(w.list, e)
	return nil
}

// contents reads a file through its path.
func (w *walker) contents(f *vfs.File) (sum uint64, err error) {
	for pos := int64(0); ; {
		n, err := f.ReadAt(w.ctx, w.buf, pos)
		sum = crc64.Update(sum, crcTable, w.buf[:n])
		if pos += int64(n); n == 0 || errors.Is(err, io.EOF) {
			return sum, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// mapOf asks for the file's map in both ways, and looks at the device where FIEMAP says the bytes are.
func (w *walker) mapOf(f *vfs.File) (data []span, err error) {
	size := f.Inode.Size()
	var extents []vfs.FiemapExtent
	err = f.Inode.Fiemap(w.ctx, &vfs.FiemapInfo{Len: math.MaxUint64, Flags: vfs.FiemapSync, Max: math.MaxInt, Emit: func(x vfs.FiemapExtent) error {
		extents = append(extents, x)
		return nil
	}})
	if err != nil {
		return nil, fmt.Errorf("FIEMAP: %w", err)
	}
	for i, x := range extents {
		data = addSpan(data, int64(x.Logical), int64(x.Logical+x.Length), size)
		if last := x.Flags&vfs.ExtentLast != 0; last != (i == len(extents)-1) {
			return nil, fmt.Errorf("FIEMAP: the extent at %d is number %d of %d, and its mark of the last one is %v", x.Logical, i+1, len(extents), last)
		}
		if err := w.onDevice(f, x); err != nil {
			return nil, err
		}
	}
	var sought []span
	for pos := int64(0); pos < size; {
		from, err := f.Seek(w.ctx, pos, vfs.SeekData)
		if errors.Is(err, errno.NXIO) {
			break
		}
		to := int64(0)
		if err == nil {
			to, err = f.Seek(w.ctx, from, vfs.SeekHole)
		}
		if err != nil {
			return nil, fmt.Errorf("SEEK: %w", err)
		}
		sought = addSpan(sought, from, to, size)
		pos = to
	}
	if !slices.Equal(sought, data) {
		return nil, fmt.Errorf("SEEK_DATA and SEEK_HOLE say that data is at %v, FIEMAP that it is at %v", sought, data)
	}
	return data, nil
}

// onDevice makes sure that the bytes of an extent are on the device where it says.
func (w *walker) onDevice(f *vfs.File, x vfs.FiemapExtent) error {
	if x.Flags&(vfs.ExtentUnknown|vfs.ExtentUnwritten|vfs.ExtentInline) != 0 {
		return nil
	}
	n := min(int64(x.Length), f.Inode.Size()-int64(x.Logical))
	for off := int64(0); off < n; {
		a := w.buf[:min(int64(len(w.buf)), n-off)]
		got, err := f.ReadAt(w.ctx, a, int64(x.Logical)+off)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		b := w.other[:got]
		if _, err := all.ReaderAt(w.dev).ReadAt(b, int64(x.Physical)+off); err != nil {
			return err
		}
		if !bytes.Equal(a[:got], b) {
			return fmt.Errorf("the device does not hold at %d what is in the file at %d, where FIEMAP says that it is", int64(x.Physical)+off, int64(x.Logical)+off)
		}
		if got == 0 {
			return nil
		}
		off += int64(got)
	}
	return nil
}

// judge looks at the image after the unmount: its checker finds nothing, and a reader of its own finds the tree that was seen.
func judge(ctx context.Context, kind *all.Kind, dev block.Device, tree []entry) error {
	r, err := kind.Check(ctx, dev, 1, nil)
	if err != nil {
		return err
	}
	if len(r.Problems) > 0 {
		return fmt.Errorf("the filesystem is damaged afterwards: %s: %s", r.Problems[0].Where, r.Problems[0].What)
	}
	if r.Dirty {
		return errors.New("the filesystem is not marked clean after the unmount")
	}
	read := readers[kind.Type.Name]
	if read == nil {
		return nil // no reader of its own: the trees of the paths are compared with each other
	}
	found, err := read(dev)
	if err != nil {
		return fmt.Errorf("independent reader: %w", err)
	}
	if err := sameTree(tree, found); err != nil {
		return fmt.Errorf("the path shows another tree than is in the image: %w", err)
	}
	return nil
}

// readers find a tree in an image without any of the code that mounts it.
var readers = map[string]func(dev block.Device) ([]entry, error){"ext2": readExt2}
