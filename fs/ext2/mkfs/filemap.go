package mkfs

import (
	"github.com/iomapfs/iomapfs/fs/ext2/disk"
)

// fileMap builds the block map of one file whose blocks come in ascending order. Each indirect block is allocated right
// before the first block it leads to, and written when the file has moved past it.
type fileMap struct {
	bu    *Builder
	in    *disk.Inode
	level [3]ptrLevel // [0] hangs on the inode, the next ones on the one before
	runs  *[]run      // when set, all blocks are noted here
	pre   []run       // blocks set aside for the file's data; they are used first
}

type ptrLevel struct {
	block disk.FSBlock // 0: none
	span  [3]uint32    // the indices that lead to it
	buf   disk.PtrBlock
}

// write stores whole blocks at file block fb, which is behind all written before.
func (fm *fileMap) write(fb disk.FileBlock, data []byte) error {
	g := fm.bu.al.g
	for len(data) > 0 {
		path, ok := g.PathOf(fb)
		if !ok {
			return errTooLarge(g)
		}
		if err := fm.descend(&path); err != nil {
			return err
		}
		r, err := fm.allocData(min(path.Left, uint32(len(data)>>g.BlockBits)))
		if err != nil {
			return err
		}
		for i := range r.n {
			b := r.first + disk.FSBlock(i)
			if path.Depth == 1 {
				fm.in.Block[path.Index[0]+i] = uint32(b)
			} else {
				fm.level[path.Depth-2].buf.Set(path.Index[path.Depth-1]+i, b)
			}
		}
		n := int(r.n) << g.BlockBits
		if err := fm.bu.out.block(r.first, data[:n], "data"); err != nil {
			return err
		}
		fm.bu.progress.Bytes += int64(n)
		data, fb = data[n:], fb+disk.FileBlock(r.n)
	}
	return nil
}

// descend makes the indirect blocks of a path the current ones.
func (fm *fileMap) descend(p *disk.Path) error {
	for d := range p.Depth - 1 {
		lv := &fm.level[d]
		var span [3]uint32
		copy(span[:], p.Index[:d+1])
		if lv.block != 0 && lv.span == span {
			continue
		}
		if err := fm.flush(d); err != nil {
			return err
		}
		r, err := fm.alloc(1)
		if err != nil {
			return err
		}
		if lv.buf == nil {
			lv.buf = make(disk.PtrBlock, fm.bu.al.g.BlockSize)
		}
		clear(lv.buf)
		lv.block, lv.span = r.first, span
		if d == 0 {
			fm.in.Block[p.Index[0]] = uint32(r.first)
		} else {
			fm.level[d-1].buf.Set(p.Index[d], r.first)
		}
	}
	return nil
}

// flush writes the current indirect blocks from level d on.
func (fm *fileMap) flush(d int) error {
	for ; d < len(fm.level); d++ {
		lv := &fm.level[d]
		if lv.block == 0 {
			continue
		}
		if err := fm.bu.out.block(lv.block, lv.buf, "an indirect block"); err != nil {
			return err
		}
		lv.block = 0
	}
	return nil
}

// allocData takes blocks for data, of those set aside while they last.
func (fm *fileMap) allocData(want uint32) (run, error) {
	if len(fm.pre) == 0 {
		return fm.alloc(want)
	}
	r := run{fm.pre[0].first, min(want, fm.pre[0].n)}
	if fm.pre[0].n -= r.n; fm.pre[0].n == 0 {
		fm.pre = fm.pre[1:]
	} else {
		fm.pre[0].first += disk.FSBlock(r.n)
	}
	fm.count(r)
	return r, nil
}

// alloc takes blocks and counts them in the inode.
func (fm *fileMap) alloc(want uint32) (run, error) {
	r, err := fm.bu.al.alloc(want)
	if err != nil {
		return r, err
	}
	fm.count(r)
	return r, nil
}

func (fm *fileMap) count(r run) {
	fm.in.Sectors += r.n << (fm.bu.al.g.BlockBits - 9)
	if fm.runs != nil {
		if n := len(*fm.runs); n > 0 && (*fm.runs)[n-1].first+disk.FSBlock((*fm.runs)[n-1].n) == r.first {
			(*fm.runs)[n-1].n += r.n
		} else {
			*fm.runs = append(*fm.runs, r)
		}
	}
}

// reset makes the map ready for another file; the buffers stay.
func (fm *fileMap) reset(in *disk.Inode, runs *[]run) {
	fm.in, fm.runs, fm.pre = in, runs, nil
	for d := range fm.level {
		fm.level[d].block = 0
	}
}
