package bridge_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/bufhead/bridge"
	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/iomap/iomaptest"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

var ctx = context.Background()

// file is a file of iomaptest whose page cache is kept in buffer heads: its mappings say so, and get_block is answered from its begins.
type file struct {
	*iomaptest.File
	bd           *bufhead.Device
	write, fault *iomap.Ops
	zero, settle *iomap.Ops
}

func newFile(t testing.TB, fs *iomaptest.FS, spec string, size int64) *file {
	t.Helper()
	f := &file{File: fs.File(t, spec, size)}
	var err error
	f.bd, err = bufhead.NewDevice(fs.Dev, fs.SB.Cache, fs.SB.WB, f.BlockSize())
	require.NoError(t, err)
	t.Cleanup(f.bd.Close)
	mark := func(ops *iomap.Ops) *iomap.Ops {
		return &iomap.Ops{End: ops.End, Begin: func(ctx context.Context, ip *vfs.Inode, pos, length int64, fl iomap.OpFlags, m, src *iomap.Mapping) error {
			err := ops.Begin(ctx, ip, pos, length, fl, m, src)
			m.Flags |= iomap.FlagBufferHead
			m.Buffers = bridge.Buffers{Dev: f.bd}
			return err
		}}
	}
	f.write, f.fault, f.zero = mark(f.Write), mark(f.Fault), mark(f.Zero)
	// What writeback asks is settled at once: chosen, and written.
	f.settle = &iomap.Ops{Begin: func(ctx context.Context, ip *vfs.Inode, pos, length int64, fl iomap.OpFlags, m, src *iomap.Mapping) error {
		length = int64(ip.BlockSize())
		if err := f.Direct.Begin(ctx, ip, pos, length, fl|iomap.OpDirect, m, src); err != nil || m.Type != iomap.Unwritten {
			return err
		}
		m.Type, m.Length = iomap.Mapped, min(m.Length, length)
		m.Flags |= iomap.FlagNew
		k := vfs.Kiocb{Inode: ip, Pos: pos}
		return f.DirectOps.EndIO(ctx, &k, min(length, ip.Size()-pos), nil, iomap.DirectUnwritten)
	}}
	f.Pages.SetOps(&pagecache.Operations{
		ReadFolio: func(ctx context.Context, fo *pagecache.Folio) error { return bufhead.ReadFolio(ctx, fo, f.getBlock) },
		Readahead: func(ctx context.Context, rac *pagecache.ReadaheadControl) { bufhead.Readahead(ctx, rac, f.getBlock) },
		WritePages: func(ctx context.Context, as *pagecache.AddressSpace, wbc *pagecache.WritebackControl) error {
			return bufhead.WritePages(ctx, as, wbc, f.getBlock)
		},
		DirtyFolio: bufhead.DirtyFolio, ReleaseFolio: bufhead.ReleaseFolio, InvalidateFolio: bufhead.InvalidateFolio,
		IsPartiallyUptodate: bufhead.IsPartiallyUptodate,
	})
	return f
}

func (f *file) getBlock(ctx context.Context, ip *vfs.Inode, iblock uint64, bh *bufhead.BufferHead, create bool) error {
	ops := f.Read
	if create {
		ops = f.settle
	}
	return bridge.GetBlock(ctx, ip, iblock, bh, create, ops, f.bd)
}

func (f *file) zeroGap(pos int64) error {
	size := f.Size()
	if pos <= size {
		return nil
	}
	f.Pages.InvalidateLock.Lock()
	defer f.Pages.InvalidateLock.Unlock()
	_, err := iomap.ZeroRange(ctx, f.Inode, size, pos-size, f.zero, nil)
	return err
}

func (f *file) store(p []byte, pos int64, fill func(dst []byte, off int) int) (int, error) {
	f.Rw.Lock()
	defer f.Rw.Unlock()
	if err := f.zeroGap(pos); err != nil {
		return 0, err
	}
	k := vfs.Kiocb{Inode: f.Inode, Pos: pos}
	if fill == nil {
		fill = func(dst []byte, off int) int { return copy(dst, p[off:]) }
	}
	return iomap.BufferedWriteFrom(ctx, &k, len(p), fill, f.write, nil, nil)
}

