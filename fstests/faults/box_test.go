package faults

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/fstests/target"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/file"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

var ctx = context.Background()

// kept is a device that survives its filesystem: what unmounting left on it is looked at.
type kept struct{ *mem.Device }

func (kept) Close() error { return nil }

// onDevice gives a device in memory that holds an image.
func onDevice(t testing.TB, image []byte) *mem.Device {
	m, err := mem.New(int64(len(image)), mem.Options{VolatileCache: true, NoDirect: true})
	require.NoError(t, err)
	require.NoError(t, block.WriteAt(m, image, 0, 0))
	return m
}

// mounted mounts a device, quietly.
func (sys *system) mounted(dev block.Device, words ...string) (*vfs.SuperBlock, error) {
	return sys.fs.Mount(ctx, dev, &vfs.MountOptions{CacheBytes: 4 << 20, Words: append(words, "nodiscard"), Log: slog.New(slog.DiscardHandler)})
}

// object is what the box knows of one file, by whatever name.
type object struct {
	names []string // it is under one of them, after a rename that was not synced yet; empty: removed
	want  []byte   // what it holds, if sure
	sure  bool     // no operation on it failed halfway
	lost  bool     // a sync said that something was lost: later ones acknowledge only what came after
	acked []byte   // what a sync acknowledged; nil: nothing
	grown bool     // only appended to since: acked is how it begins
	link  string   // of a symbolic link
	dir   bool
	told  bool              // a sync acknowledged that it is there
	attrs map[string][]byte // acknowledged attributes
	set   map[string][]byte // attributes
	open  [2]*vfs.File      // from the beginning of its life on
}

// box runs operations on a filesystem, and keeps what must come of them.
type box struct {
	t       testing.TB
	sys     *system
	sb      *vfs.SuperBlock
	fs      target.Super
	objects []*object
	errs    []string // operations that failed, and how
	seed    byte
	odd     []string // what must not be, whatever fails
}

func newBox(t testing.TB, sys *system, sb *vfs.SuperBlock) *box {
	return &box{t: t, sys: sys, sb: sb, fs: target.Super{SB: sb}}
}

// failed notes the outcome of an operation.
func (b *box) failed(e errno.Errno, what string, args ...any) bool {
	if e == 0 {
		return false
	}
	b.errs = append(b.errs, fmt.Sprintf(what, args...)+": "+e.Error())
	return true
}

func (b *box) find(p string) *object {
	for _, o := range b.objects {
		if len(o.names) > 0 && o.names[len(o.names)-1] == p {
			return o
		}
	}
	return nil
}

func (b *box) add(o *object) *object {
	b.objects = append(b.objects, o)
	return o
}

// change notes that o is about to be changed.
func (o *object) change() { o.acked, o.grown = nil, false }

func (b *box) data(n int) []byte {
	b.seed++
	p := make([]byte, n)
	for i := range p {
		if p[i] = b.seed + byte(i/512)*3 + 1; p[i] == poison {
			p[i] = 1
		}
	}
	return p
}

func (b *box) create(p string) {
	if b.failed(b.fs.Create(p, 0o644), "create %s", p) {
		return
	}
	o := b.add(&object{names: []string{p}, sure: true, set: map[string][]byte{}})
	b.opened(o)
}

// known takes up a file that was there before.
func (b *box) known(p string) {
	i, e := b.fs.Stat(p)
	if b.failed(e, "stat %s", p) {
		return
	}
	got, e := b.fs.Read(p, 0, int(i.Size))
	if e == 0 && len(got) < int(i.Size) {
		e = errno.IO
	}
	if b.failed(e, "read %s", p) {
		return
	}
	o := b.add(&object{names: []string{p}, sure: true, told: true, want: got, acked: slices.Clone(got), set: map[string][]byte{}})
	b.opened(o)
}

func (b *box) opened(o *object) {
	ip, err := b.sb.Walk(ctx, o.names[0], false)
	if err != nil {
		return
	}
	defer ip.Put()
	for i := range o.open {
		if o.open[i], err = ip.Open(ctx, vfs.ORdonly); err != nil {
			return
		}
	}
}

