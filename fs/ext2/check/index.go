package check

import (
	"fmt"

	"github.com/iomapfs/iomapfs/fs/ext2/disk"
)

// indexCheck is what the index of a directory says about its blocks.
type indexCheck struct {
	active  bool
	version disk.HashVersion
	ranges  []hashRange // by block of the directory
}

// hashRange is what a leaf may hold.
type hashRange struct {
	low, high uint32 // low to high, without high; with high when its lowest bit is set: names with that hash go on in the next leaf
	refs      uint8  // entries that lead to the block, at most 2
	inner     bool   // root or node
}

// readIndex follows the index from its root.
func (dp *dirPass) readIndex(d *dirState) error {
	c, ix := dp.c, &dp.index
	bad := func(fb disk.FileBlock, what string, args ...any) error {
		return c.found(Index, d.ino, fmt.Sprintf("inode %d, directory block %d", d.ino, fb), what, args...)
	}
	read := func(fb disk.FileBlock) (bool, error) {
		b, err := dp.mr.block(fb)
		if err != nil || b == 0 {
			return false, err
		}
		return true, c.block(dp.buf, b, "a directory block")
	}
	if ok, err := read(0); !ok {
		return err // the hole is reported elsewhere
	}
	ir, err := disk.AsIndexRoot(dp.buf)
	if err != nil {
		return bad(0, "%v", err)
	}
	ix.active = true
	ix.version = c.sb.HashVersionOf(ir.HashVersion())
	if uint32(cap(ix.ranges)) < d.blocks {
		ix.ranges = make([]hashRange, d.blocks)
	}
	ix.ranges = ix.ranges[:d.blocks]
	clear(ix.ranges)
	ix.ranges[0] = hashRange{refs: 1, inner: true}

	const all = ^uint32(0)
	// lead notes the blocks that entries lead to.
	lead := func(at disk.FileBlock, ie disk.IndexEntries, low, high uint32) error {
		if room := len(ie) / 8; ie.Limit() != room {
			return bad(at, "limit of the index is %d, want %d", ie.Limit(), room)
		}
		for i := range ie.Count() {
			from, to := low, high
			if i > 0 {
				from = ie.Hash(i)
			}
			if i+1 < ie.Count() {
				to = ie.Hash(i + 1)
			}
			fb := ie.Block(i)
			if uint64(fb) >= uint64(d.blocks) {
				if err := bad(at, "entry %d of the index leads to block %d, and the directory has %d", i, fb, d.blocks); err != nil {
					return err
				}
				continue
			}
			r := &ix.ranges[fb]
			if r.refs == 0 {
				r.low, r.high = from, to
			}
			r.refs = min(r.refs+1, 2)
		}
		return nil
	}
	entries := append(disk.IndexEntries(nil), ir.Entries()...) // the block is about to be overwritten
	if err := lead(0, entries, 0, all); err != nil || ir.Levels() == 0 {
		return err
	}
	for i := range entries.Count() {
		fb := entries.Block(i)
		if uint64(fb) >= uint64(d.blocks) || ix.ranges[fb].inner {
			continue // reported: out of range, or referred to twice
		}
		ix.ranges[fb].inner = true
		ok, err := read(fb)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		in, err := disk.AsIndexNode(dp.buf)
		if err != nil {
			if err := bad(fb, "%v", err); err != nil {
				return err
			}
			continue
		}
		if err := lead(fb, in.Entries(), ix.ranges[fb].low, ix.ranges[fb].high); err != nil {
			return err
		}
	}
	return nil
}

// indexBlock checks the hashes of the names in a leaf.
func (dp *dirPass) indexBlock(d *dirState, fb disk.FileBlock, db disk.DirBlock) error {
	ix := &dp.index
	if !ix.active || ix.ranges[fb].inner || ix.ranges[fb].refs == 0 {
		return nil
	}
	r := ix.ranges[fb]
	for off := 0; off < len(db); off = db.Next(off) {
		if db.Ino(off) == 0 {
			continue
		}
		h, _, _ := disk.HashName(ix.version, dp.c.sb.HashSeed, db.Name(off))
		if h < r.low&^1 || h > r.high || h == r.high&^1 && r.high&1 == 0 {
			return dp.c.found(Index, d.ino, fmt.Sprintf("inode %d, directory block %d", d.ino, fb),
				"name %q has hash %#x, and the index leads here for %#x to %#x", db.Name(off), h, r.low, r.high)
		}
	}
	return nil
}

// indexDone makes sure that the index leads to each block once.
func (dp *dirPass) indexDone(d *dirState) error {
	if !dp.index.active {
		return nil
	}
	for fb, r := range dp.index.ranges {
		if r.refs != 1 {
			if err := dp.c.found(Index, d.ino, fmt.Sprintf("inode %d, directory block %d", d.ino, fb),
				"the index leads to the block %s", map[uint8]string{0: "nowhere", 2: "more than once"}[r.refs]); err != nil {
				return err
			}
		}
	}
	return nil
}