// fault stores to a page through a mapping.
func (f *file) faultIn(t testing.TB, p []byte, pos int64) {
	fo, err := f.Pages.ReadFolio(ctx, uint64(pos)>>pagecache.PageShift)
	require.NoError(t, err)
	fo.Lock()
	require.NoError(t, iomap.PageMkwrite(ctx, f.Inode, fo, f.fault))
	copy(fo.Data()[pos-fo.Pos():], p)
	fo.Unlock()
	fo.Put()
}

func (f *file) read(t testing.TB) []byte {
	p := make([]byte, f.Size()+1)
	n, err := f.Pages.Read(ctx, nil, p, 0, 0)
	require.NoError(t, err)
	return p[:n]
}

func (f *file) sync(t testing.TB) {
	require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
	f.Pages.DropClean(0, 1<<40)
}

// Each kind of mapping, written to in part through buffer heads: what surrounds the write is zeros, or what was there.
func TestKinds(t *testing.T) {
	for _, kind := range []string{"hole", "mapped", "unwritten"} {
		for _, size := range []int64{0, 700, 1024, 3000, 16384} {
			for _, at := range []int64{0, 100, 1023, 1024, 2500, 5000} {
				fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true, Size: 4 << 20})
				f := newFile(t, fs, kind+" 16k", size)
				if kind == "mapped" {
					// Behind the end of the file anything may lie.
					for i := (size + 1023) / 1024; i < 16; i++ {
						f.Store(t, int(i), bytes.Repeat([]byte{iomaptest.Poison}, 1024))
					}
				}
				before := bufhead.ReadStats()
				n, err := f.store([]byte("hello"), at, nil)
				require.NoError(t, err)
				require.Equal(t, 5, n)
				require.Greater(t, bufhead.ReadStats().BufferHeads, before.BufferHeads, "kept in buffer heads")
				want := make([]byte, max(size, at+5))
				copy(want[at:], "hello")
				name := fmt.Sprintf("%s, %d bytes, at %d", kind, size, at)
				require.True(t, bytes.Equal(want, f.read(t)), name)
				f.sync(t)
				require.True(t, bytes.Equal(want, f.read(t)), name)
				require.True(t, bytes.Equal(want, f.Medium(t)), name)
			}
		}
	}
}

// A mapping that does not cover the block, or lies on another device, is an error that says so, and nothing is locked.
func TestWrongMapping(t *testing.T) {
	fs := iomaptest.New(t, iomaptest.Options{BlockBits: 10, NoLarge: true, Size: 4 << 20})
	f := newFile(t, fs, "mapped 16k", 16<<10)
	fo, err := f.Pages.Grab(ctx, 0, 0)
	require.NoError(t, err)
	defer func() { fo.Unlock(); fo.Put() }()
	b := bridge.Buffers{Dev: f.bd}
	m := iomap.Mapping{Offset: 0, Length: 1024, Addr: 1 << 20, Type: iomap.Mapped, Dev: fs.Dev}
	require.NoError(t, b.WriteBegin(ctx, f.Inode, fo, 0, 1024, &m))
	require.ErrorIs(t, b.WriteBegin(ctx, f.Inode, fo, 0, 2048, &m), errno.IO)
	other := iomaptest.New(t, iomaptest.Options{Size: 1 << 20})
	m.Length, m.Dev = 4096, other.Dev
	require.ErrorIs(t, b.WriteBegin(ctx, f.Inode, fo, 1024, 1024, &m), errno.IO)
	m = iomap.Mapping{Offset: 0, Length: 4096, Addr: iomap.NullAddr, Type: iomap.Inline, InlineData: make([]byte, 4096)}
	require.ErrorIs(t, b.WriteBegin(ctx, f.Inode, fo, 1024, 1024, &m), errno.OPNOTSUPP)
}

