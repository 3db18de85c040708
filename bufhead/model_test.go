package bufhead_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/iomapfs/iomapfs/bufhead"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
)

// Random operations of one file against bytes in memory: maps, runs and failures of get_block at random, written back and dropped from
// the cache at the same time, over a device full of poison.
func TestModel(t *testing.T) {
	for _, bits := range []uint8{9, 10, 12, 16} {
		for _, how := range []string{"at once", "delay", "unwritten", "cont"} {
			t.Run(fmt.Sprintf("%d %s", 1<<bits, how), func(t *testing.T) {
				s := seed(t)
				fs := newFS(t, options{bits: bits, seed: s, cache: 1 << 20})
				spec, size := "mapped 64k; hole 64k; unwritten 64k; boundary 64k", int64(230<<10)
				if how == "cont" {
					spec, size = "mapped 64k; boundary 64k", 128<<10-300
				}
				f := fs.file(t, spec, size)
				f.delay, f.unwritten, f.cont = how == "delay", how == "unwritten", how == "cont"
				m := &model{t: t, f: f, want: make([]byte, size), rng: rand.New(rand.NewPCG(s, 2))}
				m.run(250)
			})
		}
	}
}

type model struct {
	t    *testing.T
	f    *file
	want []byte
	rng  *rand.Rand
	note string // how the last write went
}

const modelTop = 400 << 10

func (m *model) run(ops int) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { // writeback and reclaim at every moment
		for {
			select {
			case <-stop:
				return
			case <-time.After(300 * time.Microsecond):
			}
			_ = m.f.Pages.FlushStart(ctx, 0, 1<<40)
			m.f.Pages.DropClean(0, 1<<40)
		}
	})
	defer wg.Wait()
	defer close(stop)
	steps := []struct {
		name string
		f    func(pos int64, n int)
	}{
		{"write", m.write}, {"write", m.write}, {"write", m.write}, {"fault", m.fault}, {"truncate", m.truncate}, {"punch", m.punch},
		{"sync", m.sync}, {"direct write", m.directWrite}, {"direct write", m.directWrite}, {"direct read", m.directRead},
		{"release", func(int64, int) { m.f.Pages.DropClean(0, 1<<40) }}, {"invalidate", m.invalidate}, {"seek", m.seek},
	}
	buf := make([]byte, 2*modelTop)
	for op := range ops {
		pos, n := m.rng.Int64N(modelTop), 1+m.rng.IntN(1<<m.rng.IntN(17))
		if m.rng.IntN(4) == 0 {
			pos = int64(max(0, len(m.want)-m.rng.IntN(3000))) // where things happen
		}
		s := steps[m.rng.IntN(len(steps))]
		s.f(pos, n)
		require.Equal(m.t, int64(len(m.want)), m.f.Size(), "op %d, %s [%d,+%d)", op, s.name, pos, n)
		k, err := m.f.Pages.Read(ctx, nil, buf, 0, 0)
		require.NoError(m.t, err)
		if !bytes.Equal(m.want, buf[:k]) {
			for i := range m.want {
				if i >= k || m.want[i] != buf[i] {
					m.t.Fatalf("op %d, %s [%d,+%d): byte %d of %d is wrong: %#x, not %#x (last write: %s)", op, s.name, pos, n, i, len(m.want), buf[i], m.want[i], m.note)
				}
			}
		}
	}
	m.sync(0, 0)
}

func (m *model) bytes(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(m.rng.IntN(0xA0) + 1)
	}
	return p
}

// store puts n bytes of p into the expected contents.
func (m *model) store(p []byte, pos int64) {
	if end := int(pos) + len(p); len(p) > 0 && end > len(m.want) {
		m.want = append(m.want, make([]byte, end-len(m.want))...)
	}
	copy(m.want[min(pos, int64(len(m.want))):], p)
}

// failing makes get_block fail once, at the n-th call.
func failing(gb bufhead.GetBlock, n int) bufhead.GetBlock {
	return func(ctx context.Context, ip *vfs.Inode, i uint64, bh *bufhead.BufferHead, create bool) error {
		if n--; n == 0 {
			return errno.NOSPC
		}
		return gb(ctx, ip, i, bh, create)
	}
}

// write goes through the cache, with copies that fall short, and get_block failing at some call.
func (m *model) write(pos int64, n int) {
	f, p := m.f, m.bytes(n)
	short, gb := m.rng.IntN(3) == 0, f.forWrite()
	if !short && m.rng.IntN(4) == 0 {
		gb = failing(gb, 1+m.rng.IntN(6))
	}
	f.Rw.Lock()
	defer f.Rw.Unlock()
	m.beyond(pos)
	k := vfs.Kiocb{Inode: f.Inode, Pos: pos}
	tried := -1
	got, err := bufhead.WriteFrom(ctx, &k, n, func(dst []byte, off int) int {
		if short && off != tried && m.rng.IntN(2) == 0 {
			dst, tried = dst[:m.rng.IntN(len(dst)+1)], off // once: what a source gave it gives again
		}
		return copy(dst, p[off:])
	}, gb, f.opts())
	if err != nil {
		require.Zero(m.t, got)
	}
	m.note = fmt.Sprintf("%d of %d at %d, short %v, %v", got, n, pos, short, err)
	require.Equal(m.t, pos+int64(got), k.Pos)
	m.store(p[:got], pos)
}

// beyond zeroes behind the end in its block before a write past it, as filesystems do.
func (m *model) beyond(pos int64) {
	if size := m.f.Size(); pos > size && !m.f.cont {
		require.NoError(m.t, bufhead.TruncatePage(ctx, m.f.Inode, size, m.f.getBlock))
	}
}

