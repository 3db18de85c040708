package mkfs

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"github.com/iomapfs/iomapfs/fs/fat/disk"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// Node is a file or directory to be stored.
type Node struct {
	Path  string // slash-separated from the root. A leading slash is ignored
	Dir   bool
	Size  int64 // bytes, of files
	Attr  disk.Attr
	Mtime time.Time // zero: Options.Time
	Btime time.Time // zero: Mtime
}

// Builder stores a tree while Format runs. It is not for use by several goroutines.
//
// A directory may be named before what is in it or not at all: then it is as old as Options.Time. After an error from any method
// the image is of no use; Format gives the first one back.
type Builder struct {
	o    *Options
	g    *disk.Geometry
	out  *output
	buf  []byte
	root *dirNode
	dirs map[string]*dirNode // by path in capitals
	list []*dirNode          // in the order of their making
	runs []run               // chains, in the order of their clusters
	next disk.Cluster        // the first free one

	progress Progress
	err      error
}

// run is a chain, or a piece of one, that lies together.
type run struct {
	first disk.Cluster
	n     uint32
	next  disk.Cluster // the cluster that follows the piece; 0: none
}

// dirNode is a directory whose slots are gathered; it is written when everything is known.
type dirNode struct {
	parent *dirNode
	start  disk.Cluster
	rest   disk.Cluster // where the second cluster and all others lie, when not behind the first
	volume *[11]byte
	slots  []byte
	short  map[[11]byte]bool
	names  map[string]bool // folded
	self   disk.Dirent
	subs   []subdir
}

// subdir is the place of a directory's entry, which is completed when its cluster is known.
type subdir struct {
	dir *dirNode
	off int // of the slot
}

const bufSize = 1 << 20

func newBuilder(o *Options, g *disk.Geometry, out *output) *Builder {
	root := &dirNode{short: map[[11]byte]bool{}, names: map[string]bool{}}
	bu := &Builder{o: o, g: g, out: out, root: root, dirs: map[string]*dirNode{"": root}, list: []*dirNode{root}, next: disk.FirstCluster}
	if g.Width == disk.FAT32 {
		bu.next++ // the root directory's first
	}
	return bu
}

// stamp makes a time of the medium.
func (bu *Builder) stamp(t time.Time) disk.Stamp {
	_, offset := t.In(bu.o.Zone).Zone()
	return disk.StampOf(t.Unix()+int64(offset), uint32(t.Nanosecond()))
}

// Add stores a file or directory. r gives the contents of a file, Node.Size bytes; an earlier end is an error, more is not read.
// A directory that is there already takes the new attributes; anything else that is there already is errno.EXIST.
func (bu *Builder) Add(n *Node, r io.Reader) error {
	err := bu.add(n, r)
	if err == nil {
		return nil
	}
	if !strings.HasPrefix(err.Error(), "mkfs: ") {
		err = fmt.Errorf("mkfs: %q: %w", n.Path, err)
	}
	if bu.err == nil {
		bu.err = err
	}
	return err
}

func (bu *Builder) add(n *Node, r io.Reader) error {
	p := strings.TrimPrefix(path.Clean("/"+n.Path), "/")
	if p == "" {
		return nil // the root directory has no attributes
	}
	dir, err := bu.dirAt(path.Dir("/" + p)[1:])
	if err != nil {
		return err
	}
	if n.Mtime.IsZero() {
		n.Mtime = bu.o.Time
	}
	if n.Btime.IsZero() {
		n.Btime = n.Mtime
	}
	if bu.o.ClampTimes {
		for _, t := range []*time.Time{&n.Mtime, &n.Btime} {
			if t.After(bu.o.Time) {
				*t = bu.o.Time
			}
		}
	}
	bu.progress.Path = p
	bu.progress.Nodes++
	if err := bu.report(); err != nil {
		return err
	}
	d := disk.Dirent{Attr: n.Attr & disk.AttrUser, Written: bu.stamp(n.Mtime), Created: bu.stamp(n.Btime)}
	d.Accessed.Date = d.Written.Date
	if n.Dir {
		return bu.addDir(dir, p, d)
	}
	if n.Size < 0 || n.Size > disk.MaxFileSize {
		return fmt.Errorf("%d bytes: a file on FAT has at most %d: %w", n.Size, int64(disk.MaxFileSize), errno.FBIG)
	}
	if d.Start, err = bu.alloc(bu.g.ClustersFor(n.Size)); err != nil {
		return err
	}
	d.Size = uint32(n.Size)
	if _, err := bu.entry(dir, path.Base(p), d); err != nil {
		return err
	}
	return bu.contents(d.Start, n.Size, r)
}

