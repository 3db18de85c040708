package iomaptest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/block/mem"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// Poison fills the device at first: it must never be seen in a file.
const Poison = 0xAA

// Options of a test filesystem; zero values are the defaults.
type Options struct {
	BlockBits uint8        // 12
	Size      int64        // of the device: 16 MiB
	Cache     int64        // limit of the page cache: 32 MiB
	MaxOrder  uint8        // of folios: as large as can be; set NoLarge for single pages
	NoLarge   bool         // folios no larger than page or block
	Seed      uint64       // of random answers; 0: answers are whole
	StaleOdds int          // one in so many checks finds the mapping stale; 0 never
	Device    block.Device // nil: memory
	Cipher    Cipher       // how files are kept on the device
	// NoUnwritten is a filesystem without unwritten space: promised blocks are mapped when writeback chooses them, before their data
	// is there; direct writes into holes go through the cache.
	NoUnwritten bool
	// Greedy is one that does it wrong: writeback chooses all of a promised run, not only what is dirty.
	Greedy bool
	Trace  trace.Sink
}

// FS is a test filesystem.
type FS struct {
	SB   *vfs.SuperBlock
	Dev  block.Device
	o    Options
	mu   sync.Mutex // guards rng, next, free
	rng  *rand.Rand
	next uint64 // inode number
	free int64  // first byte of the device never given out

	// FailMap, when set, may refuse to map a block for writeback.
	FailMap func(pos int64) error
}

// New makes a test filesystem that lives until the end of the test.
func New(t testing.TB, o Options) *FS {
	t.Helper()
	if o.BlockBits == 0 {
		o.BlockBits = 12
	}
	if o.Size == 0 {
		o.Size = 16 << 20
	}
	if o.Cache == 0 {
		o.Cache = 32 << 20
	}
	dev := o.Device
	if dev == nil {
		m, err := mem.New(o.Size, mem.Options{})
		require.NoError(t, err)
		dev = m
	}
	poison := make([]byte, 1<<20)
	for i := range poison {
		poison[i] = Poison
	}
	for off := int64(0); off < o.Size; off += int64(len(poison)) {
		require.NoError(t, block.WriteAt(dev, poison[:min(int64(len(poison)), o.Size-off)], off, 0))
	}
	fs := &FS{Dev: dev, o: o, free: 1 << 20, rng: rand.New(rand.NewPCG(o.Seed, 1))}
	fs.SB = vfs.NewSuperBlock(&vfs.FileSystem{Name: "iomaptest"}, dev, &vfs.MountOptions{
		Cache: pagecache.New(pagecache.Options{Limit: o.Cache, Interval: time.Hour}), Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Trace: o.Trace,
	})
	fs.SB.BlockBits, fs.SB.MaxBytes = o.BlockBits, 1<<40
	fs.SB.Op = &vfs.SuperOperations{EvictInode: func(ip *vfs.Inode) { ip.Pages.Evict() }}
	fs.SB.Start()
	t.Cleanup(func() {
		_ = fs.SB.Sync(context.Background()) // tells of the errors that a test provoked
		require.NoError(t, fs.SB.Unmount(context.Background()))
	})
	return fs
}

// roll gives a random number below n; 0 when answers are to be whole.
func (fs *FS) roll(n int) int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.rng.IntN(n)
}

// take gives n fresh bytes of the device, as zeros that were never written: poison.
func (fs *FS) take(n int64) (uint64, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.free+n > fs.Dev.Size() {
		return 0, errno.NOSPC
	}
	at := fs.free
	fs.free += n
	return uint64(at), nil
}

// Left is how many bytes of the device were never given out.
func (fs *FS) Left() int64 {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.Dev.Size() - fs.free
}

// SetLeft makes the device as if only n bytes were left.
func (fs *FS) SetLeft(n int64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.free = fs.Dev.Size() - n
}

// Call is one begin or end.
type Call struct {
	Begin       bool
	Pos, Length int64
	Done        int64
	Flags       iomap.OpFlags
	Map         iomap.Mapping
	Err         error
}

// String reads "begin write [0,4096)" or "end [0,4096) done 12".
func (c Call) String() string {
	if c.Begin {
		return fmt.Sprintf("begin %s [%d,%d)", c.Flags, c.Pos, c.Pos+c.Length)
	}
	return fmt.Sprintf("end %s [%d,%d) done %d", c.Flags, c.Pos, c.Pos+c.Length, c.Done)
}

// blockMap is what is behind one block of a file.
type blockMap struct {
	t      iomap.Type
	addr   uint64
	shared bool // belongs to somebody else too: writes go elsewhere
	cow    uint64
	hasCow bool // space for the copy is there
}

