package compare

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"hash/crc64"
	"io"
	"math"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// env is one mount on which an operation runs.
type env struct {
	ctx  context.Context
	sb   *vfs.SuperBlock
	dir  *vfs.Inode // where everything happens, made for it
	size int64      // bytes of the files worked on
	f    *vfs.File  // the file worked on, if there is one
	buf  []byte     // 1 MiB
	rnd  uint64
	sum  hash.Hash64 // what must be equal on all paths
	n    int64       // bytes or answers, for the report
}

var crcTable = crc64.MakeTable(crc64.ECMA)

func newEnv(ctx context.Context, sb *vfs.SuperBlock, size int64) (*env, error) {
	e := &env{ctx: ctx, sb: sb, size: size, buf: make([]byte, 1<<20), rnd: 42, sum: crc64.New(crcTable)}
	for i := range e.buf {
		e.buf[i] = byte(e.next(256))
	}
	for i := 0; ; i++ {
		name := workDir
		if i > 0 {
			name += fmt.Sprint("-", i)
		}
		var err error
		if e.dir, err = sb.Root.Mkdir(ctx, vfs.Root, name, 0o755); !errors.Is(err, errno.EXIST) {
			return e, err
		}
	}
}

// workDir is the directory that the operations work in; with a number behind it when the image has one of that name.
const workDir = "iomapfs-compare"

func (e *env) close() {
	if e.f != nil {
		e.f.Close()
	}
	if e.dir != nil {
		e.dir.Put()
	}
}

// next is a small generator: the same numbers on all paths.
func (e *env) next(n int64) int64 {
	e.rnd = e.rnd*6364136223846793005 + 1442695040888963407
	return int64(e.rnd>>33) % n
}

// say adds an answer to what must be equal.
func (e *env) say(v ...any) { fmt.Fprintln(e.sum, v...) }

// make creates a file in a directory and opens it.
func (e *env) make(dir *vfs.Inode, name string) (*vfs.File, error) {
	ip, err := dir.Create(e.ctx, vfs.Root, name, 0o644)
	if err != nil {
		return nil, err
	}
	defer ip.Put()
	return ip.Open(e.ctx, vfs.ORdwr)
}

// create makes the file that the operation works on.
func (e *env) create() (err error) {
	e.f, err = e.make(e.dir, "data")
	return err
}

// fill writes the file in one go and drops it from the cache.
func (e *env) fill() error { return errors.Join(e.create(), e.write(), e.cold(e.f)) }

// filled leaves it in the cache, clean.
func (e *env) filled() error { return errors.Join(e.fill(), e.read()) }

// dirtied leaves it in the cache, to be written.
func (e *env) dirtied() error { return errors.Join(e.create(), e.write()) }

// cold writes a file back and drops its cache.
func (e *env) cold(f *vfs.File) error {
	if f == nil {
		return nil // what made it failed, and said so
	}
	if err := f.Fsync(e.ctx, false); err != nil {
		return err
	}
	f.Inode.Pages.DropClean(0, math.MaxInt64)
	return nil
}

// torn makes a file of many extents and holes.
func (e *env) torn() error {
	if err := e.create(); err != nil {
		return err
	}
	step := int64(e.f.Inode.BlockSize())
	for pos := int64(0); pos < e.size; pos += step * (2 + e.next(6)) {
		if _, err := e.f.WriteAt(e.ctx, e.buf[:step], pos); err != nil {
			return err
		}
		e.buf[0]++
	}
	return e.cold(e.f)
}

// write writes the file in pieces of 1 MiB.
func (e *env) write() error { return e.writeIn(e.f, len(e.buf)) }

func (e *env) writeIn(f *vfs.File, step int) error {
	if f == nil {
		return nil
	}
	for pos := int64(0); pos < e.size; pos += int64(step) {
		p := e.buf[:min(int64(step), e.size-pos)]
		p[0], p[len(p)-1] = byte(pos>>20), byte(pos>>9)
		if _, err := f.WriteAt(e.ctx, p, pos); err != nil {
			return err
		}
	}
	e.n += e.size
	return nil
}

// read reads the file in pieces of 1 MiB.
func (e *env) read() error { return e.readIn(e.f, len(e.buf)) }

func (e *env) readIn(f *vfs.File, step int) error {
	if f == nil {
		return nil
	}
	for pos := int64(0); pos < e.size; {
		n, err := f.ReadAt(e.ctx, e.buf[:step], pos)
		if err != nil || n == 0 {
			return err
		}
		pos += int64(n)
	}
	e.n += e.size
	return nil
}

// heard reads the file as read does, and adds what comes to what must be equal.
func (e *env) heard(f *vfs.File) error {
	for pos := int64(0); ; {
		n, err := f.ReadAt(e.ctx, e.buf, pos)
		e.sum.Write(e.buf[:n])
		if pos += int64(n); n == 0 || errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		e.n += int64(n)
	}
}

// pieces moves pieces of the file at random places.
func (e *env) pieces(count, size int, write, direct bool) error {
	for range count {
		k := e.f.Kiocb(e.next(e.size/int64(size)) * int64(size))
		k.Direct = direct
		p := e.buf[:size]
		var err error
		if write {
			p[0]++
			_, err = k.Write(e.ctx, p)
		} else {
			_, err = k.Read(e.ctx, p)
		}
		if err != nil {
			return err
		}
		e.n += int64(size)
	}
	return nil
}

// state counts the file's cached pages, and the memory that a layer keeps beside them.
func (e *env) state(bytesOf func(fo *pagecache.Folio) int64) (pages, bytes int64) {
	if e.f == nil {
		return 0, 0
	}
	as := &e.f.Inode.Pages
	var batch [64]*pagecache.Folio
	for i := uint64(0); ; {
		n := as.Batch(i, math.MaxUint64>>pagecache.PageShift, pagecache.TagAny, batch[:])
		if n == 0 {
			return pages, bytes
		}
		for _, fo := range batch[:n] {
			fo.Lock()
			bytes += bytesOf(fo)
			fo.Unlock()
			pages += int64(fo.Len()) >> pagecache.PageShift
			i = fo.Index() + uint64(fo.Len())>>pagecache.PageShift
			fo.Put()
		}
	}
}