// dirAt gives the directory of a path, making what is missing.
func (bu *Builder) dirAt(p string) (*dirNode, error) {
	if d := bu.dirs[disk.Fold(p)]; d != nil {
		return d, nil
	}
	if err := bu.add(&Node{Path: p, Dir: true}, nil); err != nil {
		return nil, err
	}
	return bu.dirs[disk.Fold(p)], nil
}

func (bu *Builder) addDir(parent *dirNode, p string, d disk.Dirent) error {
	d.Attr |= disk.AttrDir
	if dir := bu.dirs[disk.Fold(p)]; dir != nil {
		for _, s := range parent.subs {
			if s.dir == dir {
				at := parent.slots[s.off : s.off+disk.DirentSize]
				old := disk.DecodeDirent(at, bu.g.Width)
				d.Name, d.Case = old.Name, old.Case
				d.EncodeTo(at, bu.g.Width)
			}
		}
		dir.self = d
		return nil
	}
	off, err := bu.entry(parent, path.Base(p), d)
	if err != nil {
		return err
	}
	dir := &dirNode{parent: parent, short: map[[11]byte]bool{}, names: map[string]bool{}, self: d}
	dir.slots = make([]byte, 2*disk.DirentSize)
	parent.subs = append(parent.subs, subdir{dir, off})
	bu.dirs[disk.Fold(p)] = dir
	bu.list = append(bu.list, dir)
	return nil
}

// entry stores a name in a directory and gives the offset of its entry.
func (bu *Builder) entry(dir *dirNode, name string, d disk.Dirent) (int, error) {
	units, err := disk.Units(name)
	switch {
	case errors.Is(err, disk.ErrNameLong):
		return 0, fmt.Errorf("%w: %w", err, errno.NAMETOOL)
	case err != nil:
		return 0, fmt.Errorf("%w: %w", err, errno.INVAL)
	}
	folded := disk.Fold(name)
	if dir.names[folded] {
		return 0, fmt.Errorf("a name that differs in case only is there already: %w", errno.EXIST)
	}
	c, ok := disk.Choose(units, bu.o.CodePage, disk.ChooseOptions{}, func(s [11]byte) bool { return dir.short[s] })
	if !ok {
		return 0, fmt.Errorf("no short name is free: %w", errno.NOSPC)
	}
	dir.names[folded], dir.short[c.Short] = true, true
	dir.names[disk.Fold(disk.Name(disk.ShortUnits(c.Short, 0, bu.o.CodePage)))] = true
	n := 0
	if c.Long {
		n = disk.LongSlots(len(units))
	}
	if limit := bu.slotLimit(dir); len(dir.slots)/disk.DirentSize+n+1 > limit {
		return 0, fmt.Errorf("the directory has no more than %d slots: %w", limit, errno.NOSPC)
	}
	at := len(dir.slots)
	dir.slots = append(dir.slots, make([]byte, (n+1)*disk.DirentSize)...)
	if n > 0 {
		disk.EncodeLong(dir.slots[at:], units, disk.Checksum(c.Short))
	}
	at += n * disk.DirentSize
	d.Name, d.Case = c.Short, c.Case
	d.EncodeTo(dir.slots[at:], bu.g.Width)
	return at, nil
}

func (bu *Builder) slotLimit(dir *dirNode) int {
	if dir == bu.root && bu.g.Width != disk.FAT32 {
		return int(bu.g.RootEntries) - 1
	}
	return disk.MaxDirEntries - 1
}

// alloc takes n clusters in one piece.
func (bu *Builder) alloc(n uint32) (disk.Cluster, error) {
	if n == 0 {
		return 0, nil
	}
	if left := bu.g.Clusters - uint32(bu.next-disk.FirstCluster); n > left {
		return 0, fmt.Errorf("needs %d clusters of %d bytes, %d are free: %w", n, bu.g.ClusterSize, left, errno.NOSPC)
	}
	c := bu.next
	bu.runs = append(bu.runs, run{first: c, n: n})
	bu.next += disk.Cluster(n)
	return c, nil
}