// File is one file of a test filesystem.
type File struct {
	*vfs.Inode
	FS *FS

	// Tables of the operations.
	Read, Write, Fault, Zero, Direct *iomap.Ops
	DaxRead, DaxWrite                *iomap.Ops // DaxWrite for writes, zeroing, unsharing and faults
	Writeback                        *iomap.WritebackOps
	DirectOps                        *iomap.DirectOps
	Atomic                           *iomap.Ops // of untorn writes, which are put in at once
	AtomicOps                        *iomap.DirectOps
	ReadOps                          *iomap.ReadOps // of buffered reads and partial writes; nil without a cipher

	// Dax is what is kept of the file when it is reached as memory.
	Dax iomap.DaxSpace

	mu     sync.Mutex // guards what follows: the map lock
	blocks []blockMap
	inline []byte
	seq    uint64
	calls  []Call
	queue  iomap.IoendQueue
	// Punched are the reservations given back.
	Punched []string
	// Before, when set, is called in Begin with the lock free: a place for the worst moment.
	Before func(flags iomap.OpFlags, pos int64)
	// Invalid, when set, decides whether a mapping is stale.
	Invalid func(m *iomap.Mapping) bool
}

// File makes a file of that size with the blocks that spec says: "mapped 4k; hole 8k; unwritten 4k; delalloc 1k; shared 4k;
// inline". What follows is a hole. Mapped blocks hold zeros at first.
func (fs *FS) File(t testing.TB, spec string, size int64) *File {
	t.Helper()
	fs.mu.Lock()
	fs.next++
	ino := fs.next
	fs.mu.Unlock()
	ip, err := fs.SB.Insert(ino)
	require.NoError(t, err)
	f := &File{Inode: ip, FS: fs}
	f.queue.Handle = f.written
	f.tables()
	bs := int64(1) << fs.o.BlockBits
	for _, part := range strings.FieldsFunc(spec, func(r rune) bool { return r == ';' }) {
		words := strings.Fields(part)
		if len(words) == 0 {
			continue
		}
		if words[0] == "inline" {
			f.inline = make([]byte, bs)
			break
		}
		n := Bytes(t, words[1])
		require.Zero(t, n%bs, part)
		var addr uint64
		if words[0] != "hole" && words[0] != "delalloc" {
			addr, err = fs.take(n)
			require.NoError(t, err)
		}
		for i := int64(0); i < n; i += bs {
			b := blockMap{addr: addr + uint64(i)}
			switch words[0] {
			case "hole":
			case "delalloc":
				b.t = iomap.Delalloc
			case "mapped", "shared":
				b.t, b.shared = iomap.Mapped, words[0] == "shared"
				f.put(t, b.addr, int64(len(f.blocks))*bs, make([]byte, bs))
			case "unwritten":
				b.t = iomap.Unwritten
			default:
				t.Fatalf("no kind %q", words[0])
			}
			f.blocks = append(f.blocks, b)
		}
	}
	ip.A.Mode, ip.A.Nlink = vfs.ModeRegular|0o644, 1
	ip.SetSize(size)
	ip.Op = &vfs.InodeOperations{}
	ip.Fop = &vfs.FileOperations{Fsync: func(ctx context.Context, file *vfs.File, start, end int64, _ bool) error {
		return file.Inode.Pages.WriteAndWait(ctx, start, end)
	}}
	ip.Pages.SetOps(&pagecache.Operations{
		ReadFolio: func(ctx context.Context, fo *pagecache.Folio) error {
			return iomap.ReadFolio(ctx, fo, f.Read, f.ReadOps)
		},
		Readahead: func(ctx context.Context, rac *pagecache.ReadaheadControl) {
			iomap.Readahead(ctx, rac, f.Read, f.ReadOps)
		},
		WritePages: func(ctx context.Context, as *pagecache.AddressSpace, wbc *pagecache.WritebackControl) error {
			return iomap.WritePages(ctx, as, wbc, f.Writeback)
		},
		DirtyFolio: iomap.DirtyFolio, ReleaseFolio: iomap.ReleaseFolio, InvalidateFolio: iomap.InvalidateFolio,
		IsPartiallyUptodate: iomap.IsPartiallyUptodate,
	})
	lo := uint8(0)
	for pagecache.PageSize<<lo < bs {
		lo++
	}
	hi := uint8(pagecache.MaxOrder)
	if fs.o.MaxOrder > 0 {
		hi = max(fs.o.MaxOrder, lo)
	}
	if fs.o.NoLarge {
		hi = lo
	}
	ip.Pages.SetOrders(lo, hi)
	ip.Publish(nil)
	t.Cleanup(func() { f.queue.Wait(); ip.Put() })
	return f
}