// Random writes with short copies, faults, zeroing, truncation, writeback, and memory taken away, against bytes in memory.
func TestModel(t *testing.T) {
	for _, bits := range []uint8{9, 10, 12, 14} {
		t.Run(fmt.Sprint(bits), func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			if v, err := strconv.ParseUint(os.Getenv("IOMAPFS_SEED"), 10, 64); err == nil {
				seed = v
			}
			t.Logf("IOMAPFS_SEED=%d", seed)
			rng := rand.New(rand.NewPCG(seed, 3))
			fs := iomaptest.New(t, iomaptest.Options{BlockBits: bits, NoLarge: true, Size: 32 << 20, Seed: seed, Cache: 256 << 10})
			f := newFile(t, fs, "mapped 32k; unwritten 32k; hole 32k", 90<<10)
			want := make([]byte, 90<<10)
			const top = 200 << 10
			for op := range 500 {
				pos, n := rng.Int64N(top), 1+rng.IntN(1<<rng.IntN(15))
				what := ""
				switch rng.IntN(8) {
				case 0, 1, 2:
					what = "write"
					p := make([]byte, n)
					for i := range p {
						p[i] = byte(rng.IntN(255) + 1)
					}
					short := rng.IntN(3) == 0
					got, err := f.store(p, pos, func(dst []byte, off int) int {
						if short && len(dst) > 1 && rng.IntN(2) == 0 {
							dst = dst[:1+rng.IntN(len(dst))]
						}
						return copy(dst, p[off:])
					})
					require.NoError(t, err)
					require.Equal(t, n, got)
					if end := int(pos) + n; end > len(want) {
						want = append(want, make([]byte, end-len(want))...)
					}
					copy(want[pos:], p)
				case 3:
					what = "fault"
					if pos >= int64(len(want)) {
						continue
					}
					k := min(n, len(want)-int(pos), int(pagecache.PageSize-pos%pagecache.PageSize))
					p := bytes.Repeat([]byte{byte(op)}, k)
					f.faultIn(t, p, pos)
					copy(want[pos:], p)
				case 4:
					what = "zero"
					end := min(pos+int64(n), int64(len(want)))
					if pos >= end {
						continue
					}
					f.Rw.Lock()
					f.Pages.InvalidateLock.Lock()
					_, err := iomap.ZeroRange(ctx, f.Inode, pos, end-pos, f.zero, nil)
					f.Pages.InvalidateLock.Unlock()
					f.Rw.Unlock()
					require.NoError(t, err)
					clear(want[pos:end])
				case 5:
					what = "truncate"
					f.Rw.Lock()
					if pos > f.Size() {
						require.NoError(t, f.zeroGap(pos))
						old := f.Size()
						f.SetSize(pos)
						f.Pages.Extended(old, pos)
						want = append(want, make([]byte, int(pos)-len(want))...)
					} else {
						f.Pages.InvalidateLock.Lock()
						_, err := iomap.TruncatePage(ctx, f.Inode, pos, f.zero, nil)
						require.NoError(t, err)
						f.Cut(pos)
						f.Pages.InvalidateLock.Unlock()
						want = want[:pos]
					}
					f.Rw.Unlock()
				case 6:
					what = "sync"
					require.NoError(t, f.Pages.WriteAndWait(ctx, 0, 1<<40))
					require.True(t, bytes.Equal(want, f.Medium(t)), "op %d: the medium", op)
				case 7:
					what = "drop"
					f.Pages.DropClean(0, 1<<40)
				}
				if got := f.read(t); !bytes.Equal(want, got) {
					for i := range want {
						if i >= len(got) || want[i] != got[i] {
							t.Fatalf("op %d, %s [%d,+%d): byte %d of %d is wrong", op, what, pos, n, i, len(want))
						}
					}
					t.Fatalf("op %d, %s: %d bytes, want %d", op, what, len(got), len(want))
				}
			}
		})
	}
}