// contents stores size bytes from a cluster on, and zeros to the end of the last cluster.
func (bu *Builder) contents(start disk.Cluster, size int64, r io.Reader) error {
	if size == 0 {
		return nil
	}
	if bu.buf == nil {
		bu.buf = make([]byte, bufSize)
	}
	at := bu.g.BytesOf(bu.g.SectorOf(start))
	for pos := int64(0); pos < size; {
		n := min(size-pos, bufSize)
		if _, err := io.ReadFull(r, bu.buf[:n]); err != nil {
			if err == io.EOF || err == io.ErrUnexpectedEOF {
				return fmt.Errorf("contents end before the %d bytes that were announced: %w", size, errno.IO)
			}
			return fmt.Errorf("read contents at %d: %w", pos, err)
		}
		whole := (n + int64(bu.g.SectorSize) - 1) &^ int64(bu.g.SectorSize-1)
		clear(bu.buf[n:whole])
		if !bu.out.zeroed || !isZero(bu.buf[:whole]) {
			if err := bu.out.writeAt(bu.buf[:whole], at+pos, "contents"); err != nil {
				return err
			}
		}
		pos += n
		bu.progress.Bytes += n
		if err := bu.report(); err != nil {
			return err
		}
	}
	return nil
}

func (bu *Builder) report() error {
	if bu.o.Progress == nil {
		return nil
	}
	return bu.o.Progress(bu.progress)
}

// finish gives the directories their clusters and writes them.
func (bu *Builder) finish() error {
	per := int(bu.g.ClusterSize)
	if v := bu.root.volume; v != nil {
		d := disk.Dirent{Name: *v, Attr: disk.AttrVolume, Written: bu.stamp(bu.o.Time)}
		slot := make([]byte, disk.DirentSize)
		d.EncodeTo(slot, bu.g.Width)
		for i := range bu.root.subs {
			bu.root.subs[i].off += disk.DirentSize
		}
		bu.root.slots = append(slot, bu.root.slots...)
	}
	for _, dir := range bu.list {
		n := (len(dir.slots) + per - 1) / per
		var err error
		switch {
		case dir == bu.root && bu.g.Width != disk.FAT32:
		case dir == bu.root:
			err = bu.allocRoot(max(n, 1))
		default:
			dir.start, err = bu.alloc(uint32(max(n, 1)))
		}
		if err != nil {
			return fmt.Errorf("mkfs: directories: %w", err)
		}
	}
	for _, dir := range bu.list {
		if err := bu.writeDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// allocRoot gives FAT32's root directory n clusters: the one that was kept for it, which the boot sector names, and a piece with the
// others.
func (bu *Builder) allocRoot(n int) error {
	bu.root.start = bu.g.RootCluster
	first := run{first: bu.g.RootCluster, n: 1}
	if n > 1 {
		c, err := bu.alloc(uint32(n - 1))
		if err != nil {
			return err
		}
		first.next = c
	}
	bu.runs = append([]run{first}, bu.runs...)
	bu.root.rest = first.next
	return nil
}

func (bu *Builder) writeDir(dir *dirNode) error {
	for _, s := range dir.subs {
		at := dir.slots[s.off : s.off+disk.DirentSize]
		d := disk.DecodeDirent(at, bu.g.Width)
		d.Start = s.dir.start
		d.EncodeTo(at, bu.g.Width)
	}
	at, length := int64(0), 0
	if dir == bu.root && bu.g.Width != disk.FAT32 {
		at, length = bu.g.BytesOf(bu.g.RootStart), (len(dir.slots)+int(bu.g.SectorSize)-1)&^int(bu.g.SectorSize-1)
	} else {
		at, length = bu.g.BytesOf(bu.g.SectorOf(dir.start)), max((len(dir.slots)+int(bu.g.ClusterSize)-1)&^int(bu.g.ClusterSize-1), int(bu.g.ClusterSize))
	}
	if dir != bu.root {
		d := dir.self
		d.Name, d.Case, d.Start, d.Size = disk.Dot, 0, dir.start, 0
		d.EncodeTo(dir.slots, bu.g.Width)
		d.Name, d.Start = disk.DotDot, dir.parent.start
		if dir.parent == bu.root {
			d.Start = 0
		}
		d.EncodeTo(dir.slots[disk.DirentSize:], bu.g.Width)
	}
	if length == 0 {
		return nil
	}
	all := append(dir.slots, make([]byte, length-len(dir.slots))...)
	if dir.rest != 0 {
		if err := bu.out.writeAt(all[bu.g.ClusterSize:], bu.g.BytesOf(bu.g.SectorOf(dir.rest)), "the root directory"); err != nil {
			return err
		}
		all = all[:bu.g.ClusterSize]
	}
	return bu.out.writeAt(all, at, "a directory")
}