// write stores n bytes; flags are added to the open, as ODirect.
func (b *box) write(p string, off int64, n int, flags vfs.OpenFlags) {
	o := b.find(p)
	if o == nil {
		return
	}
	data := b.data(n)
	if off >= int64(len(o.want)) && o.acked != nil {
		o.grown = true
	} else {
		o.change()
	}
	fs := b.fs
	fs.Flags = flags
	k, e := fs.Write(p, off, data)
	if k > 0 {
		o.grow(int(off) + k)
		copy(o.want[off:], data[:k])
	}
	if e == 0 && k < n {
		e = errno.NOSPC
	}
	if b.failed(e, "write %s %d+%d", p, off, n) && flags&(vfs.ODirect|vfs.OSync|vfs.ODSync) != 0 {
		o.sure = false // what a failed direct write leaves where data was is open; a synchronous one was done in memory
	}
	b.look(p, o)
}

// around writes as a server does whose client has a cache of its own.
func (b *box) around(p string, off int64, n int) {
	o := b.find(p)
	if o == nil {
		return
	}
	data := b.data(n)
	o.change()
	k := 0
	e := b.at(p, vfs.OWronly, func(f *vfs.File) (err error) {
		io := f.Kiocb(off)
		io.CachedAbove = true
		k, err = io.Write(ctx, data)
		return err
	})
	if k > 0 {
		o.grow(int(off) + k)
		copy(o.want[off:], data[:k])
	}
	if e == 0 && k < n {
		e = errno.NOSPC
	}
	if b.failed(e, "write around %s %d+%d", p, off, n) {
		o.sure = false
		b.blind(p, off, n)
	}
	b.look(p, o)
}

// blind looks for what was on the medium before in a range that failed to be written.
func (b *box) blind(p string, off int64, n int) {
	got, _ := b.fs.Read(p, off, n)
	if i := bytes.Index(got, bytes.Repeat([]byte{poison}, 512)); i >= 0 {
		b.odd = append(b.odd, fmt.Sprintf("%s: a failed write of %d+%d left what the blocks held before, at %d", p, off, n, off+int64(i)))
	}
}

// look compares what is in a file now.
func (b *box) look(p string, o *object) {
	if !o.sure {
		return
	}
	i, e := b.fs.Stat(p)
	if b.failed(e, "stat %s", p) {
		return
	}
	if i.Size != int64(len(o.want)) {
		b.odd = append(b.odd, fmt.Sprintf("%s has %d bytes, want %d", p, i.Size, len(o.want)))
	}
	got, e := b.fs.Read(p, 0, int(i.Size)+1)
	if e == 0 && len(got) < int(i.Size) {
		e = errno.IO
	}
	if b.failed(e, "read %s", p) {
		return
	}
	if d := differ(got, o.want); d != "" {
		b.odd = append(b.odd, p+" in memory: "+d)
	}
}

func differ(got, want []byte) string {
	if bytes.Equal(got, want) {
		return ""
	}
	n := min(len(got), len(want))
	for i := range n {
		if got[i] != want[i] {
			return fmt.Sprintf("%d bytes, want %d; at %d is %#x, want %#x", len(got), len(want), i, got[i], want[i])
		}
	}
	return fmt.Sprintf("%d bytes, want %d", len(got), len(want))
}

func (o *object) grow(n int) {
	if n > len(o.want) {
		o.want = append(o.want, make([]byte, n-len(o.want))...)
	}
}

func (b *box) truncate(p string, size int) {
	o := b.find(p)
	if o == nil {
		return
	}
	if size >= len(o.want) && o.acked != nil {
		o.grown = true
	} else {
		o.change()
	}
	if e := b.fs.Truncate(p, int64(size)); b.failed(e, "truncate %s %d", p, size) {
		o.sure = false
		return
	}
	o.grow(size)
	o.want = o.want[:size]
	b.look(p, o)
}

// fallocate runs a mode of fallocate; zeroes says whether it makes the range zeros.
func (b *box) fallocate(p string, mode uint32, off, n int) {
	o := b.find(p)
	if o == nil {
		return
	}
	zeroes := mode&(vfs.FallocPunchHole|vfs.FallocZeroRange) != 0
	if zeroes {
		o.change()
	} else {
		o.grown = o.acked != nil
	}
	size := len(o.want)
	e := b.at(p, vfs.OWronly, func(f *vfs.File) error { return f.Fallocate(ctx, mode, int64(off), int64(n)) })
	if b.failed(e, "fallocate %s %#x %d+%d", p, mode, off, n) {
		if zeroes {
			o.sure = false
		}
		b.look(p, o) // without effect
		return
	}
	if mode&vfs.FallocKeepSize == 0 {
		o.grow(off + n)
	}
	if zeroes && off < size {
		clear(o.want[off:min(off+n, size)])
	}
	b.look(p, o)
}

