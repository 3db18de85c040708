package overlay

import "hash/maphash"

const (
	fanShift = 6
	fan      = 1 << fanShift
	levels   = 9 // of nodes; 2^54 pages are more than an int64 of bytes has
)

var hashSeed = maphash.MakeSeed()

// owner is who may change a node or page in place: the device that made it, until it forks.
type owner struct{ _ byte }

// page is one changed page. Only its owner changes it.
type page struct {
	owner *owner
	data  []byte
}

// node is an inner part of a tree. Only its owner changes it; everybody else copies it first.
type node struct {
	owner *owner
	kids  [fan]*node
	pages [fan]*page // on level 0
}

// tree maps page numbers to changed pages. The zero value is empty; a copy is a snapshot when both sides change their owner.
// levels grow with the highest page in it.
type tree struct {
	root   *node
	height int // levels below and with root
}

// get finds a page, or nil.
func (t *tree) get(no uint64) *page {
	if t.root == nil || no>>(fanShift*t.height) != 0 {
		return nil
	}
	n := t.root
	for level := t.height - 1; level > 0; level-- {
		if n = n.kids[no>>(fanShift*level)%fan]; n == nil {
			return nil
		}
	}
	return n.pages[no%fan]
}

// reach makes the tree high enough for page no.
func (t *tree) reach(o *owner, no uint64) {
	if t.root == nil {
		t.root, t.height = &node{owner: o}, 1
	}
	for no>>(fanShift*t.height) != 0 && t.height < levels {
		up := &node{owner: o}
		up.kids[0] = t.root
		t.root, t.height = up, t.height+1
	}
}

// own gives a node that o may change in the place of n.
func own(o *owner, n *node) *node {
	if n == nil {
		return &node{owner: o}
	}
	if n.owner == o {
		return n
	}
	c := *n
	c.owner = o
	return &c
}

// set puts a page in place.
func (t *tree) set(o *owner, no uint64, pg *page) {
	t.reach(o, no)
	t.root = own(o, t.root)
	n := t.root
	for level := t.height - 1; level > 0; level-- {
		kid := &n.kids[no>>(fanShift*level)%fan]
		*kid = own(o, *kid)
		n = *kid
	}
	n.pages[no%fan] = pg
}

// fill puts one page in the places [lo, hi). full holds for each level a node whose every place is that page; whole subtrees
// are one pointer to it.
func (t *tree) fill(o *owner, lo, hi uint64, pg *page, full *[levels]*node) {
	if lo < hi {
		t.reach(o, hi-1)
		t.root = fillIn(o, t.root, t.height-1, 0, lo, hi, pg, full)
	}
}

func fillIn(o *owner, n *node, level int, first, lo, hi uint64, pg *page, full *[levels]*node) *node {
	unit := uint64(1) << (fanShift * level) // pages below one place
	if lo <= first && first+unit*fan <= hi {
		return full[level]
	}
	n = own(o, n)
	for i := range uint64(fan) {
		at := first + i*unit
		switch {
		case at >= hi || at+unit <= lo:
		case level == 0:
			n.pages[i] = pg
		default:
			n.kids[i] = fillIn(o, n.kids[i], level-1, at, lo, hi, pg, full)
		}
	}
	return n
}

// next finds the first page at or after no.
func (t *tree) next(no uint64) (found uint64, pg *page) {
	if t.root == nil || no>>(fanShift*t.height) != 0 {
		return 0, nil
	}
	return nextIn(t.root, t.height-1, 0, no)
}

func nextIn(n *node, level int, first, no uint64) (uint64, *page) {
	if n == nil {
		return 0, nil
	}
	unit := uint64(1) << (fanShift * level)
	i := uint64(0)
	if no > first {
		i = (no - first) / unit
	}
	for ; i < fan; i++ {
		at := first + i*unit
		if level == 0 {
			if pg := n.pages[i]; pg != nil {
				return at, pg
			}
		} else if found, pg := nextIn(n.kids[i], level-1, at, no); pg != nil {
			return found, pg
		}
	}
	return 0, nil
}
