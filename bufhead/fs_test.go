package bufhead_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

var ctx = context.Background()

// poison fills the device at first, and each block that is given out: it must never be seen in a file.
const poison = 0xAA

func seed(t testing.TB) uint64 {
	s := uint64(time.Now().UnixNano())
	if v, err := strconv.ParseUint(os.Getenv("IOMAPFS_SEED"), 10, 64); err == nil {
		s = v
	}
	t.Logf("IOMAPFS_SEED=%d", s)
	return s
}

func poisoned(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = poison
	}
	return p
}

// options of a test filesystem; zero values are the defaults.
type options struct {
	bits  uint8        // log2 of the block size: 12
	size  int64        // of the device: 4 MiB
	cache int64        // limit of the page cache: 32 MiB
	seed  uint64       // of random answers and places; 0: answers are whole, places in order
	dev   block.Device // nil: memory
}

// fsys is a filesystem whose get_block the test decides. Its files' blocks are given out from the second mebibyte of the device on.
type fsys struct {
	o   options
	sb  *vfs.SuperBlock
	dev block.Device
	bd  *bufhead.Device

	mu   sync.Mutex // guards what follows. Leaf
	rng  *rand.Rand
	next uint64   // inode number
	free []uint64 // blocks
}

func newFS(t testing.TB, o options) *fsys {
	t.Helper()
	if o.bits == 0 {
		o.bits = 12
	}
	if o.size == 0 {
		o.size = 4 << 20
	}
	if o.cache == 0 {
		o.cache = 32 << 20
	}
	dev := o.dev
	if dev == nil {
		m, err := mem.New(o.size, mem.Options{})
		require.NoError(t, err)
		dev = m
	}
	for off := int64(0); off < o.size; off += 1 << 20 {
		require.NoError(t, block.WriteAt(dev, poisoned(int(min(1<<20, o.size-off))), off, 0))
	}
	fs := &fsys{o: o, dev: dev, rng: rand.New(rand.NewPCG(o.seed, 1))}
	fs.sb = vfs.NewSuperBlock(&vfs.FileSystem{Name: "bufheadtest"}, dev, &vfs.MountOptions{
		Cache: pagecache.New(pagecache.Options{Limit: o.cache, Interval: time.Hour}), Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	fs.sb.BlockBits, fs.sb.MaxBytes = o.bits, 1<<40
	fs.sb.Op = &vfs.SuperOperations{EvictInode: func(ip *vfs.Inode) { ip.Pages.Evict() }}
	fs.sb.Start()
	var err error
	fs.bd, err = bufhead.NewDevice(dev, fs.sb.Cache, fs.sb.WB, 1<<o.bits)
	require.NoError(t, err)
	for b := uint64(1<<20) >> o.bits; b < uint64(o.size)>>o.bits; b++ {
		fs.free = append(fs.free, b)
	}
	if o.seed != 0 { // runs of up to eight blocks, in any order
		for i := len(fs.free) / 8; i > 0; i-- {
			a, b := fs.rng.IntN(len(fs.free)/8)*8, fs.rng.IntN(len(fs.free)/8)*8
			for k := range 8 {
				fs.free[a+k], fs.free[b+k] = fs.free[b+k], fs.free[a+k]
			}
		}
	}
	t.Cleanup(func() {
		fs.bd.Close()
		require.NoError(t, fs.sb.Unmount(ctx))
	})
	return fs
}

func (fs *fsys) roll(n int) int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.rng.IntN(n)
}

// take gives out a block, full of poison.
func (fs *fsys) take() (uint64, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if len(fs.free) == 0 {
		return 0, errno.NOSPC
	}
	b := fs.free[0]
	fs.free = fs.free[1:]
	return b, block.WriteAt(fs.dev, poisoned(1<<fs.o.bits), int64(b)<<fs.o.bits, 0)
}

func (fs *fsys) give(b uint64) {
	fs.mu.Lock()
	fs.free = append(fs.free, b)
	fs.mu.Unlock()
}

// left is how many blocks are free.
func (fs *fsys) left() int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return len(fs.free)
}