// close closes the object's handles.
func (o *object) close() {
	for _, f := range o.open {
		if f != nil {
			f.Close()
		}
	}
}

func (b *box) at(p string, flags vfs.OpenFlags, f func(*vfs.File) error) errno.Errno {
	ip, err := b.sb.Walk(ctx, p, false)
	if err != nil {
		return errno.From(err)
	}
	defer ip.Put()
	o, err := ip.Open(ctx, flags)
	if err != nil {
		return errno.From(err)
	}
	defer o.Close()
	return errno.From(f(o))
}

func (b *box) rename(p, q string, flags uint32) {
	o, over := b.find(p), b.find(q)
	if o == nil {
		return
	}
	failed := b.failed(b.fs.Rename(p, q, flags), "rename %s %s", p, q)
	switch {
	case over != nil && flags&vfs.RenameExchange != 0:
		over.names = append(over.names, p)
	case over != nil && !failed:
		over.names = nil
	case over != nil:
		over.change()
		over.told = false // the medium may know better than memory
	}
	if failed && flags&vfs.RenameExchange == 0 {
		o.names = append(o.names, q, p)
		return
	}
	o.names = append(o.names, q)
	if failed {
		o.names = append(o.names, p)
		over.names = append(over.names, q)
	}
	for _, c := range b.objects {
		for _, n := range c.names {
			if strings.HasPrefix(n, p+"/") && c != o {
				c.names = append(c.names, q+n[len(p):])
			}
		}
	}
}

func (b *box) link(p, q string) {
	o := b.find(p)
	if o == nil || b.failed(b.fs.Link(p, q), "link %s %s", p, q) {
		return
	}
	o.names = append(o.names, q, p)
}

func (b *box) unlink(p string) {
	o := b.find(p)
	if o == nil {
		return
	}
	if !b.failed(b.fs.Unlink(p), "unlink %s", p) {
		o.names = slices.DeleteFunc(o.names, func(n string) bool { return n == p })
	}
	if o.told && len(o.names) == 0 || len(o.names) > 0 && !slices.Contains(o.names, p) {
		o.told = len(o.names) > 0
		return
	}
	o.change()
	o.told = false
}

func (b *box) mkdir(p string) {
	if !b.failed(b.fs.Mkdir(p, 0o755), "mkdir %s", p) {
		b.add(&object{names: []string{p}, dir: true, sure: true})
	}
}

func (b *box) rmdir(p string) {
	if o := b.find(p); o != nil {
		o.told = false
		if !b.failed(b.fs.Rmdir(p), "rmdir %s", p) {
			o.names = nil
		}
	}
}

func (b *box) symlink(to, p string) {
	if !b.failed(b.fs.Symlink(to, p), "symlink %s", p) {
		b.add(&object{names: []string{p}, link: to, sure: true})
	}
}

func (b *box) setXattr(p, name string, n int) {
	o := b.find(p)
	if o == nil {
		return
	}
	v := b.data(n)
	delete(o.attrs, name)
	if b.failed(b.fs.SetXattr(p, name, v, 0), "setxattr %s %s", p, name) {
		o.set[name] = nil
		return
	}
	o.set[name] = v
}

func (b *box) removeXattr(p, name string) {
	o := b.find(p)
	if o == nil {
		return
	}
	delete(o.attrs, name)
	delete(o.set, name)
	b.failed(b.fs.RemoveXattr(p, name), "removexattr %s %s", p, name)
}

