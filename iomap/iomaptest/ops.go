package iomaptest

import (
	"context"
	"fmt"

	"github.com/iomapfs/iomapfs/iomap"
	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/errno"
)

// tables makes the operation tables.
func (f *File) tables() {
	f.Read = f.ops(f.readBegin, nil)
	f.Write = f.ops(f.writeBegin, f.writeEnd)
	f.Fault = f.ops(f.writeBegin, nil)
	f.Zero = f.ops(f.zeroBegin, nil)
	f.Direct = f.ops(f.directBegin, nil)
	f.Atomic, f.AtomicOps = f.ops(f.atomicBegin, nil), &iomap.DirectOps{EndIO: f.atomicEnd}
	f.DaxRead, f.DaxWrite = f.ops(f.daxRead, nil), f.ops(f.daxBegin, f.daxEnd)
	f.Writeback = &iomap.WritebackOps{MapBlocks: f.mapBlocks, Submit: f.submit}
	f.DirectOps = &iomap.DirectOps{EndIO: f.directEnd}
	if f.FS.o.Cipher != Plain {
		f.ReadOps, f.DirectOps.SubmitIO = f.cipherOps(), f.cryptDirect
	}
}

type beginFunc func(pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error

// ops wraps a begin and an end so that they are recorded.
func (f *File) ops(begin beginFunc, end func(ctx context.Context, pos, length, done int64, flags iomap.OpFlags, m *iomap.Mapping) error) *iomap.Ops {
	return &iomap.Ops{
		Begin: func(_ context.Context, _ *vfs.Inode, pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
			if f.Before != nil {
				f.Before(flags, pos)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			err := begin(pos, length, flags, m, src)
			f.calls = append(f.calls, Call{Begin: true, Pos: pos, Length: length, Flags: flags, Map: *m, Err: err})
			return err
		},
		End: func(ctx context.Context, _ *vfs.Inode, pos, length, done int64, flags iomap.OpFlags, m *iomap.Mapping) error {
			f.mu.Lock()
			f.calls = append(f.calls, Call{Pos: pos, Length: length, Done: done, Flags: flags, Map: *m})
			f.mu.Unlock()
			if end != nil {
				return end(ctx, pos, length, done, flags, m)
			}
			return nil
		},
	}
}

var folioOps = &iomap.FolioOps{Valid: func(ip *vfs.Inode, m *iomap.Mapping) bool { return m.Private.(*File).valid(m) }}

func (f *File) valid(m *iomap.Mapping) bool {
	if f.Invalid != nil && f.Invalid(m) {
		return false
	}
	if n := f.FS.o.StaleOdds; n > 0 && f.FS.roll(n) == 0 {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return m.Cookie == f.seq
}

// run gives the blocks from i on, no more than n, that are alike and lie together. A random answer is shorter.
func (f *File) run(i, n int64) (blockMap, int64) {
	bs := uint64(1) << f.FS.o.BlockBits
	get := func(i int64) blockMap {
		if i < int64(len(f.blocks)) {
			return f.blocks[i]
		}
		return blockMap{}
	}
	b, k := get(i), int64(1)
	for ; k < n; k++ {
		if i+k >= int64(len(f.blocks)) && b.t == iomap.Hole {
			k = n
			break
		}
		c := get(i + k)
		if c.t != b.t || c.shared != b.shared || c.hasCow != b.hasCow || b.t != iomap.Hole && b.t != iomap.Delalloc && c.addr != b.addr+uint64(k)*bs ||
			b.hasCow && c.cow != b.cow+uint64(k)*bs {
			break
		}
	}
	if f.FS.o.Seed != 0 && k > 1 && f.FS.roll(3) == 0 {
		k = 1 + int64(f.FS.roll(int(k)))
	}
	return b, k
}

// span gives the first block of a range and how many it touches.
func (f *File) span(pos, length int64) (i, n int64) {
	bs := int64(1) << f.FS.o.BlockBits
	i = pos / bs
	return i, max((pos+length+bs-1)/bs-i, 1)
}

// fill makes a mapping. Under mu.
func (f *File) fill(m *iomap.Mapping, i, n int64, b blockMap) {
	bits := f.FS.o.BlockBits
	m.Offset, m.Length, m.Type = i<<bits, n<<bits, b.t
	m.Dev, m.Cookie, m.FolioOps, m.Private = f.FS.Dev, f.seq, folioOps, f
	if b.t == iomap.Mapped || b.t == iomap.Unwritten {
		m.Addr = b.addr
	}
	if b.shared {
		m.Flags |= iomap.FlagShared
	}
}

// fillInline makes the mapping of a file in its inode. Under mu.
func (f *File) fillInline(m *iomap.Mapping) bool {
	if f.inline == nil {
		return false
	}
	m.Offset, m.Length, m.Type, m.InlineData = 0, int64(len(f.inline)), iomap.Inline, f.inline
	m.Cookie, m.FolioOps, m.Private = f.seq, folioOps, f
	return true
}

func (f *File) readBegin(pos, length int64, _ iomap.OpFlags, m, _ *iomap.Mapping) error {
	if pos < int64(len(f.inline)) && f.fillInline(m) {
		return nil
	}
	i, n := f.span(pos, length)
	b, k := f.run(i, n)
	f.fill(m, i, k, b)
	return nil
}

// writeBegin promises space over holes, and gives shared blocks a place of their own.
func (f *File) writeBegin(pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
	if f.inline != nil {
		if pos+length > int64(len(f.inline)) {
			return errno.FBIG
		}
		f.fillInline(m)
		return nil
	}
	i, n := f.span(pos, length)
	b, k := f.run(i, n)
	switch {
	case b.t == iomap.Hole && flags&iomap.OpUnshare != 0:
		f.fill(m, i, k, b)
		return nil
	case b.t == iomap.Hole:
		bs := int64(1) << f.FS.o.BlockBits
		if left := f.FS.Left()/bs - f.promisedBlocks(); left < k {
			if k = left; k <= 0 {
				return fmt.Errorf("iomaptest: %w", errno.NOSPC)
			}
		}
		for j := range k {
			f.at(i + j).t = iomap.Delalloc
		}
		b.t = iomap.Delalloc
		f.fill(m, i, k, b)
		m.Flags |= iomap.FlagNew
		return nil
	case b.shared && b.t == iomap.Mapped:
		if !b.hasCow {
			cow, err := f.FS.take(k << f.FS.o.BlockBits)
			if err != nil {
				return err
			}
			for j := range k {
				c := f.at(i + j)
				c.cow, c.hasCow = cow+uint64(j)<<f.FS.o.BlockBits, true
			}
			b.cow = cow
		}
		f.fill(src, i, k, blockMap{t: iomap.Mapped, addr: b.addr})
		f.fill(m, i, k, blockMap{t: iomap.Unwritten, addr: b.cow, shared: true})
		return nil
	}
	f.fill(m, i, k, b)
	return nil
}

func (f *File) promisedBlocks() (n int64) {
	for i := range f.blocks {
		if f.blocks[i].t == iomap.Delalloc {
			n++
		}
	}
	return n
}

// writeEnd gives back what was promised and not used.
func (f *File) writeEnd(ctx context.Context, pos, _, done int64, flags iomap.OpFlags, m *iomap.Mapping) error {
	if m.Type != iomap.Delalloc || m.Flags&iomap.FlagNew == 0 {
		return nil
	}
	bs := int64(1) << f.FS.o.BlockBits
	start := (pos + done + bs - 1) / bs * bs
	if done == 0 {
		start = pos / bs * bs
	}
	if start >= m.End() {
		return nil
	}
	f.Pages.InvalidateLock.Lock()
	defer f.Pages.InvalidateLock.Unlock()
	return iomap.ReleaseDelalloc(ctx, f.Inode, start, m.End(), flags, m, func(_ *vfs.Inode, pos, length int64, _ *iomap.Mapping) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.Punched = append(f.Punched, fmt.Sprintf("[%d,%d)", pos, pos+length))
		for i := pos / bs; i < (pos+length)/bs && i < int64(len(f.blocks)); i++ {
			if f.blocks[i].t == iomap.Delalloc {
				f.blocks[i] = blockMap{}
			}
		}
		f.seq++
	})
}

// zeroBegin is readBegin, but shared blocks are copied.
func (f *File) zeroBegin(pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
	i, n := f.span(pos, length)
	if b, _ := f.run(i, n); b.shared && b.t == iomap.Mapped {
		return f.writeBegin(pos, length, flags, m, src)
	}
	return f.readBegin(pos, length, flags, m, src)
}

// directBegin allocates unwritten space, which directEnd converts.
func (f *File) directBegin(pos, length int64, flags iomap.OpFlags, m, src *iomap.Mapping) error {
	if flags&iomap.OpWrite == 0 || f.inline != nil {
		return f.readBegin(pos, length, flags, m, src)
	}
	i, n := f.span(pos, length)
	b, k := f.run(i, n)
	if flags&iomap.OpOverwriteOnly != 0 && (b.t != iomap.Mapped || k < n) {
		return errno.AGAIN
	}
	switch {
	case (b.t == iomap.Hole || b.t == iomap.Delalloc) && f.FS.o.NoUnwritten:
		return vfs.ErrNotBlock
	case b.t == iomap.Hole || b.t == iomap.Delalloc:
		addr, err := f.FS.take(k << f.FS.o.BlockBits)
		if err != nil {
			return err
		}
		for j := range k {
			*f.at(i + j) = blockMap{t: iomap.Unwritten, addr: addr + uint64(j)<<f.FS.o.BlockBits}
		}
		f.seq++
		f.fill(m, i, k, *f.at(i))
		m.Flags |= iomap.FlagNew
	case b.shared:
		return vfs.ErrNotBlock
	default:
		f.fill(m, i, k, b)
	}
	if pos+length > f.Size() {
		m.Flags |= iomap.FlagDirty
	}
	return nil
}

// directEnd converts what was unwritten, then moves the end of the file.
func (f *File) directEnd(_ context.Context, k *vfs.Kiocb, size int64, err error, r iomap.DirectResult) error {
	if err != nil || size == 0 {
		return err
	}
	if r&iomap.DirectUnwritten != 0 {
		f.convert(k.Pos, size, false)
	}
	f.grow(k.Pos + size)
	return nil
}

// grow moves the end of the file to end, if that is farther: completions race.
func (f *File) grow(end int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if end > f.Size() {
		f.SetSize(end)
	}
}

// convert makes the blocks of a range written, or puts the copies of shared ones in their place.
func (f *File) convert(pos, size int64, cow bool) {
	i, n := f.span(pos, size)
	f.mu.Lock()
	defer f.mu.Unlock()
	for j := i; j < i+n && j < int64(len(f.blocks)); j++ {
		b := &f.blocks[j]
		switch {
		case cow && b.hasCow:
			*b = blockMap{t: iomap.Mapped, addr: b.cow}
		case !cow && b.t == iomap.Unwritten:
			b.t = iomap.Mapped
		}
	}
	f.seq++
}

// mapBlocks chooses space for promised blocks: unwritten, if there is such, which completion converts.
func (f *File) mapBlocks(_ context.Context, wc *iomap.WritebackContext, pos, length int64) error {
	if fail := f.FS.FailMap; fail != nil {
		if err := fail(pos); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := &wc.Map; pos >= m.Offset && pos < m.End() && m.Cookie == f.seq {
		return nil
	}
	i, n := f.span(pos, length)
	if f.FS.o.Greedy {
		n = int64(len(f.blocks)) - i
	}
	b, k := f.run(i, n)
	wc.Map = iomap.Mapping{Addr: iomap.NullAddr}
	switch {
	case b.hasCow:
		b = blockMap{t: iomap.Unwritten, addr: b.cow, shared: true}
	case b.shared:
		return fmt.Errorf("iomaptest: dirty data over a shared block at %d without a place for it: %w", pos, errno.IO)
	case b.t == iomap.Delalloc:
		addr, err := f.FS.take(k << f.FS.o.BlockBits)
		if err != nil {
			return err
		}
		chosen := iomap.Unwritten
		if f.FS.o.NoUnwritten {
			chosen = iomap.Mapped
		}
		for j := range k {
			*f.at(i + j) = blockMap{t: chosen, addr: addr + uint64(j)<<f.FS.o.BlockBits}
		}
		f.seq++
		b = *f.at(i)
	}
	f.fill(&wc.Map, i, k, b)
	return nil
}

// submit lets completion go through the queue where the map has to change.
func (f *File) submit(_ *iomap.WritebackContext, io *iomap.Ioend) error {
	if io.Type == iomap.Unwritten || io.Flags&iomap.FlagShared != 0 {
		io.End = f.queue.Add
	}
	if f.FS.o.Cipher != Plain {
		encrypt(io)
	}
	io.Submit()
	return nil
}

// written is the queue's handler.
func (f *File) written(io *iomap.Ioend) error {
	if io.Err == nil {
		f.convert(io.Pos, io.Size, io.Flags&iomap.FlagShared != 0)
	}
	return nil
}

// atomicBegin gives an untorn write a place of its own for all of its range.
func (f *File) atomicBegin(pos, length int64, _ iomap.OpFlags, m, _ *iomap.Mapping) error {
	i, n := f.span(pos, length)
	addr, err := f.FS.take(n << f.FS.o.BlockBits)
	if err != nil {
		return err
	}
	for j := range n {
		b := f.at(i + j)
		b.cow, b.hasCow = addr+uint64(j)<<f.FS.o.BlockBits, true
	}
	f.fill(m, i, n, blockMap{t: iomap.Unwritten, addr: addr, shared: true})
	return nil
}

// atomicEnd puts all of it in at once, or forgets it.
func (f *File) atomicEnd(_ context.Context, k *vfs.Kiocb, size int64, err error, _ iomap.DirectResult) error {
	if err == nil {
		f.convert(k.Pos, size, true)
		f.grow(k.Pos + size)
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.blocks {
		f.blocks[i].hasCow = f.blocks[i].hasCow && f.blocks[i].shared
	}
	f.seq++
	return err
}