// leave makes the device as if only n blocks were free.
func (fs *fsys) leave(n int) {
	fs.mu.Lock()
	fs.free = fs.free[:n]
	fs.mu.Unlock()
}

// kind of what is behind a block of a file.
type kind uint8

const (
	hole kind = iota
	mapped
	unwritten // allocated, contents undefined
	delay     // promised
)

type slot struct {
	kind     kind
	at       uint64
	boundary bool // the block after it needs metadata to be found
}

// call is one get_block.
type call struct {
	iblock uint64
	size   int
	create bool
}

// file is a file of a test filesystem.
type file struct {
	*vfs.Inode
	fs *fsys

	// How writes get space: nothing set allocates at once.
	delay     bool // promised by begin, chosen by writeback
	unwritten bool // unwritten until written back
	cont      bool // no holes
	init      atomic.Int64

	mu    sync.Mutex // guards what follows: the map lock
	slots []slot
	calls []call
	fail  func(c call) error
	cuts  int // calls of failed
}

// file makes a file of that size with the blocks that spec says: "mapped 4k; hole 8k; unwritten 4k; boundary 4k". Mapped blocks
// hold zeros at first.
func (fs *fsys) file(t testing.TB, spec string, size int64) *file {
	t.Helper()
	fs.mu.Lock()
	fs.next++
	ino := fs.next
	fs.mu.Unlock()
	ip, err := fs.sb.Insert(ino)
	require.NoError(t, err)
	f := &file{Inode: ip, fs: fs}
	bs := int64(1) << fs.o.bits
	for part := range strings.SplitSeq(spec, ";") {
		words := strings.Fields(part)
		if len(words) == 0 {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSuffix(words[1], "k"), 10, 64)
		require.NoError(t, err)
		if n <<= 10; !strings.HasSuffix(words[1], "k") {
			n >>= 10
		}
		for ; n > 0; n -= bs {
			var s slot
			switch words[0] {
			case "hole":
			case "mapped", "boundary":
				s.kind, s.boundary = mapped, words[0] == "boundary" && n == bs
			case "unwritten":
				s.kind = unwritten
			default:
				t.Fatalf("no kind %q", words[0])
			}
			if s.kind != hole {
				s.at, err = fs.take()
				require.NoError(t, err)
			}
			if s.kind == mapped {
				require.NoError(t, block.WriteAt(fs.dev, make([]byte, bs), int64(s.at)<<fs.o.bits, 0))
			}
			f.slots = append(f.slots, s)
		}
	}
	ip.A.Mode, ip.A.Nlink = vfs.ModeRegular|0o644, 1
	ip.SetSize(size)
	f.init.Store(size)
	ip.Op, ip.Fop = &vfs.InodeOperations{}, &vfs.FileOperations{Fsync: f.fsync}
	ip.Pages.SetOps(&pagecache.Operations{
		ReadFolio: func(ctx context.Context, fo *pagecache.Folio) error { return bufhead.ReadFolio(ctx, fo, f.getBlock) },
		Readahead: func(ctx context.Context, rac *pagecache.ReadaheadControl) { bufhead.Readahead(ctx, rac, f.getBlock) },
		WritePages: func(ctx context.Context, as *pagecache.AddressSpace, wbc *pagecache.WritebackControl) error {
			return bufhead.WritePages(ctx, as, wbc, f.getBlock)
		},
		DirtyFolio: bufhead.DirtyFolio, ReleaseFolio: bufhead.ReleaseFolio, InvalidateFolio: bufhead.InvalidateFolio,
		IsPartiallyUptodate: bufhead.IsPartiallyUptodate,
	})
	order := uint8(0)
	for pagecache.PageSize<<order < bs {
		order++
	}
	ip.Pages.SetOrders(order, order)
	ip.Publish(nil)
	t.Cleanup(ip.Put)
	return f
}

func (f *file) fsync(ctx context.Context, file *vfs.File, start, end int64, _ bool) error {
	return f.Pages.WriteAndWait(ctx, start, end)
}