// fault stores through a mapping, also behind the end of the file, where it must never come into sight.
func (m *model) fault(pos int64, n int) {
	f := m.f
	if pos >= int64(len(m.want)) {
		return
	}
	for {
		fo, err := f.Pages.ReadFolio(ctx, uint64(pos)>>pagecache.PageShift)
		require.NoError(m.t, err)
		fo.Lock()
		if fo.AddressSpace() == nil || !fo.Uptodate() {
			fo.Unlock()
			fo.Put()
			continue
		}
		require.NoError(m.t, bufhead.PageMkwrite(ctx, f.Inode, fo, f.forWrite()))
		p := m.bytes(min(n, len(m.want)-int(pos), int(fo.End()-pos)))
		copy(fo.Data()[pos-fo.Pos():], p)
		copy(m.want[pos:], p)
		if tail := int64(len(m.want)) - fo.Pos(); tail < int64(fo.Len()) {
			copy(fo.Data()[tail:], poisoned(fo.Len()))
		}
		fo.Unlock()
		fo.Put()
		return
	}
}

func (m *model) truncate(pos int64, _ int) {
	require.NoError(m.t, m.f.truncate(pos))
	if int(pos) > len(m.want) {
		m.want = append(m.want, make([]byte, int(pos)-len(m.want))...)
	}
	m.want = m.want[:pos]
}

// punch makes zeros, of whole blocks holes where there can be any.
func (m *model) punch(pos int64, n int) {
	f := m.f
	end := min(pos+int64(n), int64(len(m.want)))
	if pos >= end {
		return
	}
	f.Rw.Lock()
	f.Pages.InvalidateLock.Lock()
	defer f.Rw.Unlock()
	defer f.Pages.InvalidateLock.Unlock()
	bs := int64(f.BlockSize())
	first, last := (pos+bs-1)&^(bs-1), end&^(bs-1)
	if f.cont || first >= last {
		first, last = end, end
	}
	require.NoError(m.t, bufhead.ZeroRange(ctx, f.Inode, pos, first, f.getBlock))
	require.NoError(m.t, bufhead.ZeroRange(ctx, f.Inode, last, end, f.getBlock))
	f.Pages.TruncateRange(first, last)
	f.mu.Lock()
	for i := first / bs; i < last/bs; i++ {
		if s := f.slot(uint64(i)); s.kind != hole {
			if s.kind != delay {
				f.fs.give(s.at)
			}
			*s = slot{}
		}
	}
	f.mu.Unlock()
	clear(m.want[pos:end])
}

// sync writes all, and looks at the medium.
func (m *model) sync(int64, int) {
	require.NoError(m.t, m.f.Pages.WriteAndWait(ctx, 0, 1<<40))
	require.True(m.t, bytes.Equal(m.want, m.f.medium(m.t)), "the medium")
}

func (m *model) directWrite(pos int64, n int) {
	f := m.f
	pos, n = pos&^511, (n+511)&^511
	if f.cont && pos+int64(n) > f.Size()&^511 {
		return
	}
	p := m.bytes(n)
	o := bufhead.DirectOptions{Overwrite: m.rng.IntN(3) == 0, SkipHoles: m.rng.IntN(2) == 0}
	if o.Overwrite && pos+int64(n) > f.Size() {
		return
	}
	if !o.Overwrite {
		f.Rw.Lock()
		m.beyond(pos)
		f.Rw.Unlock()
	}
	var a answer
	a, _ = f.direct(p, pos, true, m.rng.IntN(2) == 0, o)
	require.NoError(m.t, a.err)
	m.store(p[:a.n], pos)
	if a.n < n {
		got, err := f.write(p[a.n:], pos+int64(a.n))
		require.NoError(m.t, err)
		m.store(p[a.n:][:got], pos+int64(a.n))
	}
}

func (m *model) directRead(pos int64, n int) {
	pos, n = pos&^511, (n+511)&^511
	p := poisoned(n)
	a, _ := m.f.direct(p, pos, false, m.rng.IntN(2) == 0, bufhead.DirectOptions{})
	require.NoError(m.t, a.err)
	want := m.want[min(int(pos), len(m.want)):min(int(pos)+n, len(m.want))]
	require.Equal(m.t, len(want), a.n)
	require.True(m.t, bytes.Equal(want, p[:a.n]), "direct read of %d bytes at %d", n, pos)
}

func (m *model) invalidate(pos int64, n int) {
	m.f.Rw.Lock()
	defer m.f.Rw.Unlock()
	require.NoError(m.t, m.f.Pages.WriteAndWait(ctx, pos, pos+int64(n)))
	_ = m.f.Pages.Invalidate(ctx, pos, pos+int64(n)) // may be busy: folios around hold dirty blocks of both sides
}

// seek finds no hole where there is data.
func (m *model) seek(pos int64, _ int) {
	if pos >= int64(len(m.want)) {
		return
	}
	at, err := bufhead.Seek(ctx, m.f.Inode, pos, vfs.SeekData, m.f.getBlock)
	if err != nil {
		require.ErrorIs(m.t, err, errno.NXIO)
		at = int64(len(m.want))
	}
	require.GreaterOrEqual(m.t, at, pos)
	require.Equal(m.t, make([]byte, at-pos), m.want[pos:at], "a hole from %d to %d", pos, at)
	end, err := bufhead.Seek(ctx, m.f.Inode, pos, vfs.SeekHole, m.f.getBlock)
	require.NoError(m.t, err)
	require.True(m.t, (at == pos) != (end == pos), "data at %d, a hole at %d, from %d", at, end, pos)
}
