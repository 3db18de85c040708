package iomap

import (
	"context"
	"fmt"
	"sync"

	"github.com/iomapfs/iomapfs/vfs"
	"github.com/iomapfs/iomapfs/vfs/block"
	"github.com/iomapfs/iomapfs/vfs/pagecache"
	"github.com/iomapfs/iomapfs/vfs/trace"
)

// WriteThrough (RWF_WRITETHROUGH) stores p at k.Pos in the cache and on the device at once, and moves k.Pos on: direct I/O's latency, and the
// cache agrees with it. Only the blocks that p touches are written; what else of their folios is dirty stays so. Begin is asked with
// OpWrite and OpWriteThrough, and answers with mapped or unwritten space; EndIO converts it and moves the end of the file, once, when all is
// on the device. k.Synced says that it is durable already. Like Direct it may be asynchronous (k.Done), unless it moves the end.
//
// Hold ip.Rw exclusively. The caller has zeroed the gap between the end of the file and k.Pos.
//
// Errors: Direct's, but for those of alignment and of the cache. vfs.ErrNotBlock from Begin gives a short count: the rest is for
// BufferedWrite. An error of the device is also recorded for everybody who has the file open, since the cache holds what the
// device does not. Behind the end of the file the cache is dropped then.
func WriteThrough(ctx context.Context, k *vfs.Kiocb, p []byte, ops *Ops, ro *ReadOps, do *DirectOps, private any) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	ip, start := k.Inode, k.Pos
	k.Synced, k.Complete = false, nil
	d := newDirect(k, p, true, do, 0)
	d.kept = true
	if start+int64(len(p)) > d.size {
		d.async = false
	}
	d.wantSync()
	flags := OpWrite | OpWriteThrough
	if k.NoWait {
		flags |= OpNoWait
	}
	it := NewIter(ip, start, int64(len(p)), flags, ops)
	defer it.Close(ctx)
	it.Private = private
	ip.DirectBegin()
	d.left.Store(1)
	for it.Next(ctx) {
		d.storeThrough(ctx, it, ro)
		if d.failed() {
			it.Fail(errStop)
		}
	}
	d.ended(it)
	n, err := d.finish(ctx)
	if err != nil && err != vfs.ErrQueued {
		dropPast(ip, start, int64(len(p)))
	}
	return n, err
}

// storeThrough stores what the mapping in use serves, folio by folio, and sends it off in bios as long as the device takes.
func (d *direct) storeThrough(ctx context.Context, it *Iter, ro *ReadOps) {
	m, ip := &it.Map, it.Inode
	if !m.Type.hasAddr() {
		it.Fail(it.broken("a write through the cache is answered by %s", m))
		return
	}
	d.classify(m, m.Dev.Limits())
	var b *throughBio
	for it.Usable() > 0 && !it.IsStale() && !d.failed() {
		if !d.k.NoWait {
			if err := ip.SB().WB.Balance(ctx, &ip.Pages); err != nil {
				it.Fail(err)
				break
			}
		}
		pos := it.Pos()
		fo, n, err := writeBegin(ctx, it, ro, min(it.Usable(), pagecache.PageSize<<pagecache.MaxOrder))
		if err != nil || fo == nil {
			it.Fail(err)
			break
		}
		off := int(pos - fo.Pos())
		copy(fo.Data()[off:off+n], d.buf[pos-d.k.Pos:])
		b = d.sendFolio(it, fo, off, n, b)
		putFolio(it, pos, int64(n), fo)
		d.moved += int64(n)
		it.Advance(int64(n))
	}
	if b != nil {
		b.submit(it)
	}
}