// slot gives block i, after making the map long enough. Under mu.
func (f *file) slot(i uint64) *slot {
	for uint64(len(f.slots)) <= i {
		f.slots = append(f.slots, slot{})
	}
	return &f.slots[i]
}

// getBlock is the file's get_block for reading, writeback, and writes that allocate at once.
func (f *file) getBlock(_ context.Context, _ *vfs.Inode, iblock uint64, bh *bufhead.BufferHead, create bool) error {
	return f.answer(iblock, bh, create, false)
}

// reserve is the get_block of writes that leave the choice to writeback.
func (f *file) reserve(_ context.Context, _ *vfs.Inode, iblock uint64, bh *bufhead.BufferHead, create bool) error {
	return f.answer(iblock, bh, create, true)
}

// forWrite is the get_block of writes through the cache.
func (f *file) forWrite() bufhead.GetBlock {
	if f.delay || f.unwritten {
		return f.reserve
	}
	return f.getBlock
}

func (f *file) answer(iblock uint64, bh *bufhead.BufferHead, create, begin bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	fs, bits := f.fs, f.fs.o.bits
	c := call{iblock, bh.Size, create}
	f.calls = append(f.calls, c)
	if f.fail != nil {
		if err := f.fail(c); err != nil {
			return err
		}
	}
	want := max(bh.Size>>bits, 1)
	n := 1
	for first := *f.slot(iblock); n < want; n++ {
		if s := f.slot(iblock + uint64(n)); s.kind != first.kind || s.kind != hole && s.kind != delay && s.at != first.at+uint64(n) ||
			f.slots[iblock+uint64(n)-1].boundary {
			break
		}
	}
	if fs.o.seed != 0 && n > 1 && fs.roll(3) == 0 {
		n = 1 + fs.roll(n)
	}
	s := f.slot(iblock)
	switch old := s.kind; {
	case old == mapped:
		bh.Map(fs.bd, s.at)
	case !create:
	case begin && f.delay && (old == hole || old == delay):
		bh.Set(bufhead.Mapped | bufhead.Delay)
		if old == hole {
			for i := range n {
				f.slot(iblock + uint64(i)).kind = delay
			}
			bh.Set(bufhead.New)
		}
	case old == unwritten:
		bh.Map(fs.bd, s.at)
		bh.Set(bufhead.New)
		if begin {
			bh.Set(bufhead.Unwritten)
			break
		}
		for i := range n {
			f.slot(iblock + uint64(i)).kind = mapped
		}
	default:
		if f.cont && iblock != uint64(f.init.Load())>>bits {
			return fmt.Errorf("block %d of a file without holes, initialised up to %d: %w", iblock, f.init.Load(), errno.IO)
		}
		for i := range n {
			at, err := fs.take()
			if err == nil && i > 0 && at != f.slots[iblock].at+uint64(i) {
				fs.give(at)
				n = i
				break
			}
			if err != nil {
				if i == 0 {
					return err
				}
				n = i
				break
			}
			*f.slot(iblock + uint64(i)) = slot{kind: mapped, at: at}
			if begin && f.unwritten {
				f.slots[iblock+uint64(i)].kind = unwritten
			}
		}
		bh.Map(fs.bd, f.slots[iblock].at)
		bh.Set(bufhead.New)
		if begin && f.unwritten {
			bh.Set(bufhead.Unwritten)
		}
		if f.cont {
			f.init.Store(int64(iblock+uint64(n)) << bits)
		}
	}
	bh.Size = n << bits
	if f.slots[iblock+uint64(n)-1].boundary {
		bh.Set(bufhead.Boundary)
	}
	return nil
}

// failed is WriteOptions.Failed.
func (f *file) failed(_ context.Context, _ *vfs.Inode, size int64) {
	f.cuts++
	f.Pages.InvalidateLock.Lock()
	f.Pages.Truncate(size)
	f.free((size + 1<<f.fs.o.bits - 1) >> f.fs.o.bits)
	f.Pages.InvalidateLock.Unlock()
}