// Bytes reads "4096", "4k" or "1m".
func Bytes(t testing.TB, s string) int64 {
	t.Helper()
	unit := int64(1)
	switch s[len(s)-1] {
	case 'k':
		unit, s = 1<<10, s[:len(s)-1]
	case 'm':
		unit, s = 1<<20, s[:len(s)-1]
	}
	n, err := strconv.ParseInt(s, 10, 64)
	require.NoError(t, err)
	return n * unit
}

// Calls gives the begins and ends since the last call of Calls.
func (f *File) Calls() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.calls
	f.calls = nil
	return c
}

// Delalloc counts the bytes that are promised.
func (f *File) Delalloc() (n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.blocks {
		if f.blocks[i].t == iomap.Delalloc {
			n += 1 << f.FS.o.BlockBits
		}
	}
	return n
}

// Medium gives what the device holds of the file, as the map says, without the cache.
func (f *File) Medium(t testing.TB) []byte {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	bs := 1 << f.FS.o.BlockBits
	out := make([]byte, (int(f.Size())+bs-1)/bs*bs)
	if f.inline != nil {
		copy(out, f.inline)
	}
	for i := 0; i*bs < len(out) && i < len(f.blocks); i++ {
		if b := &f.blocks[i]; b.t == iomap.Mapped {
			part := out[i*bs : (i+1)*bs]
			require.NoError(t, block.ReadAt(f.FS.Dev, part, int64(b.addr)))
			if f.FS.o.Cipher != Plain {
				crypt(part, part, int64(i*bs))
			}
		}
	}
	return out[:f.Size()]
}

// Store puts bytes on the device where block i of the file lies, behind the library's back.
func (f *File) Store(t testing.TB, i int, p []byte) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.put(t, f.blocks[i].addr, int64(i)<<f.FS.o.BlockBits, p)
}

// put stores bytes of the file at pos at a byte of the device.
func (f *File) put(t testing.TB, addr uint64, pos int64, p []byte) {
	t.Helper()
	if f.FS.o.Cipher != Plain {
		out := make([]byte, len(p))
		crypt(out, p, pos)
		p = out
	}
	require.NoError(t, block.WriteAt(f.FS.Dev, p, int64(addr), 0))
}

// Types lists what is behind each block.
func (f *File) Types() (s []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.blocks {
		s = append(s, f.blocks[i].t.String())
	}
	return s
}

// Punch makes holes of the blocks wholly inside [pos, end), and drops their cache. Hold Rw and the invalidate lock exclusively.
func (f *File) Punch(pos, end int64) {
	bs := int64(1) << f.FS.o.BlockBits
	from, to := (pos+bs-1)/bs, end/bs
	if from >= to {
		return
	}
	f.Pages.TruncateRange(from*bs, to*bs)
	f.mu.Lock()
	for i := from; i < to && int(i) < len(f.blocks); i++ {
		f.blocks[i] = blockMap{}
	}
	f.seq++
	f.mu.Unlock()
}

// Fallocate makes holes of [pos, end) unwritten space.
func (f *File) Fallocate(pos, end int64) error {
	bs := int64(1) << f.FS.o.BlockBits
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	for i := pos / bs; i*bs < end; i++ {
		if b := f.at(i); b.t == iomap.Hole {
			addr, err := f.FS.take(bs)
			if err != nil {
				return err
			}
			*b = blockMap{t: iomap.Unwritten, addr: addr}
		}
	}
	return nil
}

// Share marks the mapped blocks of [pos, end) as belonging to somebody else too.
func (f *File) Share(pos, end int64) {
	bs := int64(1) << f.FS.o.BlockBits
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seq++
	for i := pos / bs; i*bs < end && int(i) < len(f.blocks); i++ {
		if b := &f.blocks[i]; b.t == iomap.Mapped && !b.hasCow {
			b.shared = true
		}
	}
}

// Cut drops what lies behind size, which becomes the file's. Hold Rw and the invalidate lock exclusively.
func (f *File) Cut(size int64) {
	f.SetSize(size)
	f.Pages.Truncate(size)
	bs := int64(1) << f.FS.o.BlockBits
	f.mu.Lock()
	if n := int((size + bs - 1) / bs); n < len(f.blocks) {
		f.blocks = f.blocks[:n]
	}
	f.seq++
	f.mu.Unlock()
}

// at gives block i, after making the map long enough. Under mu.
func (f *File) at(i int64) *blockMap {
	for int64(len(f.blocks)) <= i {
		f.blocks = append(f.blocks, blockMap{})
	}
	return &f.blocks[i]
}

// Forget gives back what is promised of the blocks of [pos, end).
func (f *File) Forget(pos, end int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := pos >> f.FS.o.BlockBits; i<<f.FS.o.BlockBits < end && int(i) < len(f.blocks); i++ {
		if f.blocks[i].t == iomap.Delalloc {
			f.blocks[i] = blockMap{}
		}
	}
	f.seq++
}
