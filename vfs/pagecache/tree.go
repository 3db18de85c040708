package pagecache

import "math/bits"

// Tag marks folios for range look-ups.
type Tag int

// Tags.
const (
	TagAny       Tag = -1
	TagDirty     Tag = 0
	TagWriteback Tag = 1
	TagTowrite   Tag = 2 // to be written by the integrity writeback in progress
)

const (
	numTags  = 3
	fanBits  = 6
	fanOut   = 1 << fanBits
	fanMask  = fanOut - 1
	maxIndex = 1<<51 - 1 // the last page below 2^63 bytes, exclusive
)

// tree is a radix tree of 64-way nodes from page index to folio. A folio of 2^n pages stands in 2^n slots; its tags stand
// on the first. A tree of one page at index 0 has no node. Guarded by AddressSpace.mu.
type tree struct {
	single *Folio // the only folio, at index 0 and of one page, when root is nil
	stags  uint8  // its tags
	root   *node
	height uint8 // levels of nodes
}

type node struct {
	tags   [numTags]uint64
	used   uint64 // slots in use
	folios *[fanOut]*Folio
	kids   *[fanOut]*node
}

func newNode(leaf bool) *node {
	if leaf {
		return &node{folios: new([fanOut]*Folio)}
	}
	return &node{kids: new([fanOut]*node)}
}

func (t *tree) get(index uint64) *Folio {
	if t.root == nil {
		if index == 0 {
			return t.single
		}
		return nil
	}
	if index>>(fanBits*uint(t.height)) != 0 {
		return nil
	}
	n := t.root
	for h := t.height - 1; h > 0; h-- {
		n = n.kids[index>>(fanBits*uint(h))&fanMask]
		if n == nil {
			return nil
		}
	}
	return n.folios[index&fanMask]
}

// leafOf gives the leaf of index, making the path when create.
func (t *tree) leafOf(index uint64, create bool) *node {
	if t.root == nil {
		if !create {
			return nil
		}
		t.root, t.height = newNode(true), 1
		if fo := t.single; fo != nil {
			t.root.folios[0], t.root.used = fo, 1
			for tag := range numTags {
				t.root.tags[tag] = uint64(t.stags >> tag & 1)
			}
			t.single, t.stags = nil, 0
		}
	}
	for index>>(fanBits*uint(t.height)) != 0 {
		if !create {
			return nil
		}
		up := newNode(false)
		if t.root.used != 0 {
			up.kids[0], up.used = t.root, 1
		}
		for tag := range numTags {
			if t.root.tags[tag] != 0 {
				up.tags[tag] = 1
			}
		}
		t.root = up
		t.height++
	}
	n := t.root
	for h := t.height - 1; h > 0; h-- {
		i := index >> (fanBits * uint(h)) & fanMask
		kid := n.kids[i]
		if kid == nil {
			if !create {
				return nil
			}
			kid = newNode(h == 1)
			n.kids[i] = kid
			n.used |= 1 << i
		}
		n = kid
	}
	return n
}

// insert stores fo in all its slots, which must be free.
func (t *tree) insert(fo *Folio) {
	if fo.index == 0 && fo.order == 0 && t.root == nil && t.single == nil {
		t.single = fo
		return
	}
	for i := fo.index; i < fo.index+fo.pages(); i++ {
		n := t.leafOf(i, true)
		n.folios[i&fanMask] = fo
		n.used |= 1 << (i & fanMask)
	}
}

// remove takes fo out, with its tags, and drops nodes that became empty.
func (t *tree) remove(fo *Folio) {
	if t.root == nil {
		if t.single == fo {
			t.single, t.stags = nil, 0
		}
		return
	}
	for i := fo.index; i < fo.index+fo.pages(); i++ {
		t.removeSlot(t.root, t.height-1, i)
	}
	if t.root.used == 0 {
		t.root, t.height = nil, 0
	}
}

func (t *tree) removeSlot(n *node, h uint8, index uint64) {
	i := index >> (fanBits * uint(h)) & fanMask
	if h == 0 {
		n.folios[i] = nil
		n.used &^= 1 << i
		for tag := range n.tags {
			n.tags[tag] &^= 1 << i
		}
		return
	}
	kid := n.kids[i]
	if kid == nil {
		return
	}
	t.removeSlot(kid, h-1, index)
	if kid.used == 0 {
		n.kids[i] = nil
		n.used &^= 1 << i
	}
	for tag := range n.tags {
		if kid.tags[tag] == 0 {
			n.tags[tag] &^= 1 << i
		}
	}
}

func (t *tree) setTag(index uint64, tag Tag) {
	if t.root == nil {
		t.stags |= 1 << tag
		return
	}
	n := t.root
	for h := t.height - 1; n != nil; h-- {
		i := index >> (fanBits * uint(h)) & fanMask
		n.tags[tag] |= 1 << i
		if h == 0 {
			return
		}
		n = n.kids[i]
	}
}

func (t *tree) clearTag(index uint64, tag Tag) {
	if t.root == nil {
		t.stags &^= 1 << tag
		return
	}
	t.clearIn(t.root, t.height-1, index, tag)
}

func (t *tree) clearIn(n *node, h uint8, index uint64, tag Tag) {
	i := index >> (fanBits * uint(h)) & fanMask
	if h > 0 {
		kid := n.kids[i]
		if kid == nil {
			return
		}
		t.clearIn(kid, h-1, index, tag)
		if kid.tags[tag] != 0 {
			return
		}
	}
	n.tags[tag] &^= 1 << i
}

// next gives the first folio with the tag that covers a page in [index, end), or nil.
func (t *tree) next(index, end uint64, tag Tag) *Folio {
	if index >= end {
		return nil
	}
	if t.root == nil {
		if index == 0 && t.single != nil && (tag == TagAny || t.stags>>tag&1 != 0) {
			return t.single
		}
		return nil
	}
	if t.height < 9 && end > 1<<(fanBits*uint(t.height)) {
		end = 1 << (fanBits * uint(t.height))
	}
	if tag != TagAny {
		if fo := t.get(index); fo != nil {
			index = fo.index // tags stand on the first page
		}
	}
	return nextIn(t.root, t.height-1, 0, index, end, tag)
}

func nextIn(n *node, h uint8, base, index, end uint64, tag Tag) *Folio {
	shift := fanBits * uint(h)
	first := uint64(0)
	if index > base {
		first = (index - base) >> shift
	}
	if first >= fanOut {
		return nil
	}
	set := n.used
	if tag != TagAny {
		set = n.tags[tag]
	}
	for set &= ^uint64(0) << first; set != 0; set &= set - 1 {
		i := uint64(bits.TrailingZeros64(set))
		at := base + i<<shift
		if at >= end {
			return nil
		}
		if h == 0 {
			return n.folios[i]
		}
		if fo := nextIn(n.kids[i], h-1, at, index, end, tag); fo != nil {
			return fo
		}
	}
	return nil
}

// tagged reports whether any folio has the tag.
func (t *tree) tagged(tag Tag) bool {
	if t.root == nil {
		return t.stags>>tag&1 != 0
	}
	return t.root.tags[tag] != 0
}