// free gives back what is behind blocks from i on.
func (f *file) free(i int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.slots[min(int(i), len(f.slots)):] {
		if s.kind == mapped || s.kind == unwritten {
			f.fs.give(s.at)
		}
	}
	f.slots = f.slots[:min(int(i), len(f.slots))]
}

func (f *file) opts() *bufhead.WriteOptions {
	o := &bufhead.WriteOptions{Failed: f.failed}
	if f.cont {
		o.Initialized = &f.init
	}
	return o
}

// write stores p at pos through the cache, as a filesystem does.
func (f *file) write(p []byte, pos int64) (int, error) {
	return f.writeFrom(len(p), pos, func(dst []byte, off int) int { return copy(dst, p[off:]) })
}

func (f *file) writeFrom(n int, pos int64, fill func(dst []byte, off int) int) (int, error) {
	f.Rw.Lock()
	defer f.Rw.Unlock()
	if size := f.Size(); pos > size && !f.cont {
		if err := bufhead.TruncatePage(ctx, f.Inode, size, f.getBlock); err != nil {
			return 0, err
		}
	}
	k := vfs.Kiocb{Inode: f.Inode, Pos: pos}
	return bufhead.WriteFrom(ctx, &k, n, fill, f.forWrite(), f.opts())
}

// truncate makes the file size bytes long, as a filesystem does.
func (f *file) truncate(size int64) error {
	f.Rw.Lock()
	defer f.Rw.Unlock()
	f.DirectWait()
	old := f.Size()
	if size > old && f.cont {
		return bufhead.ContExpand(ctx, f.Inode, size, f.getBlock, f.opts())
	}
	if err := bufhead.TruncatePage(ctx, f.Inode, min(size, old), f.getBlock); err != nil {
		return err
	}
	if size > old {
		f.SetSize(size)
		f.Pages.Extended(old, size)
		return nil
	}
	f.Pages.InvalidateLock.Lock()
	defer f.Pages.InvalidateLock.Unlock()
	f.SetSize(size)
	f.Pages.Truncate(size)
	f.free((size + 1<<f.fs.o.bits - 1) >> f.fs.o.bits)
	if f.init.Load() > size {
		f.init.Store(size)
	}
	return nil
}

// read gives the file's bytes [pos, pos+n), through the cache.
func (f *file) read(t testing.TB, pos int64, n int) []byte {
	t.Helper()
	p := make([]byte, n)
	n, err := f.Pages.Read(ctx, nil, p, pos, 0)
	require.NoError(t, err)
	return p[:n]
}

// sync writes everything back and drops the cache, so that the next read shows the medium.
func (f *file) sync(t testing.TB) {
	t.Helper()
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	f.Pages.DropClean(0, 1<<40)
}

// medium gives what the device holds of the file, as the map says, without the cache.
func (f *file) medium(t testing.TB) []byte {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	bs := 1 << f.fs.o.bits
	out := make([]byte, (int(f.Size())+bs-1)/bs*bs)
	for i := 0; i*bs < len(out) && i < len(f.slots); i++ {
		if f.slots[i].kind == mapped {
			require.NoError(t, block.ReadAt(f.fs.dev, out[i*bs:(i+1)*bs], int64(f.slots[i].at)<<f.fs.o.bits))
		}
	}
	return out[:f.Size()]
}

// asked gives the calls of get_block since the last time.
func (f *file) asked() []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.calls
	f.calls = nil
	return c
}

// pattern is n bytes that tell where they belong.
func pattern(n int, salt byte) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7+i>>8) ^ salt | 1
	}
	return p
}

type ctxType = context.Context

// after is a moment in which what must not happen would have.
func after(ms int) <-chan time.Time { return time.After(time.Duration(ms) * time.Millisecond) }

// limited is a device with limits of its own.
type limited struct {
	*mem.Device
	lim block.Limits
}

func (d *limited) Limits() *block.Limits { return &d.lim }