// sendFolio puts the blocks of [off, off+n) of a locked folio under writeback and into the bio, or a new one. Blocks of the folio outside of
// them stay as they are.
func (d *direct) sendFolio(it *Iter, fo *pagecache.Folio, off, n int, b *throughBio) *throughBio {
	ip, m := it.Inode, &it.Map
	bs := ip.BlockSize()
	from, to := off&^(bs-1), (off+n+bs-1)&^(bs-1)
	fo.WaitWriteback()
	setUptodate(fo, off, n)
	if end := int(max(fo.Pos()+int64(off+n), ip.Size()) - fo.Pos()); end < to {
		clear(fo.Data()[end:to]) // what a store through a mapping left behind the end
	}
	if cleanBlocks(fo, from, to) {
		fo.ClearDirtyForIO()
	}
	fo.MarkAccessed()
	if st := ensureState(fo, ip.BlockBits()); st != nil {
		st.writes.Add(int64(to - from))
	}
	fo.StartWriteback()
	addr := m.AddrOf(fo.Pos() + int64(from))
	for from < to {
		k := to - from
		if b != nil {
			if k = b.room(addr, k); k == 0 {
				b.submit(it)
				b = nil
			}
		}
		if b == nil {
			b = newThroughBio(d, m.Dev, addr, int64(bs))
			k = b.room(addr, to-from)
		}
		b.add(fo, from, k)
		from, addr = from+k, addr+int64(k)
	}
	return b
}

// cleanBlocks marks blocks [from, to) of a locked folio clean, and reports whether none is dirty any more.
func cleanBlocks(fo *pagecache.Folio, from, to int) bool {
	st := stateOf(fo)
	if st == nil {
		return true // one block, or all of them
	}
	i, j := st.span(from, to-from)
	for ; i < j; i++ {
		st.bits[st.half+int(i/64)] &^= 1 << (i % 64)
	}
	return st.next(st.half, 0, st.blocks, true) == st.blocks
}

// throughBio is one write of folios that belongs to a request.
type throughBio struct {
	segments
	bio block.Bio
	dev block.Device
	max int64
	d   *direct
}

var throughBios = sync.Pool{New: func() any { return new(throughBio) }}

func newThroughBio(d *direct, dev block.Device, addr, bs int64) *throughBio {
	b := throughBios.Get().(*throughBio)
	b.d, b.dev, b.max = d, dev, mostOf(dev, bs)
	b.bio = block.Bio{Op: block.OpWrite, Flags: block.Sync, Off: addr, Done: throughDone, Private: b}
	if d.through && dev.Limits().VolatileCache {
		b.bio.Flags |= block.FUA
	}
	d.left.Add(1)
	return b
}

// room gives how many of n bytes at device byte addr continue the bio.
func (b *throughBio) room(addr int64, n int) int {
	if b.bio.Off+b.len != addr {
		return 0
	}
	return int(min(int64(n), b.max-b.len))
}

func (b *throughBio) submit(it *Iter) {
	b.bio.Vecs = b.vecs
	ip := b.d.k.Inode
	if t := ip.SB().Trace; t != nil {
		t.Emit(trace.Event{Kind: trace.BioSubmit, Ino: ip.Ino(), Pos: b.bio.Off, Len: b.len})
	}
	if do := b.d.do; do != nil && do.SubmitIO != nil {
		do.SubmitIO(it, &b.bio, it.Map.Offset+b.bio.Off-int64(it.Map.Addr))
		return
	}
	b.dev.Submit(&b.bio)
}

func throughDone(bio *block.Bio) {
	b := bio.Private.(*throughBio)
	d, err := b.d, bio.Err
	if err != nil {
		ip := d.k.Inode
		err = fmt.Errorf("write through of %d bytes of inode %d: %w", b.len, ip.Ino(), err)
		ip.Pages.SetError(err)
		d.fail(err)
	}
	for _, s := range b.segs {
		if st := stateOf(s.fo); st != nil {
			endWrites(s.fo, st, int64(s.n))
		} else {
			s.fo.EndWriteback()
		}
	}
	g := b.segments
	g.reset()
	*b = throughBio{segments: g}
	throughBios.Put(b)
	d.bioOver()
}