// acknowledge notes that a sync said that o is durable.
func (b *box) acknowledge(o *object) {
	if len(o.names) == 0 {
		return
	}
	p := o.names[len(o.names)-1]
	o.told = true
	if o.link != "" || o.dir || o.lost {
		return
	}
	o.acked, o.grown = nil, false
	o.attrs = map[string][]byte{}
	for n, v := range o.set {
		if v != nil {
			o.attrs[n] = v
		}
	}
	if o.sure {
		o.acked = append([]byte{}, o.want...)
	} else if i, e := b.fs.Stat(p); e == 0 {
		// What it is that was made durable, memory says.
		if got, e := b.fs.Read(p, 0, int(i.Size)); e == 0 && len(got) == int(i.Size) {
			o.want, o.sure = got, true
			o.acked = append([]byte{}, got...)
		}
	}
}

func (b *box) fsync(p string) {
	o := b.find(p)
	switch {
	case o == nil:
	case b.failed(b.fs.Fsync(p), "fsync %s", p):
		o.lost = true
	default:
		b.acknowledge(o)
	}
}

func (b *box) sync() {
	failed := b.failed(b.fs.Sync(), "sync")
	for _, o := range b.objects {
		if o.lost = o.lost || failed; !failed {
			b.acknowledge(o)
		}
	}
}

// done syncs every file by both of its handles: an error is told to both, once. It closes them.
func (b *box) done() {
	for _, o := range b.objects {
		var told [2]error
		for i, f := range o.open {
			if f == nil {
				continue
			}
			if told[i] = f.Fsync(ctx, false); told[i] != nil {
				b.errs = append(b.errs, fmt.Sprintf("fsync by handle %d: %v", i, told[i]))
				o.lost = true
			}
		}
		for _, f := range o.open {
			if f == nil {
				continue
			}
			if err := f.Fsync(ctx, false); err != nil && b.sb.Aborted() == nil {
				b.odd = append(b.odd, "told twice: "+err.Error())
			}
			f.Close()
		}
		if o.open[1] != nil && told[0] != nil && told[1] == nil {
			b.odd = append(b.odd, fmt.Sprintf("%v was told to one handle only: %v", o.names, told[0]))
		}
		if o.open[1] != nil && told[0] == nil && told[1] == nil {
			b.acknowledge(o)
		}
	}
}

// names on the medium: what must be there of what was acknowledged.
func (b *box) missing(fs *target.Super) (bad []string) {
	for _, o := range b.objects {
		if !o.told || len(o.names) == 0 {
			continue
		}
		var why []string // none of the names will do
		for _, n := range slices.Compact(slices.Sorted(slices.Values(o.names))) {
			if d := o.wrong(fs, n); d != "" {
				why = append(why, n+" "+d)
			} else {
				why = nil
				break
			}
		}
		bad = append(bad, why...)
	}
	return bad
}

// wrong says what of o is not as it was acknowledged, if p is its name.
func (o *object) wrong(fs *target.Super, p string) string {
	info, e := fs.Stat(p)
	switch {
	case e != 0:
		return "was synced: " + e.Error()
	case o.link != "":
		if to, _ := fs.Readlink(p); to != o.link {
			return "leads to " + to
		}
	case o.dir:
	case o.acked != nil:
		got, e := fs.Read(p, 0, int(info.Size))
		if e != 0 {
			return e.Error()
		}
		if o.grown && len(got) > len(o.acked) {
			got = got[:len(o.acked)]
		}
		if d := differ(got, o.acked); d != "" {
			return "was synced: " + d
		}
	}
	for n, v := range o.attrs {
		if got, e := fs.GetXattr(p, n); e != 0 || !bytes.Equal(got, v) {
			return fmt.Sprintf("attribute %s: %v", n, e)
		}
	}
	return ""
}

// inspect has an image on a device judged, and looks for what was acknowledged. clean: there must be nothing to repair.
func (b *box) inspect(m *mem.Device, dir string, clean bool) (bad []string) {
	img := path.Join(dir, "inspect.img")
	_ = os.Remove(img)
	require.NoError(b.t, block.Export(m, img))
	if err := b.sys.judge(img, clean); err != nil {
		return []string{err.Error()}
	}
	dev, err := file.Open(img, file.Options{ReadOnly: true})
	require.NoError(b.t, err)
	sb, err := b.sys.fs.Mount(ctx, dev, &vfs.MountOptions{ReadOnly: true, CacheBytes: 4 << 20, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		_ = dev.Close()
		return []string{err.Error()}
	}
	defer sb.Unmount(ctx) //nolint:errcheck // read-only
	return b.missing(&target.Super{SB: sb})
}
